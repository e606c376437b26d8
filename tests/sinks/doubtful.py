"""Records that say why a value was not believed, made at random, for each sink and each export.

The record is the truth: what a sink or an export gives back is compared with it. Receipts lie after
the times that the devices wrote.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, get_args

from echo_ingest.quality import ClipProblem, TimeProblem
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    Health,
    Measurement,
    Message,
    Movement,
    ObservationType,
    Place,
    Record,
    Recording,
    Telemetry,
)
from echo_ingest.sinks import Delivery
from tests.several_records import delivery_of
from tests.sinks.messages import NODES, clip

NIGHT = datetime(2026, 9, 14, 8, tzinfo=UTC)
OBSERVATION_TYPES: tuple[ObservationType, ...] = get_args(ObservationType)
DEVICE_TIMES = {
    TimeProblem.CLOCK_NOT_SET: "2000-01-01T00:00:05Z",
    TimeProblem.OTHER_START: "849000000",
    TimeProblem.BEFORE_FIRST_DAY: "2003-05-31 22:14:09",
    TimeProblem.AFTER_RECEIPT: "2036-02-07T06:28:16Z",
    TimeProblem.GPS_WEEK_ROLLOVER: "2007-01-29T08:00:00Z",
    TimeProblem.ZONE_UNKNOWN: "2026-09-14 18:00:00",
    TimeProblem.CORRECTED: "2026-09-14T09:00:00Z",
}
LABELS = {
    "animal": ("Litoria ewingii", "Crinia signifera", "=HYPERLINK(1)", "＝cmd()", "a\n-b"),
    "human": ("Human vocal", "power tools"),
    "vehicle": ("Engine", "siren"),
    "blank": ("nocall", "@noise", "－rain"),
    "unknown": ("unidentified",),
    "unclassified": ("+",),
}


def deliveries(count: int, seed: int = 13) -> list[Delivery]:
    """Return records of every kind, at offsets 1, 2, 3 …"""
    rng = Random(seed)
    return [delivery(rng, number) for number in range(1, count + 1)]


def delivery(rng: Random, number: int) -> Delivery:
    node = rng.choice(NODES)
    sound = clip(number)
    received_at = NIGHT + timedelta(seconds=7 * number)
    problem = [None, None, *TimeProblem][number % 9]
    source = "device" if problem in (None, TimeProblem.CORRECTED) and number % 16 else "received"
    observed_at = received_at
    if source == "device":
        observed_at -= timedelta(seconds=rng.randint(0, 3_600), microseconds=rng.randint(0, 10**6))
    shared: dict[str, Any] = {
        "form": "detection",
        "node": node,
        "sensor_id": rng.choice((node, "mic 1", None)),
        "message_id": rng.choice((None, "=1+1", f"m{number}")),
        "observed_at": observed_at,
        "time_source": source,
        "time_problem": problem,
        "device_time": DEVICE_TIMES[problem] if problem is not None else None,
        "place": rng.choice((None, place(rng))),
    }
    message = Message(
        f"iotingestion/{node}/recording", sound, int(received_at.timestamp() * 1000), node
    )
    return delivery_of(number, number.to_bytes(16), message, record(rng, number, sound, shared))


def record(rng: Random, number: int, sound: bytes, shared: dict[str, Any]) -> AnyRecord:
    heard = Clip(
        container="wav",
        size_bytes=len(sound),
        sha256=hashlib.sha256(sound).hexdigest(),
        sample_rate_hz=16_000,
        channels=1,
        duration_seconds=rng.choice((0.02, 3.0, 60.5)),
        problem=rng.choice((None, *ClipProblem)),
        metadata=rng.choice(({}, {"Note": "x;=cmd()", "Make": "Λ"})),
    )
    health = Health(
        battery_percent=rng.choice((None, 100.0)), external_power=rng.choice((None, True, False))
    )
    match number % 11:
        case 0:
            return Telemetry(**shared, health=health)
        case 10:
            name, unit = rng.choice((("leq_db", "dB"), ("=1+1", "@V"), ("frames_count", None)))
            return Measurement(**shared, name=name, value=rng.uniform(-90, 90), unit=unit)
        case 1 | 2:
            return Recording(**shared, clip=heard, health=rng.choice((None, health)))
        case 3:
            return Movement(**shared, species="Sus scrofa", animal_id="-1", animal_place=place(rng))
        case _:
            of_type = rng.choice(OBSERVATION_TYPES)
            return Detection(
                **shared,
                species=rng.choice(LABELS[of_type]),
                observation_type=of_type,
                confidence=rng.choice((0.25, 0.875)),
                model=rng.choice((None, "-edge 2")),
                common_name=rng.choice((None, "Brown Tree Frog", "=frog", "Grenouille|d’arbre")),
                ends_at=rng.choice((None, shared["observed_at"] + timedelta(seconds=4.25))),
                low_hz=rng.choice((None, 0.0, 1_250.5)),
                high_hz=rng.choice((None, 8_000.0)),
                clip=rng.choice((None, heard)),
            )


def place(rng: Random) -> Place:
    return Place(
        -38.7712, 143.5021, rng.choice((None, 228.6, -3.0)), rng.choice((None, 0.0, 4.2, 20.0))
    )


def problems(batch: list[Delivery]) -> set[object]:
    """Return the codes that the records have, to show that none was left out."""
    found: set[object] = set()
    for each in batch:
        about: Record = each.records[0]
        found |= {about.time_problem, getattr(about, "observation_type", None)}
        heard = getattr(about, "clip", None)
        found.add(getattr(heard, "problem", None))
    return found - {None}


EVERY_PROBLEM: frozenset[object] = frozenset({*TimeProblem, *ClipProblem, *OBSERVATION_TYPES})
