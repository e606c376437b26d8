"""The commands `forms` and `dead-letters replay --form`, in this process, with a real journal."""

import json
import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from echo_ingest.cli import app
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.journal import Journal
from echo_ingest.record import Message, Unclaimed
from echo_ingest.settings import Settings
from echo_ingest.site_decoder import decoder_of

FORM = """name = "pond"
about = "The recorders at the pond"
[match]
has = ["calls", "at"]
[[record]]
kind = "detection"
each = "calls"
species = "name"
confidence = { from = "p", scale = "percent" }
observed_at = { from = "parent.at", zone = "site" }
"""
SENT = {
    "calls": [{"name": "Crinia signifera", "p": 91}, {"name": "Litoria ewingii", "p": 64}],
    "at": "2026-10-05 07:30:00",
    "v": 3,
}
RECEIVED_AT = datetime(2026, 10, 4, 20, 31, tzinfo=UTC)
RECEIVED_AT_MS = int(RECEIVED_AT.timestamp() * 1000)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the data folder of a site, and a message and its form beside it."""
    (tmp_path / "data").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IOT_ZONE", "Australia/Melbourne")
    (tmp_path / "pond.toml").write_text(FORM)
    message = tmp_path / "message.json"
    message.write_text(json.dumps(SENT))
    os.utime(message, (RECEIVED_AT.timestamp(), RECEIVED_AT.timestamp()))
    return tmp_path


def run(*arguments: object, exit_code: int = 0, sent: bytes | None = None) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments], input=sent)
    assert result.exit_code == exit_code, (result.stdout, result.stderr, result.exception)
    return result


def keep(site: Path, *payloads: object) -> None:
    journal = Journal(site / "data" / "journal.db")
    for payload in payloads:
        sent = Message("pond/n", json.dumps(payload).encode(), RECEIVED_AT_MS, None)
        journal.append([(sent, Decoder(1_000_000).identify(sent))])
    journal.close()


# ---------------------------------------------------------------------- list


def test_the_list_has_our_forms_and_those_of_the_site(site: Path) -> None:
    (site / "data" / "forms.d").mkdir()
    (site / "data" / "forms.d" / "pond.toml").write_text(FORM)
    shown = run("forms", "list")
    rows = [line.split() for line in shown.stdout.splitlines()[2:]]
    assert rows[0][:2] == ["pond", "pond.toml"]
    assert ["acoupi-detection", "shipped"] in [row[:2] for row in rows]
    assert len(rows) == 1 + len(Forms.of_folder(SHIPPED).forms)
    assert "(ignored)" in shown.stdout


def test_the_list_says_what_is_wrong_with_a_form(site: Path) -> None:
    (site / "data" / "forms.d").mkdir()
    (site / "data" / "forms.d" / "pond.toml").write_text(FORM.replace("species", "specie"))
    shown = run("forms", "list", exit_code=1)
    assert "pond.toml is not in use" in shown.stderr
    assert "a running service keeps all forms as they were" in " ".join(shown.stderr.split())
    assert "line 8: record.specie: this key is not known; did you mean species?" in shown.stderr


# ---------------------------------------------------------------------- try


def test_a_file_is_tried_with_a_form_that_is_not_in_use_yet(site: Path) -> None:
    shown = run("forms", "try", "message.json", "--form", "pond.toml").stdout
    assert "becomes    2 records" in shown
    assert '"species": "Litoria ewingii"' in shown
    assert "Fields that nobody reads:\n  v\n" in shown
    assert "warning: no node is named" in shown


def test_a_message_is_tried_as_it_comes_from_a_pipe(site: Path) -> None:
    shown = run("forms", "try", "-", "--form", "pond.toml", sent=json.dumps(SENT).encode())
    assert "becomes    2 records" in shown.stdout


def test_the_zone_may_be_given(site: Path) -> None:
    arguments = ("forms", "try", "message.json", "--form", "pond.toml", "--json")
    made = json.loads(run(*arguments).stdout)
    assert made["zone"] == "Australia/Melbourne"
    assert made["received_at"] == "2026-10-04T20:31:00Z"
    assert made["records"][0]["observed_at"] == "2026-10-04T20:30:00Z"
    made = json.loads(run(*arguments, "--zone", "Asia/Tokyo").stdout)
    assert made["records"][0]["time_problem"] == "after_receipt"
    assert "is no zone" in run(*arguments, "--zone", "Nowhere", exit_code=2).stderr


def test_the_printed_expectation_is_one(site: Path) -> None:
    place = site / "forms" / "pond"
    place.mkdir(parents=True)
    (site / "pond.toml").rename(place / "form.toml")
    example = place / "example.json"
    (site / "message.json").rename(example)
    advice = run("forms", "test", "forms", exit_code=1).stdout
    _, _, command = advice.partition("`echo-ingest ")
    arguments, _, file = command.partition("`")[0].partition(" > ")
    printed = run(*arguments.split()).stdout
    Path(file).write_text(printed)
    assert run("forms", "test", "forms").stdout == "✓ pond example.json\n"
    (place / "expected.json").write_text(printed.replace("0.64", "0.65"))
    shown = run("forms", "test", place, exit_code=1)
    assert '  -      "confidence": 0.65,' in shown.stdout
    assert "1 example, 1 not as expected" in shown.stderr


def test_a_message_that_is_in_no_form_is_told_why(site: Path) -> None:
    shown = run("forms", "try", "message.json", exit_code=1)
    assert "none fits" in shown.stdout
    assert "no topic was given" in shown.stderr
    (site / "pond.toml").write_text(FORM.replace("has =", 'topic = "pond/{node}"\nhas ='))
    shown = run("forms", "try", "message.json", "--form", "pond.toml", "--topic", "x", exit_code=1)
    assert 'its topic is "x", and not like pond/{node}' in shown.stdout
    shown = run("forms", "try", "message.json", "--form", "pond.toml")
    assert "the topic is taken to be pond/node" in shown.stderr


def test_project_echos_own_forms_are_tried_too(site: Path) -> None:
    (site / "own.json").write_text('{"nodeId": "swamp-01", "status": "online"}')
    shown = run("forms", "try", "own.json").stdout
    assert "node-status, one of Project Echo's own" in shown


def test_nothing_that_a_device_wrote_controls_the_terminal(site: Path) -> None:
    hostile = "\x1b[2J\u202e"
    sent = SENT | {hostile: 1, "at": f"2026{hostile}"}
    (site / "message.json").write_text(json.dumps(sent))
    (site / "pond.toml").write_text(FORM.replace("observed_at", "#"))
    for command in (
        ("try", "message.json", "--form", "pond.toml", "--topic", hostile),
        ("suggest", "message.json", "--topic", f"a/{hostile}"),
    ):
        shown = run("forms", *command)
        assert "\x1b" not in shown.stdout and "\u202e" not in shown.stdout
        assert len(shown.stdout) > 100
    draft = run("forms", "suggest", "message.json", "--topic", f"a/{hostile}").stdout
    assert tomllib.loads(draft)["match"]["topic"] == f"a/{hostile}"


def test_what_is_ignored_is_said(site: Path) -> None:
    shown = run("forms", "try", SHIPPED / "esphome-log" / "example.txt", "--form", "esphome-log")
    assert "nothing: such messages are ignored" in shown.stdout
    assert "warning" not in shown.stdout


def test_a_dead_letter_is_tried_on_its_own_topic(site: Path) -> None:
    keep(site, SENT)
    form = FORM.replace("has =", 'topic = "pond/{node}"\nhas =')
    (site / "pond.toml").write_text(form)
    made = json.loads(
        run("forms", "try", "--dead-letter", 1, "--form", "pond.toml", "--json").stdout
    )
    assert made["topic"] == "pond/n" and made["records"][0]["node"] == "n"
    shown = run("forms", "try", "--dead-letter", 9, exit_code=1)
    assert "there is no dead letter 9" in shown.stderr


def test_the_newest_message_of_an_unclaimed_topic_is_tried(site: Path) -> None:
    journal = Journal(site / "data" / "journal.db")
    for at in ("2026-10-05 07:29:00", "2026-10-05 07:30:00"):
        payload = json.dumps(SENT | {"at": at}).encode()
        sent = Message("birdnet/north", payload, RECEIVED_AT_MS, account="echopub")
        journal.append([(sent, Unclaimed())])
    journal.close()
    arguments = ("forms", "try", "--unclaimed", "birdnet/north", "--form", "pond.toml", "--json")
    made = json.loads(run(*arguments).stdout)
    assert made["topic"] == "birdnet/north"
    assert made["records"][0]["observed_at"] == "2026-10-04T20:30:00Z"
    draft = run("forms", "suggest", "--unclaimed", "birdnet/north").stdout
    assert 'topic = "birdnet/north"  # type {node}' in draft
    shown = run("forms", "try", "--unclaimed", "birdnet/south", exit_code=1)
    assert "nothing is kept of birdnet/south" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("try",), "choose one message"),
        (("try", "message.json", "--dead-letter", "1"), "choose one message"),
        (("try", "gone.json"), "there is no file gone.json"),
        (("try", "message.json", "--form", "gone"), "there is no form 'gone'"),
        (("try", "message.json", "--form", "message.json"), "message.json is no form"),
        (("suggest", "pond.toml"), "docs/form-files.md"),
        (("test", "data"), "there are no forms in data"),
    ],
)
def test_what_cannot_be_done_is_said(site: Path, arguments: tuple[str, ...], words: str) -> None:
    shown = CliRunner().invoke(app, ["forms", *arguments])
    assert shown.exit_code in (1, 2)
    assert words in shown.stderr and "Traceback" not in shown.stderr


# ---------------------------------------------------------------------- suggest, replay


def test_a_draft_goes_to_standard_output_alone(site: Path) -> None:
    keep(site, SENT)
    for message in (("message.json", "--topic", "pond/n"), ("--dead-letter", 1)):
        shown = run("forms", "suggest", *message)
        (site / "draft.toml").write_text(shown.stdout)
        assert "this is a guess" in shown.stderr
        tried = run("forms", "try", "--dead-letter", 1, "--form", "draft.toml")
        assert "becomes    2 records" in tried.stdout


def test_a_replay_can_be_looked_at_before(site: Path) -> None:
    zoneless = FORM.replace(', zone = "site"', "")
    (site / "ignore.toml").write_text('name = "no"\nignore = true\n[match]\nhas = ["at"]\n')
    keep(site, SENT, SENT | {"at": "2026-10-05T07:30:00+11:00"}, {"other": 1}, SENT | {"calls": []})
    replay = ("dead-letters", "replay", "--all", "--dry-run", "--form")
    shown = run(*replay, "pond.toml")
    assert shown.stderr == (
        "2 would be stored as 4 records, 1 ignored, 0 rejected, 1 not in the form;"
        " nothing was changed\n"
    )
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["4", "detection"] in rows
    assert "it has no calls and no at; there are other" in shown.stdout
    (site / "pond.toml").write_text(zoneless)
    shown = run(*replay, "pond.toml")
    assert "1 would be stored as 2 records, 1 ignored, 1 rejected" in shown.stderr
    assert "names no zone, and neither does the form" in shown.stdout
    assert "3 ignored" in run(*replay, "ignore.toml").stderr
    assert "needs --form" in run("dead-letters", "replay", "--dry-run", exit_code=2).stderr
    assert "4 of 4 dead letters" in run("dead-letters", "list").stderr


def test_only_a_form_in_use_can_be_replayed_with(site: Path) -> None:
    keep(site, SENT)
    shown = run("dead-letters", "replay", "--all", "--form", "pond.toml", exit_code=1)
    assert "pond.toml is not in use: put it into" in shown.stderr


# ---------------------------------------------------------------------- reread


def test_reread_says_what_keeps_its_form_and_why(site: Path) -> None:
    folder = site / "data" / "forms.d"
    folder.mkdir()
    (folder / "pond.toml").write_text(FORM)
    by = decoder_of(Settings.model_validate({"data_dir": site / "data"}))
    journal = Journal(site / "data" / "journal.db")
    for payload in (SENT, SENT | {"v": 4}, {key: SENT[key] for key in ("calls", "at")}):
        sent = Message("pond/n", json.dumps(payload).encode(), RECEIVED_AT_MS, None)
        journal.append([(sent, by.identify(sent))])
    journal.close()
    (folder / "pond.toml").write_text(FORM.replace('["calls", "at"]', '["calls", "at", "v"]'))
    tried = run("forms", "reread", "pond", "--dry-run")
    assert "2 messages would be read by pond" in tried.stderr
    assert "1 would keep their form; nothing was changed" in tried.stderr
    assert "not in the form: it has no v" in tried.stdout
    done = run("forms", "reread", "pond")
    assert "2 messages are read by pond" in done.stderr and "sinks" not in done.stderr
    again = run("forms", "reread", "pond")
    assert "0 messages are read" in again.stderr and "1 keep their form" in again.stderr
    assert "no form 'lake' in use" in run("forms", "reread", "lake", exit_code=1).stderr
