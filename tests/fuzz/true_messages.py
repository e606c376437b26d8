"""Whole messages in each form, with their truth: of a seed and a number always the same."""

import base64
import json
from collections.abc import Callable
from random import Random

from echo_ingest.record import Message
from tests.fuzz import true_notes, true_sounds, true_times, true_values
from tests.fuzz.true_files import File
from tests.fuzz.true_times import UNREADABLE, Written
from tests.fuzz.truths import Case, Draft, Raw, Truth, WhenTruth, milliseconds, one_of

NODE = "ridge-07"
BROKEN_BASE64 = "broken_base64"
FAULTS = {
    None: 80,
    "time": 4,
    "species": 2,
    "sensor": 2,
    "confidence": 2,
    "alternatives": 2,
    "place": 4,
    "health": 3,
    "base64": 4,
    "json": 4,
}
UNKNOWN_FIELDS: tuple[tuple[str, object], ...] = (
    ("firmware", "1.2.3"),
    ("wifi", {"rssi": -70, "species": "no", "timestamp": 5}),
    ("note", 'a "quoted" {brace} and \\"species\\": 1'),
    ("list", [[1], {"confidence": 900}]),
    ("Timestamp", "yesterday"),
    ("SPECIES", None),
)


def case_of(seed: int, number: int) -> Case:
    """Return a message and what is true of it."""
    rng = Random(f"meaning/{seed}/{number}")
    site, received_at = true_times.site(rng)
    fault = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
    draft = Draft(rng, site, received_at, fault)
    draft.truth["when"] = WhenTruth()
    knows_node = site.confidence_is_fraction or site.clock_ahead_seconds
    node = None if draft.chance(0.05) and not knows_node else NODE
    make = draft.pick(MAKERS)
    payload, properties = make(draft)
    if node is None and make is MAKE_NODE_STATUS and "sensor_id" not in draft.truth:
        draft.refuse("status_without_node")
    truth = None if draft.must_be_refused else Truth(**draft.truth)  # type: ignore[arg-type]
    message = Message(
        "iotingestion" if node is None else f"iotingestion/{node}",
        payload,
        milliseconds(received_at),
        node=node,
        properties=properties,
    )
    return Case(message, site, truth, draft.refusal, tuple(draft.labels))


# ------------------------------------------------------------------ the forms


def edge_prediction(draft: Draft) -> None:
    """Write a species that a node has named."""
    draft.truth |= {"kind": "detection", "form": "edge-prediction"}
    if draft.chance(0.5):
        draft.put("type", "prediction")
    _put_timestamp(draft)
    true_values.put_sensor(draft, "sensor_id")
    true_values.put_species(draft)
    true_values.put_confidence(draft)
    if draft.chance(0.5) or draft.fault == "alternatives":
        true_values.put_alternatives(draft)
    _put_sensor_place(draft)
    if draft.chance(0.1) or draft.fault == "base64":
        _put_sound_or_reference(draft, draft.rng.choice(("audioClip", "audio_file")))


def detection(draft: Draft) -> None:
    """Write a species that a model on some machine has named."""
    draft.truth |= {"kind": "detection", "form": "detection"}
    draft.truth["model"] = draft.rng.choice(true_values.MODELS)
    draft.put("source_model", draft.truth["model"])
    _put_timestamp(draft)
    true_values.put_species(draft)
    if draft.chance(0.7):
        true_values.put_sensor(draft, "sensor_id", "sensorId", "nodeId", "node_id")
    if draft.chance(0.8):
        true_values.put_confidence(draft)
    if draft.chance(0.3) or draft.fault == "alternatives":
        true_values.put_alternatives(draft)
    _put_sensor_place(draft)
    _put_animal_places(draft)
    _put_source(draft)
    if draft.chance(0.3):
        rate = draft.rng.choice((0, 8_000, 48_000, 44_100.0))
        draft.put("sampleRate", rate)
        draft.truth["sample_rate_hz"] = int(rate) or None
    if draft.chance(0.4) or draft.fault == "base64":
        _put_sound_or_reference(draft, "audioClip")


def engine_audio(draft: Draft) -> None:
    """Write a recording as simulators and ESP32 recorders do."""
    draft.truth |= {"kind": "recording", "form": "engine-audio"}
    name = _put_time_of_sound(draft, "audioClip")
    _put_source(draft)
    if draft.chance(0.7):
        true_values.put_lla(draft, "microphoneLLA", "place", uncertainty="gps_uncertainty")
    _put_animal_places(draft)
    as_objects = any(
        (field == "sourceType" and value is not None)
        or (field == "microphoneLLA" and isinstance(value, dict))
        for field, value in draft.fields
    )
    if as_objects:
        draft.truth["form"] = "engine-audio-objects"
    mode = one_of(draft.rng, None, "Animal_Mode", "Recording_Mode_V2")
    if name is not None:
        draft.put("audioFile", name)
        draft.truth["clip_reference"] = name
    elif mode is not None:
        draft.put("audioFile", mode)
        draft.truth["mode"] = mode
    if draft.chance(0.3):
        true_values.put_sensor(draft, "sensorId", "nodeId")


