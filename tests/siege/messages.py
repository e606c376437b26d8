"""What good devices say: message `number` of a node, the same bytes whenever it is asked for."""

import base64
import json
import re
from random import Random

from echo_ingest.simulator.sounds import CALLS, wav_file

PREFIX = "iotingestion"
EPOCH_SECONDS = 1_790_000_000
CLIP_EVERY = 40
CLIP_BYTES = (1_000_000, 5_000_000)
SAMPLE_RATE_HZ = 48_000
NUMBER = re.compile(rb'"id": "good-\d+/(\d+)"')


def payload_of(seed: int, node: str, number: int) -> bytes:
    """Return a message: a small detection, or now and then a clip of some megabytes."""
    rng = Random(f"{seed} {node} {number}")
    fields: dict[str, object] = {
        "id": f"{node}/{number}",
        "sensor_id": node,
        "timestamp": EPOCH_SECONDS + number,
    }
    if (clip := clip_of(seed, node, number)) is not None:
        fields |= {"sampleRate": SAMPLE_RATE_HZ, "audioClip": base64.b64encode(clip).decode()}
    else:
        fields |= {
            "species": rng.choice(CALLS).species,
            "confidence": round(rng.uniform(1, 99), 2),
        }
    return json.dumps(fields).encode()


def clip_of(seed: int, node: str, number: int) -> bytes | None:
    """Return the audio in a message, if there is any: noise."""
    rng = Random(f"{seed} {node} {number} clip")
    if rng.randrange(CLIP_EVERY):
        return None
    return wav_file(rng.randbytes(rng.randrange(*CLIP_BYTES) // 2 * 2), SAMPLE_RATE_HZ)


def topic_of(node: str) -> str:
    return f"{PREFIX}/{node}"


def number_of(payload: bytes) -> int | None:
    """Return the number of a message."""
    match = NUMBER.search(payload[:200])
    return int(match[1]) if match else None
