"""Messages with measurements, in a form of the tests' own."""

import json

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
from echo_ingest.record import Message

PAYLOAD_BYTES_MAX = 64 * 1_048_576
MORNING = 1_795_000_000
FORM = b"""
name = "sound-levels"
[match]
has = ["levels"]

[[record]]
kind = "measurement"
each = "levels"
name = { from = "$key", format = "level_%s" }
value = { from = "mean", unit = "dB" }
observed_at = "parent.at"
sensor_id = "parent.mic"
latitude = "parent.lat"
longitude = "parent.lon"

[[record]]
kind = "measurement"
observed_at = "at"
[record.values]
frames_count = "frames"

[[record]]
kind = "detection"
each = "calls"
species = "name"
common_name = "called"
confidence = { from = "share", scale = "fraction" }
observed_at = "parent.at"
duration_seconds = "lasts"
low_hz = "low"
high_hz = "high"
"""
FORMS = Forms.of_sources([("sound-levels.toml", FORM)])
DECODER = Decoder(PAYLOAD_BYTES_MAX, forms=FORMS)


def measured(second: int, *, node: str = "ridge-01", **fields: object) -> Message:
    """Return a message of that second, received two seconds later."""
    payload = {"at": MORNING + second, "levels": {}, **fields}
    received_at_ms = (MORNING + second + 2) * 1000
    return Message(f"levels/{node}", json.dumps(payload).encode(), received_at_ms, node)


def levels(**of_bands: float) -> dict[str, dict[str, float]]:
    """Return what the message says of each band."""
    return {band: {"mean": value} for band, value in of_bands.items()}
