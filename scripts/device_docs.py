"""Write what those who build devices read: JSON Schemas, the AsyncAPI document, docs/forms.md.

All of it comes from the code and from the shipped forms, with their examples. `make device-docs`
writes it again, and tests/forms/test_device_docs.py says so where it is out of date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

import echo_ingest
from echo_ingest.decode import FORMS, echo_schemas
from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.decode.forms.examples import Example, example_files, read_example
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.json_schema import DIALECT, media_type, schema_of
from echo_ingest.decode.forms.record_spec import RecordSpec
from echo_ingest.decode.forms.trial import try_form
from echo_ingest.decode.rules import Rules
from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.settings import RECEIPTS_PREFIX

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCHEMAS = DOCS / "schemas"
PREFIX = "iotingestion"
BEGIN = "<!-- From here on, `make device-docs` writes this page from the shipped forms. -->"
RECEIPT = "receipt"
UNREAD_MAX = 12
DRAFT = "application/schema+json;version=draft-2020-12"

Document = dict[str, Any]

CLIP = (
    "UklGRkQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YSAAAAAA"
    "ANwYKCPcGAAAJOfY3CTnAADcGCgj3BgAACTn2Nwk5w=="
)
"""A WAV file of a millisecond."""
EXAMPLES: dict[str, Document] = {
    "engine-audio": {
        "timestamp": "2026-09-14T05:45:12Z",
        "sensorId": "creek-02",
        "microphoneLLA": [-38.7712, 143.5021, 112],
        "audioClip": CLIP,
    },
    "engine-audio-objects": {
        "timestamp": "2026-09-14T05:45:12Z",
        "sensorId": "creek-02",
        "sourceType": "real",
        "microphoneLLA": {"latitude": -38.7712, "longitude": 143.5021, "altitude": 112},
        "audioClip": CLIP,
    },
    "node-audio": {
        "nodeId": "creek-02",
        "gps_data": {"lat": -38.7712, "lon": 143.5021},
        "health_data": {"cpu": 12.5, "ram": 41.0, "disk": 60.2, "uptime": 86_400},
        "audio_file": CLIP,
    },
    "edge-prediction": {
        "type": "prediction",
        "id": "ridge-01-41",
        "timestamp": "2026-09-14T05:45:12.433Z",
        "sensor_id": "ridge-01",
        "species": "Dacelo novaeguineae",
        "confidence": 87.25,
        "top5": [{"label": "Dacelo novaeguineae", "confidence": 87.25}],
        "gps_data": {"lat": -38.7712, "lon": 143.5021},
        "gps_uncertainty": 10,
    },
    "detection": {
        "id": "ridge-01-42",
        "timestamp": "2026-09-14T05:45:12.433Z",
        "sensorId": "ridge-01",
        "species": "Dacelo novaeguineae",
        "confidence": 87.25,
        "source_model": "BirdNET 2.4",
        "audioClip": "clips/20260914T054512Z.wav",
        "sampleRate": 48_000,
    },
    "movement": {
        "timestamp": "2026-09-14T05:45:12Z",
        "species": "Dacelo novaeguineae",
        "animalId": "kookaburra-7",
        "animalTrueLLA": [-38.7712, 143.5021, 112],
    },
    "sensor-health": {"sensorId": "mic-3", "timestamp": "2026-09-14T05:45:12Z", "batteryPct": 71},
    "node-status": {"nodeId": "swamp-01", "status": "online", "batteryPct": 71},
}
"""A message of each of our own forms."""
RECEIPT_EXAMPLES: tuple[Document, ...] = (
    {"outcome": "stored", "id": "ridge-01-41", "offset": 1_204},
    {
        "outcome": "rejected",
        "reason": "confidence: 187 is out of range; send a percentage from 0 to 100",
    },
)


def main() -> None:
    """Write all files, and remove schemas of forms that are gone."""
    SCHEMAS.mkdir(exist_ok=True)
    made = files()
    for path in SCHEMAS.glob("*.json"):
        if path not in made:
            path.unlink()
    for path, text in made.items():
        path.write_text(text)


def files() -> dict[Path, str]:
    """Return each file with its text."""
    forms = Forms.of_folder(SHIPPED)
    page = (DOCS / "forms.md").read_text().partition(BEGIN)[0].rstrip()
    made = {DOCS / "forms.md": f"{page}\n\n{BEGIN}\n\n{forms_page(forms)}"}
    for name, schema in schemas(forms).items():
        made[SCHEMAS / f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    made[DOCS / "asyncapi.yaml"] = "# `make device-docs` writes this file.\n" + yaml.safe_dump(
        asyncapi(forms), sort_keys=False, allow_unicode=True, width=100
    )
    return made


def schemas(forms: Forms) -> dict[str, Document]:
    """Return the JSON Schema of each form, and of receipts."""
    ours = echo_schemas.schemas()
    others = {form.name: schema_of(form) for form in forms.forms}
    return ours | others | {RECEIPT: receipt_schema()}


def receipt_schema() -> Document:
    """Return the JSON Schema of what a device is told."""
    _, components = msgspec.json.schema_components([Receipt])
    head = {"$schema": DIALECT, "title": RECEIPT}
    return head | {key: value for key, value in components["Receipt"].items() if key != "title"}


def example_of(form: Form) -> Example:
    """Return the first example beside a shipped form."""
    return read_example(example_files(SHIPPED / form.name)[0])


# ---------------------------------------------------------------------- docs/forms.md


def forms_page(forms: Forms) -> str:
    """Return the part of docs/forms.md about the forms of other devices."""
    lines = [
        "## Forms of other devices",
        "",
        f"There are {len(forms.forms)} [forms in files](form-files.md) for devices of other makers,"
        " in",
        "[`decode/forms/shipped`](../src/echo_ingest/decode/forms/shipped): a folder for each, with"
        " an example",
        "and what it becomes. `echo-ingest forms list` shows these and your own.",
        "*Not read* is what the example has and no field of the form reads.",
        "",
    ]
    return "\n".join([*lines, *(line for form in forms.forms for line in _section(form))])


def _section(form: Form) -> Iterator[str]:
    yield f"### {form.name}"
    yield ""
    yield f"{form.about}."
    yield ""
    yield f"- Recognised by: {_recognised(form)}"
    yield from (f"- Becomes: {words}" for words in _becomes(form))
    example = example_of(form)
    unread = try_form(form, example.message, Rules(zone=example.zone)).unread
    if unread:
        shown = ", ".join(f"`{path}`" for path in unread[:UNREAD_MAX])
        more = f", and {len(unread) - UNREAD_MAX} more" if len(unread) > UNREAD_MAX else ""
        yield f"- Not read: {shown}{more}"
    yield ""


def _recognised(form: Form) -> str:
    match = form.match
    parts = []
    if match.topics:
        parts.append("topic " + " or ".join(f"`{'/'.join(topic)}`" for topic in match.topics))
    if match.has:
        names = (".".join(map(str, steps)) for steps in match.has)
        parts.append("the keys " + ", ".join(f"`{name}`" for name in names))
    if match.where is not None:
        parts.append(_code(match.where.text))
    if match.opens is not None:
        parts.append(f"beginning with {_code(match.opens.compiled.pattern)}")
    if match.payload != "json":
        parts.append(f"payload `{match.payload}`")
    return "; ".join(parts)


def _becomes(form: Form) -> Iterator[str]:
    if form.ignore:
        yield "nothing; such messages are ignored"
    for spec in form.records:
        yield _kind(spec)


def _kind(spec: RecordSpec) -> str:
    lists = ", then ".join(_code(path.text) for path in spec.each if path.text != "@")
    each = f" for each of {lists}" if lists else " for each of its values" if spec.each else ""
    names = [name for name in (*spec.fields, *spec.values) if name not in ("name", "value")]
    fields = ", ".join(f"`{name}`" for name in names)
    return f"a {spec.kind}{each}" + (f" with {fields}" if fields else "")


def _code(text: str) -> str:
    text = text.replace("\t", "\\t")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


# ---------------------------------------------------------------------- docs/asyncapi.yaml


def asyncapi(forms: Forms) -> Document:
    """Return the AsyncAPI document of topics, accounts and receipts."""
    messages, channels, operations = _messages(forms), _channels(forms), {}
    for name in channels:
        if name != "receipts":
            operations[f"receive-{name}"] = _receive(name)
    operations["send-receipts"] = {
        "action": "send",
        "channel": {"$ref": "#/channels/receipts"},
        "summary": "Say what became of a message, to a device that asked",
        "bindings": {"mqtt": {"qos": 0, "retain": False, "bindingVersion": "0.2.0"}},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Echo Ingest",
            "version": echo_ingest.__version__,
            "description": "What devices publish, with which account, and how they learn that a"
            " message is on disk. docs/devices.md says it in words.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "securitySchemes": {
                "account": {
                    "type": "userPassword",
                    "description": "A node's own account, by its name (`echo-ingest nodes add`), or"
                    " echopub, which devices share",
                },
                "certificate": {
                    "type": "X509",
                    "description": "A certificate whose common name is that of the node, where"
                    " IOT_TLS_CLIENT_CA_FILE names an authority",
                },
            },
        },
    }


def _servers() -> Document:
    account = [{"$ref": "#/components/securitySchemes/account"}]
    certificate = [{"$ref": "#/components/securitySchemes/certificate"}]
    return {
        "mqtt": {"host": "localhost:1883", "protocol": "mqtt", "security": account},
        "websockets": {"host": "localhost:9001", "protocol": "ws", "security": account},
        "tls": {"host": "localhost:8883", "protocol": "mqtts", "security": account + certificate},
    }


def _receive(channel: str) -> Document:
    operation: Document = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": "Take a message, and acknowledge it once it is on disk",
        "bindings": {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}},
    }
    if channel in ("node", "recording"):
        operation["reply"] = {"channel": {"$ref": "#/channels/receipts"}}
    return operation


def _messages(forms: Forms) -> Document:
    messages: Document = {}
    for own in FORMS:
        kind = "application/json" if own.name in EXAMPLES else "audio/wav"
        examples = [EXAMPLES[own.name]] if own.name in EXAMPLES else []
        messages[own.name] = _message(own.name, f"Becomes a {own.kind}", kind, examples)
    for form in forms.forms:
        examples = []
        if form.match.payload in ("json", "list"):
            examples = [json.loads(example_of(form).message.payload)]
        messages[form.name] = _message(
            form.name, form.about, media_type(form.match.payload), examples
        )
    messages[RECEIPT] = _message(
        RECEIPT, "What became of a message", "application/json", list(RECEIPT_EXAMPLES)
    )
    return messages


def _message(name: str, summary: str, media_type: str, examples: list[Document]) -> Document:
    made: Document = {
        "name": name,
        "summary": summary,
        "contentType": media_type,
        "payload": {"schemaFormat": DRAFT, "schema": {"$ref": f"./schemas/{name}.json"}},
    }
    if examples:
        made["examples"] = [{"payload": example} for example in examples]
    return made


def _channels(forms: Forms) -> Document:
    node = {"node": {"description": "The name of the device: letters, digits and hyphens"}}
    named = [form.name for form in FORMS if form.name in EXAMPLES]
    channels: Document = {
        "node": {
            "address": f"{PREFIX}/{{node}}",
            "description": "What a device says in Project Echo's own forms",
            "parameters": node,
            "messages": _listed(named),
        },
        "recording": {
            "address": f"{PREFIX}/{{node}}/recording",
            "description": "A WAV, FLAC, MP3 or Ogg file, as it is",
            "parameters": node,
            "messages": _listed(["audio-file"]),
        },
        "receipts": {
            "address": f"{RECEIPTS_PREFIX}/{{node}}",
            "description": "Receipts, for the node alone. With MQTT 5, a device asks with a"
            " response topic here or below; with 3.1.1, by an id in its JSON",
            "parameters": node,
            "messages": _listed([RECEIPT]),
        },
    }
    by_content = [form.name for form in forms.forms if not form.match.topics]
    channels["any-topic"] = {
        "address": None,
        "description": "Forms that are recognised by their content, whatever the topic",
        "messages": _listed(by_content),
    }
    for form in forms.forms:
        for number, levels in enumerate(form.match.topics):
            suffix = f"-{number + 1}" if number else ""
            channels[form.name + suffix] = _channel(form, levels)
    return channels


def _channel(form: Form, levels: tuple[str, ...]) -> Document:
    written, parameters = [], {}
    for number, level in enumerate(levels, 1):
        name = level.strip("{}")
        if level == "#":
            name = "rest"
        elif level == "+":
            name = f"level{number}"
        elif not level.startswith("{"):
            written.append(level)
            continue
        words = {"#": "Any levels", "+": "Any level"}.get(level, f"The level is kept as {name}")
        parameters[name] = {"description": words}
        written.append(f"{{{name}}}")
    channel: Document = {"address": "/".join(written), "description": form.about}
    if parameters:
        channel["parameters"] = parameters
    return channel | {"messages": _listed([form.name])}


def _listed(names: list[str]) -> Document:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


if __name__ == "__main__":
    main()
