"""A message decoded: its records, and what else its identity depends on."""

from typing import Protocol

from msgspec import Struct

from echo_ingest.decode.times import TimeReading
from echo_ingest.record import AnyRecord, Identity, kind


class DecodedMessage(Protocol):
    """What a dialect makes of a message."""

    @property
    def records(self) -> tuple[AnyRecord, ...]:
        """Return its records, at least one."""

    @property
    def identity(self) -> Identity:
        """Return which message it is, as a whole."""


class Identified(Struct, frozen=True, gc=False):
    """What a dialect makes of a message that is one record.

    The identity cannot be told from the record alone: the time in a record is the one that is
    believed, which depends on the receipt and on the site's rules.
    """

    record: AnyRecord
    written: tuple[TimeReading, ...]
    """The times that the message gives, in order of trust."""

    @property
    def records(self) -> tuple[AnyRecord, ...]:
        """Return the record, as the records of the message."""
        return (self.record,)

    @property
    def identity(self) -> Identity:
        """Return which message it is: the first time that a clock can have shown counts."""
        record, seconds = self.record, 0
        for reading in self.written:
            if seconds := reading.seconds:
                break
        has_audio = getattr(record, "clip", None) is not None
        return Identity(kind(record), seconds, record.message_id, record.sensor_id, has_audio)
