"""How long to wait before the next attempt."""

from random import Random


def delay_seconds(attempt: int, rng: Random, *, first: float = 0.5, most: float = 60.0) -> float:
    """Exponential backoff with jitter: before attempt 1, 2, 3 …

    Between half and all of `first` doubled each time, never over `most`. The jitter keeps a
    thousand clients that lost the same server from coming back in the same instant.
    """
    ceiling = min(most, first * 2.0 ** min(attempt - 1, 32))
    return ceiling * (0.5 + rng.random() / 2)
