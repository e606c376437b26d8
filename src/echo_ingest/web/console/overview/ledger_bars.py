"""The ledger as a picture: a bar for what there should be, and the parts of it beside. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from echo_ingest.journal import Ledger

WIDTH = 100.0
"""Of a whole bar, in percent."""
VISIBLE = 0.8
"""What there is at all is at least so wide."""


class LedgerBarPart(Struct, frozen=True):
    """A part of a bar."""

    name: str
    count: int
    x: float
    width: float


class LedgerBar(Struct, frozen=True):
    """A whole and its parts, that are to be the same."""

    name: str
    """What the whole is."""
    whole: int
    shares: tuple[LedgerBarPart, ...]
    missing: int
    """By how much the parts fall short of the whole; less than 0 where they are more than it."""
    gap: LedgerBarPart | None
    """Where the bar is broken, if it is."""


def ledger_bars(ledger: Ledger) -> tuple[LedgerBar, dict[str, LedgerBar]]:
    """What became of all that was received; and of what is stored, by sink."""
    received = bar(
        "received",
        ledger.received,
        {
            "stored": ledger.stored,
            "duplicates": ledger.duplicates,
            "refused": ledger.dead_letters,
        },
    )
    sinks = {
        name: bar(
            "stored",
            ledger.stored,
            {
                "delivered": sink.delivered,
                "refused": sink.parked,
                "waiting": sink.backlog,
                "skipped": sink.skipped,
            },
        )
        for name, sink in ledger.sinks.items()
    }
    return received, sinks


def bar(name: str, whole: int, parts: Mapping[str, int]) -> LedgerBar:
    """Lay out `parts` beside each other; those of nothing have no width."""
    together = sum(parts.values())
    missing = whole - together
    drawn = {**parts, "missing": abs(missing)} if missing else dict(parts)
    widths = _widths(list(drawn.values()))
    shares = []
    x = 0.0
    for (part, count), width in zip(drawn.items(), widths, strict=True):
        shares.append(LedgerBarPart(part, count, round(x, 2), round(width, 2)))
        x += width
    gap = shares.pop() if missing else None
    return LedgerBar(name, whole, tuple(shares), missing, gap)


def _widths(counts: list[int]) -> list[float]:
    """Together `WIDTH`; the smallest are made wide enough to be seen, and the rest pays for it."""
    there = [count for count in counts if count > 0]
    total = sum(there)
    small = [count for count in there if count / total * WIDTH < VISIBLE]
    room = WIDTH - VISIBLE * len(small)
    large_total = total - sum(small)
    return [
        0.0 if count <= 0 else VISIBLE if count in small else room * count / large_total
        for count in counts
    ]
