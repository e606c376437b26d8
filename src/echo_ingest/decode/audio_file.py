"""Decode a clip that is sent as plain bytes, without JSON around it.

What else is known of it comes from MQTT 5 user properties first [MQTT-3.3.2-18], and then from the
file's own header and its name.
"""

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.errors import DecodeError, quoted
from echo_ingest.decode.identified import Identified
from echo_ingest.decode.recorder_notes import recorder_notes
from echo_ingest.decode.rules import Rules
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message, Place, Recording

FORM = "audio-file"
PROPERTIES = (
    "id",
    "sensor_id",
    "recorded_at",
    "timestamp",
    "latitude",
    "longitude",
    "altitude",
    "file_name",
)
"""The user properties that are read; others are ignored."""
_PLACE = values.PlacePaths(
    "user properties",
    "user property latitude",
    "user property longitude",
    altitude="user property altitude",
)


def is_audio_file(payload: bytes) -> bool:
    """Return whether a message is in this dialect; its bytes alone decide that."""
    return not payload.startswith(b"{") and audio.container(payload) is not None


def decode(message: Message, rules: Rules, *, hashed: bool) -> Identified:
    """Make a recording of a message whose payload is an audio file.

    Raise `DecodeError` where that is not possible. `hashed` as in `audio.describe`.
    """
    properties = _properties(message)
    clip = audio.describe(message.payload, hashed=hashed)
    notes = recorder_notes(clip.metadata, properties.get("file_name"))
    sent = [
        times.read(properties[name], f"user property {name}")
        for name in ("recorded_at", "timestamp")
        if name in properties
    ]
    written = (*sent, *notes.times)
    when = times.place_in_time(written, message, rules)
    record = Recording(
        form=FORM,
        node=message.node,
        sensor_id=properties.get("sensor_id") or notes.serial,
        message_id=properties.get("id"),
        **when,
        place=_place(properties) or notes.place,
        clip=clip,
        clip_reference=properties.get("file_name"),
    )
    return Identified(record, written)


def message_id(message: Message) -> str | None:
    """Read the id alone; raise `DecodeError` where a user property cannot be read."""
    return _properties(message).get("id")


def _properties(message: Message) -> dict[str, str]:
    properties: dict[str, str] = {}
    for name, value in message.properties:
        if name in PROPERTIES:
            if name == "sensor_id":
                value = values.text(value, f"user property {name}")
            else:
                values.exact_text(value, f"user property {name}")
            if properties.setdefault(name, value) != value:
                raise DecodeError(
                    ReasonCode.PROPERTY_GIVEN_TWICE,
                    "it was given twice, with different values",
                    f"user property {name}",
                )
    return properties


def _place(properties: dict[str, str]) -> Place | None:
    latitude, longitude, altitude = (
        _number(properties, name) for name in ("latitude", "longitude", "altitude")
    )
    return values.place(latitude, longitude, altitude, None, _PLACE)


def _number(properties: dict[str, str], name: str) -> float | None:
    text = properties.get(name)
    if text is None:
        return None
    number = values.decimal(text, is_degrees=name != "altitude")
    if number is None:
        raise DecodeError(
            ReasonCode.WRONG_TYPE,
            f"a number with a decimal point was expected, not {quoted(text)}",
            f"user property {name}",
        )
    return number