def node_audio(draft: Draft) -> None:
    """Write a recording as Raspberry Pi nodes do."""
    draft.truth |= {"kind": "recording", "form": "node-audio"}
    name = _put_time_of_sound(draft, "audio_file")
    if name is not None:
        draft.put("audioFile", name)
        draft.truth["clip_reference"] = name
    if draft.chance(0.7):
        true_values.put_health(draft, nested=True, must=False)
    if draft.chance(0.7):
        true_values.put_gps(draft)
    if draft.chance(0.6):
        true_values.put_sensor(draft, "sensor_id", "nodeId")


def movement(draft: Draft) -> None:
    """Write where an animal was."""
    draft.truth |= {"kind": "movement", "form": "movement"}
    _put_timestamp(draft)
    true_values.put_species(draft)
    draft.truth["observation_type"] = None
    draft.truth["animal_id"] = draft.rng.choice(("7", "wombat-3"))
    draft.put("animalId", one_of(draft.rng, 7) if draft.truth["animal_id"] == "7" else "wombat-3")
    true_values.put_lla(draft, "animalTrueLLA", "animal_place")
    if "animal_place" not in draft.truth:
        draft.refuse("incomplete_movement", "impossible_place", field=None)
    _put_source(draft)


def sensor_health(draft: Draft) -> None:
    """Write how a sensor is."""
    draft.truth |= {"kind": "telemetry", "form": "sensor-health"}
    _put_timestamp(draft)
    true_values.put_sensor(draft, "sensorId", "sensor_id")
    true_values.put_health(draft, nested=draft.chance(0.3), must=True)
    if draft.chance(0.4):
        true_values.put_lla(draft, "microphoneLLA", "place", uncertainty="gps_uncertainty")


def node_status(draft: Draft) -> None:
    """Write how a node is."""
    draft.truth |= {"kind": "telemetry", "form": "node-status"}
    _put_timestamp(draft)
    if draft.chance(0.6):
        true_values.put_sensor(draft, "nodeId", "node_id")
    true_values.put_health(draft, nested=draft.chance(0.3), must=True)


def _in_json(
    form: Callable[[Draft], None],
) -> Callable[[Draft], tuple[bytes, tuple[tuple[str, str], ...]]]:
    """Return the maker of a message that is one JSON object."""

    def make(draft: Draft) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        form(draft)
        if draft.chance(0.4):
            _put_id(draft)
        draft.label(str(draft.truth["form"]))
        only_health = form is node_status and "sensor_id" not in draft.truth
        if not only_health:
            for _ in range(draft.rng.choice((0, 0, 1, 3))):
                _put_something_unknown(draft)
        if draft.chance(0.3):
            draft.rng.shuffle(draft.fields)
        if draft.takes_fault("json"):
            return _broken_json(draft), ()
        return draft.json(), ()

    return make


