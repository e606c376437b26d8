"""What the simulated devices send: each payload form as a real device of that kind sends it."""

import base64
import functools
import json
from datetime import datetime, timedelta
from random import Random

from msgspec import Struct

from echo_ingest.simulator.forest import (
    SimulatedNode,
    battery_percent,
    calling,
    disk_percent,
    temperature_celsius,
)
from echo_ingest.simulator.sounds import CALLS, SpeciesSound, sound, wav_file

RECORDING = timedelta(seconds=3)
SONG_CLIPS = 1.5
"""A song is generated once, this many clips long; each clip is cut out at another place."""


class Outgoing(Struct, frozen=True):
    """One message a device publishes."""

    topic: str
    payload: bytes
    properties: tuple[tuple[str, str], ...] = ()


def edge_prediction(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of a Raspberry Pi that identifies species on the device."""
    first, *others = _species_near(node, when, rng)
    score = _confidence(rng)
    top = [{"label": first.species, "confidence": score}] + [
        {"label": call.species, "confidence": round((100 - score) * share, 2)}
        for call, share in zip(others, (0.7, 0.3), strict=True)
    ]
    return _json(
        topic,
        {
            "type": "prediction",
            "timestamp": str(int(_device_time(node, when).timestamp())),
            "sensor_id": node.name,
            "species": first.species,
            "confidence": score,
            "top5": top,
            "gps_data": {"lat": node.place[0], "lon": node.place[1]},
            "gps_uncertainty": 10.0,
        },
    )


def detection(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of a node that identifies species and sends the clip with the result."""
    call = _species_near(node, when, rng)[0]
    return _json(
        topic,
        {
            "timestamp": _device_time(node, when).isoformat(),
            "sensorId": node.name,
            "species": call.species,
            "confidence": _confidence(rng),
            "sourceType": "simulator",
            "microphoneLLA": _lla(node),
            "animalEstLLA": None,
            "animalTrueLLA": None,
            "animalLLAUncertainty": None,
            "audioClip": base64.b64encode(_clip(call, 2.0, 16_000, rng)).decode(),
            "sampleRate": 16_000,
            "source_model": "efficientnetv2",
        },
    )


def esp32_audio(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of an ESP32: a clip as base64 in JSON; its clock is not always set."""
    stamp = _device_time(node, when).isoformat() if rng.random() < 0.9 else "1970-01-01T00:00:07"
    call = _species_near(node, when, rng)[0]
    return _json(
        topic,
        {
            "sourceType": "simulator",
            "timestamp": stamp,
            "sensorId": node.name,
            "microphoneLLA": _lla(node),
            "animalEstLLA": None,
            "animalTrueLLA": None,
            "animalLLAUncertainty": None,
            "audioClip": base64.b64encode(_clip(call, 1.0, 16_000, rng)).decode(),
            "sampleRate": 16_000,
        },
    )


def recorder(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of a recorder: a whole file, with all other facts in its GUANO chunk."""
    began = when - RECORDING
    latitude, longitude, altitude = node.place
    guano = "\n".join(
        (
            "GUANO|Version: 1.0",
            "Make: Otway Instruments",
            "Model: Recorder 2",
            "Firmware Version: 1.8.1",
            f"Serial: {node.name}",
            f"Timestamp: {_device_time(node, began).isoformat(timespec='seconds')}",
            f"Loc Position: {latitude} {longitude}",
            f"Loc Elevation: {altitude}",
            f"Temperature Int: {temperature_celsius(node, when)}",
        )
    )
    clip = _clip(_species_near(node, began, rng)[0], RECORDING.total_seconds(), 32_000, rng, guano)
    return Outgoing(f"{topic}/recording", clip, (("sensor_id", node.name),))


def identified_in_recording(
    topic: str, node: SimulatedNode, when: datetime, rng: Random
) -> Outgoing:
    """Make a message of the recorder's model: the species a second into that recording."""
    return edge_prediction(topic, node, when - RECORDING + RECORDING // 3, rng)


def raspberry_pi(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of the earlier Raspberry Pi client, which has no id and no time."""
    call = _species_near(node, when, rng)[0]
    return _json(
        topic,
        {
            "health_data": {
                "cpu": round(rng.uniform(5, 60), 1),
                "ram": 41.0,
                "disk": disk_percent(node, when),
                "uptime": round(when.timestamp() % 864_000, 1),
            },
            "gps_data": {"lat": node.place[0], "lon": node.place[1]},
            "audio_file": base64.b64encode(_clip(call, 0.5, 44_100, rng)).decode(),
        },
    )


def sensor_health(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make a message with battery, processor, memory and disk, and a time."""
    return _json(
        topic,
        {
            "timestamp": _device_time(node, when).isoformat(),
            "sensorId": node.name,
            "status": "Online",
            "batteryPct": battery_percent(node, when),
            "cpu": round(rng.uniform(5, 60), 1),
            "ram": round(rng.uniform(20, 60), 1),
            "disk": disk_percent(node, when),
        },
    )


def heartbeat(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make a message of the same bytes each time, which is not a duplicate all the same."""
    return _json(topic, {"status": "online"})


def movement(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make the message of a collar on a wild boar."""
    latitude, longitude, altitude = node.place
    place = (latitude + rng.gauss(0, 0.002), longitude + rng.gauss(0, 0.002), altitude)
    return _json(
        topic,
        {
            "timestamp": _device_time(node, when).isoformat(),
            "animalId": "7",
            "species": "Sus scrofa",
            "animalTrueLLA": [round(value, 6) for value in place],
        },
    )


def invalid(topic: str, node: SimulatedNode, when: datetime, rng: Random) -> Outgoing:
    """Make a message of a device with a bug: it becomes a dead letter with its reason."""
    return Outgoing(
        topic,
        rng.choice(
            (
                b'{"sensorId": "broken-9", "temp": NaN}',
                b"node3 temp 21.4",
                b'{"lat": 999',
                json.dumps(
                    {"sensor_id": node.name, "species": "Ninox boobook", "confidence": 870}
                ).encode(),
                json.dumps(
                    {"sensorId": node.name, "audioClip": "UklGRiQAAABXQVZFZm10IBAAAAAB" * 40}
                ).encode(),
            )
        ),
    )


def _species_near(node: SimulatedNode, when: datetime, rng: Random) -> list[SpeciesSound]:
    """Return three different species; the first is the one that called."""
    local = [call for call in CALLS if call.species in node.species]
    first = rng.choice(calling(node, when) or local)
    return [first, *rng.sample([call for call in CALLS if call != first], 2)]


def _confidence(rng: Random) -> float:
    """Return a confidence in percent, mostly high: a model reports little else."""
    return round(40 + 59 * rng.betavariate(4, 2), 2)


def _device_time(node: SimulatedNode, when: datetime) -> datetime:
    return when + timedelta(seconds=node.clock_error_seconds)


def _lla(node: SimulatedNode) -> dict[str, float]:
    return dict(zip(("latitude", "longitude", "altitude"), node.place, strict=True))


def _clip(
    call: SpeciesSound, seconds: float, sample_rate_hz: int, rng: Random, guano: str = ""
) -> bytes:
    song = _song(call, seconds * SONG_CLIPS, sample_rate_hz)
    samples = int(seconds * sample_rate_hz)
    start = rng.randrange(len(song) // 2 - samples)
    return wav_file(song[2 * start : 2 * (start + samples)], sample_rate_hz, guano)


@functools.cache
def _song(call: SpeciesSound, seconds: float, sample_rate_hz: int) -> bytes:
    return sound(call, seconds, sample_rate_hz, Random(call.species))  # noqa: S311


def _json(topic: str, fields: dict[str, object]) -> Outgoing:
    return Outgoing(topic, json.dumps(fields).encode())
