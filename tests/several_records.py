"""Messages of several records, in a form of the tests' own, and of one."""

from collections.abc import Mapping

import msgspec

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
from echo_ingest.journal.decoding import Unreadable
from echo_ingest.record import AnyRecord, Ignored, Message, Rejected
from echo_ingest.sinks import Delivery

PAYLOAD_BYTES_MAX = 64 * 1_048_576
PARTS = b"""
name = "parts"
about = "A list of what our own dialect sends one by one, all under one id"

[match]
has = ["id", "parts"]

[identity]
message_id = "id"

[[record]]
kind = "telemetry"
each = "parts"
where = "status"
sensor_id = "nodeId"
observed_at = "timestamp"
status = "status"
battery_percent = "batteryPct"

[[record]]
kind = "movement"
each = "parts"
where = "animalId"
observed_at = "timestamp"
species = "species"
animal_id = "animalId"
animal_latitude = "animalTrueLLA[0]"
animal_longitude = "animalTrueLLA[1]"

[[record]]
kind = "detection"
each = "parts"
where = "source_model"
node = "speaksFor"
sensor_id = "sensorId"
observed_at = "timestamp"
species = "species"
confidence = { from = "confidence", scale = "percent" }
model = "source_model"
latitude = "microphoneLLA[0]"
longitude = "microphoneLLA[1]"
altitude_metres = "microphoneLLA[2]"
clip = "audioClip"
"""
"""A part may name its node in `speaksFor`, as where a gateway sends it."""
DECODER_OF_SEVERAL = Decoder(PAYLOAD_BYTES_MAX, forms=Forms.of_sources([("parts", PARTS)]))


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


def only(decoded: tuple[AnyRecord, ...] | Rejected | Ignored) -> AnyRecord | Rejected:
    """Return the record of a message that has one, or why there is none."""
    if isinstance(decoded, Rejected):
        return decoded
    assert not isinstance(decoded, Ignored), "it is ignored"
    (record,) = decoded
    return record


def only_stored(decoded: tuple[AnyRecord, ...] | Unreadable) -> AnyRecord:
    """Return the record of a stored message that has one."""
    assert not isinstance(decoded, Unreadable), decoded.render()
    (record,) = decoded
    return record
