"""One record, or its clip, by its place in the journal; or the reason why it is not there."""

from collections.abc import Sequence

from litestar.exceptions import NotFoundException
from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.formatting import counted
from echo_ingest.journal import Entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import AnyRecord, RecordId
from echo_ingest.sinks import clips
from echo_ingest.web.schemas import EVERYTHING, StoredRecord, stored_records


class ClipFile(Struct, frozen=True):
    """An audio file, byte for byte as the device sent it."""

    audio: bytes
    media_type: str
    name: str
    """A name to save it under, which is safe as a file name."""


def entry_at(reader: JournalReader, offset: int) -> Entry:
    """Return the message as it came; raise `NotFoundException` if there is none."""
    entry = reader.record(offset)
    if entry is None:
        last = reader.last_offset()
        if offset <= last:
            raise NotFoundException(
                f"record {offset} is gone: it was older than IOT_RETENTION_DAYS,"
                " or it was lost with a damaged file"
            )
        raise NotFoundException(f"there is no record {offset}; the newest one is {last}")
    return entry


def shown(
    reader: JournalReader, entry: Entry, decoder: Decoder, selection: Selection = EVERYTHING
) -> list[StoredRecord]:
    """Return the selected records of `entry`, decoded, with the place where clips are also kept."""
    place = reader.place_of(clips.CLIP_STORE, entry.offset)
    return stored_records(entry, decoder, place, selection)


def one_of(records: Sequence[StoredRecord], record: RecordId) -> StoredRecord:
    """Return one of the records of a message; raise `NotFoundException` if it has none such."""
    if record.index >= len(records):
        raise NotFoundException(
            f"message {record.offset} has {counted(len(records), 'records')}, and none with the "
            f"index {record.index}: they are counted from 0"
        )
    return records[record.index]


def clip_file(reader: JournalReader, record: RecordId, decoder: Decoder) -> ClipFile:
    """Return the clip of a record; raise `NotFoundException` if it has none."""
    entry = entry_at(reader, record.offset)
    stored = one_of(shown(reader, entry, decoder), record)
    if stored.record is None:
        raise NotFoundException(f"record {record} cannot be read: {stored.problem}")
    clip = clips.clip_of(stored.record)
    if clip is None:
        raise NotFoundException(_no_clip(stored.record, record))
    return ClipFile(
        clips.audio_of(decoder, entry.message, record.index),
        clips.CONTENT_TYPES[clip.container],
        f"record-{record}.{clip.container}",
    )


def _no_clip(record: AnyRecord, which: RecordId) -> str:
    reference = getattr(record, "clip_reference", None)
    if reference is None:
        return f"record {which} has no clip"
    return f"record {which} has no clip; the device says that it keeps it as {reference!r:.200}"
