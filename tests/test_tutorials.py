"""Each command of a tutorial does what the page says, in the order in which it stands there."""

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Form
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.trial import try_form
from echo_ingest.decode.rules import Rules
from echo_ingest.journal import Journal
from echo_ingest.record import Detection, Measurement, Message, Telemetry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED_AS = re.compile(r"Save this as `([^`]+)`:\s*\Z")
HEARD = (
    '{"station":{"name":"north","firmware":"2.1"},"started":"05.10.2026 07:%02d:00","results":'
    '[{"taxon":"Crinia signifera","score":91,"from":1.5,"to":4.0},'
    '{"taxon":"Litoria ewingii","score":64,"from":12.0,"to":13.5}],"batt_mv":3910}'
)


def steps(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield each block of a page: its language, what stands in it, and the prose before it."""
    end = 0
    for block in BLOCK.finditer(page):
        yield block[1], block[2], page[end : block.start()]
        end = block.end()


def keep_dead_letters(folder: Path) -> None:
    """Make the journal that the reader of the page has: three messages that nobody could read."""
    (folder / "data").mkdir(mode=0o700)
    journal = Journal(folder / "data" / "journal.db")
    for minute in (30, 31, 32):
        received_at = datetime(2026, 10, 4, 20, minute, 5, tzinfo=UTC)
        message = Message(
            "iotingestion/north/heard",
            (HEARD % minute).encode(),
            int(received_at.timestamp() * 1000),
            "north",
        )
        journal.append([(message, Decoder(10_000_000).identify(message))])
    journal.close()


def lines_of(text: str) -> list[str]:
    """Return the lines of an output; how wide a table and its columns are does not matter."""
    lines = (re.sub("─+", "─", line).rstrip() for line in text.splitlines())
    return [re.sub(r"(?<=\S) {2,}", "  ", line) for line in lines]


def is_within(shown: list[str], output: list[str]) -> bool:
    return any(output[at : at + len(shown)] == shown for at in range(len(output) - len(shown) + 1))


def run(folder: Path, script: str) -> str:
    """Run the commands as a reader does, in one shell after another, and return what they print."""
    state = folder / "environment"
    before = f". {state}\n" if state.exists() else ""
    done = subprocess.run(
        ["bash", "-c", f"{before}{script}\nexport -p > {state}"],
        cwd=folder,
        env={
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_form_in_ten_minutes(tmp_path: Path) -> None:
    keep_dead_letters(tmp_path)
    page = (TUTORIALS / "form.md").read_text()
    output, commands, shown = "", 0, 0
    for language, text, before in steps(page):
        if language == "sh":
            output = run(tmp_path, text)
            assert "Traceback" not in output
            commands += len(text.splitlines())
        elif language == "text":
            assert is_within(lines_of(text), lines_of(output)), output
            shown += 1
        else:
            saved = SAVED_AS.search(before)
            assert saved is not None, before[-200:]
            (tmp_path / saved[1]).write_text(text)
    assert (commands, shown) == (20, 11)


NESTED = """
{"gw": "ridge", "boxes": [
  {"dev": "bat-07", "t": 1791145800000, "b": -1, "calls": [{"s": 2, "q": 212, "f0": 31.2}]},
  {"dev": "bat-09", "t": 1791145860000, "b": 71, "calls": []}]}
"""
FORM = """
name = "boxes"
[match]
topic = "lora/+/up"
[[record]]
kind = "detection"
each = ["boxes", "calls"]
%s
confidence = { from = "q", scale = "byte" }
%s
%s
node = "parent.dev"
[[record]]
kind = "telemetry"
each = "boxes"
node = "dev"
%s
"""


def test_what_the_tutorial_says_of_other_values_is_so(tmp_path: Path) -> None:
    """The rows of its table make a form for another payload, with a list within a list."""
    page = (TUTORIALS / "form.md").read_text()
    rows = re.findall(r"^\| .+? \| `(.+?)`(?:;.*)? \|$", page, re.MULTILINE)
    assert len(rows) == 8
    hertz, since_1970, apart, unknown, codes, fahrenheit, no_unit, each = rows
    written = FORM % (codes, since_1970.replace('"t"', '"parent.t"'), hertz, unknown)
    assert each in written
    made = read(written.encode())
    assert isinstance(made, Form), made
    sent = Message("lora/ridge/up", NESTED.encode(), 1_791_145_900_000)
    call, state = try_form(made, sent, Rules()).records
    assert isinstance(call, Detection) and isinstance(state, Telemetry)
    assert (call.species, call.low_hz, call.node) == ("Litoria ewingii", 31_200, "bat-07")
    assert call.observed_at == datetime(2026, 10, 4, 20, 30, tzinfo=UTC)
    assert (state.node, state.health.battery_percent) == ("bat-09", 71)
    table = (
        written + f'[[record]]\nkind = "measurement"\n[record.values]\n{fahrenheit}\n{no_unit}\n'
    )
    made = read(table.encode())
    assert isinstance(made, Form), made
    sent = Message("lora/ridge/up", b'{"temp_f": 212, "t": 3, "boxes": []}', 1_791_145_900_000)
    celsius, turbidity = try_form(made, sent, Rules()).records
    assert isinstance(celsius, Measurement) and isinstance(turbidity, Measurement)
    assert round(celsius.value, 2) == 100 and (turbidity.value, turbidity.unit) == (3, "NTU")
    day_first = written.replace(since_1970.replace('"t"', '"parent.t"'), apart)
    assert isinstance(read(day_first.encode()), Form)


def test_a_tutorial_that_says_what_is_not_so_is_noticed(tmp_path: Path) -> None:
    assert not is_within(["b"], lines_of(run(tmp_path, "echo a")))
    assert is_within(["b", "c"], lines_of(run(tmp_path, "printf 'a\\nb\\nc\\n'")))
    with pytest.raises(AssertionError):
        run(tmp_path, "exit 3")
