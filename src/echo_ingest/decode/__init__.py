"""Decode bytes to a `Record` or `Rejected`. Pure: no I/O, no clock, always the same answer.

There are two dialects: JSON as Project Echo's devices send it (`echo`), and plain audio files
(`audio_file`). The bytes decide which one a message is in; the topic does not.
"""

from datetime import datetime

from msgspec import Struct

from echo_ingest.decode import audio_file, echo, topics
from echo_ingest.decode.echo_forms import FORMS, EchoForm
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.fast_path import identify as identify_at_a_glance
from echo_ingest.decode.identified import Identified
from echo_ingest.decode.rules import NodeRules, Rules
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    NODE_CHARACTERS_MAX,
    PROPERTIES_BYTES_MAX,
    AnyRecord,
    Identity,
    Message,
    Rejected,
)

__all__ = ["FORMS", "Decoder", "EchoForm", "NodeRules", "Rules", "clip_bytes", "message_id"]


PROPERTIES_TOO_LARGE = Rejected(
    ReasonCode.PROPERTIES_TOO_LARGE,
    f"the MQTT properties have more than {PROPERTIES_BYTES_MAX:,} bytes, and were not kept",
)


class Decoder(Struct, frozen=True):
    """Decodes messages. It is made once from the settings and holds no state."""

    payload_bytes_max: int
    """A larger payload is rejected."""
    rules: Rules = Rules()
    """What the meaning of a message depends on besides its bytes."""

    def decode(self, message: Message) -> AnyRecord | Rejected:
        """Make a record of `message`, or return why that is not possible. Never raises.

        The rendered reason is at most 200 characters long and repeats at most 60 of the payload's.
        """
        decoded = self.identified(message, hashed=True)
        return decoded if isinstance(decoded, Rejected) else decoded.record

    def identify(self, message: Message) -> Identity | Rejected:
        """Decode as far as the journal needs: is the message valid, and which message is it?

        The answer agrees with that of `decode`, except that here the topic counts too: what is
        stored is decoded whatever its topic. Most messages are plain enough for the fast path, and
        the identity does not depend on the hash of the clip.
        """
        if len(message.topic) > NODE_CHARACTERS_MAX and (rejected := topics.too_long(message)):
            return rejected
        if message.node not in self.rules.nodes and not message.properties_cut:
            identified = identify_at_a_glance(message.payload)
            if identified is not None:
                return identified
        decoded = self.identified(message, hashed=False)
        return decoded if isinstance(decoded, Rejected) else decoded.identity

    def observed_at(self, message: Message) -> datetime | None:
        """Return the time of the record that `decode` makes; None if it makes none."""
        decoded = self.identified(message, hashed=False)
        return None if isinstance(decoded, Rejected) else decoded.record.observed_at

    def identified(self, message: Message, *, hashed: bool) -> Identified | Rejected:
        """Make a record of `message` and tell which message it is, without the fast path.

        `hashed` as in `audio.describe`.
        """
        payload = message.payload
        if message.properties_cut:
            return PROPERTIES_TOO_LARGE
        if len(payload) > self.payload_bytes_max:
            return Rejected(
                ReasonCode.TOO_LARGE,
                f"the message has {len(payload):,} bytes; the limit is {self.payload_bytes_max:,}",
            )
        try:
            if audio_file.is_audio_file(payload):
                return audio_file.decode(message, self.rules, hashed=hashed)
            return echo.decode(message, self.rules, hashed=hashed)
        except DecodeError as error:
            return error.rejected


def message_id(message: Message) -> str | None:
    """Return the id that a message gives itself, even where it is not valid otherwise."""
    try:
        if audio_file.is_audio_file(message.payload):
            return audio_file.message_id(message)
        return echo.message_id(message.payload)
    except DecodeError:
        return None


def clip_bytes(message: Message) -> bytes | None:
    """Return the bytes of the audio file in a message whose record has a clip."""
    payload = message.payload
    if audio_file.is_audio_file(payload):
        return payload
    try:
        return echo.clip_bytes(payload)
    except DecodeError:
        return None
