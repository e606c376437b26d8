"""Decode bytes to `Record`s or `Rejected`. Pure: no I/O, no clock, always the same answer.

There are two dialects: JSON as Project Echo's devices send it (`echo`), and plain audio files
(`audio_file`). Each of their messages is one record. The bytes decide which one a message is in;
the topic does not. Before them, `forms` may know the message as one of another device.
"""

from msgspec import Struct, structs

from echo_ingest.decode import audio_file, echo, topics
from echo_ingest.decode.echo_forms import FORMS, EchoForm
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.fast_path import identify as identify_at_a_glance
from echo_ingest.decode.identified import DecodedMessage, Forms, Identified
from echo_ingest.decode.rules import NodeRules, Rules
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    NODE_CHARACTERS_MAX,
    PROPERTIES_BYTES_MAX,
    RECORDS_MAX,
    AnyRecord,
    Identity,
    Message,
    Rejected,
    kinds,
)

__all__ = ["FORMS", "Decoder", "EchoForm", "NodeRules", "Rules", "clip_bytes", "message_id"]


PROPERTIES_TOO_LARGE = Rejected(
    ReasonCode.PROPERTIES_TOO_LARGE,
    f"the MQTT properties have more than {PROPERTIES_BYTES_MAX:,} bytes, and were not kept",
)
TOO_MANY_RECORDS = Rejected(
    ReasonCode.TOO_COMPLEX, f"the message has more than {RECORDS_MAX:,} records"
)


class Decoder(Struct, frozen=True):
    """Decodes messages. It is made once from the settings and holds no state."""

    payload_bytes_max: int
    """A larger payload is rejected."""
    rules: Rules = Rules()
    """What the meaning of a message depends on besides its bytes."""
    forms: Forms | None = None
    """What is asked first; None: there are only the dialects of our own."""

    def decode(self, message: Message) -> tuple[AnyRecord, ...] | Rejected:
        """Make the records of `message`, at least one, or return why that is not possible.

        Never raises. The rendered reason is at most 200 characters long and repeats at most 60 of
        the payload's.
        """
        decoded = self.identified(message, hashed=True)
        return decoded if isinstance(decoded, Rejected) else decoded.records

    def identify(self, message: Message) -> Identity | Rejected:
        """Decode as far as the journal needs: is the message valid, and which message is it?

        The answer agrees with that of `decode`, except that here the topic counts too: what is
        stored is decoded whatever its topic. Most messages are plain enough for the fast path, and
        the identity does not depend on the hash of the clip.
        """
        if len(message.topic) > NODE_CHARACTERS_MAX and (rejected := topics.too_long(message)):
            return rejected
        if self.forms is not None and (decoded := self._by_form(message, hashed=False)) is not None:
            if isinstance(decoded, Rejected):
                return decoded
            return structs.replace(decoded.identity, kind=kinds(decoded.records))
        if message.node not in self.rules.nodes and not message.properties_cut:
            identified = identify_at_a_glance(message.payload)
            if identified is not None:
                return identified
        closely = self._by_own_dialect(message, hashed=False)
        return closely if isinstance(closely, Rejected) else closely.identity

    def records(self, message: Message) -> tuple[AnyRecord, ...]:
        """Return the records that `decode` makes, without hashes of clips; none if it rejects."""
        decoded = self.identified(message, hashed=False)
        return () if isinstance(decoded, Rejected) else decoded.records

    def clip_bytes(self, message: Message, index: int = 0) -> bytes | None:
        """Return the bytes of the audio file of a record, if it has a clip in its message."""
        if self.forms is not None:
            audio = self.forms.clip_bytes(message, self.rules, index)
            if audio is not None:
                return audio
        return clip_bytes(message)

    def identified(self, message: Message, *, hashed: bool) -> DecodedMessage | Rejected:
        """Make the records of `message` and tell which message it is, without the fast path.

        `hashed` as in `audio.describe`.
        """
        if self.forms is not None:
            by_form = self._by_form(message, hashed=hashed)
            if by_form is not None:
                return by_form
        return self._by_own_dialect(message, hashed=hashed)

    def _by_form(self, message: Message, *, hashed: bool) -> DecodedMessage | Rejected | None:
        """Decode what is in a form; return None for all else, and for what is too large."""
        assert self.forms is not None
        if message.properties_cut or len(message.payload) > self.payload_bytes_max:
            return None
        decoded = self.forms.decoded(message, self.rules, hashed=hashed)
        if decoded is None or isinstance(decoded, Rejected):
            return decoded
        return decoded if len(decoded.records) <= RECORDS_MAX else TOO_MANY_RECORDS

    def _by_own_dialect(self, message: Message, *, hashed: bool) -> Identified | Rejected:
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
    """Return the bytes of the audio file in a message of our own dialects, if it has one."""
    payload = message.payload
    if audio_file.is_audio_file(payload):
        return payload
    try:
        return echo.clip_bytes(payload)
    except DecodeError:
        return None
