"""Read the places that recorders write into their files, within what is possible."""

import re

from echo_ingest.decode import values
from echo_ingest.decode.errors import DecodeError
from echo_ingest.record import Place

_PATHS = values.PlacePaths("place", "latitude", "longitude", "uncertainty")
_POINT = r"([+-]?\d{1,3}(?:\.\d+)?)"
_COMMA = r"([+-]?\d{1,3}(?:,\d+)?)"
_NORTH, _EAST = r"(?:[ ,]?([NS]))?", r"(?:[ ,]?([EW]))?"
_POSITIONS = (
    # 38.7712 S, 143.5021 E; with a sign before it, the longitude needs no separator (ISO 6709)
    rf"{_POINT}{_NORTH}(?: *[,;] *| +|(?=[+-])){_POINT}{_EAST}",
    rf"{_COMMA}{_NORTH}(?: *; *|,? +){_COMMA}{_EAST}",
    r"([+-]?\d{1,3},\d+)(),([+-]?\d{1,3},\d+)()",
)
# No text fits two of these with two meanings.
_PATTERNS = tuple(re.compile(pattern, re.ASCII | re.IGNORECASE) for pattern in _POSITIONS)
_WAMD = re.compile(
    rf"WGS ?(?:19)?84,{_POINT}{_NORTH},{_POINT}{_EAST}(?:,(.*))?", re.ASCII | re.IGNORECASE
)
_METRES = re.compile(r"([+-]?\d{1,6}(?:[.,]\d+)?) *m?", re.ASCII)
_WHOLE_DEGREES = re.compile(r"[+-]?\d+,[+-]?\d+", re.ASCII)
"""Two whole numbers, or one with a comma in it: which one cannot be told."""


def place(position: str, elevation: str = "", accuracy: str = "") -> Place | None:
    """Read a position in degrees (GUANO, `wamd` or ISO 6709), and two lengths in metres.

    Decimals may be written with a comma where that has one meaning. An impossible length is left
    out, and without a possible position there is no place.
    """
    text = position.strip().strip("()[]").strip()
    match = _WAMD.fullmatch(text)
    if match is not None:
        elevation = match[5] or elevation
    elif _WHOLE_DEGREES.fullmatch(text):
        return None
    else:
        match = next(filter(None, (pattern.fullmatch(text) for pattern in _PATTERNS)), None)
    read = None if match is None else _degrees(match)
    if read is None:
        return None
    return (
        _place(*read, _metres(elevation), _metres(accuracy))
        or _place(*read, _metres(elevation), None)
        or _place(*read, None, _metres(accuracy))
        or _place(*read, None, None)
    )


def _degrees(match: re.Match[str]) -> tuple[float, float] | None:
    latitude, longitude = _signed(match[1], match[2]), _signed(match[3], match[4])
    return None if latitude is None or longitude is None else (latitude, longitude)


def _signed(number: str, hemisphere: str | None) -> float | None:
    """Return degrees north or east; None where both a sign and a letter say otherwise."""
    degrees = float(number.replace(",", "."))
    if not hemisphere:
        return degrees
    if number[0] in "+-":
        return None
    return -degrees if hemisphere.upper() in ("S", "W") else degrees


def _metres(text: str) -> float | None:
    match = _METRES.fullmatch(text.strip())
    return float(match[1].replace(",", ".")) if match else None


def _place(
    latitude: float, longitude: float, altitude: float | None, uncertainty: float | None
) -> Place | None:
    try:
        return values.place(latitude, longitude, altitude, uncertainty, _PATHS)
    except DecodeError:
        return None
