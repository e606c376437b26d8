"""Decode bytes to `Record`s or `Rejected`. Pure: no I/O, no clock, always the same answer.

There are two dialects: JSON as Project Echo's devices send it (`echo`), and plain audio files
(`audio_file`). Each of their messages is one record. The bytes decide which one a message is in;
the topic does not. `forms` knows the messages of other devices, and what is stored has a note of
which form it was in.
"""

from msgspec import Struct

from echo_ingest.decode import audio_file, echo, topics
from echo_ingest.decode.echo_forms import FORMS, EchoForm
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.fast_path import identify as identify_at_a_glance
from echo_ingest.decode.forms import DecodedByForm, Form, Forms
from echo_ingest.decode.forms.interpret import clip_bytes as clip_bytes_by_form
from echo_ingest.decode.forms.interpret import interpret
from echo_ingest.decode.forms.match import Arrived, Fit, fit_of
from echo_ingest.decode.identified import DecodedMessage, Identified
from echo_ingest.decode.rules import NodeRules, Rules
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    NODE_CHARACTERS_MAX,
    PROPERTIES_BYTES_MAX,
    AnyRecord,
    Identity,
    Ignored,
    Message,
    Rejected,
)

__all__ = ["FORMS", "Decoder", "EchoForm", "NodeRules", "Rules", "clip_bytes", "message_id"]


PROPERTIES_TOO_LARGE = Rejected(
    ReasonCode.PROPERTIES_TOO_LARGE,
    f"the MQTT properties have more than {PROPERTIES_BYTES_MAX:,} bytes, and were not kept",
)
FORM_NOT_KEPT = Rejected(
    ReasonCode.UNREADABLE_NOW, "the form that it was stored with is not there any more"
)


