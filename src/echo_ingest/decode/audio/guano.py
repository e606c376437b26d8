"""GUANO 1.0 (guano-md.org): the chunk `guan` of a WAV, lines of "name: value" in UTF-8."""

from echo_ingest.decode.audio.sound import METADATA_ENTRIES_MAX, note, text

BYTES_MAX = 65_536
BYTE_ORDER_MARK = "\ufeff"


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of a chunk under their own names, vendors' namespaces and all.

    A line break that is written as backslash and n stays as it is.
    """
    entries: dict[str, str] = {}
    for line in body[:BYTES_MAX].splitlines():
        name, colon, value = line.partition(b":")
        if len(entries) == METADATA_ENTRIES_MAX:
            break
        if colon:
            note(entries, text(name).strip(BYTE_ORDER_MARK).strip(), value)
    return entries
