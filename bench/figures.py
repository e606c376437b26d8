"""Medians, ratios and how they are shown."""

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct
from rich.table import Table

from bench.rounds import Round


class Figure(Struct, frozen=True):
    """A median, with the least and the most of its rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({self.least:,.0f} to {self.most:,.0f})"


def figure(values: Iterable[float]) -> Figure:
    """Return the figure of at least one value."""
    each = sorted(values)
    return Figure(median(each), each[0], each[-1])


def ratio(rounds: Sequence[tuple[float, float]]) -> Figure:
    """Return the ratio of pairs; each pair was measured in turn, on a machine in the same state."""
    return figure(one / other for one, other in rounds)


class Row(Struct, frozen=True):
    """What one contestant did in all its rounds of one kind."""

    label: str
    rounds: list[Round]

    @property
    def per_second(self) -> Figure:
        """Messages a second."""
        return figure(each.per_second for each in self.rounds)

    @property
    def cpu_us(self) -> Figure:
        """CPU microseconds for each message."""
        return figure(each.cpu_us for each in self.rounds)

    @property
    def megabytes_per_second(self) -> float:
        """Megabytes of payload a second."""
        each = self.rounds[0]
        return self.per_second.median * each.payload_bytes / each.messages / 1e6


def table(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of what each contestant did, and at what cost."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for name in (
        *("messages/s, median (least to most)", "MB/s", "CPU µs/message", "of it system"),
        *("broker's CPU", "bytes written/payload byte", "peak memory MB"),
    ):
        shown.add_column(name, justify="right")
    for row in rows:
        rounds = row.rounds
        shown.add_row(
            row.label,
            str(row.per_second),
            f"{row.megabytes_per_second:,.1f}",
            f"{row.cpu_us.median:.2f}",
            f"{median(each.system_seconds / each.counted * 1e6 for each in rounds):.2f}",
            f"{median(each.broker_cpu_seconds / each.seconds for each in rounds):.0%}",
            f"{median(written(each) for each in rounds):.1f}",
            f"{max(each.rss_peak_bytes for each in rounds) / 1e6:.0f}",
        )
    return shown


def written(each: Round) -> float:
    """Bytes written to disk for each byte of payload."""
    return each.written_bytes / each.counted / (each.payload_bytes / each.messages)
