"""Which receive times cannot be true, because the order of the journal contradicts them. Pure.

Records have their offsets in the order in which they were received. So where the clock of this
service leapt ahead and came back, or fell behind for a while, some receive times contradict the
others. The journal is taken apart into stretches in which the clock ran on, and the heaviest of
them that follow each other in time are believed. A stretch weighs as much as it has records, and
more where the clocks of devices agree with it.
"""

from bisect import bisect_right
from collections.abc import Iterable

from msgspec import Struct

HOUR_US = 3_600_000_000
"""Smaller leaps are left alone. It bounds the number of stretches too: silence also makes them."""
AGREEMENT_WEIGHT = 10
"""A record weighs so many times as much where the device's own time agrees with its receipt."""


class ReceiveTime(Struct, frozen=True, gc=False):
    """When a record was received."""

    offset: int
    at_us: int
    """In microseconds since 1970."""
    agrees: bool
    """Whether the device gave a time shortly before it."""


class ClockStretch(Struct, gc=False):
    """Records in a row whose receive times follow each other."""

    first_offset: int
    last_offset: int
    start_us: int
    end_us: int
    weight: int = 0


class Contradicted(Struct, frozen=True, gc=False):
    """Records in a row whose receive times are not believed."""

    first_offset: int
    last_offset: int
    order_us: int
    """The believed receipt beside them, by which they keep their place among the others."""


def contradicted(receipts: Iterable[ReceiveTime], first_us: int) -> list[Contradicted]:
    """Return what cannot be true of `receipts`, which are in order of offset.

    No receipt before `first_us` is believed.
    """
    stretches = _stretches(receipts)
    believed = _heaviest_chain(
        [index for index, each in enumerate(stretches) if each.start_us >= first_us], stretches
    )
    order_us = stretches[min(believed)].start_us if believed else first_us
    contradictions = []
    for index, each in enumerate(stretches):
        if index in believed:
            order_us = each.end_us
        else:
            contradictions.append(Contradicted(each.first_offset, each.last_offset, order_us))
    return contradictions


def _stretches(receipts: Iterable[ReceiveTime]) -> list[ClockStretch]:
    stretches: list[ClockStretch] = []
    previous_us = 0
    for each in receipts:
        if not stretches or abs(each.at_us - previous_us) > HOUR_US:
            stretches.append(ClockStretch(each.offset, each.offset, each.at_us, each.at_us))
        current = stretches[-1]
        current.last_offset = each.offset
        current.start_us = min(current.start_us, each.at_us)
        current.end_us = max(current.end_us, each.at_us)
        current.weight += AGREEMENT_WEIGHT if each.agrees else 1
        previous_us = each.at_us
    return stretches


def _heaviest_chain(indexes: list[int], stretches: list[ClockStretch]) -> set[int]:
    """Return the heaviest of the stretches that follow each other in time; the later of equals."""
    ends: list[int] = []
    """Ends of chains in order; a chain that ends later is heavier, or it is not here."""
    chains: list[tuple[int, int]] = []
    """The weight and the last stretch of the chain with each of `ends`."""
    before: dict[int, int | None] = {}
    for index in indexes:
        stretch = stretches[index]
        place = bisect_right(ends, stretch.start_us + HOUR_US)
        weight, before[index] = chains[place - 1] if place else (0, None)
        weight += stretch.weight
        place = bisect_right(ends, stretch.end_us)
        last = place
        while last < len(ends) and chains[last][0] <= weight:
            last += 1
        if place and chains[place - 1][0] > weight:
            continue
        first = place
        while first and ends[first - 1] == stretch.end_us:
            first -= 1
        ends[first:last], chains[first:last] = [stretch.end_us], [(weight, index)]
    chain: set[int] = set()
    at = chains[-1][1] if chains else None
    while at is not None:
        chain.add(at)
        at = before[at]
    return chain
