"""A short siege: with both brokers, and with broken promises planted in its result."""

import asyncio
from collections import Counter
from pathlib import Path

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.record import Ignored, Message, Recording, Rejected
from tests import cgroup, postgres
from tests.siege import limits
from tests.siege.attackers.kinds import ATTACKS
from tests.siege.evidence import Evidence
from tests.siege.judge import judge
from tests.siege.messages import clip_of, number_of, payload_of, topic_of
from tests.siege.run import Run
from tests.siege.schedule import schedule
from tests.tools import without

SEED = 3
SECONDS = 20.0
KINDS = (
    "huge CONNECT",
    "held CONNECT",
    "garbage",
    "odd WebSocket frames",
    "wrong passwords",
    "property bomb of a node",
    "half-sent PUBLISH",
    "small messages",
    "hostile contents",
    "huge subscriptions",
    "unread answers",
    "wills",
    "half-sent requests",
    "raw HTTP",
    "odd hosts",
    "crawl",
)


def test_a_seed_replays_the_schedule() -> None:
    bouts = schedule(SEED, 600, list(ATTACKS))
    assert bouts == schedule(SEED, 600, list(ATTACKS))
    assert bouts != schedule(SEED + 1, 600, list(ATTACKS))
    assert Counter(bout.kind for bout in bouts) == dict.fromkeys(ATTACKS, 10)
    assert all(bout.at_seconds + bout.seconds <= 600 for bout in bouts)
    at_once = [
        sum(bout.at_seconds <= at < bout.at_seconds + bout.seconds for bout in bouts)
        for at in range(30, 570)
    ]
    assert min(at_once) >= 3
    short = schedule(SEED, 20, list(ATTACKS))
    assert Counter(bout.kind for bout in short) == dict.fromkeys(ATTACKS, 2)


def test_the_limits_are_those_that_we_ship() -> None:
    assert limits.of_pod() == 2**30
    assert limits.of_service("broker") == limits.of_service("ingestion") == 512 * 2**20
    assert [limits.in_bytes(each) for each in ("1Gi", "3k", "7")] == [2**30, 3072, 7]


def test_good_devices_say_what_is_stored_and_the_same_each_time() -> None:
    decoder, kinds = Decoder(50_000_000), Counter[type]()
    for number in range(200):
        payload = payload_of(SEED, "good-1", number)
        assert payload == payload_of(SEED, "good-1", number)
        assert number_of(payload) == number
        verdict = decoder.identified(
            Message(topic_of("good-1"), payload, 0, "good-1"), hashed=False
        )
        assert not isinstance(verdict, Rejected | Ignored), verdict
        kinds[type(verdict.records[0])] += 1
        clip = clip_of(SEED, "good-1", number)
        assert (clip is not None) == isinstance(verdict.records[0], Recording)
    assert 0 < kinds[Recording] < 20


@pytest.mark.proof
@pytest.mark.slow
def test_besieged_nothing_is_lost_and_health_stays_green(tmp_path: Path, mosquitto: Path) -> None:
    for reason in (cgroup.missing(), postgres.missing()):
        if reason is not None:
            without(reason)
    run = Run(tmp_path, mosquitto, "up", SEED, SECONDS, KINDS)
    evidence = asyncio.run(run.go(lambda _run: None))
    verdict = judge(evidence)
    assert verdict.is_good, verdict.problems
    assert verdict.good == verdict.receipted > 150
    assert all(attacked.answers for attacked in evidence.attacked.values())
    lost, twice, undelivered = _plant(evidence)
    evidence.health["/livez"].longest_red_seconds = 15.1
    evidence.oom_kills, evidence.restarts = 1, 2
    evidence.seconds, evidence.events["devices held back"] = 60, 0
    evidence.attacked["crawl"].bouts = 1
    verdict = judge(evidence)
    assert verdict.lost == [lost]
    assert verdict.duplicated == [twice]
    assert f"{undelivered}: 0 rows in PostgreSQL" in verdict.undelivered
    for problem in (
        "/livez was red for 15.1 s",
        "the kernel killed 1 processes for their memory",
        "processes ended by themselves 2 times",
        "'half-sent PUBLISH' never filled the broker so far that devices were held",
    ):
        assert problem in verdict.problems
    assert any(problem.startswith("'crawl' attacked 1 times") for problem in verdict.problems)
    assert any("newest record" in problem for problem in verdict.problems)  # the journal's audit


def _plant(evidence: Evidence) -> tuple[str, str, str]:
    """Remove a message, store one again, and take a row from PostgreSQL; say which."""
    db = apsw.Connection(str(evidence.journal))
    rows = db.execute(
        "SELECT offset, key, topic, payload FROM record WHERE topic GLOB 'iotingestion/good-*'"
        " AND length(payload) < 1000 ORDER BY offset"
    ).fetchall()
    names = []
    for _, _, topic, payload in rows[50:53]:
        assert isinstance(topic, str)
        assert isinstance(payload, bytes)
        names.append(f"{topic.removeprefix('iotingestion/')}/{number_of(payload)}")
    lost, twice, undelivered = rows[50:53]
    db.execute("DELETE FROM record WHERE offset = ?", (lost[0],))
    db.execute("CREATE TEMP TABLE again AS SELECT * FROM record WHERE offset = ?", (twice[0],))
    db.execute("UPDATE again SET offset = 1000000, key = randomblob(16)")
    db.execute("INSERT INTO record SELECT * FROM again")
    db.close()
    assert isinstance(undelivered[1], bytes)
    del evidence.rows[undelivered[1]]
    return names[0], names[1], names[2]
