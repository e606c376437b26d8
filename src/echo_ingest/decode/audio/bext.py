"""The chunk `bext` of a Broadcast Wave File (EBU Tech 3285): texts of fixed length."""

from echo_ingest.decode.audio.sound import U64, note

_TEXTS = (
    ("Description", 0, 256),
    ("Originator", 256, 288),
    ("OriginatorReference", 288, 320),
    ("OriginationDate", 320, 330),
    ("OriginationTime", 330, 338),
    ("CodingHistory", 602, None),
)
_TIME_REFERENCE_AT = 338


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of a chunk under the names in EBU Tech 3285.

    `TimeReference` counts samples since midnight; 0 says nothing and is left out.
    """
    entries: dict[str, str] = {}
    for name, start, end in _TEXTS:
        note(entries, name, body[start:end])
    if len(body) >= _TIME_REFERENCE_AT + U64.size:
        (samples,) = U64.unpack_from(body, _TIME_REFERENCE_AT)
        if samples:
            entries["TimeReference"] = str(samples)
    return entries
