"""Whether the records of a message in a shipped form say what is true of it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import isclose

from echo_ingest.decode import Decoder
from echo_ingest.record import AnyRecord, Identity, Ignored, Rejected, kind
from tests.fuzz.form_truths import FormCase, FormTruth
from tests.fuzz.meaning_judge import (
    EXACT,
    NOT_BELIEVED,
    PAYLOAD_BYTES_MAX,
    REJECTED,
    WRONG,
    of_health,
    of_place,
    of_time,
    received,
    rules_of,
)
from tests.fuzz.shipped_examples import FORMS

NUMBER_TOLERATED = 1e-6
MOMENT_TOLERATED = timedelta(microseconds=2)
JUDGED_APART = (
    *("observed_at", "time_source", "time_problem", "device_time", "place", "health", "form"),
)
DEFAULTS: dict[str, object] = {"observation_type": "animal", "alternatives": ()}


def judge_form_meaning(case: FormCase) -> tuple[str, tuple[str, ...]]:
    """Return the outcome of a message, and what is wrong with it."""
    decoder = Decoder(PAYLOAD_BYTES_MAX, rules_of(case.site), FORMS)
    decoded = decoder.decode(case.message)
    complaints = tuple(_complaints(case, decoded, decoder.identify(case.message)))
    if complaints:
        return WRONG, complaints
    if isinstance(decoded, Rejected | Ignored):
        return REJECTED, ()
    doubted = any(record.time_problem is not None for record in decoded)
    return NOT_BELIEVED if doubted else EXACT, ()


def _complaints(
    case: FormCase,
    decoded: tuple[AnyRecord, ...] | Rejected | Ignored,
    identified: Identity | Rejected | Ignored,
) -> Iterator[str]:
    if isinstance(decoded, Rejected | Ignored):
        if identified != decoded:
            yield f"decode says {decoded}, identify {identified}"
        if isinstance(decoded, Ignored):
            if case.truths or case.refusal or decoded.form != case.form:
                yield f"ignored by {decoded.form}"
        elif decoded.code not in case.refusal:
            yield f"rejected as {decoded.code}: {decoded.render()}"
        return
    if case.refusal:
        yield f"stored, though it must be rejected as one of {sorted(case.refusal)}: {decoded}"
        return
    if isinstance(identified, Rejected | Ignored):
        yield f"decode makes records of it, identify says {identified}"
    if len(decoded) != len(case.truths):
        yield f"{len(decoded)} records, not {len(case.truths)}"
    for index, (truth, record) in enumerate(zip(case.truths, decoded, strict=False)):
        for complaint in _of_record(case, truth, record):
            yield f"record {index}, {complaint}"


def _of_record(case: FormCase, truth: FormTruth, record: AnyRecord) -> Iterator[str]:
    if kind(record) != truth.kind:
        yield f"kind: {kind(record)}, not {truth.kind}"
        return
    if record.form != case.form:
        yield f"form: {record.form}, not {case.form}"
    yield from of_time(truth.when, record, received(case.message))
    yield from of_place("place", truth.place, record.place)
    yield from of_health(truth.health, getattr(record, "health", None))
    expected = {"node": case.message.node, **truth.values}
    for name in record.__struct_fields__:
        if name not in JUDGED_APART:
            got, true = getattr(record, name), expected.get(name, DEFAULTS.get(name))
            if not _is_same(got, true):
                yield f"{name}: {got!r}, not {true!r}"


def _is_same(got: object, true: object) -> bool:
    if isinstance(got, datetime) and isinstance(true, datetime):
        return abs(got - true) <= MOMENT_TOLERATED
    if isinstance(got, int | float) and isinstance(true, int | float):
        return isclose(got, true, rel_tol=NUMBER_TOLERATED, abs_tol=1e-9)
    return got == true
