"""What the devices say: message `number` of a run, the same bytes whenever it is asked for.

The number is in the payload, so that a stored row says which message it is, and in the time, the
status or the clip, so that what the API has been given says it too.
"""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Literal

from msgspec import Struct

from echo_ingest.simulator import payloads
from echo_ingest.simulator.forest import SimulatedNode
from echo_ingest.simulator.sounds import CALLS, wav

EPOCH_SECONDS = 1_790_000_000
"""The time of message 0; each number has a second of its own."""
WHEN = datetime.fromtimestamp(EPOCH_SECONDS, UTC)
PREFIX = "iotingestion"
REFUSED_SPECIES = "Nullus refusus"
"""The API is told to refuse it: the record is parked."""

Fate = Literal["delivered", "parked", "dead letter"]
CLIP = re.compile(rb'"audio(?:_file|Clip)": "([^"]+)"')
NUMBER = re.compile(rb'"number": (\d+)|number=(\d+);')


class Outgoing(Struct, frozen=True):
    """A message, and what is to become of it."""

    topic: str
    payload: bytes
    properties: tuple[tuple[str, str], ...]
    fate: Fate
    has_identity: bool
    """Sent twice it is still one. What has none may be stored once for each time it was sent,
    and for each time that the broker sends it anew without marking it so."""

    def clip(self) -> bytes | None:
        """Return the audio in it, if it is a recording."""
        if self.payload.startswith(b"RIFF"):
            return self.payload
        match = CLIP.search(self.payload)
        return base64.b64decode(match[1]) if match else None


class Form(Struct, frozen=True):
    """A kind of message, and its share in percent."""

    share: int
    say: Callable[[int, str, Random], bytes]
    fate: Fate = "delivered"
    has_identity: bool = True
    properties: tuple[tuple[str, str], ...] = ()


def message_of(seed: int, number: int, node: str) -> Outgoing:
    """Return message `number` of the run with `seed`, which device `node` sends."""
    rng = Random(seed << 40 | number)
    form = WEIGHTED[rng.randrange(len(WEIGHTED))]
    payload = form.say(number, node, rng)
    return Outgoing(f"{PREFIX}/{node}", payload, form.properties, form.fate, form.has_identity)


def is_published_twice(seed: int, number: int) -> bool:
    """Tell whether a message is published twice on purpose: one in twenty is."""
    return Random(seed << 41 | number).random() < 0.05


def number_of(payload: bytes) -> int | None:
    """Return the number of the message with this payload."""
    match = NUMBER.search(payload)
    return int(match[1] or match[2]) if match else None


def edge_prediction(number: int, node: str, rng: Random) -> bytes:
    outgoing = payloads.edge_prediction(PREFIX, _node(node), WHEN, rng)
    return _json(json.loads(outgoing.payload), number, timestamp=str(EPOCH_SECONDS + number))


def edge_prediction_with_id(number: int, node: str, rng: Random) -> bytes:
    fields = json.loads(edge_prediction(number, node, rng))
    return _json(fields, number, id=f"{node}-{number}")


def refused(number: int, node: str, rng: Random) -> bytes:
    return _json(json.loads(edge_prediction(number, node, rng)), number, species=REFUSED_SPECIES)


def detection(number: int, node: str, rng: Random) -> bytes:
    fields = {
        "sensorId": node,
        "species": rng.choice(CALLS).species,
        "source_model": "crash-1",
        "confidence": round(rng.uniform(1, 99), 2),
    }
    return _json(fields, number, timestamp=EPOCH_SECONDS + number)


def movement(number: int, node: str, rng: Random) -> bytes:
    outgoing = payloads.movement(PREFIX, _node(node), WHEN, rng)
    return _json(json.loads(outgoing.payload), number, timestamp=EPOCH_SECONDS + number)


def sensor_health(number: int, node: str, rng: Random) -> bytes:
    outgoing = payloads.sensor_health(PREFIX, _node(node), WHEN, rng)
    moment = EPOCH_SECONDS + number
    return _json(json.loads(outgoing.payload), number, timestamp=moment, status=f"number={number};")


def heartbeat(number: int, node: str, rng: Random) -> bytes:
    """Make a heartbeat, which has no id and no time: a redelivery looks like another heartbeat."""
    return json.dumps({"status": f"number={number};"}).encode()


def clip_in_json(number: int, node: str, rng: Random) -> bytes:
    fields = {"sensorId": node, "sourceType": "real", "sampleRate": 16_000}
    clip = base64.b64encode(_clip(number, rng)).decode()
    return _json(fields, number, timestamp=EPOCH_SECONDS + number, audioClip=clip)


def clip_of_node(number: int, node: str, rng: Random) -> bytes:
    """Make a clip as Raspberry Pi nodes send it, without id and time: its audio is its identity."""
    return _json({}, number, audio_file=base64.b64encode(_clip(number, rng)).decode())


def clip_alone(number: int, node: str, rng: Random) -> bytes:
    return _clip(number, rng)


def broken(number: int, node: str, rng: Random) -> bytes:
    return rng.choice((b'{"number": %d, "temp": NaN}', b"node3 number=%d; 21.4 C")) % number


FORMS = (
    Form(74, edge_prediction),
    Form(8, edge_prediction_with_id),
    Form(5, detection),
    Form(2, movement),
    Form(2, sensor_health),
    Form(2, heartbeat, has_identity=False),
    Form(1, clip_in_json),
    Form(1, clip_of_node),
    Form(1, clip_alone, properties=(("sensor_id", "recorder"),)),
    Form(1, refused, fate="parked"),
    Form(3, broken, fate="dead letter", has_identity=False),
)
WEIGHTED = [form for form in FORMS for _ in range(form.share)]


def _node(name: str) -> SimulatedNode:
    return SimulatedNode(name, (-38.7712, 143.5021, 112.0), tuple(call.species for call in CALLS))


def _clip(number: int, rng: Random) -> bytes:
    guano = f"GUANO|Version: 1.0\nNote: number={number};"
    return wav(rng.choice(CALLS), 0.02, 16_000, rng, guano)


def _json(fields: dict[str, object], number: int, **more: object) -> bytes:
    return json.dumps({**fields, **more, "number": number}).encode()
