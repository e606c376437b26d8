"""The message ledger as a picture: a bar for each whole, and in it the parts. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from echo_ingest.journal import Ledger

WIDTH = 100.0
"""The width of a whole bar, in percent."""
VISIBLE = 0.8
"""The least width of a part that is not empty."""


class LedgerBarPart(Struct, frozen=True):
    """A part of a bar."""

    name: str
    count: int
    x: float
    width: float


class LedgerBar(Struct, frozen=True):
    """A whole and its parts, which should add up to it."""

    name: str
    """What the whole is."""
    whole: int
    shares: tuple[LedgerBarPart, ...]
    missing: int
    """By how much the parts fall short of the whole; less than 0 where they are more than it."""
    gap: LedgerBarPart | None
    """Where the bar is broken, if it is."""


def ledger_bars(ledger: Ledger) -> tuple[LedgerBar, dict[str, LedgerBar]]:
    """Return what became of all messages received, and of all stored ones by sink."""
    received = bar(
        "received",
        ledger.received,
        {
            "stored": ledger.stored,
            "duplicates": ledger.duplicates,
            "dead letters": ledger.dead_letters,
            **{name: count for name, count in ledger.others.items() if count},
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
    """Lay out `parts` beside each other; empty ones have no width."""
    total = sum(parts.values())
    missing = whole - total
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
    """Share `WIDTH` out; the smallest parts are widened to be seen, at the cost of the rest."""
    positive = [count for count in counts if count > 0]
    total = sum(positive)
    small = [count for count in positive if count / total * WIDTH < VISIBLE]
    room = WIDTH - VISIBLE * len(small)
    large_total = total - sum(small)
    return [
        0.0 if count <= 0 else VISIBLE if count in small else room * count / large_total
        for count in counts
    ]
