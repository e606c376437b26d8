"""Texts of other systems, made fit for a reason that people read: pure."""

CHARACTERS_MAX = 300


def one_line(text: str, characters_max: int = CHARACTERS_MAX) -> str:
    """Return a text in one line that can be shown, cut off where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= characters_max else f"{line[: characters_max - 1]}…"
