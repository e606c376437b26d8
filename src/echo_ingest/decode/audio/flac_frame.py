"""A frame of FLAC (RFC 9639, 9): what its header says, and its two check sums."""

from typing import NamedTuple

HEAD_BYTES_MAX = 16
_RATES_HZ = {
    1: 88_200,
    2: 176_400,
    3: 192_000,
    4: 8_000,
    5: 16_000,
    6: 22_050,
    7: 24_000,
    8: 32_000,
    9: 44_100,
    10: 48_000,
    11: 96_000,
}
_RATE_BYTES = {12: 1, 13: 2, 14: 2}
_RATE_UNITS_HZ = {12: 1_000, 13: 1, 14: 10}


class FlacFrame(NamedTuple):
    """The content of a frame header."""

    number: int
    """Of its first sample if blocks differ in size, else of the frame."""
    samples: int
    is_fixed: bool
    """Whether all blocks but the last have the same size."""
    sample_rate_hz: int | None
    """None where only the header of the file has it."""

    def start(self, block_samples: int) -> int:
        """Return the number of its first sample."""
        return self.number * block_samples if self.is_fixed else self.number


def frame(head: bytes) -> FlacFrame | None:
    """Read the header that `head` begins with; return None where there is none."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    code, rate_code = head[2] >> 4, head[2] & 15
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if code == 0 or rate_code == 15 or ones == 1 or ones > 7:
        return None
    number = head[4] & (0x7F >> ones)
    at = 5
    for byte in head[5 : 4 + max(ones, 1)]:
        number = number << 6 | byte & 0x3F
        at += 1
    if code == 1:
        samples = 192
    elif code <= 5:
        samples = 144 << code
    elif code <= 7:
        wide = code - 5
        samples = int.from_bytes(head[at : at + wide]) + 1
        at += wide
    else:
        samples = 1 << code
    rate = _RATES_HZ.get(rate_code)
    if rate_code in _RATE_BYTES:
        wide = _RATE_BYTES[rate_code]
        rate = int.from_bytes(head[at : at + wide]) * _RATE_UNITS_HZ[rate_code]
        at += wide
    if at >= len(head) or _crc8(head[: at + 1]) != 0:
        return None
    return FlacFrame(number, samples, not head[1] & 1, rate or None)


def is_whole(data: bytes) -> bool:
    """Return whether `data` is a frame up to its end, or with zeros behind it.

    The CRC of a frame followed by its own CRC is 0 (RFC 9639, 9.3).
    """
    value = 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value == 0


def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        rows.append(value)
    return tuple(rows)


_CRC8 = _table(0x07, 8)
_CRC16 = _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value
