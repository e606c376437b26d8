"""Real payloads to begin from: one of each form, and the wire contract's where it is at hand."""

import base64
import json

from echo_ingest.record import Rejected
from tests.decode.messages import DECODER, PAYLOADS, message, wav
from tests.several_records import only

CLIP = base64.b64encode(wav(samples=20)).decode()
WHERE = {"latitude": -38.77, "longitude": 143.5, "altitude": 112}
FORMS: tuple[dict[str, object], ...] = (
    {"timestamp": "2026-09-14T05:45:12", "audioClip": CLIP, "audioFile": "Animal_Mode"},
    {"sourceType": "real", "microphoneLLA": WHERE, "audioClip": CLIP, "sampleRate": 16_000},
    {"audio_file": CLIP, "health_data": {"cpu": 3.5, "uptime": 1_789_364_712}, "id": "m1"},
    {
        "type": "prediction",
        "timestamp": "1789364712",
        "sensor_id": "ridge-01",
        "species": "Litoria ewingii",
        "confidence": 63.64,
        "top5": [{"label": "Crinia signifera", "confidence": 12.5}],
        "gps_data": {"lat": -38.77, "lon": 143.5},
        "gps_uncertainty": 10.0,
    },
    {"species": "Crinia signifera", "source_model": "m", "audioClip": "clip.wav", "confidence": 90},
    {"timestamp": 1789364712.5, "animalId": "7", "species": "Sus scrofa", "animalTrueLLA": [1, 2]},
    {"timestamp": "2026-09-14T05:45:12Z", "sensorId": "s", "status": "Online", "batteryPct": 98},
    {"nodeId": "n", "status": "online"},
)


def _is_good(payload: bytes) -> bool:
    return not isinstance(only(DECODER.decode(message(payload, node="n"))), Rejected)


def _fields(payload: bytes) -> dict[str, object] | None:
    try:
        fields = json.loads(payload)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


REAL = [wav(), *(json.dumps(fields).encode() for fields in FORMS)]
REAL += [path.read_bytes() for path in sorted(PAYLOADS.glob("[0-9]*"))]
"""Small ones: what a fuzz run finds, it finds by their number."""
REAL += 3 * [payload for payload in REAL if _is_good(payload)]
"""What is rejected anyway hides what would come behind: good ones more often."""
OBJECTS = [fields for fields in map(_fields, REAL) if fields is not None]
"""The payloads that are JSON objects."""
