"""Messages as they arrive, and where the examples are."""

import json
import struct
from pathlib import Path
from typing import TypeVar

from echo_ingest.decode import Decoder
from echo_ingest.record import AnyRecord, Message, Recording, Rejected
from tests.several_records import only

SHARED = Path(__file__).parents[3] / "shared"
PAYLOADS = SHARED / "contract" / "payloads"
AUDIO = SHARED / "audio"
CLIPS = Path(__file__).parent / "clips"
BYTES_MAX = 32_000_000
RECEIVED_AT_MS = 1_789_364_712_500  # 2026-09-14T05:45:12.5Z

DECODER = Decoder(BYTES_MAX)

Kind = TypeVar("Kind", bound=AnyRecord)


def message(
    payload: bytes | object, properties: tuple[tuple[str, str], ...] = (), node: str | None = None
) -> Message:
    """Return a message with `payload`, given as bytes or as something to encode as JSON."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message("iotingestion", data, RECEIVED_AT_MS, node=node, properties=properties)


def record(kind: type[Kind], arrived: Message) -> Kind:
    """Return the record of a valid message."""
    result = only(DECODER.decode(arrived))
    assert isinstance(result, kind), result
    return result


def recording(data: bytes, *properties: tuple[str, str]) -> Recording:
    """Return the record of an audio file."""
    return record(Recording, message(data, properties))


def reason(payload: bytes | object, *properties: tuple[str, str], node: str | None = None) -> str:
    """Return the rendered reason why a bad message is rejected."""
    return rejected(payload, *properties, node=node).render()


def rejected(
    payload: bytes | object, *properties: tuple[str, str], node: str | None = None
) -> Rejected:
    """Return why a bad message is rejected."""
    result = only(DECODER.decode(message(payload, properties, node)))
    assert isinstance(result, Rejected), result
    assert 0 < len(result.render()) <= 200
    return result


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """Return a RIFF chunk; `size` is the size that it claims, if that is not the true one."""
    announced = len(body) if size is None else size
    return name + struct.pack("<I", announced) + body + b"\0" * (len(body) & 1)


def wav(*after: bytes, samples: int = 800, rate: int = 16_000, before: bytes = b"") -> bytes:
    """Return 16-bit silence on one channel, with chunks before and after the sound."""
    layout = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    sound = chunk(b"data", bytes(samples * 2))
    body = b"WAVE" + chunk(b"fmt ", layout) + before + sound + b"".join(after)
    return b"RIFF" + struct.pack("<I", len(body)) + body
