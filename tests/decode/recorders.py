"""Files as recorders write them, made here of what is known to be true of them."""

import struct
from datetime import UTC, datetime, timedelta
from random import Random

from tests.decode.messages import chunk, wav

FIRST, LAST = datetime(2015, 6, 1), datetime(2026, 9, 12)
"""Local times somewhere."""
OFFSETS = tuple(timedelta(minutes=15 * quarters) for quarters in range(-48, 57))
AUDIOMOTH_FIRMWARE = ("1.0", "1.0.1", "1.2.0", "1.2.2", "1.4.0", "1.5.0", "1.6.0", "1.11.0", "GPS")
GAINS = ("low", "low-medium", "medium", "medium-high", "high")


def any_local_time(rng: Random) -> datetime:
    """Return a time within the years in which the recorders were sold, to the second."""
    return FIRST + timedelta(seconds=rng.randrange(int((LAST - FIRST).total_seconds())))


def in_utc(local: datetime, offset: timedelta) -> datetime:
    """Return the moment at which a clock that is `offset` ahead of UTC shows `local`."""
    return (local - offset).replace(tzinfo=UTC)


def signed(offset: timedelta, colon: str = ":") -> str:
    """Return an offset as ISO 8601 has it: +09:30."""
    hours, minutes = divmod(abs(int(offset.total_seconds())) // 60, 60)
    return f"{'-' if offset < timedelta(0) else '+'}{hours:02d}{colon}{minutes:02d}"


def short(offset: timedelta) -> str:
    """Return an offset as an AudioMoth writes it: nothing, +10, -3:30."""
    hours, minutes = divmod(abs(int(offset.total_seconds())) // 60, 60)
    if not offset:
        return ""
    sign = "-" if offset < timedelta(0) else "+"
    return f"{sign}{hours}:{minutes:02d}" if minutes else f"{sign}{hours}"


def audiomoth_offsets(firmware: str) -> tuple[timedelta, ...]:
    """Return the zones that a version could be set to."""
    if firmware in ("1.0", "1.0.1", "GPS"):
        return (timedelta(0),)
    if firmware == "1.2.0":
        return tuple(offset for offset in OFFSETS if not offset % timedelta(hours=1))
    if firmware == "1.2.2":  # it wrote no sign where there were no hours
        return tuple(each for each in OFFSETS if not timedelta(0) < abs(each) < timedelta(hours=1))
    return OFFSETS


def audiomoth_comment(
    firmware: str, local: datetime, offset: timedelta, serial: str, rng: Random
) -> str:
    """Return the comment that a version of the firmware writes."""
    clock = f"{local:%H:%M:%S}"
    if local.microsecond:
        clock += f".{local.microsecond // 1000:03d}"
    zone = {"1.0": "", "GPS": " (UTC)"}.get(firmware, f" (UTC{short(offset)})")
    gain = GAINS[rng.randrange(5)]
    volts = rng.randrange(36, 49) / 10
    who = f"by AudioMoth {serial}"
    if firmware in ("1.5.0", "1.6.0", "1.11.0") and rng.random() < 0.5:
        who = f"during deployment {rng.randrange(16**16):016X}"
    if firmware in ("1.5.0", "1.11.0") and rng.random() < 0.3:
        who += " using external microphone"
    match firmware:
        case "1.0" | "1.0.1" | "1.2.0" | "1.2.2":
            rest = f"at gain setting {rng.randrange(5)} while battery state was {volts}V"
        case "1.4.0" | "1.5.0":
            rest = f"at {gain} gain setting while battery state was {volts}V and"
            rest += f" temperature was {rng.randrange(-200, 500) / 10}C."
        case _:
            rest = f"at {gain} gain while battery was greater than 4.9V and"
            rest += f" temperature was {rng.randrange(-200, 500) / 10}C. High-pass filter with"
            rest += " frequency of 8.0kHz applied. Recording stopped due to file size limit."
    return f"Recorded at {clock} {local:%d/%m/%Y}{zone} {who} {rest}"


def info(*tags: tuple[bytes, bytes], padded: bool = True, behind: bytes = b"") -> bytes:
    """Return a LIST INFO chunk.

    Its tags may lack the byte that makes their size even, or have more `behind` that.
    """
    body = b"INFO"
    for name, value in tags:
        body += chunk(name, value) if padded else name + struct.pack("<I", len(value)) + value
        body += behind
    return chunk(b"LIST", body)


def guano(*lines: str, newline: str = "\n", encoding: str = "utf-8") -> bytes:
    """Return a GUANO chunk."""
    return chunk(b"guan", newline.join(("GUANO|Version: 1.0", *lines, "")).encode(encoding))


def wamd(*fields: tuple[int, bytes], version: int = 1) -> bytes:
    """Return a chunk of Wildlife Acoustics: the version, then fields of id and value."""
    body = b"".join(
        struct.pack("<HI", number, len(value)) + value
        for number, value in ((0, struct.pack("<H", version)), *fields)
    )
    return chunk(b"wamd", body)


def bext(day: str = "", clock: str = "", samples: int = 0, description: str = "") -> bytes:
    """Return a chunk of EBU Tech 3285, version 1."""
    body = description.encode().ljust(256, b"\0") + b"Recorder X".ljust(32, b"\0")
    body += b"AUXYZ0042".ljust(32, b"\0") + day.encode().ljust(10, b"\0")
    body += clock.encode().ljust(8, b"\0") + struct.pack("<QH", samples, 1) + bytes(254)
    return chunk(b"bext", body + b"A=PCM,F=16000,W=16,M=mono\r\n")


def with_notes(rng: Random, *chunks: bytes) -> bytes:
    """Return a WAV with these chunks, some before its sound and the others after it."""
    split = rng.randrange(len(chunks) + 1)
    return wav(*chunks[split:], before=b"".join(chunks[:split]))
