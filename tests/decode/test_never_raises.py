"""Whatever arrives, decode answers: with a record that can be written, or with a reason."""

import base64
import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode import clip_bytes
from echo_ingest.decode.fields import Fields
from echo_ingest.record import (
    KINDS,
    NODE_CHARACTERS_MAX,
    Ignored,
    Message,
    Rejected,
    kind,
)
from tests.decode.messages import CLIPS, DECODER, PAYLOADS, RECEIVED_AT_MS, wav
from tests.several_records import only

CLIP = base64.b64encode(wav(samples=20)).decode()
SEEDS = [path.read_bytes() for path in sorted(CLIPS.glob("*.*")) if path.suffix != ".md"]
SEEDS += [path.read_bytes() for path in sorted(PAYLOADS.glob("[0-9]*"))]
SEEDS += [wav(), json.dumps({"audioClip": CLIP, "microphoneLLA": [1, 2, 3]}).encode()]
SEEDS += [b'{"sensor_id":"s","species":"x","confidence":5,"top5":[{"label":"y","confidence":1}]}']
FIELDS = Fields.__struct_fields__
LIKELY = [
    "real",
    "online",
    "prediction",
    CLIP,
    "//uQxAAA",
    "2026-09-14T05:45:12Z",
    [0, 0, 0],
    [1, 2],
]
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 100, 1e9, 1e11, 1e18, -1e18, 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(LIKELY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["lat", "lon", "latitude", "longitude", "label", "confidence", "uptime"]
            ),
            inner,
        )
    ),
    max_leaves=6,
)
PROPERTIES = st.lists(
    st.tuples(
        st.sampled_from(["id", "sensor_id", "recorded_at", "timestamp", "latitude", "longitude"])
        | st.text(max_size=5),
        st.text() | NUMBERS.map(str),
    ),
    max_size=5,
).map(tuple)


def costly(size: int) -> dict[str, bytes]:
    """Return messages that are small, and large where each part becomes an object of its own."""
    lists = {
        "objects": b"{}",
        "objects with keys": b'{"a:":1}',
        "lists": b"[]",
        "numbers": b"1.5",
    }
    of_lists = {
        name: b'{"x:":[%b]}' % b",".join([part] * (size // (len(part) + 1)))
        for name, part in lists.items()
    }
    keys = b",".join(b'"k%d:":1' % number for number in range(size // 12))
    ranked = b",".join([b'{"label":"a:","confidence":1}'] * (size // 30))
    return of_lists | {
        "keys": b"{%b}" % keys,
        "candidates": b'{"sensor_id":"s","species":"x","confidence":5,"top5":[%b]}' % ranked,
        "place": b'{"microphoneLLA":[%b]}' % b",".join([b"1.5"] * (size // 4)),
        "deep lists": b'{"x:":%b%b}' % (b"[" * (size // 2), b"]" * (size // 2)),
        "deep objects": b'{"x:":%b1%b}' % (b'{"a:":' * (size // 7), b"}" * (size // 7)),
    }


@pytest.mark.parametrize("size", [1_000, 20_000, 1_000_000])
@pytest.mark.parametrize("shape", list(costly(0)))
def test_no_message_costs_much_more_memory_than_its_size(shape: str, size: int) -> None:
    arrived = Message("t", costly(size)[shape], RECEIVED_AT_MS)
    for read in (DECODER.identify, DECODER.decode):
        tracemalloc.start()
        read(arrived)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes <= min(16 * len(arrived.payload) + 10_000, 2_000_000)


def answer(message: Message) -> None:
    result = only(DECODER.decode(message))
    assert only(DECODER.decode(message)) == result
    identified = DECODER.identified(message, hashed=False)
    assert not isinstance(identified, Ignored)
    expected = identified if isinstance(identified, Rejected) else identified.identity
    assert DECODER.identify(message) == expected
    if isinstance(result, Rejected):
        assert 0 < len(result.render()) <= 200, result.render()
        assert result.render().isprintable()
        clip_bytes(message)
        return
    assert kind(result) in KINDS
    assert msgspec.json.decode(msgspec.json.encode(result), type=type(result)) == result
    clip = getattr(result, "clip", None)
    if clip is not None:
        assert len(clip_bytes(message) or b"") == clip.size_bytes


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=NODE_CHARACTERS_MAX), PROPERTIES)
def test_random_bytes_get_an_answer(
    payload: bytes, topic: str, properties: tuple[tuple[str, str], ...]
) -> None:
    answer(Message(topic, payload, RECEIVED_AT_MS, properties=properties))


@settings(max_examples=1_000, deadline=None)
@given(st.data(), PROPERTIES)
def test_mutated_real_payloads_get_an_answer(
    data: st.DataObject, properties: tuple[tuple[str, str], ...]
) -> None:
    payload = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload)))
        cut = data.draw(st.integers(0, 8))
        payload[at : at + cut] = data.draw(st.binary(max_size=8))
    answer(Message("t", bytes(payload), RECEIVED_AT_MS, properties=properties))


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8), st.booleans())
def test_any_value_in_any_field_gets_an_answer(fields: dict[str, object], by_node: bool) -> None:
    payload = json.dumps(fields).encode()
    answer(Message("t", payload, RECEIVED_AT_MS, node="n" if by_node else None))
