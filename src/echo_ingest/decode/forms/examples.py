"""Examples beside forms: `example.*` is a message, and `expected.json` says what becomes of it.

A form with several examples has `example-NAME.*` and `expected-NAME.json`, a pair for each.
"""

import difflib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.decode.forms import FILE_NAME, SHIPPED, Forms, sources
from echo_ingest.decode.forms.form import Form, FormError
from echo_ingest.decode.forms.trial import Trial, expectation, try_form, try_forms
from echo_ingest.decode.rules import Rules
from echo_ingest.record import Message

EXAMPLE, EXPECTED = "example", "expected"


class ExampleProblem(Exception):
    """An example cannot be tried; the text says why, and what to do."""


class Example(Struct, frozen=True):
    """A message beside a form, and what is expected of it."""

    file: Path
    message: Message
    zone: ZoneInfo | None
    """That of the site."""
    expected: dict[str, object]
    """As `trial.expectation` writes it."""


class Tested(Struct, frozen=True):
    """A form with one of its examples, and how what became of it differs from what is expected."""

    form: str
    example: str
    difference: tuple[str, ...] = ()
    """Lines of a unified diff: `-` is expected, `+` is so."""
    problem: str | None = None
    """Why it could not be tried."""

    @property
    def is_as_expected(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.difference and self.problem is None


def forms_with_examples(folder: Path) -> tuple[Forms, dict[str, Path]]:
    """Read the forms of a folder, before those that we ship, and where the examples of each are.

    The folder may be that of one form, or hold several of them.
    """
    if (folder / FILE_NAME).is_file():
        file = folder / FILE_NAME
        forms = Forms.of_sources([(str(file), file.read_bytes())], sources(SHIPPED))
    else:
        forms = Forms.of_folder(SHIPPED, folder)
    places = {
        name: Path(file).parent
        for name, file in forms.files.items()
        if Path(file).is_relative_to(folder) and Path(file).name == FILE_NAME
    }
    return forms, places


def try_examples(folder: Path) -> Iterator[Tested]:
    """Try each form of a folder with the examples beside it."""
    forms, places = forms_with_examples(folder)
    for file, errors in forms.errors.items():
        yield Tested(file, "", problem="; ".join(map(error_words, errors)))
    for name, file in forms.files.items():
        if not Path(file).is_relative_to(folder):
            continue
        form = forms.named(name)
        assert form is not None
        files = example_files(places[name]) if name in places else []
        if not files:
            remedy = f"put {EXAMPLE}.json and {EXPECTED}.json beside it, as NAME/{FILE_NAME}"
            yield Tested(name, "", problem=f"it has no example: {remedy}")
        for each in files:
            yield _tested(forms, form, each)


def example_files(folder: Path) -> list[Path]:
    """Return the examples in the folder of a form."""
    return sorted(
        path
        for path in folder.glob(f"{EXAMPLE}*")
        if path.is_file() and path.stem.partition("-")[0] == EXAMPLE
    )


def read_example(file: Path) -> Example:
    """Read an example with what is expected of it; raise `ExampleProblem` if that cannot be."""
    beside = file.with_name(f"{EXPECTED}{file.stem.removeprefix(EXAMPLE)}.json")
    try:
        expected = json.loads(beside.read_text())
        topic, received_at = expected["topic"], datetime.fromisoformat(expected["received_at"])
        zone = None if "zone" not in expected else ZoneInfo(expected["zone"])
    except FileNotFoundError:
        form = file.with_name(FILE_NAME)
        raise ExampleProblem(
            f"there is no {beside.name}; `echo-ingest forms try {file} --form {form} --json >"
            f" {beside}` makes one, with --topic if it came on another; see whether it is right"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExampleProblem(
            f"{beside.name} cannot be read ({error}); it needs topic, received_at, and records,"
            " ignored or rejected"
        ) from None
    received_at_ms = int(received_at.timestamp() * 1000)
    message = Message(topic, file.read_bytes(), received_at_ms, expected.get("node"))
    return Example(file, message, zone, expected)


def error_words(error: FormError) -> str:
    """Write what is wrong with a form, with its line."""
    return f"line {error.line}: {error.words}"


def _tested(forms: Forms, form: Form, file: Path) -> Tested:
    try:
        example = read_example(file)
    except ExampleProblem as problem:
        return Tested(form.name, file.name, problem=str(problem))
    rules = Rules(zone=example.zone)
    trial = try_forms(forms, example.message, rules)
    if trial.form is not None and trial.form.name != form.name:
        words = f"it is in the form {trial.form.name}, which is tried before"
        return Tested(form.name, file.name, problem=words)
    if trial.form is None:
        why = try_form(form, example.message, rules).misfit
        return Tested(form.name, file.name, problem=f"it is not in the form: {why}")
    return Tested(form.name, file.name, difference=tuple(_difference(example, trial)))


def _difference(example: Example, trial: Trial) -> Iterator[str]:
    became = expectation(example.message, example.zone, trial.became)
    became["received_at"] = example.expected["received_at"]
    expected_lines, lines = (
        json.dumps(each, indent=2, ensure_ascii=False, sort_keys=True).splitlines()
        for each in (example.expected, became)
    )
    yield from list(difflib.unified_diff(expected_lines, lines, lineterm="", n=2))[2:]
