"""A record's clip, and its name where audio is kept: pure, so that everything names it alike.

`audio/<sensor>/<yyyy>/<mm>/<dd>/<time>_<sha256>.<ext>`, in UTC, with a file beside it that has what
its record says. Every character of a name is one of `A-Z a-z 0-9 . _ -`, whatever a device calls
itself, so that the name is valid as a file, as an object of any provider, and unquoted in a URL.
"""

import hashlib
import re
from datetime import UTC

from echo_ingest.decode import Decoder
from echo_ingest.record import AnyRecord, Clip, Container, Detection, Message, Recording
from echo_ingest.sinks import Delivery

CLIP_STORE = "objects"
"""The name of the sink that keeps clips, which the others then only name."""
CONTENT_TYPES: dict[Container, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
}
SENSOR_CHARACTERS_MAX = 64
DIGEST_CHARACTERS = 32
"""128 bits of SHA-256: a device could make two clips that agree in 48, and one would be lost."""
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+|^\.|\.$")
"""Folders must not be hidden, lead upwards, or end with a dot, which Azure removes."""
UNSAFE_OR_DOT = re.compile(r"[^A-Za-z0-9_-]+")


def clip_of(record: AnyRecord) -> Clip | None:
    """Return the record's clip, if it has one."""
    return record.clip if isinstance(record, Detection | Recording) else None


def audio_of(decoder: Decoder, message: Message, index: int) -> bytes:
    """Return the bytes of the clip that decode has found for a record of the message."""
    audio = decoder.clip_bytes(message, index)
    assert audio is not None, "the record has a clip, so its message has one"
    return audio


def clip_name(record: AnyRecord, clip: Clip) -> str:
    """Return where the clip lies below the place for audio: at most 150 characters.

    Any two records with the same sensor, time and content give the same name, so that their clip is
    kept once.
    """
    return f"{_stem(record, clip)}.{clip.container}"


def sidecar_name(record: AnyRecord, clip: Clip, key: bytes) -> str:
    """Return where the description of the clip by this record lies: its name has the key."""
    return f"{_stem(record, clip)}_{key.hex()}.json"


def reference(place: str, record: AnyRecord) -> str | None:
    """Return the URL of the record's clip at `place`, such as `s3://bucket`, if it has one."""
    clip = clip_of(record)
    return None if clip is None else f"{place}/{clip_name(record, clip)}"


def reference_of(delivery: Delivery, record: AnyRecord) -> str | None:
    """Return by which URL a sink names the clip of a record, if it is to name it."""
    return None if delivery.clip_place is None else reference(delivery.clip_place, record)


def _stem(record: AnyRecord, clip: Clip) -> str:
    sensor = safe_name(record.sensor_id or record.node or "unknown", distinct=True)
    heard_at = record.observed_at.astimezone(UTC)
    day = f"{heard_at.year:04}/{heard_at:%m/%d}"
    time = f"{heard_at.year:04}{heard_at:%m%dT%H%M%SZ}"
    return f"audio/{sensor}/{day}/{time}_{clip.sha256[:DIGEST_CHARACTERS]}"


def safe_name(name: str, *, distinct: bool) -> str:
    """Return a device's name as that of a folder: at most 64 characters, all of them harmless.

    `distinct` is for audio storage, where two devices must never share a folder: dots are kept, and
    a name that had to be changed ends with a hash of the original. Without it, as in an export,
    dots are replaced too, and two names can become one; names of clips there have a hash of their
    content. Clips have been stored under both rules, so neither may change.
    """
    if not distinct:
        return UNSAFE_OR_DOT.sub("_", name)[:SENSOR_CHARACTERS_MAX]
    safe = UNSAFE.sub("_", name)
    if safe == name and len(safe) <= SENSOR_CHARACTERS_MAX:
        return safe
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{safe[: SENSOR_CHARACTERS_MAX - 9]}_{digest}"
