"""Whether a record of our own dialects says what is true of its message."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from echo_ingest.decode import Decoder, NodeRules, Rules, clip_bytes
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Health,
    Identity,
    Ignored,
    Message,
    Place,
    Rejected,
    kind,
)
from tests.fuzz.shipped_examples import FORMS
from tests.fuzz.true_messages import NODE
from tests.fuzz.truths import EPOCH, Case, PlaceTruth, Refusal, Site, SoundTruth, Truth, WhenTruth
from tests.several_records import only

EXACT, NOT_BELIEVED, REJECTED, WRONG = "exact", "not_believed", "rejected", "wrong"
OUTCOMES = (EXACT, NOT_BELIEVED, REJECTED, WRONG)
PAYLOAD_BYTES_MAX = 50_331_648
DURATION_SECONDS_TOLERATED = 0.01
FRACTION_TOLERATED = 1e-6
"""A confidence may be a ten-thousandth of a percent above 100, and is 100 then."""
BOOT_TOLERATED = timedelta(milliseconds=1)
CORRECTED = "corrected"
TEXT_FIELDS = (
    *("form", "node", "sensor_id", "message_id", "source_type", "species", "animal_id"),
    *("observation_type", "model", "clip_reference", "sample_rate_hz", "mode"),
)
PLACES = ("place", "animal_place", "animal_true_place")


def judge_meaning(case: Case) -> tuple[str, tuple[str, ...]]:
    """Return the outcome of a message, and what is wrong with it."""
    decoder = Decoder(PAYLOAD_BYTES_MAX, rules_of(case.site), FORMS)
    decoded = only(decoder.decode(case.message))
    complaints = tuple(_complaints(case, decoded, decoder.identify(case.message)))
    if complaints:
        return WRONG, complaints
    if isinstance(decoded, Rejected):
        return REJECTED, ()
    clip: Clip | None = getattr(decoded, "clip", None)
    doubted = decoded.time_problem not in (None, CORRECTED)
    return NOT_BELIEVED if doubted or (clip is not None and clip.problem) else EXACT, ()


def _complaints(
    case: Case, decoded: AnyRecord | Rejected, identified: Identity | Rejected | Ignored
) -> Iterator[str]:
    assert not isinstance(identified, Ignored)
    if isinstance(decoded, Rejected):
        if identified != decoded:
            yield f"decode rejects it, identify says {identified}"
        if case.refusal is None:
            yield f"rejected, though right: {decoded.code}: {decoded.render()}"
        else:
            yield from _of_refusal(case.refusal, decoded)
        return
    glance = (kind(decoded), decoded.message_id, decoded.sensor_id)
    if (
        isinstance(identified, Rejected)
        or (identified.kind, identified.message_id, identified.sensor_id) != glance
    ):
        yield f"identify says {identified}, decode {glance}"
    if case.truth is None:
        yield f"stored, though wrong, where {case.refusal} was due: {decoded}"
        return
    yield from _of_record(case, case.truth, decoded)


def _of_refusal(refusal: Refusal, decoded: Rejected) -> Iterator[str]:
    if decoded.code not in refusal.codes:
        yield f"rejected as {decoded.code} ({decoded.render()}), not as {sorted(refusal.codes)}"
    elif refusal.field is not None and decoded.field != refusal.field:
        yield f"rejected for {decoded.field} ({decoded.render()}), not for {refusal.field}"


def _of_record(case: Case, truth: Truth, record: AnyRecord) -> Iterator[str]:
    if kind(record) != truth.kind:
        yield f"kind: {kind(record)}, not {truth.kind}"
    expected = {name: getattr(truth, name, None) for name in TEXT_FIELDS} | {
        "node": case.message.node
    }
    for name, value in expected.items():
        got = getattr(record, name, None)
        if got != value:
            yield f"{name}: {got!r}, not {value!r}"
    yield from of_time(truth.when, record, received(case.message))
    for name in PLACES:
        yield from of_place(name, getattr(truth, name), getattr(record, name, None))
    yield from of_confidence("confidence", truth.confidence, getattr(record, "confidence", None))
    ranked = tuple(getattr(record, "alternatives", ()))
    if len(ranked) != len(truth.alternatives):
        yield f"alternatives: {ranked}"
    for entry, (label, confidence) in zip(ranked, truth.alternatives, strict=False):
        if entry.species != label:
            yield f"alternative: {entry.species!r}, not {label!r}"
        yield from of_confidence("alternative", confidence, entry.confidence)
    yield from _of_sound(truth.sound, getattr(record, "clip", None), case.message)
    yield from of_health(truth.health, getattr(record, "health", None))


def of_time(when: WhenTruth, record: AnyRecord, received_at: datetime) -> Iterator[str]:
    """Yield what is wrong with the time of a record."""
    got = f"{record.observed_at} ({record.time_source}, {record.time_problem})"
    if when.moment is None:
        if record.time_source != "received" or record.observed_at != received_at:
            yield f"time: {got}, not that of receipt, {received_at} {sorted(when.problems)}"
    elif record.time_source != "device" or abs(record.observed_at - when.moment) > when.tolerance:
        yield f"time: {got}, not {when.moment}"
    if (record.time_problem or "") not in (when.problems or {""}):
        yield f"time_problem: {record.time_problem!r}, not of {sorted(when.problems)}"
    if record.time_problem is None:
        if record.device_time is not None:
            yield f"device_time: {record.device_time!r}, without a problem"
    elif not _repeats(record.device_time, when.written):
        yield f"device_time: {record.device_time!r}, not {when.written!r}"


def _repeats(device_time: str | None, written: str | int | float | None) -> bool:
    """Return whether a record repeats what the device wrote, or something if that is not known."""
    if not device_time or len(device_time) > 64:
        return False
    if isinstance(written, str):
        return device_time.strip() == written.strip() or not written
    return written is None or float(device_time) == float(written)


def of_place(name: str, truth: PlaceTruth | None, place: Place | None) -> Iterator[str]:
    """Yield what is wrong with a place."""
    if truth is None or place is None:
        if place is not None or truth is not None:
            yield f"{name}: {place}, not {truth}"
        return
    for field in PlaceTruth.__struct_fields__:
        got, expected = getattr(place, field), getattr(truth, field)
        if got != expected and (None in (got, expected) or abs(got - expected) > 1e-9):
            yield f"{name}.{field}: {got}, not {expected}"


def of_confidence(name: str, truth: float | None, got: float | None) -> Iterator[str]:
    """Yield what is wrong with a confidence."""
    if truth is None or got is None:
        if got is not truth:
            yield f"{name}: {got}, not {truth}"
    elif not 0 <= got <= 1 or abs(got - truth) > FRACTION_TOLERATED:
        yield f"{name}: {got}, not {truth}"


def _of_sound(truth: SoundTruth | None, clip: Clip | None, message: Message) -> Iterator[str]:
    if truth is None or clip is None:
        if clip is not None or truth is not None:
            yield f"clip: {clip}, not {truth}"
        return
    exact = {
        "container": truth.container,
        "size_bytes": len(truth.data),
        "sha256": hashlib.sha256(truth.data).hexdigest(),
        "sample_rate_hz": truth.sample_rate_hz,
        "channels": truth.channels,
    }
    for name, value in exact.items():
        got = getattr(clip, name)
        if got != value:
            yield f"clip.{name}: {got}, not {value}"
    if abs(clip.duration_seconds - truth.seconds) > DURATION_SECONDS_TOLERATED:
        yield f"clip.duration_seconds: {clip.duration_seconds}, not {truth.seconds}"
    if (clip.problem or "") not in (truth.problems or {""}):
        yield f"clip.problem: {clip.problem!r}, not of {sorted(truth.problems)}"
    for name, text in truth.metadata:
        if clip.metadata.get(name) != text:
            yield f"clip.metadata: {clip.metadata.get(name)!r}, not {text!r}"
    if clip_bytes(message) != truth.data:
        yield "the clip that is taken out is another one"


def of_health(expected_health: Mapping[str, object], health: Health | None) -> Iterator[str]:
    """Yield what is wrong with the health of a node."""
    for name in Health.__struct_fields__:
        got, expected = getattr(health, name, None), expected_health.get(name)
        if name == "booted_at" and isinstance(expected, int | float) and got is not None:
            right = abs(got - EPOCH - timedelta(seconds=expected)) <= BOOT_TOLERATED
        elif isinstance(expected, tuple):
            right = got in expected
        else:
            right = got == expected
        if not right:
            yield f"health.{name}: {got}, not {expected}"


@lru_cache(maxsize=1_000)
def rules_of(site: Site) -> Rules:
    """Return what a decoder knows of a site."""
    node = NodeRules(
        confidence_is_fraction=site.confidence_is_fraction,
        clock_ahead_seconds=site.clock_ahead_seconds,
    )
    zone = None if site.zone is None else ZoneInfo(site.zone)
    more = dict(site.more_labels)
    not_animals = {**NOT_ANIMALS, **more} if more else NOT_ANIMALS
    # Messages of a node about which nothing is known may take the fast path.
    nodes = {} if node == NodeRules() else {NODE: node}
    return Rules(zone, site.first_day, not_animals, nodes)


def received(message: Message) -> datetime:
    """Return when a message was received."""
    return datetime.fromtimestamp(message.received_at_ms / 1000, UTC)
