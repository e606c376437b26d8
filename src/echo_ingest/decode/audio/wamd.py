"""The chunk `wamd` of Wildlife Acoustics: Song Meter, Echo Meter, Kaleidoscope.

The maker's `wa_meta.h` describes it: fields of an id (16 bits), a size (32 bits) and a value, the
first of which is the version of the format.
"""

from struct import Struct as Layout

from echo_ingest.decode.audio.sound import U16, note, text

FIELDS_MAX = 1_000
VERSION, TIME_EXPANSION, PADDING = 0x0000, 0x000F, 0xFFFF
KNOWN_VERSION = 1
OWN = "WA|"
"""The GUANO namespace of the maker, for what GUANO has no field of its own for."""
_HEAD = Layout("<HI")
_NAMES = {
    0x0001: "Model",
    0x0002: "Serial",
    0x0003: "Firmware Version",
    0x0004: f"{OWN}Prefix",
    0x0005: "Timestamp",
    0x0006: "Loc Position",
    0x0007: f"{OWN}GPS Track",
    0x0008: f"{OWN}Software",
    0x0009: f"{OWN}License",
    0x000A: "Note",
    0x000B: "Species Auto ID",
    0x000C: "Species Manual ID",
    0x000E: f"{OWN}Auto ID Statistics",
    0x0012: f"{OWN}Microphone",
    0x0013: f"{OWN}Microphone Sensitivity",
    0x0014: f"{OWN}Last Position",
    0x0015: "Temperature Int",
    0x0016: "Temperature Ext",
    0x0017: "Humidity",
    0x0018: f"{OWN}Light",
    0x0019: f"{OWN}Pressure",
}
_BINARY = {0x000D: "Voice Note", 0x0010: "Device Parameters", 0x0011: "Device State"}
_UNITS = {0x0015: b"C", 0x0016: b"C", 0x0017: b"%RH"}
"""GUANO writes these numbers without their unit."""


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of a chunk, under GUANO's names where it has one for them."""
    entries: dict[str, str] = {}
    at = 0
    for _ in range(FIELDS_MAX):
        if at + _HEAD.size > len(body):
            break
        number, size = _HEAD.unpack_from(body, at)
        at += _HEAD.size
        value = body[at : at + size]
        at += size
        if at > len(body):
            break  # the rest of the value may have said something else
        if number == VERSION and value[:2] != U16.pack(KNOWN_VERSION):
            note(entries, f"{OWN}Version", value[:8].hex().encode())
            break  # another version may give the ids another meaning
        if number not in (VERSION, PADDING):
            _note_field(entries, number, value)
    return entries


def _note_field(entries: dict[str, str], number: int, value: bytes) -> None:
    if number == TIME_EXPANSION:
        if len(value) >= U16.size:
            entries["TE"] = str(U16.unpack_from(value)[0])
        return
    name = _NAMES.get(number)
    if name is None:
        name = OWN + _BINARY.get(number, f"0x{number:04X}")
        if number in _BINARY or not text(value.rstrip(b"\0")).isprintable():
            value = f"{len(value):,} bytes".encode()
    note(entries, name, value.rstrip(b"\0 ").removesuffix(_UNITS.get(number, b"")))
