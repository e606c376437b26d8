"""Counts and times, as the command line and the console both need them."""

from datetime import UTC, datetime


def counted(count: int, things: str, *, thousands: str = ",") -> str:
    """Return `1 node` or `2 nodes`: `things` is a plural that ends in s, or has no other form."""
    noun = things if count != 1 else things.removesuffix("s")
    return f"{count:,} {noun}".replace(",", thousands)


def milliseconds(when: datetime) -> int:
    """Return `when` as milliseconds since 1970, UTC."""
    return int(when.timestamp() * 1000)


def utc(milliseconds: int) -> datetime:
    """Return the moment that is so many milliseconds after the beginning of 1970, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def duration(seconds: float, *, thousands: str = ",") -> str:
    """Write a duration in its two largest units, such as `2 d 17 h`."""
    whole = int(seconds)
    for name, unit, smaller, smaller_unit in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit:
            count = f"{whole // unit:,}".replace(",", thousands)
            return f"{count} {name} {whole % unit // smaller_unit} {smaller}"
    return f"{seconds:.1f} s" if seconds else "0 s"
