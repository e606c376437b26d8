"""Messages as a journal holds them: earlier versions stored those with longer topics, too."""

from collections.abc import Iterable

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival
from echo_ingest.record import Message, Rejected
from tests.several_records import Parts


def as_stored(messages: Iterable[Message], payload_bytes_max: int) -> list[Arrival]:
    """Return what to append for messages, however long their topics are."""
    arrivals: list[Arrival] = []
    for message in messages:
        decoded = Decoder(payload_bytes_max, forms=Parts()).identified(message, hashed=False)
        arrivals.append((message, decoded if isinstance(decoded, Rejected) else decoded.identity))
    return arrivals
