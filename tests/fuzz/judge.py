"""What must hold for any message at all."""

import hashlib
import re
from datetime import date
from zoneinfo import ZoneInfo

import mqtt5
import msgspec
from msgspec import structs

from echo_ingest.decode import Decoder, NodeRules, Rules
from echo_ingest.decode.forms.records import RECORDS_MAX
from echo_ingest.decode.topics import too_long
from echo_ingest.journal.entries import properties_of, properties_text
from echo_ingest.pipeline.receipts import receipt
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    KINDS,
    AnyRecord,
    DeadLetter,
    Detection,
    Identity,
    Ignored,
    Measurement,
    Message,
    Movement,
    Outcome,
    Recording,
    Rejected,
    Stored,
    Telemetry,
    kind,
    kinds,
    message_key,
    payload_hash,
)
from echo_ingest.settings import RECEIPTS_PREFIX, Settings
from echo_ingest.sinks import Delivery, clips, project_echo
from tests.fuzz.shipped_examples import FORMS

PAYLOAD_BYTES_MAX: int = Settings().payload_bytes_max
REASON_CHARACTERS_MAX = 200
REJECTED, IGNORED = "rejected", "ignored"
RECORDS_JUDGED = 20
"""Of a message with many records, which repeat each other, the first ones."""
CLIP_NAME = re.compile(
    r"audio/[A-Za-z0-9_-]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_[0-9a-f]{32}"
    r"\.(wav|flac|mp3|ogg)"
)
QUOTED = re.compile(r'".*"')
NOT_PLAIN = re.compile(
    r"[A-Za-z]+(Error|Exception)\b|Traceback|NoneType|msgspec|Struct\b|<class| object at |[`$\\]"
    r"|\b(str|int|float|dict|bool|bytes object)\b"
)


def judge(message: Message, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> str:
    """Return what became of it: the kind of its first record, `REJECTED` or `IGNORED`.

    Each promise is asserted.
    """
    decoder = Decoder(payload_bytes_max, forms=FORMS)
    unfit = too_long(message)
    if unfit is not None:
        assert decoder.identify(message) == unfit
        _judge_reason(unfit)
        _judge_receipt(message, unfit, DeadLetter(unfit))
        message = structs.replace(message, topic="iotingestion/short", node="short")
    verdict = decoder.decode(message)
    assert decoder.decode(message) == verdict, "decoded twice, it is another record"
    identified = decoder.identify(message)
    if isinstance(verdict, Rejected | Ignored):
        assert identified == verdict, "at a glance it is something else"
        if isinstance(verdict, Ignored):
            assert FORMS.named(verdict.form) is not None
            _judge_receipt(message, verdict, verdict)
            return IGNORED
        _judge_reason(verdict)
        _judge_receipt(message, verdict, DeadLetter(verdict))
        return REJECTED
    slowly = decoder.identified(message, hashed=False)
    assert not isinstance(slowly, Rejected | Ignored), "without the hash it is no record"
    assert identified == slowly.identity, "at a glance it is something else"
    assert slowly.identity.kind == kinds(verdict)
    assert 1 <= len(verdict) <= RECORDS_MAX
    _judge_receipt(message, slowly.identity, Stored(1))
    _judge_identity(message, slowly.identity)
    _judge_pinned(decoder, message, slowly.identity, verdict)
    delivery = Delivery(1, bytes(16), message, verdict, decoder)
    for index, record in enumerate(verdict[:RECORDS_JUDGED]):
        assert kind(record) in KINDS
        _judge_record(message, record, decoder.clip_bytes(message, index))
        _judge_bodies(delivery, index, record)
    return kind(verdict[0])


def is_plain(reason: str) -> bool:
    """Tell whether a reason has no programmer's words, except in what it quotes."""
    return not NOT_PLAIN.search(QUOTED.sub("", reason))


def _judge_reason(rejected: Rejected) -> None:
    reason = rejected.render()
    assert rejected.code in ReasonCode
    assert rejected.field is None or reason.startswith(f"{rejected.field}: ")
    assert reason.strip(), "an empty reason"
    assert len(reason) <= REASON_CHARACTERS_MAX, f"a long reason: {reason}"
    assert reason.isprintable(), f"a reason that cannot be printed: {reason!r}"
    assert is_plain(reason), f"not in plain words: {reason}"


def _judge_receipt(
    message: Message, verdict: Identity | Rejected | Ignored, outcome: Outcome
) -> None:
    """Assert that there is a readable packet on a topic below the node's own, or none."""
    packet = receipt(message, verdict, outcome)
    if packet is not None:
        read, size = mqtt5.read(memoryview(packet))
        assert isinstance(read, mqtt5.PublishPacket)
        assert size == len(packet)
        assert read.topic.startswith(f"{RECEIPTS_PREFIX}/{message.node}")
        assert read.correlation_data == message.correlation_data


def _judge_identity(message: Message, identity: Identity) -> None:
    """Assert that a message has one key, whenever it is received and whatever the site knows."""
    digest = payload_hash(message)
    key = message_key(message, identity, digest, 1)
    assert len(key) == 16
    elsewhere = Rules(
        zone=ZoneInfo("Australia/Melbourne"),
        first_day=date(1990, 1, 1),
        nodes={message.node or "": NodeRules(clock_ahead_seconds=-40_000)},
    )
    later = structs.replace(message, received_at_ms=message.received_at_ms + 10**9)
    identified = Decoder(len(message.payload), elsewhere, FORMS).identify(later)
    assert identified == identity, "received later, or elsewhere, it is another message"
    assert key == message_key(later, identity, digest, 1)


def _judge_pinned(
    decoder: Decoder, message: Message, identity: Identity, records: tuple[AnyRecord, ...]
) -> None:
    """Assert that a message is the same records once it is stored with its form."""
    form = identity.form
    stored = structs.replace(message, form="" if form is None else form.digest)
    assert decoder.decode(stored) == records, "stored with its form, it is another record"


def _judge_record(message: Message, record: AnyRecord, audio: bytes | None) -> None:
    text = msgspec.json.encode(record)
    assert msgspec.json.decode(text, type=type(record)) == record, "JSON makes it another record"
    assert properties_of(properties_text(message)) == message.properties
    clip = clips.clip_of(record)
    if clip is not None:
        assert audio is not None, "the record has a clip that cannot be had"
        assert len(audio) == clip.size_bytes
        assert hashlib.sha256(audio).hexdigest() == clip.sha256
        assert 0 < clip.duration_seconds < float("inf")
        assert CLIP_NAME.fullmatch(clips.clip_name(record, clip)), clips.clip_name(record, clip)


def _judge_bodies(delivery: Delivery, index: int, record: AnyRecord) -> None:
    """Assert that a body for the Echo API is made, or refused in plain words."""
    for schema in ("objects", "arrays"):
        try:
            match record:
                case Detection():
                    project_echo.event_with_clip(delivery, index, record, schema)
                case Movement():
                    project_echo.movement(record)
                case Recording(clip=clip):
                    project_echo.upload_name(record, clip)
                    project_echo.check_upload(clip)
                    if record.health is not None:
                        project_echo.heartbeat(record)
                case Telemetry():
                    project_echo.heartbeat(record)
                case Measurement():
                    assert project_echo.needs_no_call(record)
        except project_echo.EventRefused as refused:
            assert is_plain(str(refused)), f"not in plain words: {refused}"
