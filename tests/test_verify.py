"""`echo-ingest verify` finds nothing when nothing is lost, and everything that is lost."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echo_ingest.cli.verify import (
    VerifyRun,
    may_still_arrive,
    missing_probes,
    new_run,
    percentiles,
)
from echo_ingest.cli.verify_lookup import RunResults, SinkProgress
from echo_ingest.pipeline.receipts import Receipt
from tests.harness import Harness, eventually, free_port

Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


@pytest.fixture
def verify(harness: Harness) -> Verify:
    """Run `verify` with 200 probes; return the exit code and the report with single blanks."""

    def run(*options: str) -> tuple[int, str]:
        done = harness.cli("verify", "--count", "200", "--timeout", "30", *options)
        assert "Traceback" not in done.stderr, done.stderr
        lines = (" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines())
        return done.returncode, "\n".join(lines)

    return run


@pytest.fixture
def api(harness: Harness) -> Iterator[Callable[..., None]]:
    """Start a replica of the Echo API with these options where `harness` expects it."""
    port = free_port()
    harness.settings["IOT_API_URL"] = f"http://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []

    def start(**options: object) -> None:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.replica", "--port", str(port),
                 "--set", json.dumps(options)],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.DEVNULL,
            )
        )  # fmt: skip

    yield start
    for process in started:
        process.terminate()
        process.wait()


# ---------------------------------------------------------------------- with real programs


@pytest.mark.slow
def test_nothing_is_missing_though_the_service_is_killed_and_started_again(
    harness: Harness, verify: Verify, tmp_path: Path
) -> None:
    program = harness.up()
    restarted = tmp_path / "pid"
    again = f"kill -KILL {program.pid}; {sys.executable} -m echo_ingest.cli up >/dev/null 2>&1"
    try:
        code, report = verify("--rate", "100", "--during", f"{again} & echo $! > {restarted}")
    finally:
        pid = int(restarted.read_text())
        os.kill(pid, signal.SIGTERM)
    assert program.wait(10) == -signal.SIGKILL
    assert code == 0, report
    assert "nothing lost" in report
    assert "with a receipt 200\nstored 200\n" in report
    assert "ended with 0 after" in report
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists(), seconds=40)
    assert harness.ledger()["stored"] == 200


@pytest.mark.slow
def test_a_loss_that_was_planted_is_found(harness: Harness, verify: Verify, tmp_path: Path) -> None:
    harness.up()
    plant = tmp_path / "plant.py"
    plant.write_text(
        "import apsw, sys\n"
        "journal = apsw.Connection(sys.argv[1])\n"
        "journal.set_busy_timeout(10_000)\n"
        "newest = journal.execute('SELECT max(offset) FROM record').get\n"
        "journal.execute('DELETE FROM record WHERE offset BETWEEN ?1 - 3 AND ?1 - 1', (newest,))\n"
    )
    during = f"{sys.executable} {plant} {harness.data_dir}/journal.db"
    for place in ((), ("--http", f"http://127.0.0.1:{harness.http_port}")):
        code, report = verify("--during", during, *place)
        assert code == 1, report
        assert "with a receipt 200\nstored 197\n" in report
        lost = re.findall(
            r"LOST: the receipt says stored at offset (\d+), but the probe is not in the journal",
            report,
        )
        assert len(set(lost)) == 3
        assert "3 of 200 probes did not get everywhere" in report
        assert "nothing lost" not in report


@pytest.mark.slow
def test_what_a_sink_has_not_is_missing_until_it_has_it(
    harness: Harness, verify: Verify, api: Callable[..., None]
) -> None:
    harness.up()
    code, report = verify("--timeout", "2")
    assert code == 1
    assert "stored 200\nin echo_api 0\n" in report
    assert "waiting for echo_api (record 1)" in report
    api(nodes=["known"])
    eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["parked"] == 200)
    for place in ((), ("--http", f"http://127.0.0.1:{harness.http_port}")):
        code, report = verify(*place)
        assert code == 1
        assert "stored 200\nin echo_api 0\n" in report
        assert "refused by echo_api (record " in report
        code, report = verify("--node", "known", *place)
        assert code == 0, report
        assert "stored 200\nin echo_api 200\n" in report


@pytest.mark.slow
def test_it_ends_in_time_and_says_what_it_knows(harness: Harness, verify: Verify) -> None:
    program = harness.up()
    during = f"kill -STOP {program.pid}; sleep 60"
    code, report = verify("--timeout", "3", "--during", during)
    os.kill(program.pid, signal.SIGCONT)
    assert code == 1
    assert "acknowledged, but not in the journal" in report
    assert "did not end in time and was stopped" in report


@pytest.mark.slow
def test_where_it_cannot_look_it_does_not_begin(harness: Harness, verify: Verify) -> None:
    code, report = verify()
    assert code == 1
    assert "there is no journal" in report
    assert "--http" in report
    code, report = verify("--http", f"http://127.0.0.1:{harness.http_port}")
    assert code == 1
    assert "does not answer" in report
    assert verify("--http", "nonsense")[0] == verify("--node", "a/b")[0] == 2


# ---------------------------------------------------------------------- what counts as missing


def finished_run(count: int) -> tuple[VerifyRun, RunResults]:
    """Return a run whose probes all have receipts, and are in the journal and in one sink."""
    run = new_run("iotingestion/#", "verify", count, 100.0, None)
    for probe in run.probes:
        probe.acknowledged, probe.receipt = True, Receipt("stored", probe.id)
    offsets = {probe.id: [number] for number, probe in enumerate(run.probes, 1)}
    return run, RunResults(offsets, {"api": SinkProgress(count, {})})


def test_nothing_is_missing_that_is_everywhere() -> None:
    run, results = finished_run(3)
    assert list(missing_probes(run, results)) == []
    assert not may_still_arrive(run, results)


def test_each_way_to_be_missing_has_its_own_words() -> None:
    run, results = finished_run(7)
    lost, unreceipted, unsent, twice, rejected, parked, waits = (probe.id for probe in run.probes)
    del results.offsets[lost], results.offsets[unsent], results.offsets[rejected]
    run.probes[0].receipt = Receipt("stored", lost, offset=1)
    run.probes[1].receipt = None
    run.probes[2].receipt, run.probes[2].acknowledged = None, False
    run.probes[2].trouble = "not authorized"
    results.offsets[twice].append(5)
    run.probes[4].receipt = Receipt("rejected", rejected, reason="the form is not known")
    results.sinks["api"] = SinkProgress(6, {6: "HTTP 422"})
    assert list(missing_probes(run, results)) == [
        f"{lost}: LOST: the receipt says stored at offset 1, but the probe is not in the journal, "
        "or is damaged there",
        f"{unreceipted}: in the journal, but there was no receipt",
        f"{unsent}: not acknowledged and not in the journal: not authorized",
        f"{twice}: stored 2 times, at the offsets 4, 5",
        f"{rejected}: rejected: the form is not known",
        f"{parked}: refused by api (record 6): HTTP 422",
        f"{waits}: waiting for api (record 7)",
    ]
    assert may_still_arrive(run, results)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("iotingestion/#", "iotingestion/verify"),
        ("site/+/recording/#", "site/verify/recording/verify"),
    ],
)
def test_probes_go_where_the_service_listens(topic_filter: str, topic: str) -> None:
    assert new_run(topic_filter, "verify", 1, 1.0, None).topic == topic


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([float(n) for n in range(1, 201)]) == (
        "p50 100.0 ms, p99 198.0 ms, max 200.0 ms"
    )
    assert percentiles([7.0]) == "p50 7.0 ms, p99 7.0 ms, max 7.0 ms"