def audio_file(draft: Draft) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Write a recording as it lies on the card, with user properties beside it."""
    draft.truth |= {"kind": "recording", "form": "audio-file"}
    draft.label("audio-file")
    rng = draft.rng
    properties: list[tuple[str, str]] = []
    way = draft.pick({"property": 5, "notes": 6, "name": 2, "nothing": 1})
    if draft.fault == "time":
        way = "property"
    file, notes = true_notes.file_with_notes(draft, with_time=way == "notes")
    _take_notes(draft, notes)
    _take_file(draft, file)
    if way == "property":
        written = true_times.stamp(draft, as_text=True)
        name = rng.choice(("recorded_at", "recorded_at", "timestamp"))
        _take_time(draft, written, f"user property {name}")
        if written.value is not None:
            properties.append((name, str(written.value)))
    elif way == "name":
        file_name, when = true_notes.file_name(draft)
        draft.truth["when"] = when
        draft.truth["clip_reference"] = file_name
        properties.append(("file_name", file_name))
    if draft.chance(0.5) or draft.fault == "place":
        given = true_values.place_properties(draft)
        properties += given
    if draft.chance(0.3):
        sensor, spelled = true_values.sensor_name(draft)
        draft.truth["sensor_id"] = sensor
        properties.append(("sensor_id", str(spelled)))
    if draft.chance(0.3):
        draft.truth["message_id"] = f"m{rng.randrange(10**6)}"
        properties.append(("id", str(draft.truth["message_id"])))
    if draft.chance(0.3):
        properties.append(("firmware", "1.2.3"))
    rng.shuffle(properties)
    if draft.takes_fault("json") and properties:
        name, value = rng.choice(properties)
        properties.append((name, f"1{value}"))
        draft.label("a property twice")
        if name == "firmware":
            draft.label("a property that is not read twice")
        else:
            draft.refuse(
                "property_given_twice", "impossible_place", "unreadable_time", "wrong_type"
            )
    elif properties and draft.chance(0.1):
        properties.append(rng.choice(properties))
    return file.sound.data, tuple(properties)


MAKE_NODE_STATUS = _in_json(node_status)
MAKERS: dict[Callable[[Draft], tuple[bytes, tuple[tuple[str, str], ...]]], int] = {
    _in_json(edge_prediction): 28,
    _in_json(detection): 14,
    _in_json(engine_audio): 14,
    _in_json(node_audio): 10,
    _in_json(movement): 6,
    _in_json(sensor_health): 6,
    MAKE_NODE_STATUS: 4,
    audio_file: 22,
}
"""How messages are made, and how often."""


# ------------------------------------------------------------------ parts of several forms


def _take_time(draft: Draft, written: Written, field: str) -> None:
    draft.label(f"time: {written.label}")
    draft.truth["when"] = written.when
    if written.refused:
        draft.refuse(UNREADABLE, field=field)
    elif written.refused is None:
        draft.may_refuse(UNREADABLE)


def _put_timestamp(draft: Draft) -> None:
    written = true_times.stamp(draft)
    _take_time(draft, written, "timestamp")
    if written.value is not None or draft.chance(0.5):
        draft.put("timestamp", written.value)


def _put_id(draft: Draft) -> None:
    number = draft.rng.randrange(10**9)
    draft.put("id", one_of(draft.rng, number, str(number)))
    draft.truth["message_id"] = str(number)


def _put_source(draft: Draft) -> None:
    if draft.chance(0.4):
        draft.truth["source_type"] = draft.rng.choice(("real", "simulator"))
        draft.put("sourceType", draft.truth["source_type"])


def _put_sensor_place(draft: Draft) -> None:
    if draft.chance(0.3) and draft.fault != "place":
        return
    if draft.chance(0.5):
        true_values.put_gps(draft)
    else:
        true_values.put_lla(draft, "microphoneLLA", "place", uncertainty="gps_uncertainty")


def _put_animal_places(draft: Draft) -> None:
    if draft.chance(0.4):
        true_values.put_animal_place(draft)
    if draft.chance(0.3):
        true_values.put_lla(draft, "animalTrueLLA", "animal_true_place")


def _put_something_unknown(draft: Draft) -> None:
    name, value = draft.rng.choice((*UNKNOWN_FIELDS, ("mode", None), ("gps_data", None)))
    if name not in {given for given, _ in draft.fields}:
        draft.put(name, value)


def _put_time_of_sound(draft: Draft, field: str) -> str | None:
    """Write a clip and when it was recorded; return the name of the file if that says it."""
    way = draft.pick({"field": 5, "notes": 4, "both": 2, "name": 2, "all": 2, "nothing": 1})
    if draft.fault == "time":
        way = "field"
    file, notes = true_notes.file_with_notes(draft, with_time=way in ("notes", "both", "all"))
    _take_notes(draft, notes)
    if way == "field":
        _put_timestamp(draft)
    elif way == "both":
        noted = draft.truth["when"]
        _put_timestamp(draft)
        _decide(draft, noted)
    name = None
    if way == "name":
        name, draft.truth["when"] = true_notes.file_name(draft)
    elif way == "all":
        name, named = true_notes.file_name(draft)
        _decide(draft, named)
        found = draft.truth["when"]
        if draft.chance(0.5):
            _put_timestamp(draft)
            _decide(draft, found)
    _put_clip(draft, field, file)
    return name


def _decide(draft: Draft, noted: object) -> None:
    """Keep the time that is known by now where it is to be believed, else take the other one."""
    sent = draft.truth["when"]
    assert isinstance(sent, WhenTruth)
    assert isinstance(noted, WhenTruth)
    draft.label("several times")
    says_nothing = sent.moment is None and not sent.problems
    if says_nothing or (sent.moment is None and noted.moment is not None):
        draft.truth["when"] = noted


def _take_notes(draft: Draft, notes: true_notes.Notes) -> None:
    if notes.when is not None:
        draft.truth["when"] = notes.when
    if notes.place is not None:
        draft.truth["place"] = notes.place
    if notes.serial is not None:
        draft.truth["sensor_id"] = notes.serial


def _take_file(draft: Draft, file: File) -> None:
    draft.truth["sound"] = file.sound
    if file.must:
        draft.refuse(*file.refused)
    elif file.refused:
        draft.may_refuse(*file.refused)


def _put_sound_or_reference(draft: Draft, field: str) -> None:
    """Write a clip beside a species, or the name of one that is kept elsewhere."""
    if draft.chance(0.3) and draft.fault != "base64":
        reference = draft.rng.choice(("clip.wav", "https://example.org/c.wav", "/srv/x/y.flac"))
        draft.put(field, reference)
        draft.truth["clip_reference"] = reference
        draft.label("clip kept elsewhere")
        return
    if draft.chance(0.05) and draft.fault != "base64":
        draft.put(field, "")
        draft.label("a clip of no letters")
        return
    file = true_sounds.any_file(draft.rng)
    draft.label(file.label)
    _put_clip(draft, field, file)


def _put_clip(draft: Draft, field: str, file: File) -> None:
    """Write a clip as base64 (RFC 4648, 4), with line breaks or without them."""
    _take_file(draft, file)
    text = base64.b64encode(file.sound.data).decode()
    rng = draft.rng
    if draft.takes_fault("base64"):
        draft.put(field, _broken_base64(draft, text))
        return
    if draft.chance(0.3):
        width, mark = rng.choice((64, 76)), rng.choice(("\n", "\r\n"))
        text = mark.join(text[at : at + width] for at in range(0, len(text), width))
        text += rng.choice(("", mark))
        draft.label("base64 in lines")
    draft.put(field, text)


def _broken_base64(draft: Draft, text: str) -> str:
    rng = draft.rng
    is_species = draft.truth["kind"] == "detection"
    at = rng.randrange(20, len(text) - 8)
    letter = rng.choice((" ", "=", "é", "*", "\u00a0", "%2B", "\x00"))
    ways = {
        "a letter too much": text[:at] + letter + text[at + 1 :],
        "a letter in between": text[:at] + letter + text[at:],
        "a letter missing": text[:at] + text[at + 1 :],
        "the end missing": text[: at // 4 * 4 + 1],
        "a tab": text[:at] + "\t" + text[at:],
    }
    if not is_species:
        ways["as an address"] = f"data:audio/wav;base64,{text}"
        ways["other audio"] = base64.b64encode(true_sounds.no_audio(rng)).decode()
    if "+" in text[20:]:
        ways["space for plus"] = text[:20] + text[20:].replace("+", " ")
        ways["space for the first plus"] = text[:20] + text[20:].replace("+", " ", 1)
    if text.endswith("="):
        ways["no padding"] = text.rstrip("=")
        ways["too much padding"] = text + "="
    label = rng.choice(list(ways))
    draft.label(f"base64 with {label}")
    draft.refuse(BROKEN_BASE64, *true_sounds_codes(label))
    return ways[label]


def true_sounds_codes(label: str) -> tuple[str, ...]:
    """Return the reasons that a damage may have besides broken base64."""
    if label == "other audio":
        return ("unknown_audio_format", "audio_empty")
    return ()


def _broken_json(draft: Draft) -> bytes:
    """Return a message that is no JSON object, or an ambiguous one."""
    rng = draft.rng
    text = draft.json()
    name, value = rng.choice(draft.fields)
    match rng.randrange(8):
        case 0 | 1:
            draft.fields.insert(
                rng.randrange(len(draft.fields) + 1), (name, rng.choice((value, None)))
            )
            draft.label("a key twice")
            draft.refuse(*TWICE)
            return draft.json()
        case 2:
            at = rng.randrange(len(name))
            spelled = f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'
            draft.put(Raw(spelled), value)
            draft.label("a key twice, once escaped")
            draft.refuse(*TWICE)
            return draft.json()
        case 3:
            inner = Raw('{"lat":-38.1,"lon":143.5,"lat":-37.9}')
            draft.fields = [each for each in draft.fields if each[0] != "gps_data"]
            draft.put("gps_data", inner)
            draft.label("a key twice inside")
            draft.refuse(*TWICE)
            return draft.json()
        case 4:
            draft.label("JSON cut off")
            draft.refuse("json_cut_off", "broken_json", "not_utf8")
            return text.rstrip()[: rng.randrange(5, len(text.rstrip()))]
        case 5:
            draft.label("UTF-16")
            encoding = rng.choice(("utf-16", "utf-16-le", "utf-16-be"))
            draft.refuse("not_utf8", "neither_json_nor_audio", "broken_json")
            return text.decode("utf-8-sig").encode(encoding)
        case 6:
            draft.fields.append(("note", "Río"))
            draft.label("Latin-1")
            draft.refuse("not_utf8", "broken_json")
            return json.dumps({"status": "läuft", "sensorId": "s"}, ensure_ascii=False).encode(
                "latin-1"
            )
    true_values.not_a_number(draft, "cpu")
    return draft.json()


TWICE = ("ambiguous_key",)
