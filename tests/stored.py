"""Messages as a journal holds them: earlier versions stored those with longer topics, too."""

from collections.abc import Iterable

from msgspec import structs

from echo_ingest.journal import Arrival
from echo_ingest.record import Ignored, Message, Rejected
from tests.several_records import DECODER_OF_SEVERAL


def as_stored(messages: Iterable[Message], payload_bytes_max: int) -> list[Arrival]:
    """Return what to append for messages, however long their topics are."""
    decoder = structs.replace(DECODER_OF_SEVERAL, payload_bytes_max=payload_bytes_max)
    arrivals: list[Arrival] = []
    for message in messages:
        decoded = decoder.identified(message, hashed=False)
        if not isinstance(decoded, Rejected | Ignored):
            arrivals.append((message, decoded.identity))
        else:
            arrivals.append((message, decoded))
    return arrivals
