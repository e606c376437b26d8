"""JSON Schemas of Project Echo's own forms, for those who build devices.

The types are those of `fields.Fields`, by which messages are read; ranges are those of `values`.
docs/forms.md says in words what each field means.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.echo import ALTERNATIVES_MAX
from echo_ingest.decode.echo_forms import FORMS, EchoForm
from echo_ingest.decode.fields import Fields
from echo_ingest.decode.forms.json_schema import DIALECT
from echo_ingest.decode.values import (
    CPU_PERCENT_MAX,
    TEXT_CHARACTERS_MAX,
    UNCERTAINTY_METRES_MAX,
)

LLA_ITEMS = {"minItems": 2, "maxItems": 3}
"""A list of plain numbers is a place everywhere: [latitude, longitude, altitude]."""
Schema = dict[str, Any]

_SHARED = (
    *("id", "timestamp", "sensor_id", "sensorId", "nodeId", "node_id", "microphoneLLA"),
    *("gps_data", "gps_uncertainty", "sourceType"),
)
_HEALTH = ("status", "batteryPct", "cpu", "ram", "disk", "uptime", "health_data")
_ANIMAL = ("animalEstLLA", "animalLLAUncertainty", "animalTrueLLA")
_DETECTION = (
    *("species", "confidence", "top5", "sampleRate", *_ANIMAL),
    *("audioClip", "audio_file"),
)
_SOUND = ("audioFile", "mode", *_ANIMAL, *_HEALTH)
FIELDS_READ: Mapping[str, tuple[str, ...]] = {
    "engine-audio": ("audioClip", *_SOUND),
    "engine-audio-objects": ("audioClip", *_SOUND),
    "node-audio": ("audio_file", *_SOUND),
    "edge-prediction": ("type", *_DETECTION),
    "detection": ("source_model", *_DETECTION),
    "movement": ("species", "animalId", "animalTrueLLA"),
    "sensor-health": _HEALTH,
    "node-status": _HEALTH,
}
"""Form → the fields that are read beside those that every form has."""
_SAYS_HEALTH: Schema = {"anyOf": [{"required": [name]} for name in _HEALTH]}
REQUIRED: Mapping[str, Schema] = {
    "engine-audio": {"required": ["audioClip"]},
    "engine-audio-objects": {
        "required": ["audioClip"],
        "anyOf": [
            {"required": ["sourceType"]},
            {"required": ["microphoneLLA"], "properties": {"microphoneLLA": {"type": "object"}}},
        ],
    },
    "node-audio": {"required": ["audio_file"]},
    "edge-prediction": {
        "required": ["species", "confidence", "sensor_id"],
        "properties": {"type": {"enum": ["prediction", None]}},
    },
    "detection": {"required": ["species", "source_model"]},
    "movement": {"required": ["species", "animalId", "animalTrueLLA"]},
    "sensor-health": {
        "anyOf": [{"required": ["sensorId"]}, {"required": ["sensor_id"]}],
        "allOf": [_SAYS_HEALTH],
    },
    "node-status": _SAYS_HEALTH,
}
_TEXT: Schema = {"maxLength": TEXT_CHARACTERS_MAX}
_PERCENT: Schema = {"minimum": 0, "maximum": 100}
_PLACE: Schema = {"description": "[latitude, longitude, altitude], or an object of these"}
LIMITS: Mapping[str, Schema] = {
    "id": {"description": "the message's own id: the same message again has the same", **_TEXT},
    "timestamp": {"description": "when it happened: ISO 8601 with its zone, or a count since 1970"},
    "sensor_id": _TEXT,
    "sensorId": _TEXT,
    "nodeId": _TEXT,
    "node_id": _TEXT,
    "animalId": _TEXT,
    "species": {"description": "the scientific name", "minLength": 1, **_TEXT},
    "confidence": {"description": "in percent: 87.25, and not 0.8725", **_PERCENT},
    "top5": {"description": "what else it may be, in percent", "maxItems": ALTERNATIVES_MAX},
    "microphoneLLA": {"description": f"where the sensor is: {_PLACE['description']}"},
    "animalEstLLA": {"description": f"where the animal may be: {_PLACE['description']}"},
    "animalTrueLLA": {"description": f"where the animal is: {_PLACE['description']}"},
    "gps_data": {"description": "where the sensor is, in degrees"},
    "gps_uncertainty": {
        "description": "metres around it",
        "minimum": 0,
        "maximum": UNCERTAINTY_METRES_MAX,
    },
    "animalLLAUncertainty": {
        "description": "metres around animalEstLLA",
        "minimum": 0,
        "maximum": UNCERTAINTY_METRES_MAX,
    },
    "sampleRate": {"description": "hertz", "minimum": 0, "maximum": SAMPLE_RATE_HZ_MAX},
    "sourceType": {"enum": ["real", "simulator", None]},
    "source_model": {"description": "the model that named the species", **_TEXT},
    "audioClip": {"description": "a WAV, FLAC, MP3 or Ogg file in base64"},
    "audio_file": {"description": "a WAV, FLAC, MP3 or Ogg file in base64"},
    "audioFile": {"description": "the name of the file, or a mode", **_TEXT},
    "mode": _TEXT,
    "status": _TEXT,
    "batteryPct": {
        "description": "percent; 101 means external power, and 255 not known",
        "anyOf": [_PERCENT, {"enum": [101, 255, None]}],
    },
    "cpu": {"description": "percent of one core", "minimum": 0, "maximum": CPU_PERCENT_MAX},
    "ram": {"description": "percent in use", **_PERCENT},
    "disk": {"description": "percent in use", **_PERCENT},
    "uptime": {
        "description": "seconds since the start, or the time of the start since 1970",
        "minimum": 0,
    },
}
"""What is asked of a field besides its type."""


def schemas() -> dict[str, Schema]:
    """Return the JSON Schema of each of our own forms, by name."""
    return {form.name: _schema(form) for form in FORMS}


def _schema(form: EchoForm) -> Schema:
    head: Schema = {
        "$schema": DIALECT,
        "title": form.name,
        "description": f"Becomes a {form.kind}. Pitfall: {form.pitfall}",
    }
    if form.name not in FIELDS_READ:
        return head | {"type": "string", "contentMediaType": "audio/wav"}
    required = REQUIRED[form.name]
    changed = required.get("properties", {})
    names = dict.fromkeys((*FIELDS_READ[form.name], *_SHARED))
    types = _types()
    properties = {
        name: _field(types[name], name, required.get("required", ())) | changed.get(name, {})
        for name in sorted(names, key=list(types).index)
    }
    kept = {key: value for key, value in required.items() if key != "properties"}
    return head | {"type": "object", "properties": properties} | kept


def _field(types: Schema, name: str, required: object) -> Schema:
    assert isinstance(required, list | tuple)
    made = LIMITS.get(name, {}) | types
    if name not in required:
        return made
    if "type" in made:
        left = [each for each in made["type"] if each != "null"]
        return made | {"type": left[0] if len(left) == 1 else left}
    return made | {"anyOf": [each for each in made["anyOf"] if each.get("type") != "null"]}


def _types() -> dict[str, Schema]:
    """Return the schema of the type of each field, with what it refers to put in its place."""
    _, components = msgspec.json.schema_components([Fields])
    made: dict[str, Schema] = components["Fields"]["properties"]
    return {name: _plain(field, components) for name, field in made.items()}


def _plain(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    if "$ref" in schema:
        return _plain(components[schema["$ref"].rpartition("/")[2]], components)
    choices = [_plain(each, components) for each in schema.get("anyOf", ())]
    if choices and all(set(each) == {"type"} for each in choices):
        names = [each["type"] for each in choices]
        return {"type": [name for name in names if name != "integer" or "number" not in names]}
    made: Schema = {"anyOf": choices} if choices else {}
    if "type" in schema:
        made["type"] = schema["type"]
    if schema.get("required"):
        made["required"] = schema["required"]
    if "items" in schema:
        made["items"] = _plain(schema["items"], components)
        if "properties" not in made["items"]:
            made |= LLA_ITEMS
    if "properties" in schema:
        fields = schema["properties"].items()
        made["properties"] = {name: _plain(field, components) for name, field in fields}
    return made
