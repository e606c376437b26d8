"""A short crash run: with both brokers, and with losses planted in its result."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from echo_ingest.broker import find_mosquitto, version
from echo_ingest.decode import Decoder
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import Ignored, Message, Rejected
from tests import postgres
from tests.crash import messages
from tests.crash.evidence import NODES, Evidence
from tests.crash.faults import plan
from tests.crash.programs import mosquitto_of
from tests.crash.reconcile import near, reconcile
from tests.crash.run import Run
from tests.harness import Harness, eventually
from tests.tools import without

SEED = 3
PAYLOAD_BYTES_MAX = 50_000_000


def test_messages_are_what_they_say_and_the_same_each_time() -> None:
    forms = set()
    for number in range(600):
        sent = messages.message_of(SEED, number, NODES[0])
        assert sent == messages.message_of(SEED, number, NODES[0])
        assert messages.number_of(sent.payload) == number
        arrived = Message(sent.topic, sent.payload, 0, NODES[0], sent.properties)
        verdict = Decoder(PAYLOAD_BYTES_MAX).identified(arrived, hashed=False)
        assert isinstance(verdict, Rejected) == (sent.fate == "dead letter"), verdict
        if not isinstance(verdict, Rejected | Ignored):
            assert verdict.identity.is_certain == sent.has_identity
            forms.add(verdict.records[0].form)
    assert len(forms) == 8


def test_a_seed_replays_the_plan() -> None:
    faults = plan(SEED, 100, 10_000)
    assert faults == plan(SEED, 100, 10_000)
    assert faults != plan(SEED + 1, 100, 10_000)
    assert sum(fault.kind == "kill" for fault in faults) == 100
    assert {target for fault in faults for target in fault.targets} >= {
        *("mosquitto", "proxy", "broker", "service", "delivery", "api", "devices")
    }
    assert [fault.after for fault in faults] == sorted(fault.after for fault in faults)


@pytest.mark.slow
def test_mosquitto_has_noted_its_number_before_it_runs(tmp_path: Path) -> None:
    """Else, were its parent killed in between, nobody could end it at the next start."""
    program = tmp_path / "mosquitto"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -h ] || {{ echo $$ >{tmp_path}/own\n'
        f"cp mosquitto.pid {tmp_path}/noted; }}\n"
        f'exec {find_mosquitto(None)} "$@"\n'
    )
    program.chmod(0o755)
    harness = Harness(tmp_path / "data", mosquitto=program)
    try:
        harness.start("broker")
        noted = eventually(lambda: (tmp_path / "noted").read_text())
        eventually(lambda: mosquitto_of(harness.data_dir))
        assert noted == (tmp_path / "own").read_text().strip()
    finally:
        harness.close()


@pytest.mark.proof
@pytest.mark.slow
def test_killed_and_cut_off_nothing_is_lost_and_nothing_stored_twice(
    tmp_path: Path, mosquitto: Path
) -> None:
    if (reason := postgres.missing()) is not None:
        without(reason)
    run = Run(tmp_path, mosquitto, version(mosquitto), SEED, messages=5_000)
    evidence = asyncio.run(run.go(8, lambda _run: None))
    verdict = reconcile(evidence)
    assert verdict.is_good, [*(near(evidence, n) for n in verdict.lost[:3]), *verdict.problems]
    assert run.kills == 8
    assert verdict.acknowledged == evidence.total
    lost, twice, spoiled, undelivered = _plant(evidence)
    removed, strange = _plant_clips(evidence)
    in_no_row = _plant_rows(evidence)
    verdict = reconcile(evidence)
    assert verdict.lost == [lost]
    assert verdict.duplicated == [twice]
    assert verdict.undelivered[:3] == [*sorted([twice, undelivered]), removed]
    assert set(verdict.undelivered[3:]) == {twice, in_no_row}  # that one's key is another
    assert f"{strange} is a clip of no record" in verdict.problems
    assert any(problem.startswith("PostgreSQL: 1 keys") for problem in verdict.problems)
    assert f"message {spoiled} is not stored as it was sent" in verdict.problems
    assert any("newest record" in problem for problem in verdict.problems)  # the journal's audit
    assert "acknowledged at" in near(evidence, lost)


def _plant(evidence: Evidence) -> tuple[int, int, int, int]:
    """Remove a message, store one again, spoil one, and take one from the API; say which."""
    db = apsw.Connection(str(evidence.journal))
    offsets: dict[int, int] = {}
    for offset, payload in db.execute("SELECT offset, payload FROM record"):
        number = messages.number_of(payload)
        assert number is not None
        if evidence.answers.receipted_at[number]:
            sent = messages.message_of(SEED, number, evidence.node(number))
            if sent.has_identity and b'"prediction"' in payload and sent.fate == "delivered":
                offsets[number] = offset
    lost, twice, spoiled, undelivered = list(offsets)[100:104]
    db.execute("DELETE FROM record WHERE offset = ?", (offsets[lost],))
    db.execute(
        "UPDATE record SET payload = CAST(payload || ' ' AS BLOB) WHERE offset = ?",
        (offsets[spoiled],),
    )
    db.execute(
        "CREATE TEMP TABLE again AS SELECT * FROM record WHERE offset = ?", (offsets[twice],)
    )
    db.execute("UPDATE again SET offset = 1000000, key = randomblob(16)")
    db.execute("INSERT INTO record SELECT * FROM again")
    db.close()
    timestamp = datetime.fromtimestamp(messages.EPOCH_SECONDS + undelivered, UTC).isoformat()
    lines = evidence.delivered.read_text().splitlines(keepends=True)
    evidence.delivered.write_text("".join(line for line in lines if timestamp not in line))
    return lost, twice, spoiled, undelivered


def _plant_rows(evidence: Evidence) -> int:
    """Take a row out of PostgreSQL and have another twice; say whose the first was."""
    reader = JournalReader(evidence.journal)
    gone, again = reader.after(Selection(), 0, limit=2)
    reader.close()
    evidence.keys.remove(gone.key)
    evidence.keys.append(again.key)
    number = messages.number_of(gone.message.payload)
    assert number is not None
    return number


def _plant_clips(evidence: Evidence) -> tuple[int, str]:
    """Remove a clip and add one; say which."""
    clip = min(evidence.clips.rglob("*.wav"))
    number = messages.number_of(clip.read_bytes())
    assert number is not None
    strange = clip.rename(clip.with_name("strange.wav"))
    return number, strange.name
