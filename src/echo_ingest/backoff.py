"""How long to wait before the next attempt."""

from random import Random


def delay_seconds(attempt: int, rng: Random, *, first: float = 0.5, most: float = 60.0) -> float:
    """Return the wait before attempt 1, 2, 3 …: exponential backoff with jitter.

    The ceiling starts at `first`, doubles with each attempt and never exceeds `most`; the wait is
    between half and all of it. The jitter keeps a thousand clients that lost the same server from
    coming back at the same moment.
    """
    ceiling = min(most, first * 2.0 ** min(attempt - 1, 32))
    return ceiling * (0.5 + rng.random() / 2)
