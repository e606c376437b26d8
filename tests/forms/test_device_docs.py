"""What those who build devices read is what the code does: schemas, AsyncAPI, docs/forms.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from scripts import device_docs

from echo_ingest.decode import FORMS, Decoder, echo_schemas
from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.examples import read_example
from echo_ingest.decode.forms.json_schema import schema_of
from echo_ingest.decode.forms.match import Arrived, fit_of
from echo_ingest.decode.forms.reading import read
from echo_ingest.record import Message
from tests.forms.test_forms_never_raise import form_texts
from tests.forms.trying import HEAD, form
from tests.tools import without

ROOT = Path(__file__).parents[2]
METASCHEMA = ROOT / "console" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
SHIPPED_FORMS = Forms.of_folder(SHIPPED)
OURS = echo_schemas.schemas()
DOCUMENT = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
RECEIVED_AT_MS = 1_789_364_712_500


def wrong(schema: Mapping[str, Any], value: object) -> list[str]:
    """Return where a value does not fit a schema."""
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_the_files_are_those_that_the_code_writes() -> None:
    files = device_docs.files()
    for path, text in files.items():
        assert path.read_text() == text, f"{path.name} is out of date: type make device-docs"
    assert set(device_docs.SCHEMAS.glob("*.json")) == {
        path for path in files if path.parent == device_docs.SCHEMAS
    }


def test_each_schema_is_one() -> None:
    for schema in device_docs.schemas(SHIPPED_FORMS).values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", sorted(each.name for each in SHIPPED_FORMS.forms))
def test_the_examples_of_a_shipped_form_fit_its_schema(name: str) -> None:
    shipped = SHIPPED_FORMS.named(name)
    assert shipped is not None
    schema = schema_of(shipped)
    for file in (SHIPPED / name).glob("example*"):
        message = read_example(file).message
        fit = fit_of(shipped, Arrived(message))
        assert fit is not None
        if "contentSchema" in schema:
            assert wrong(schema["contentSchema"], fit.document["rows"]) == []
        elif shipped.match.payload in ("json", "list"):
            assert wrong(schema, json.loads(message.payload)) == []
        else:
            assert wrong(schema, message.payload.decode("latin-1")) == []


@given(form_texts())
@settings(max_examples=300, deadline=None)
def test_each_form_that_can_be_read_has_a_schema(text: str) -> None:
    made = read(text.encode())
    if isinstance(made, Form):
        schema = schema_of(made)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert len(json.dumps(schema)) < 100_000


def test_a_path_that_chooses_between_places_again_and_again_is_described_at_once() -> None:
    path = " | ".join(["(x || x)"] * 40)
    schema = schema_of(form(f'{HEAD}[[record]]\nkind = "detection"\nspecies = "{path}"\n'))
    assert len(json.dumps(schema)) < 20_000


NESTED = """name = "try"
[match]
topic = "a/{node}"
has = ["calls", "at.time"]
[[record]]
kind = "detection"
each = "calls"
species = "name"
confidence = { from = "p", scale = "percent" }
observed_at = { from = "parent.at.time", zone = "site" }
latitude = "parent.where[0]"
longitude = "parent.where[1]"
model = "tags[?key=='model'] | [0].value"
[identity]
message_id = { from = ["at.time", "serial"], join = "-" }
"""


def test_a_schema_has_what_the_form_reads() -> None:
    schema = schema_of(form(NESTED))
    good = {
        "calls": [{"name": "Frog", "p": 64, "tags": [{"key": "model", "value": "B"}]}],
        "at": {"time": "2026-10-05 07:30:00"},
        "where": [-37.4, 145.3],
        "more": True,
    }
    assert wrong(schema, good) == []
    assert schema["x-topics"] == ["a/{node}"]
    assert schema["required"] == ["at", "calls"]
    call = schema["properties"]["calls"]["items"]
    assert call["required"] == ["name"]
    assert call["properties"]["p"]["description"] == "confidence, in percent, 0 to 100"
    tags = call["properties"]["tags"]["items"]["properties"]
    assert tags.keys() == {"key", "value"} and tags["value"]["description"] == "model"
    when = schema["properties"]["at"]["properties"]["time"]["description"]
    assert when == "observed_at, in the zone of the site where it names none; a part of message_id"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"calls": 1}, "$.calls"),
        ({"calls": [{"name": None}]}, "$.calls[0].name"),
        ({"calls": [{}]}, "$.calls[0]"),
        ({"calls": [{"name": "Frog", "p": 120}]}, "$.calls[0].p"),
        ({"at": {}}, "$.at"),
        ({"where": [-37.4, True]}, "$.where[1]"),
        ({"where": ["x", "145,3"]}, "$.where[0]"),
    ],
)
def test_what_a_form_could_not_read_does_not_fit(change: dict[str, object], place: str) -> None:
    good = {"calls": [{"name": "Frog"}], "at": {"time": "2026-10-05T07:30:00Z"}}
    problems = wrong(schema_of(form(NESTED)), good | change)
    assert [problem.partition(": ")[0] for problem in problems] == [place]


# ---------------------------------------------------------------------- our own forms


def test_each_of_our_own_forms_has_a_schema() -> None:
    assert OURS.keys() == {form.name for form in FORMS}
    assert OURS.keys().isdisjoint(form.name for form in SHIPPED_FORMS.forms)


@pytest.mark.parametrize("name", sorted(device_docs.EXAMPLES))
def test_an_example_of_our_own_form_fits_and_is_read(name: str) -> None:
    example = device_docs.EXAMPLES[name]
    assert wrong(OURS[name], example) == []
    sent = Message("iotingestion/n", json.dumps(example).encode(), RECEIVED_AT_MS, "n")
    decoded = Decoder(50_000_000).decode(sent)
    assert isinstance(decoded, tuple), decoded
    assert decoded[0].form == name
    assert decoded[0].time_problem is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("edge-prediction", {"confidence": 187}),
        ("edge-prediction", {"confidence": "87"}),
        ("edge-prediction", {"sensor_id": None}),
        ("edge-prediction", {"type": "other"}),
        ("edge-prediction", {"top5": [{"label": "Frog"}]}),
        ("detection", {"sampleRate": -1}),
        ("detection", {"sourceType": "toy"}),
        ("movement", {"animalTrueLLA": [1]}),
        ("movement", {"animalTrueLLA": None}),
        ("node-status", {"batteryPct": 120}),
        ("engine-audio", {"microphoneLLA": [1, 2, 3, 4]}),
        ("engine-audio", {"audioClip": None}),
    ],
)
def test_what_would_be_rejected_does_not_fit(name: str, change: dict[str, object]) -> None:
    example = device_docs.EXAMPLES[name] | change
    assert wrong(OURS[name], example) != []
    sent = Message("iotingestion/n", json.dumps(example).encode(), RECEIVED_AT_MS, "n")
    assert not isinstance(Decoder(50_000_000).decode(sent), tuple)


# ---------------------------------------------------------------------- AsyncAPI


def test_the_document_is_asyncapi_3() -> None:
    if not METASCHEMA.exists():
        without("the schema of AsyncAPI is not here; `scripts/setup dev` installs it")
    metaschema = json.loads(METASCHEMA.read_text())
    validator = jsonschema.Draft7Validator(metaschema)
    problems = [
        f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(DOCUMENT)
    ]
    assert problems == []
    broken = DOCUMENT | {"channels": {"node": {"adress": "x"}}}
    assert not validator.is_valid(broken)


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for inner in value.values() for each in references(inner)]
    return (
        [each for inner in value for each in references(inner)] if isinstance(value, list) else []
    )


def test_each_reference_leads_somewhere() -> None:
    found = references({key: value for key, value in DOCUMENT.items()})
    assert len(found) > 100
    for reference in found:
        if reference.startswith("./"):
            assert (ROOT / "docs" / reference).is_file(), reference
            continue
        target = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_each_example_fits_the_schema_of_its_message() -> None:
    schemas = device_docs.schemas(SHIPPED_FORMS)
    messages = DOCUMENT["components"]["messages"]
    assert messages.keys() == schemas.keys()
    tried = 0
    for name, message in messages.items():
        assert message["payload"]["schema"]["$ref"] == f"./schemas/{name}.json"
        for example in message.get("examples", ()):
            tried += 1
            assert wrong(schemas[name], example["payload"]) == [], name
    assert tried > 30


def test_each_message_has_a_channel() -> None:
    listed = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert listed == DOCUMENT["components"]["messages"].keys()
    for channel in DOCUMENT["channels"].values():
        address = channel["address"] or ""
        assert {f"{{{name}}}" for name in channel.get("parameters", ())} == {
            level for level in address.split("/") if level.startswith("{")
        }
