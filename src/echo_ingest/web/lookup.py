"""One record, or its clip, by its place in the journal; or in words why it is not there."""

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
    """For those who save it: safe as the name of a file."""


def entry_at(archive: JournalReader, offset: int) -> Entry:
    """The message as it came; raises `NotFoundException` if there is none."""
    entry = archive.record(offset)
    if entry is None:
        last = archive.last_offset()
        if offset <= last:
            raise NotFoundException(
                f"record {offset} is not here any more: it was older than IOT_RETENTION_DAYS, or"
                " was lost with a damaged file"
            )
        raise NotFoundException(f"there is no record {offset}; the newest is {last}")
    return entry


def shown(archive: JournalReader, entry: Entry, decoder: Decoder) -> StoredRecord:
    """The record of `entry`, decoded, and where its clip is kept besides."""
    place = archive.place_of(clips.CLIP_STORE, entry.offset)
    return stored_record(entry, decoder, place)


def clip_file(archive: JournalReader, offset: int, decoder: Decoder) -> ClipFile:
    """The clip of a record; raises `NotFoundException` if it has none."""
    entry = entry_at(archive, offset)
    stored = shown(archive, entry, decoder)
    if stored.record is None:
        raise NotFoundException(f"record {offset} is {stored.problem}")
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
    return f"record {offset} has no clip in it; the device says it is kept as {reference!r:.200}"
