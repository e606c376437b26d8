"""What devices send in a benchmark: detections of two makers, every form mixed, and clips."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, islice
from random import Random
from typing import Literal

from echo_ingest.decode.forms import SHIPPED
from echo_ingest.simulator.sounds import CALLS, wav
from tests.crash.messages import message_of

Form = Literal["detections", "BirdNET-Go", "mix", "clips", "raw clips"]

PREFIX = "iotingestion"
NODES = [f"ridge-{n:02}" for n in range(32)]
DETECTION_BYTES = 278
CLIP_BYTES = 500_000
CLIPS = 8
"""How many different clips there are; a number in each message makes it unique."""
EPOCH_SECONDS = 1_795_451_157
RECEIVED_AT_MS = (EPOCH_SECONDS + 86_400) * 1000
"""When they are received where no broker brings them: after each of them was sent."""

DETECTION = (
    '{"type": "prediction", "timestamp": "%d", "sensor_id": "%s", "species": "%s", '
    '"confidence": %.2f, "top5": [{"label": "Litoria ewingii ", "confidence": %.2f}], '
    '"gps_data": {"lat": -37.8136, "lon": 144.9631}, "gps_uncertainty": %.7f}'
)

Outgoing = tuple[str, bytes]


def messages(form: Form, number: int, seed: int = 1) -> Iterator[Outgoing]:
    """Yield `number` messages, no two of which are alike; the same seed gives the same messages."""
    rng = Random(f"{form} {seed}")
    generators: dict[Form, Callable[[Random, int], Iterator[Outgoing]]] = {
        "detections": detections,
        "BirdNET-Go": _birdnet_go,
        "mix": _mix,
        "clips": _clips,
        "raw clips": _raw_clips,
    }
    return islice(generators[form](rng, seed), number)


def detections(rng: Random, _seed: int, first: int = 0) -> Iterator[Outgoing]:
    """Make the form `edge-prediction`, as devices in the field send it most, 200 a second.

    Those with a number below 0 are from before all others.
    """
    species = [call.species for call in CALLS]
    for number in count(first):
        node, animal = rng.choice(NODES), rng.choice(species)
        confidence = 50 + 49 * rng.random()
        at_seconds = EPOCH_SECONDS + number // 200
        where = 4 + number / 10_000_000
        text = DETECTION % (at_seconds, node, animal, confidence, confidence, where)
        label = "Litoria ewingii ".ljust(16 + DETECTION_BYTES - len(text), "I")
        yield f"{PREFIX}/{node}", text.replace("Litoria ewingii ", label).encode()


def _birdnet_go(rng: Random, _seed: int) -> Iterator[Outgoing]:
    """Make what BirdNET-Go of 2026 publishes of a detection, in about 800 bytes, 20 a second."""
    fields = json.loads((SHIPPED / "birdnet-go-detection" / "example.json").read_bytes())
    began = datetime.fromtimestamp(EPOCH_SECONDS, timezone(timedelta(hours=11)))
    for number in count():
        node, call = rng.choice(NODES), rng.choice(CALLS)
        begins = began + timedelta(milliseconds=50 * number)
        fields |= {
            "SourceNode": node,
            "Date": f"{begins:%Y-%m-%d}",
            "Time": f"{begins:%H:%M:%S}",
            "BeginTime": begins.isoformat(timespec="microseconds"),
            "EndTime": (begins + timedelta(seconds=3)).isoformat(timespec="microseconds"),
            "ScientificName": call.species,
            "Confidence": round(0.5 + 0.49 * rng.random(), 4),
            "ClipName": f"{begins:%Y/%m}/call_87p_{begins:%Y%m%dT%H%M%S}_{number}.m4a",
            "detectionId": number,
        }
        yield f"{PREFIX}/{node}", json.dumps(fields, separators=(",", ":")).encode()


def _mix(_rng: Random, seed: int) -> Iterator[Outgoing]:
    """Yield messages of all forms, some of them broken, as in the crash run."""
    for number in count():
        sent = message_of(seed, number, NODES[number % len(NODES)])
        yield sent.topic, sent.payload


def _clips(rng: Random, seed: int) -> Iterator[Outgoing]:
    """Yield clips of 500 kB as base64 in JSON."""
    ready = [base64.b64encode(clip).decode() for clip in _sounds(rng, CLIP_BYTES * 3 // 4)]
    for number in count():
        fields = {"timestamp": EPOCH_SECONDS + number, "sensorId": NODES[0], "seed": seed}
        fields["audioClip"] = ready[number % CLIPS]
        yield f"{PREFIX}/{NODES[number % len(NODES)]}", json.dumps(fields).encode()


def _raw_clips(rng: Random, _seed: int) -> Iterator[Outgoing]:
    """Yield clips of 500 kB as plain bytes; the last samples of each are its number."""
    ready = [bytearray(clip) for clip in _sounds(rng, CLIP_BYTES)]
    for number in count():
        clip = ready[number % CLIPS]
        clip[-8:] = (number + 1).to_bytes(8)
        yield f"{PREFIX}/{NODES[number % len(NODES)]}/recording", bytes(clip)


def _sounds(rng: Random, size_bytes: int) -> list[bytes]:
    seconds = size_bytes / 2 / 16_000
    return [wav(rng.choice(CALLS), seconds, 16_000, rng) for _ in range(CLIPS)]
