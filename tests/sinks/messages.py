"""What the contract suite delivers: plain messages of every kind, and values at their limits."""

import base64
import io
import json
import math
import wave
from datetime import UTC, datetime
from random import Random

import msgspec

from echo_ingest.decode import Decoder
from echo_ingest.journal.plan import Arrival
from echo_ingest.record import (
    AnyRecord,
    Detection,
    Measurement,
    Message,
    Movement,
    Place,
    Rejected,
    Telemetry,
)
from echo_ingest.record import Health as NodeHealth
from echo_ingest.simulator.sounds import CALLS, wav
from tests.several_records import DECODER_OF_SEVERAL, only
from tests.stored import as_stored

NODES = ("ridge-01", "ridge-02", "creek-03")
PAYLOAD_BYTES_MAX = 64 * 1_048_576
MORNING = 1_795_000_000
SAMPLE_RATE_HZ = 16_000
PLACE = [-38.7712, 143.5021, 112.0]


def message(number: int) -> Message:
    """Return a message of each kind in turn, from three nodes; each number is another message."""
    match number % 5:
        case 0:
            return detection(number)
        case 1:
            return recording(number)
        case 2:
            node = node_of(number)
            fields = {"nodeId": node, "status": f"online {number}", "timestamp": MORNING + number}
            return json_message(node, fields)
        case 3:
            return json_message(
                node_of(number),
                {
                    "timestamp": MORNING + number,
                    "species": "Sus scrofa",
                    "animalId": f"sow {number}",
                    "animalTrueLLA": PLACE,
                },
            )
        case _:
            return detection(number, audioClip=base64.b64encode(clip(number)).decode())


def messages(first: int, count: int) -> list[Message]:
    return [message(number) for number in range(first, first + count)]


def detection(number: int, **changed: object) -> Message:
    """Return a detection as a classifier sends it; fields that are None are left out."""
    node = node_of(number)
    fields = {
        "sensorId": node,
        "timestamp": MORNING + number,
        "species": "Litoria ewingii",
        "confidence": 63.64,
        "source_model": "echo-engine 3",
        "microphoneLLA": PLACE,
        **changed,
    }
    return json_message(node, {name: value for name, value in fields.items() if value is not None})


def recording(number: int, sound: bytes | None = None) -> Message:
    """Return a file as a recorder sends it."""
    node = node_of(number)
    topic = f"iotingestion/{node}/recording"
    return Message(topic, sound or clip(number), (MORNING + number) * 1000, node)


def json_message(node: str, fields: dict[str, object]) -> Message:
    """Return a message that was received when it was sent."""
    payload = json.dumps(fields, ensure_ascii=False).encode()
    sent_at = fields.get("timestamp")
    received_at = sent_at if isinstance(sent_at, int) else MORNING
    return Message(f"iotingestion/{node}", payload, received_at * 1000, node)


def node_of(number: int) -> str:
    return NODES[number % len(NODES)]


def clip(number: int, guano: str = "") -> bytes:
    """Return a clip with a different sound for each number."""
    return wav(CALLS[number % len(CALLS)], 0.02, SAMPLE_RATE_HZ, Random(number), guano)


