"""Bytes → `Record` or `Rejected`. Pure: no I/O, no clock, and the same answer every time.

Two dialects: JSON as Project Echo's devices send it (`echo`), and audio files as they are
(`audio_file`). The bytes tell which; the topic does not.
"""

from echo_ingest.decode import audio, audio_file, echo, fast_path
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms import FORMS, Form
from echo_ingest.record import AnyRecord, Identity, Message, Rejected, identity

__all__ = ["FORMS", "Form", "clip_bytes", "decode", "identify", "message_id"]


def decode(message: Message, payload_bytes_max: int) -> AnyRecord | Rejected:
    """Make a record of `message`, or say in plain words why it is none. Never raises.

    The reason is at most 200 characters long and repeats at most 60 of the payload's.
    """
    return _decode(message, payload_bytes_max, hashed=True)


def identify(message: Message, payload_bytes_max: int) -> Identity | Rejected:
    """Decode as far as the first half of the line needs: valid or not, and which message it is.

    The same as `decode`, for every message; most of them are plain enough to be told at a glance,
    and which message it is does not depend on the hash of its clip.
    """
    at_a_glance = fast_path.identify(message.payload)
    if at_a_glance is not None:
        return at_a_glance
    verdict = _decode(message, payload_bytes_max, hashed=False)
    return verdict if isinstance(verdict, Rejected) else identity(verdict)


def _decode(message: Message, payload_bytes_max: int, *, hashed: bool) -> AnyRecord | Rejected:
    payload = message.payload
    try:
        if len(payload) > payload_bytes_max:
            raise DecodeError(
                f"too large: {len(payload):,} bytes; the limit is {payload_bytes_max:,}"
            )
        if payload.startswith(b"{") or audio.container(payload) is None:
            return echo.decode(message, hashed=hashed)
        return audio_file.decode(message, hashed=hashed)
    except DecodeError as unfit:
        return Rejected(str(unfit))


def message_id(message: Message) -> str | None:
    """The id that a message gives itself, even where it is no valid record otherwise."""
    try:
        if not message.payload.startswith(b"{") and audio.container(message.payload) is not None:
            return audio_file.message_id(message)
        return echo.message_id(message.payload)
    except DecodeError:
        return None


def clip_bytes(message: Message) -> bytes | None:
    """Return the audio file's bytes out of a message whose record has a clip."""
    payload = message.payload
    if not payload.startswith(b"{") and audio.container(payload) is not None:
        return payload
    try:
        return echo.clip_bytes(payload)
    except DecodeError:
        return None
