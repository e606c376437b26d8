"""A clip sent as plain bytes: no JSON around it.

What is known besides the sound comes from MQTT 5 user properties first [MQTT-3.3.2-18], then from
the file's own header.
"""

from math import isfinite, nan

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.errors import DecodeError, said
from echo_ingest.decode.recorder_notes import notes
from echo_ingest.record import Message, Place, Recording, TimeSource

FORM = "audio-file"
PROPERTIES = (
    "id",
    "sensor_id",
    "recorded_at",
    "timestamp",
    "latitude",
    "longitude",
    "altitude",
)
"""The user properties that are read; others are left alone."""


def decode(message: Message, *, hashed: bool) -> Recording:
    """Make a recording of a message whose payload is an audio file.

    Raises `DecodeError` if it is none. `hashed` as in `audio.describe`.
    """
    said_so = _properties(message)
    clip = audio.describe(message.payload, hashed=hashed)
    written = notes(clip.metadata)
    observed_at = written.recorded_at
    for name in ("timestamp", "recorded_at"):
        if name in said_so:
            told = times.from_device(said_so[name], f"user property {name}")
            observed_at = told or observed_at
    source: TimeSource = "received" if observed_at is None else "device"
    return Recording(
        form=FORM,
        node=message.node,
        sensor_id=said_so.get("sensor_id") or written.serial,
        message_id=said_so.get("id"),
        observed_at=observed_at or times.received(message.received_at_ms),
        time_source=source,
        place=_place(said_so) or written.place,
        clip=clip,
    )


def message_id(message: Message) -> str | None:
    """Read the id alone; raise `DecodeError` where the user properties are none of ours."""
    return _properties(message).get("id")


def _properties(message: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in message.properties:
        if name in PROPERTIES:
            values.text(value, f"user property {name}")
            if found.setdefault(name, value) != value:
                raise DecodeError(f"user property {name} was given twice, with different values")
    return found


def _place(said_so: dict[str, str]) -> Place | None:
    latitude, longitude, altitude = (
        _number(said_so, name) for name in ("latitude", "longitude", "altitude")
    )
    return values.place(latitude, longitude, altitude, None, "user properties")


def _number(said_so: dict[str, str], name: str) -> float | None:
    text = said_so.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise DecodeError(f"user property {name}: a number was expected, found {said(text)}")
    return number
