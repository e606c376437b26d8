"""What a WAV says beside its sound: chunks, each with a reader that gives names and values."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from echo_ingest.decode.audio import bext, guano, info, wamd
from echo_ingest.decode.audio.sound import METADATA_ENTRIES_MAX

CHUNKS_MAX = 8


class NoteReader(Struct, frozen=True):
    """How the notes in one kind of chunk are read."""

    fields: Callable[[bytes], dict[str, str]]
    namespace: str
    """What goes before a name that an earlier chunk has with another value."""


READERS = {
    b"guan": NoteReader(guano.fields, "GUANO|"),
    b"wamd": NoteReader(wamd.fields, wamd.OWN),
    b"bext": NoteReader(bext.fields, "bext|"),
    b"LIST": NoteReader(info.fields, "INFO|"),
}
"""By the name of the chunk, in the order in which they are trusted."""


def metadata(chunks: Sequence[tuple[bytes, bytes, int]]) -> dict[str, str]:
    """Return the entries of `chunks`, given by name, body and announced size, by trust."""
    merged: dict[str, str] = {}
    for kind, reader in READERS.items():
        for name, body, size in chunks:
            if name != kind:
                continue
            is_cut = len(body) < size and name == b"guan"
            whole = body[: body.rfind(b"\n") + 1] if is_cut else body
            for field, value in reader.fields(whole).items():
                if merged.setdefault(field, value) != value:
                    merged.setdefault(reader.namespace + field, value)
    return dict(list(merged.items())[:METADATA_ENTRIES_MAX])
