"""A record says what is true, or that it is not believed. `make fuzz` is the long run."""

import ast
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from tests.fuzz.form_meaning import judge_form_meaning
from tests.fuzz.form_truths import FormTruth
from tests.fuzz.meaning import judge_meanings
from tests.fuzz.meaning_judge import EXACT, NOT_BELIEVED, REJECTED, WRONG, judge_meaning
from tests.fuzz.true_forms import form_case_of
from tests.fuzz.true_messages import case_of
from tests.fuzz.truths import NOTHING, Case, PlaceTruth, Refusal, SoundTruth, Truth, WhenTruth

SEED = int(os.environ.get("SEED", "1"))
INPUTS = 6_000
GENERATOR = (
    *("truths", "true_files", "true_messages", "true_notes", "true_sounds", "true_times"),
    *("true_values", "true_wavs", "form_truths", "true_detectors", "true_forms", "true_networks"),
)
SEARCHED = 3_000
FORM_CASES = 150


def test_thousands_of_messages_are_stored_as_is_true_or_not_believed_or_rejected() -> None:
    tally = judge_meanings(SEED, range(INPUTS))
    assert tally.wrong == []
    assert tally.outcomes.keys() == {EXACT, NOT_BELIEVED, REJECTED}
    assert tally.outcomes[EXACT] > INPUTS / 3
    assert len(tally.labels) > 200


def test_a_message_is_always_the_same() -> None:
    assert case_of(SEED, 17) == case_of(SEED, 17)
    assert case_of(SEED, 17) != case_of(SEED + 1, 17)


def test_the_generator_knows_nothing_of_how_messages_are_decoded() -> None:
    for name in GENERATOR:
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
        imported = {
            module.module for module in ast.walk(tree) if isinstance(module, ast.ImportFrom)
        }
        ours = {module for module in imported if module and module.startswith("echo_ingest")}
        assert ours <= {"echo_ingest.record"}


@dataclass(frozen=True)
class Twisted:
    """A truth that is no longer that of its message."""

    name: str
    truth: Truth


def twisted(truth: Truth) -> list[Twisted]:
    """Return the truth with one value of each part changed."""
    found = []

    def add(name: str, changed: Truth) -> None:
        found.append(Twisted(name, changed))

    for name in ("species", "sensor_id", "message_id", "model", "form", "source_type", "mode"):
        add(name, structs.replace(truth, **{name: f"{getattr(truth, name)}x"}))
    if truth.when.moment is not None:
        later = structs.replace(truth.when, moment=truth.when.moment + timedelta(hours=1))
        add("moment", structs.replace(truth, when=later))
    if truth.when.problems:
        other = structs.replace(truth.when, problems=frozenset({"another"}))
        add("time problem", structs.replace(truth, when=other))
        add("no problem", structs.replace(truth, when=WhenTruth()))
    for name in ("place", "animal_place", "animal_true_place"):
        place: PlaceTruth | None = getattr(truth, name)
        if place is not None:
            add(f"no {name}", structs.replace(truth, **{name: None}))
            north = structs.replace(place, latitude=place.latitude + 0.001)
            add(name, structs.replace(truth, **{name: north}))
    if truth.confidence is not None:
        add("confidence", structs.replace(truth, confidence=truth.confidence / 2 + 0.1))
        add("no confidence", structs.replace(truth, confidence=None))
    if truth.alternatives:
        (label, confidence), *rest = truth.alternatives
        add("label", structs.replace(truth, alternatives=((f"{label}x", confidence), *rest)))
        add("fewer", structs.replace(truth, alternatives=tuple(rest)))
    if truth.sound is not None:
        sound: SoundTruth = truth.sound
        for changed in (
            structs.replace(sound, seconds=sound.seconds + 0.02),
            structs.replace(sound, container="aiff"),
            structs.replace(sound, sample_rate_hz=sound.sample_rate_hz + 1),
            structs.replace(sound, channels=sound.channels + 1),
            structs.replace(sound, problems=frozenset({"another"})),
            structs.replace(sound, data=sound.data[:-1] + bytes([sound.data[-1] ^ 1])),
        ):
            add("sound", structs.replace(truth, sound=changed))
    for name in truth.health:
        add(f"health.{name}", structs.replace(truth, health={**truth.health, name: "another"}))
    return found


def test_the_judge_finds_each_value_that_is_not_the_true_one() -> None:
    tried = Counter[str]()
    for number in range(SEARCHED // 10):
        case = case_of(SEED, number)
        if case.truth is None or case.refusal is not None:
            continue
        assert judge_meaning(case)[0] != WRONG
        for other in twisted(case.truth):
            outcome, complaints = judge_meaning(structs.replace(case, truth=other.truth))
            assert outcome == WRONG, f"{other.name} of {case.labels}"
            assert len(complaints) >= 1
            tried[other.name] += 1
    assert len(tried) > 20


def first(*, stored: bool) -> Case:
    """Return a message that must be stored, or one that must not."""
    cases = (case_of(SEED, number) for number in range(SEARCHED))
    return next(
        case
        for case in cases
        if (case.truth is not None and case.refusal is None if stored else case.truth is None)
    )


@pytest.mark.parametrize(
    ("refusal", "complaint"),
    [
        (None, "rejected, though right"),
        (Refusal(frozenset({"another"})), "not as ['another']"),
        (Refusal(NOTHING, "another"), "rejected as"),
    ],
)
def test_the_judge_finds_a_rejection_that_is_not_due(
    refusal: Refusal | None, complaint: str
) -> None:
    outcome, complaints = judge_meaning(structs.replace(first(stored=False), refusal=refusal))
    assert outcome == WRONG
    assert complaint in complaints[0]


def test_the_judge_finds_a_record_where_a_rejection_is_due() -> None:
    case = first(stored=True)
    refusal = Refusal(frozenset({"impossible_value"}))
    outcome, complaints = judge_meaning(structs.replace(case, truth=None, refusal=refusal))
    assert outcome == WRONG
    assert complaints[0].startswith("stored, though wrong")


def twisted_form(truth: FormTruth) -> Iterator[FormTruth]:
    """Yield the truth of a record with one value of each part changed."""
    for name, value in truth.values.items():
        other = value + timedelta(hours=1) if isinstance(value, datetime) else f"{value}x"
        yield structs.replace(truth, values={**truth.values, name: other})
    for name in truth.health:
        yield structs.replace(truth, health={**truth.health, name: -7})
    if truth.place is None:
        yield structs.replace(truth, place=PlaceTruth(1, 2))
    else:
        north = structs.replace(truth.place, latitude=truth.place.latitude + 0.001)
        yield structs.replace(truth, place=north)
    if truth.when.moment is not None:
        later = structs.replace(truth.when, moment=truth.when.moment + timedelta(seconds=1))
        yield structs.replace(truth, when=later)


def test_the_judge_finds_each_value_of_other_makers_devices_that_is_not_the_true_one() -> None:
    forms = set()
    for number in range(FORM_CASES):
        case = form_case_of(SEED, number)
        assert judge_form_meaning(case)[0] != WRONG
        if not case.truths:
            continue
        forms.add(case.form)
        first, *rest = case.truths
        for other in twisted_form(first):
            assert judge_form_meaning(structs.replace(case, truths=(other, *rest)))[0] == WRONG
        assert judge_form_meaning(structs.replace(case, truths=(first, *case.truths)))[0] == WRONG
        assert judge_form_meaning(structs.replace(case, form="another"))[0] == WRONG
        refused = structs.replace(case, truths=(), refusal=frozenset({"another"}))
        assert judge_form_meaning(refused)[0] == WRONG
    assert len(forms) > 20