class Decoder(Struct, frozen=True):
    """Decodes messages. It is made once from the settings and holds no state."""

    payload_bytes_max: int
    """A larger payload is rejected."""
    rules: Rules = Rules()
    """What the meaning of a message depends on besides its bytes."""
    forms: Forms | None = None
    """What describes other devices; None: there are only the dialects of our own."""

    def decode(self, message: Message) -> tuple[AnyRecord, ...] | Rejected | Ignored:
        """Make the records of `message`, at least one, or return why there is none.

        Never raises. The rendered reason is at most 200 characters long and repeats at most 60 of
        the payload's.
        """
        decoded = self.identified(message, hashed=True)
        return decoded if isinstance(decoded, Rejected | Ignored) else decoded.records

    def identify(self, message: Message) -> Identity | Rejected | Ignored:
        """Decode as far as the journal needs: is the message valid, and which message is it?

        The answer agrees with that of `decode`, except that here the topic counts too: what is
        stored is decoded whatever its topic. Most messages are plain enough for the fast path, and
        the identity does not depend on the hash of the clip.
        """
        if len(message.topic) > NODE_CHARACTERS_MAX and (rejected := topics.too_long(message)):
            return rejected
        decoded: DecodedMessage | Rejected | Ignored
        form: Fit | str | None
        forms = self.forms
        if (
            forms is not None
            and message.topic in forms.shapes.by_topic
            and message.form is None
            and not message.properties_cut
            and len(message.payload) <= self.payload_bytes_max
        ):
            identity = forms.identify_at_a_glance(message)
            if identity is not None:
                return identity
        if message.form is None and not message.properties_cut and not (forms and forms.own_count):
            identity = identify_at_a_glance(message.payload)  # most messages end here
            if identity is not None and message.node not in self.rules.nodes:
                return identity
            form = self._shipped_form_of(message) if identity is None else None
        else:
            form, identity = self._form_of(message)
        if form is not None:
            decoded = self._by_form(form, message, hashed=False)
            if forms is not None and isinstance(form, Fit) and isinstance(decoded, DecodedByForm):
                forms.learn(form, message)
        elif (
            identity is not None
            and message.node not in self.rules.nodes
            and not message.properties_cut
        ):
            return identity
        else:
            decoded = self._by_own_dialect(message, hashed=False)
        return decoded if isinstance(decoded, Rejected | Ignored) else decoded.identity

    def records(self, message: Message) -> tuple[AnyRecord, ...]:
        """Return the records that `decode` makes, without hashes of clips; none if it rejects."""
        decoded = self.identified(message, hashed=False)
        return () if isinstance(decoded, Rejected | Ignored) else decoded.records

    def clip_bytes(self, message: Message, index: int = 0) -> bytes | None:
        """Return the bytes of the audio file of a record, if it has a clip in its message."""
        form, _ = self._form_of(message)
        if form is None:
            return clip_bytes(message)
        fit = form if isinstance(form, Fit) else self._fit_of_pinned(form, message)
        return clip_bytes_by_form(fit, message, self.rules, index) if fit is not None else None

    def identified(self, message: Message, *, hashed: bool) -> DecodedMessage | Rejected | Ignored:
        """Make the records of `message` and tell which message it is, without the fast path.

        `hashed` as in `audio.describe`.
        """
        form, _ = self._form_of(message)
        if form is None:
            return self._by_own_dialect(message, hashed=hashed)
        return self._by_form(form, message, hashed=hashed)

    def form_of_new(self, message: Message) -> Form | None:
        """Return the form in a file that a message is in which arrives now; None for our own."""
        form, _ = self._form_of(message)
        return form.form if isinstance(form, Fit) else None

    def _form_of(self, message: Message) -> tuple[Fit | str | None, Identity | None]:
        """Return the form that a message is in, and its identity if the fast path knows it.

        It is in none of the forms in files if the form is None. That of a stored message is the one
        that it has, as its digest, and nothing is looked for. For any other the forms of the site
        are asked first, then the fast path, and only then the forms that we ship: none of these is
        for what the fast path knows, and to ask them takes longer.
        """
        if message.form is not None:
            return message.form or None, None
        forms = self.forms
        if forms is None or message.properties_cut:
            return None, identify_at_a_glance(message.payload)
        if len(message.payload) > self.payload_bytes_max:
            return None, None
        fit = forms.fit_own(message)
        if fit is not None and fit.unreadable is None:
            return fit, None
        identity = identify_at_a_glance(message.payload)
        if identity is not None:
            return None, identity
        return self._shipped_form_of(message) or fit, None

    def _shipped_form_of(self, message: Message) -> Fit | None:
        """Return the form that we ship which a message is in; none of them is for audio files."""
        payload = message.payload
        is_none = len(payload) > self.payload_bytes_max or audio_file.is_audio_file(payload)
        return None if self.forms is None or is_none else self.forms.fit_shipped(message)

    def _fit_of_pinned(self, digest: str, message: Message) -> Fit | None:
        form = None if self.forms is None else self.forms.pinned(digest)
        return None if form is None else fit_of(form, Arrived(message))

    def _by_form(
        self, form: Fit | str, message: Message, *, hashed: bool
    ) -> DecodedMessage | Rejected | Ignored:
        if len(message.payload) > self.payload_bytes_max:
            return self._too_large(message)
        fit = form if isinstance(form, Fit) else self._fit_of_pinned(form, message)
        if fit is None:
            return FORM_NOT_KEPT
        return interpret(fit, message, self.rules, hashed=hashed)

    def _too_large(self, message: Message) -> Rejected:
        return Rejected(
            ReasonCode.TOO_LARGE,
            f"the message has {len(message.payload):,} bytes; the limit is"
            f" {self.payload_bytes_max:,}",
        )

    def _by_own_dialect(self, message: Message, *, hashed: bool) -> Identified | Rejected:
        payload = message.payload
        if message.properties_cut:
            return PROPERTIES_TOO_LARGE
        if len(payload) > self.payload_bytes_max:
            return self._too_large(message)
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
