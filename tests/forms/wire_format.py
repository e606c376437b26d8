"""Write protobuf by the numbers of its fields, independently of the tables that are tested."""

import struct


def varint(number: int) -> bytes:
    """Return a whole number in groups of seven bits; a negative one has ten."""
    number &= (1 << 64) - 1
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(written) + bytes([number])


def whole(field: int, number: int) -> bytes:
    """Return a field of one of the types that are varints: numbers, truths and words."""
    return varint(field << 3) + varint(number)


def data(field: int, value: bytes | str) -> bytes:
    """Return a field of bytes, of text, or of a message."""
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed(field: int, number: int) -> bytes:
    """Return a field of 32 bits that hold a whole number."""
    return varint(field << 3 | 5) + (number & 0xFFFFFFFF).to_bytes(4, "little")


def single(field: int, number: float) -> bytes:
    """Return a field of 32 bits that hold a number."""
    return varint(field << 3 | 5) + struct.pack("<f", number)


def double(field: int, number: float) -> bytes:
    """Return a field of 64 bits that hold a number."""
    return varint(field << 3 | 1) + struct.pack("<d", number)
