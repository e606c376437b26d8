"""The list of `make sabotage` fits the code: each change can be made, and breaks more than text."""

from pathlib import Path

import pytest
from scripts.sabotages import Sabotage, commands, problems, pytest_arguments, read_list

ROOT = Path(__file__).parents[1]
SABOTAGE = Sabotage(
    file="src/echo_ingest/backoff.py",
    breaks="It waits for ever.",
    before="def delay_seconds",
    after="def other_seconds",
    readme="T tests/test_journal_ids.py",
    tests="tests/test_journal_ids.py",
)


def test_each_change_can_be_made_and_its_command_is_in_the_readme() -> None:
    sabotages = read_list()
    assert len(sabotages) >= 10
    assert list(problems(sabotages, ROOT)) == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"file": "src/gone.py"}, "No such file"),
        ({"before": "is not there"}, "found 0 times"),
        ({"before": "attempt", "after": "trial"}, "times, not once"),
        ({"after": "def other seconds"}, "only the syntax"),
        ({"after": "# It waits.\ndef delay_seconds"}, "nothing but text for people"),
        ({"readme": "T tests/test_night.py"}, "README does not name"),
        ({"readme": "make crash"}, "runs no tests of pytest"),
        ({"tests": "tests/test_gone.py::test_it"}, "there is no tests/test_gone.py"),
    ],
)
def test_a_change_that_would_show_nothing_is_a_problem(wrong: dict[str, str], problem: str) -> None:
    fields = {name: getattr(SABOTAGE, name) for name in Sabotage.__struct_fields__}
    assert list(problems([SABOTAGE], ROOT)) == []
    (found,) = problems([Sabotage(**fields | wrong)], ROOT)
    assert problem in found


def test_the_commands_of_the_readme_are_known_and_run_tests() -> None:
    known = commands((ROOT / "README.md").read_text())
    assert {"make test", "make sinks", "T tests/test_salvage.py", "tests/test_line.py"} <= known
    assert pytest_arguments('T tests/test_mqtt.py -k "order or void"') == [
        *("tests/test_mqtt.py", "-k", "order or void")
    ]
    assert pytest_arguments("make console-test ONLY=clip") == ["tests/browser", "-k", "clip"]
