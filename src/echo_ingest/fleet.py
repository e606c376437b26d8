"""A small forest of simulated devices, for `make demo`: several payload forms, real MQTT."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from msgspec import Struct

from echo_ingest.calls import CALLS, wav
from echo_ingest.mqtt import ConnectionLost, Session

OTWAY = (-38.7712, 143.5021, 112.0)


class Outgoing(Struct, frozen=True):
    """One message a device publishes."""

    topic: str
    payload: bytes
    properties: tuple[tuple[str, str], ...] = ()


class Device(Struct, frozen=True):
    """One simulated device: what it says, and how often."""

    node: str
    interval_seconds: float
    say: Callable[["Device", Random], Outgoing]
    repeats: int = 1
    """How often it publishes each message: some never trust an acknowledgement."""


def fleet(prefix: str) -> tuple[Device, ...]:
    """Eleven devices that publish below `prefix`."""

    def below(say: Callable[[str, str, Random], Outgoing]) -> Callable[[Device, Random], Outgoing]:
        return lambda device, rng: say(f"{prefix}/{device.node}", device.node, rng)

    return (
        Device("ridge-01", 1.5, below(edge_prediction)),
        Device("ridge-02", 2.0, below(edge_prediction)),
        Device("creek-01", 6.0, below(edge_prediction), repeats=2),
        Device("creek-02", 9.0, below(esp32_audio)),
        Device("swamp-01", 11.0, below(recorder)),
        Device("swamp-02", 14.0, below(raspberry_pi)),
        Device("ridge-01", 10.0, below(sensor_health)),
        Device("creek-01", 12.0, below(sensor_health)),
        Device("swamp-01", 5.0, below(heartbeat)),
        Device("collar-7", 4.0, below(movement)),
        Device("broken-9", 13.0, below(careless)),
    )


async def publish_for_ever(session: Session, device: Device, rng: Random) -> None:
    """Be `device`: publish at its pace until cancelled; what was not acknowledged goes again."""
    while True:
        await asyncio.sleep(device.interval_seconds * rng.uniform(0.5, 1.5))
        outgoing = device.say(device, rng)
        acknowledged = 0
        while acknowledged < device.repeats:
            with contextlib.suppress(ConnectionLost):  # publish waits for the next connection
                await session.publish(
                    outgoing.topic, outgoing.payload, properties=outgoing.properties
                )
                acknowledged += 1


def edge_prediction(topic: str, node: str, rng: Random) -> Outgoing:
    """A Raspberry Pi that names species on the device."""
    heard = rng.sample(CALLS, 3)
    first = rng.uniform(50, 98)
    scores = [first, (100 - first) * 0.7, (100 - first) * 0.3]
    top = [
        {"label": call.species, "confidence": round(score, 2)}
        for call, score in zip(heard, scores, strict=True)
    ]
    return _json(
        topic,
        {
            "type": "prediction",
            "timestamp": str(int(_now().timestamp())),
            "sensor_id": node,
            "species": top[0]["label"],
            "confidence": top[0]["confidence"],
            "top5": top,
            "gps_data": {"lat": OTWAY[0], "lon": OTWAY[1]},
            "gps_uncertainty": 10.0,
        },
    )


def esp32_audio(topic: str, node: str, rng: Random) -> Outgoing:
    """An ESP32 with a microphone: a clip as base64 in JSON."""
    return _json(
        topic,
        {
            "sourceType": "simulator",
            "timestamp": _now().isoformat(),
            "sensorId": node,
            "microphoneLLA": dict(zip(("latitude", "longitude", "altitude"), OTWAY, strict=True)),
            "animalEstLLA": None,
            "animalTrueLLA": None,
            "animalLLAUncertainty": None,
            "audioClip": base64.b64encode(wav(rng.choice(CALLS), 1.0, 16_000, rng)).decode(),
            "sampleRate": 16_000,
        },
    )


def recorder(topic: str, node: str, rng: Random) -> Outgoing:
    """A recorder that sends the file itself, with GUANO metadata in it."""
    guano = (
        f"GUANO|Version: 1.0\nTimestamp: {_now().isoformat()}\nLoc Position: {OTWAY[0]} {OTWAY[1]}"
    )
    clip = wav(rng.choice(CALLS), 2.0, 32_000, rng, guano)
    return Outgoing(f"{topic}/recording", clip, (("sensor_id", node),))


def raspberry_pi(topic: str, node: str, rng: Random) -> Outgoing:
    """The earlier Raspberry Pi client: audio, health and GPS, but no id and no time."""
    return _json(
        topic,
        {
            "health_data": {
                "cpu": round(rng.uniform(5, 60), 1),
                "ram": 41.0,
                "disk": 27.9,
                "uptime": rng.uniform(1e3, 1e6),
            },
            "gps_data": {"lat": OTWAY[0], "lon": OTWAY[1]},
            "audio_file": base64.b64encode(wav(rng.choice(CALLS), 0.5, 44_100, rng)).decode(),
        },
    )


def sensor_health(topic: str, node: str, rng: Random) -> Outgoing:
    """Battery and processor, with a time."""
    return _json(
        topic,
        {
            "timestamp": _now().isoformat(),
            "sensorId": node,
            "status": "Online",
            "batteryPct": round(rng.uniform(60, 100), 1),
            "cpu": round(rng.uniform(5, 60), 1),
            "ram": round(rng.uniform(20, 60), 1),
        },
    )


def heartbeat(topic: str, node: str, rng: Random) -> Outgoing:
    """The same bytes each time: not a duplicate of itself."""
    return _json(topic, {"status": "online"})


def movement(topic: str, node: str, rng: Random) -> Outgoing:
    """A wild boar with a collar."""
    place = [OTWAY[0] + rng.gauss(0, 0.002), OTWAY[1] + rng.gauss(0, 0.002), OTWAY[2]]
    return _json(
        topic,
        {
            "timestamp": _now().isoformat(),
            "animalId": "7",
            "species": "Sus scrofa",
            "animalTrueLLA": [round(value, 6) for value in place],
        },
    )


def careless(topic: str, node: str, rng: Random) -> Outgoing:
    """A device with a bug: its messages are dead letters, kept with their reason."""
    return Outgoing(topic, rng.choice((b'{"temp": NaN}', b"node3 temp 21.4", b'{"lat": 999')))


def _json(topic: str, fields: dict[str, object]) -> Outgoing:
    return Outgoing(topic, json.dumps(fields).encode())


def _now() -> datetime:
    return datetime.now(UTC)