def noise(number: int, seconds: int) -> bytes:
    """Return a clip of noise of any length, which is quicker to make than a call."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        out.writeframes(Random(number).randbytes(2 * SAMPLE_RATE_HZ * seconds))
    return file.getvalue()


def fields_of(arrived: Message) -> dict[str, object]:
    """Return what a JSON message says, as a part of another one."""
    fields: dict[str, object] = json.loads(arrived.payload)
    return fields


def record_of(arrived: Message) -> AnyRecord:
    record = only(Decoder(PAYLOAD_BYTES_MAX).decode(arrived))
    assert not isinstance(record, Rejected), record.render()
    return record


def records_of(arrived: Message) -> tuple[AnyRecord, ...]:
    records = DECODER_OF_SEVERAL.decode(arrived)
    assert isinstance(records, tuple), records
    return records


def arrivals(arrived: list[Message]) -> list[Arrival]:
    return as_stored(arrived, PAYLOAD_BYTES_MAX)


LAST = int(datetime(2105, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
LETTERS = "Λιτόρια «尤文氏樹蛙» 🐸 ضفدع e\u0301 '\";--\\ $where a.b %s {0}"
GUANO = "GUANO|Version: 1.0\n$where: 1\na.b: {}\nNote: 🐸 'quoted' \\\nMake: Λ"

LIMITS: dict[str, Message] = {
    "letters": detection(1_001, species=LETTERS, source_model=LETTERS, sensorId=NODES[0]),
    "longest-text": detection(1_002, species="é" * 256),
    "poles": detection(1_003, microphoneLLA=[-90, -180, -500], animalEstLLA=[90, 180, 9_000]),
    "large-number": detection(1_004, microphoneLLA=[1, 1, 9_000]),
    "small-number": detection(1_005, microphoneLLA=[1, 5e-324, 5e-324]),
    "no-confidence": detection(1_006, confidence=None),
    "certain": detection(1_007, confidence=100),
    "impossible": detection(1_008, confidence=0),
    "nowhere": detection(1_009, microphoneLLA=None),
    "first-time": detection(1_010, timestamp="2015-01-01T00:00:00Z"),
    "last-time": detection(1_011, timestamp=LAST),
    "large-clip": detection(1_012, audioClip=base64.b64encode(noise(1_012, 30)).decode()),
    "large-recording": recording(1_013, noise(1_013, 90)),
    "metadata": Message(
        f"iotingestion/{NODES[0]}/recording", clip(1_014, guano=GUANO), MORNING * 1000, NODES[0]
    ),
    "health": json_message(
        NODES[0],
        {
            "nodeId": NODES[0],
            "status": LETTERS,
            "timestamp": MORNING,
            "cpu": 12_800,
            "batteryPct": 5e-324,
            "uptime": 0,
        },
    ),
    "animal": json_message(
        NODES[0],
        {
            "timestamp": MORNING,
            "species": LETTERS,
            "animalId": LETTERS,
            "animalTrueLLA": [90, -180, 9_000],
        },
    ),
}  # fmt: skip
"""At the edge of what decode lets through; each is stored, unless its store says it cannot."""

PLAIN = msgspec.convert(
    msgspec.to_builtins(record_of(detection(1_100))),
    Detection,  # a copy to change
)
RIDGE = Place(-38.7712, 143.5021)


def beyond(**changed: object) -> AnyRecord:
    return msgspec.structs.replace(PLAIN, **changed)


BEYOND: dict[str, AnyRecord] = {
    "year-1": beyond(observed_at=datetime(1, 1, 1, tzinfo=UTC)),
    "year-9999": beyond(observed_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    "nul": beyond(species="Litoria\0ewingii"),
    "nul-in-movement": Movement(
        form="movement",
        node=NODES[0],
        observed_at=datetime(2026, 9, 14, tzinfo=UTC),
        time_source="device",
        species="a\0b",
        animal_id="\0",
        animal_place=RIDGE,
    ),
    "nul-in-health": Telemetry(
        form="node-status",
        node=NODES[0],
        observed_at=datetime(2026, 9, 14, tzinfo=UTC),
        time_source="device",
        health=NodeHealth(status="on\0line"),
    ),
    "nul-in-measurement": Measurement(
        form="of-a-file",
        node=NODES[0],
        observed_at=datetime(2026, 9, 14, tzinfo=UTC),
        time_source="device",
        name="leq\0db",
        value=1.0,
        unit="dB",
    ),
    "infinite-measurement": Measurement(
        form="of-a-file",
        node=NODES[0],
        observed_at=datetime(2026, 9, 14, tzinfo=UTC),
        time_source="device",
        name="leq_db",
        value=-math.inf,
        unit="dB",
    ),
    "nan": beyond(place=Place(math.nan, 0.0), confidence=math.nan),
    "infinity": beyond(animal_place=Place(1.0, 1.0, math.inf)),
}
"""What no form can say today: a sink settles it all the same, and goes on."""
