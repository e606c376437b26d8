"""Messages of several records, in a form of the tests' own, and of one."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from echo_ingest.decode import Decoder, Rules
from echo_ingest.decode.identified import DecodedMessage
from echo_ingest.journal.decoding import Unreadable
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Identity, Message, Rejected, kinds
from echo_ingest.sinks import Delivery

PAYLOAD_BYTES_MAX = 64 * 1_048_576


class OfSeveral(Struct, frozen=True):
    """What the form makes of a message; satisfies `DecodedMessage`."""

    records: tuple[AnyRecord, ...]
    identity: Identity


class _List(Struct, frozen=True):
    id: str
    parts: list[msgspec.Raw]


class _SpokenFor(Struct, frozen=True):
    speaksFor: str | None = None


class Parts:
    """The form `{"id": …, "parts": [{…}, {…}]}`: each part is as our own dialect has a message.

    A part may name its node in `speaksFor`, as where a gateway sends it.
    """

    def decoded(
        self, message: Message, rules: Rules, *, hashed: bool
    ) -> DecodedMessage | Rejected | None:
        """Decode each part by itself; the first that is rejected rejects the message."""
        sent = _parts_of(message)
        if sent is None:
            return None
        if not sent.parts:
            return Rejected(ReasonCode.MISSING_FIELD, "there are no parts", "parts")
        records: list[AnyRecord] = []
        for part in sent.parts:
            node = msgspec.json.decode(part, type=_SpokenFor).speaksFor or message.node
            of_part = msgspec.structs.replace(message, payload=bytes(part), node=node)
            decoded = Decoder(PAYLOAD_BYTES_MAX, rules).identified(of_part, hashed=hashed)
            if isinstance(decoded, Rejected):
                return decoded
            records += decoded.records
        return OfSeveral(tuple(records), Identity(kinds(records), message_id=sent.id))

    def clip_bytes(self, message: Message, rules: Rules, index: int) -> bytes | None:
        """Return the clip of a part."""
        sent = _parts_of(message)
        if sent is None or index >= len(sent.parts):
            return None
        of_part = msgspec.structs.replace(message, payload=bytes(sent.parts[index]))
        return Decoder(PAYLOAD_BYTES_MAX, rules).clip_bytes(of_part)


DECODER_OF_SEVERAL = Decoder(PAYLOAD_BYTES_MAX, forms=Parts())


def several(
    number: int,
    *parts: Mapping[str, object],
    node: str = "ridge-01",
    received_at_ms: int = 1_795_000_600_000,
) -> Message:
    """Return a message with a record for each of `parts`; each number is another message."""
    payload = msgspec.json.encode({"id": f"several {number}", "parts": parts})
    return Message(f"iotingestion/{node}", payload, received_at_ms, node)


def call(second: int, species: str = "Litoria ewingii", **more: object) -> dict[str, object]:
    """Return a detection as a part of a message."""
    return {
        "sensorId": "ridge-01",
        "timestamp": 1_795_000_000 + second,
        "species": species,
        "confidence": 50.0,
        "source_model": "model 1",
        **more,
    }


def delivery_of(
    offset: int,
    key: bytes,
    message: Message,
    *records: AnyRecord,
    clip_place: str | None = None,
) -> Delivery:
    """Return what a sink is offered of a message."""
    return Delivery(offset, key, message, records, DECODER_OF_SEVERAL, clip_place)


def only(decoded: tuple[AnyRecord, ...] | Rejected) -> AnyRecord | Rejected:
    """Return the record of a message that has one, or why there is none."""
    if isinstance(decoded, Rejected):
        return decoded
    (record,) = decoded
    return record


def only_stored(decoded: tuple[AnyRecord, ...] | Unreadable) -> AnyRecord:
    """Return the record of a stored message that has one."""
    assert not isinstance(decoded, Unreadable), decoded.render()
    (record,) = decoded
    return record


def _parts_of(message: Message) -> _List | None:
    if not message.payload.startswith(b'{"id":'):
        return None
    try:
        return msgspec.json.decode(message.payload, type=_List)
    except msgspec.DecodeError:
        return None
