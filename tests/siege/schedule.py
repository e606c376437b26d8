"""Which attack begins when, by the seed."""

from collections.abc import Sequence
from random import Random

from msgspec import Struct

AT_ONCE = 10
"""How many bouts are under way at the same time, on average."""
ROUND_SECONDS = 60.0
ROUNDS_MIN = 2
SECONDS_MIN, SECONDS_MAX = 6.0, 30.0
ADDRESSES = tuple(f"127.0.66.{number}" for number in range(1, 5))
"""From where the attackers come: limits by address do not keep all of them out at once."""


class Bout(Struct, frozen=True):
    """One attack that begins at a time, counted from the beginning of the siege."""

    at_seconds: float
    seconds: float
    kind: str
    seed: str
    address: str


def schedule(seed: int, duration_seconds: float, kinds: Sequence[str]) -> list[Bout]:
    """Plan the bouts: in each round every kind attacks once, in an order that the seed decides."""
    rng = Random(f"siege {seed}")
    rounds = max(ROUNDS_MIN, round(duration_seconds / ROUND_SECONDS))
    mean_seconds = AT_ONCE * duration_seconds / (rounds * len(kinds))
    bouts = []
    for number in range(rounds):
        for place, kind in enumerate(rng.sample(kinds, len(kinds))):
            seconds = mean_seconds * rng.uniform(0.6, 1.4)
            seconds = min(max(seconds, SECONDS_MIN), SECONDS_MAX, duration_seconds)
            at_seconds = (number + place / len(kinds)) * duration_seconds / rounds
            bouts.append(
                Bout(
                    min(at_seconds, duration_seconds - seconds),
                    seconds,
                    kind,
                    f"{seed} {number} {kind}",
                    rng.choice(ADDRESSES),
                )
            )
    return sorted(bouts, key=lambda bout: bout.at_seconds)
