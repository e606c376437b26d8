"""One record, or its clip, by its place in the journal; or the reason why it is not there."""

from litestar.exceptions import NotFoundException
from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import AnyRecord
from echo_ingest.sinks import clips
from echo_ingest.web.schemas import StoredRecord, stored_record


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


def shown(reader: JournalReader, entry: Entry, decoder: Decoder) -> StoredRecord:
    """Return the record of `entry`, decoded, with the place where its clip is also kept."""
    place = reader.place_of(clips.CLIP_STORE, entry.offset)
    return stored_record(entry, decoder, place)


def clip_file(reader: JournalReader, offset: int, decoder: Decoder) -> ClipFile:
    """Return the clip of a record; raise `NotFoundException` if it has none."""
    entry = entry_at(reader, offset)
    stored = shown(reader, entry, decoder)
    if stored.record is None:
        raise NotFoundException(f"record {offset} cannot be read: {stored.problem}")
    clip = clips.clip_of(stored.record)
    if clip is None:
        raise NotFoundException(_no_clip(stored.record, offset))
    return ClipFile(
        clips.audio_of(entry.message),
        clips.CONTENT_TYPES[clip.container],
        f"record-{offset}.{clip.container}",
    )


def _no_clip(record: AnyRecord, offset: int) -> str:
    reference = getattr(record, "clip_reference", None)
    if reference is None:
        return f"record {offset} has no clip"
    return f"record {offset} has no clip; the device says that it keeps it as {reference!r:.200}"
