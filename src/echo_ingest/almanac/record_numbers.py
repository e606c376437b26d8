"""How the almanac numbers records: one whole number for each, in order of arrival. Pure.

It is the rowid of the tables, and so a part of each of their indexes.
"""

from echo_ingest.record import RecordId

INDEX_BITS = 10
"""A message has at most `RECORDS_MAX` records."""


def number_of(offset: int, index: int = 0) -> int:
    """Return the number of a record."""
    return offset << INDEX_BITS | index


def offset_of(number: int) -> int:
    """Return the offset of the message of a record."""
    return number >> INDEX_BITS


def id_of(number: int) -> RecordId:
    """Return which record has a number."""
    return RecordId(number >> INDEX_BITS, number & (1 << INDEX_BITS) - 1)


def number_of_id(record: RecordId) -> int:
    """Return the number of a record."""
    return number_of(record.offset, record.index)
