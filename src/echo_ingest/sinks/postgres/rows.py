"""Records as rows: pure. Which columns each table has for us, and what a batch tells of nodes.

docs/stores.md describes the tables. Audio is described, never stored; where its bytes are is said
in `clip_reference`.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, fields

from echo_ingest.decode.times import received
from echo_ingest.record import (
    Alternative,
    Clip,
    Detection,
    Health,
    Movement,
    Place,
    Recording,
    Telemetry,
)
from echo_ingest.sinks import Delivery

Row = tuple[object, ...]

PLACE = tuple(field.name for field in fields(Place))
RECORD = (
    *("key", "journal_offset", "observed_at", "received_at", "time_source", "form"),
    *("node", "sensor_id", "message_id", "source_type"),
    *PLACE,
)
ANIMAL = tuple(f"animal_{name}" for name in PLACE)
ANIMAL_TRUE = tuple(f"animal_true_{name}" for name in PLACE)
CLIP = (*(f"clip_{field.name}" for field in fields(Clip)), "clip_reference")
HEALTH = tuple(field.name for field in fields(Health))

COLUMNS = {
    "detections": (
        *RECORD,
        *("species", "confidence", "alternatives", "model", "sample_rate_hz"),
        *ANIMAL,
        *ANIMAL_TRUE,
        *CLIP,
    ),
    "recordings": (*RECORD, "mode", *ANIMAL, *ANIMAL_TRUE, *CLIP, *HEALTH),
    "telemetry": (*RECORD, *HEALTH),
    "movements": (*RECORD, "species", "animal_id", *ANIMAL),
}
"""Table → its columns, in the order of `table_rows`."""
NODE_COLUMNS = ("node", "first_heard_at", "last_heard_at", "placed_at", *PLACE)

NO_PLACE: Row = (None,) * len(PLACE)
NO_CLIP: Row = (None,) * len(fields(Clip))
NO_HEALTH: Row = (None,) * len(HEALTH)


def table_rows(batch: Sequence[Delivery]) -> dict[str, list[Row]]:
    """Table → rows in its `COLUMNS`, for those tables that the batch has any for."""
    tables: dict[str, list[Row]] = {}
    for delivery in batch:
        table, row = _row(delivery)
        tables.setdefault(table, []).append(row)
    return tables


def node_rows(batch: Iterable[Delivery]) -> list[Row]:
    """Rows in `NODE_COLUMNS`, sorted: who locks them in one order cannot lock out another."""
    nodes: dict[str, _Heard] = {}
    for delivery in batch:
        node, place = delivery.record.node, delivery.record.place
        if node is None:
            continue
        at_ms = delivery.message.received_at_ms
        heard = nodes.setdefault(node, _Heard(at_ms, at_ms))
        heard.first_at_ms = min(heard.first_at_ms, at_ms)
        heard.last_at_ms = max(heard.last_at_ms, at_ms)
        if place is not None and at_ms >= heard.placed_at_ms:
            heard.placed_at_ms, heard.place = at_ms, place
    return [
        (
            node,
            received(heard.first_at_ms),
            received(heard.last_at_ms),
            None if heard.place is None else received(heard.placed_at_ms),
            *_place(heard.place),
        )
        for node, heard in sorted(nodes.items(), key=itemgetter(0))
    ]


class _Heard(Struct):
    """What a batch tells of one node: when it was heard, and its newest place."""

    first_at_ms: int
    last_at_ms: int
    placed_at_ms: int = 0
    place: Place | None = None


def _row(delivery: Delivery) -> tuple[str, Row]:
    record, message = delivery.record, delivery.message
    common: Row = (
        delivery.key,
        delivery.offset,
        record.observed_at,
        received(message.received_at_ms),
        record.time_source,
        record.form,
        record.node,
        record.sensor_id,
        record.message_id,
        record.source_type,
        *_place(record.place),
    )
    match record:
        case Detection():
            return "detections", (
                *common,
                record.species,
                record.confidence,
                _json(record.alternatives),
                record.model,
                record.sample_rate_hz,
                *_place(record.animal_place),
                *_place(record.animal_true_place),
                *_clip(record.clip),
                delivery.audio_reference or record.clip_reference,
            )
        case Recording():
            return "recordings", (
                *common,
                record.mode,
                *_place(record.animal_place),
                *_place(record.animal_true_place),
                *_clip(record.clip),
                delivery.audio_reference or record.clip_reference,
                *_health(record.health),
            )
        case Telemetry():
            return "telemetry", (*common, *_health(record.health))
        case Movement():
            return "movements", (
                *common,
                record.species,
                record.animal_id,
                *_place(record.animal_place),
            )


def _place(place: Place | None) -> Row:
    return NO_PLACE if place is None else astuple(place)


def _clip(clip: Clip | None) -> Row:
    return NO_CLIP if clip is None else (*astuple(clip)[:-1], _json(clip.metadata))


def _health(health: Health | None) -> Row:
    return NO_HEALTH if health is None else astuple(health)


def _json(value: tuple[Alternative, ...] | dict[str, str]) -> str | None:
    return msgspec.json.encode(value).decode() if value else None
