"""The figures as pictures (SVG): bars with the least and the most, in light and dark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from msgspec import Struct

from bench.figures import Figure, Row
from bench.latency import Latency
from bench.rounds import Round

WIDTH = 760
LABEL = 250
ROOM = WIDTH - LABEL - 120
BAR = 18
GAP = 12
TOP = 46
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2933 }
  .title { font-size: 15px; font-weight: 600 }
  .note { font-size: 12px; fill: #61707f }
  .ours { fill: #2f7d5b } .other { fill: #9fb3c8 }
  .range { stroke: #1f2933; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb } .note { fill: #9aa5b1 }
    .ours { fill: #4fb286 } .other { fill: #52667a } .range { stroke: #e4e7eb }
  }
"""


class Bar(Struct, frozen=True):
    """One line of a picture."""

    label: str
    value: Figure
    text: str
    ours: bool = True


def draw(
    rounds: Mapping[str, list[Round]],
    latency: Sequence[Sequence[Latency]],
    profile: Mapping[str, float],
    folder: Path,
) -> None:
    """Write all pictures."""
    folder.mkdir(exist_ok=True)
    rows = {label: Row(label, each) for label, each in rounds.items()}
    for name, title, prefix in (
        ("drain", "A backlog drained, detections of 278 bytes", "drain: "),
        ("live", "Live, a publisher at full speed", "live: "),
    ):
        bars = [
            _rate(row, label.removeprefix(prefix))
            for label, row in rows.items()
            if label.startswith(prefix)
        ]
        (folder / f"{name}.svg").write_text(
            picture(title, "messages a second; the line spans all rounds", bars)
        )
    (folder / "latency.svg").write_text(
        picture(
            "From publish to receipt",
            "milliseconds, counted from the moment it was due",
            _latency(latency),
        )
    )
    steps = [
        Bar(step, Figure(share, share, share), f"{share:.0%}") for step, share in profile.items()
    ]
    (folder / "profile.svg").write_text(
        picture("Where the service's time goes", "share of its CPU time while it drains", steps)
    )


def picture(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Return a picture of horizontal bars on one scale."""
    most = max((bar.value.most for bar in bars), default=1.0) or 1.0
    height = TOP + len(bars) * (BAR + GAP) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text x="0" y="16" class="title">{escape(title)}</text>',
        f'<text x="0" y="34" class="note">{escape(note)}</text>',
    ]
    for index, bar in enumerate(bars):
        top = TOP + index * (BAR + GAP)
        middle = top + BAR / 2
        left, right = (LABEL + ROOM * value / most for value in (bar.value.least, bar.value.most))
        length = ROOM * bar.value.median / most
        end = max(LABEL + length, right) + 8
        parts += [
            f'<text x="{LABEL - 10}" y="{middle + 4.5}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"'
            f' class="{"ours" if bar.ours else "other"}"/>',
            f'<text x="{end:.1f}" y="{middle + 4.5}">{escape(bar.text)}</text>',
        ]
        if right - left > 1:
            parts.append(f'<path d="M{left:.1f} {middle}H{right:.1f}" class="range"/>')
    return "\n".join([*parts, "</svg>", ""])


def _rate(row: Row, label: str) -> Bar:
    value = row.per_second
    return Bar(label, value, f"{value.median:,.0f}", "echo-ingest" in row.label)


def _latency(latency: Sequence[Sequence[Latency]]) -> list[Bar]:
    bars = []
    for at_rate in zip(*latency, strict=True):
        for name, field in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms")):
            values = sorted(getattr(each, field) for each in at_rate)
            value = Figure(median(values), values[0], values[-1])
            label = f"{at_rate[0].rate:,} messages/s, {name}"
            bars.append(Bar(label, value, f"{value.median:.1f} ms"))
    return bars
