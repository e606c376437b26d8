"""Whether two messages under the same id are the same message, sent at two attempts. Pure.

An outbox may stamp each attempt with the time of the attempt. So a message stays the same whatever
its time is; everything else that a record is made of must be equal.
"""

import msgspec

from echo_ingest.decode import audio_file
from echo_ingest.decode.fields import BOM
from echo_ingest.record import Message

LEFT_OUT = ("id", "timestamp")
"""The id is known to be the same, as a number or as text."""
TIME_PROPERTIES = ("timestamp", "recorded_at")


def differ_only_in_time(one: Message, other: Message) -> bool:
    """Return whether two valid messages say the same, except for the time that they give."""
    if audio_file.is_audio_file(one.payload) or audio_file.is_audio_file(other.payload):
        return one.payload == other.payload and _properties(one) == _properties(other)
    return one.payload == other.payload or _without_time(one) == _without_time(other)


def _properties(message: Message) -> dict[str, str]:
    """Return the user properties that are read, apart from those that give the time."""
    return {
        name: value
        for name, value in message.properties
        if name in audio_file.PROPERTIES and name not in TIME_PROPERTIES
    }


def _without_time(message: Message) -> bytes:
    """Return the JSON without its id and its time, in one spelling.

    It is returned as it came where it cannot be read.
    """
    try:
        fields = msgspec.json.decode(message.payload.removeprefix(BOM), type=dict[str, object])
        for name in LEFT_OUT:
            fields.pop(name, None)
        return msgspec.json.encode(fields, order="deterministic")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return message.payload
