"""Nodes: their credentials, the file that keeps them, and how it handles bad input."""

import asyncio
import contextlib
import json
import os
import resource
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from echo_ingest.admin import InvalidInput
from echo_ingest.admin.nodes import parse_span
from echo_ingest.broker.access_rules import access_rules
from echo_ingest.broker.node_accounts import (
    FILE_BYTES_MAX,
    NodeAccount,
    NodesUnusable,
    change_nodes,
    check_name,
    new_password,
    read_node_rules,
    read_nodes,
)
from echo_ingest.broker.node_rules import follow_node_rules
from echo_ingest.broker.topic_rights import node_filters
from echo_ingest.decode import NodeRules, Rules
from echo_ingest.process.files import atomic_write
from echo_ingest.settings import Settings
from tests.harness import Harness, eventually

MADE_AT = datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC)
HASH = new_password()[1]


def line(**fields: object) -> str:
    return json.dumps(
        {"name": "ridge-07", "made_at": "2026-09-14T05:45:12Z", "hash": HASH, **fields}
    )


# ---------------------------------------------------------------------- names and topics


@pytest.mark.parametrize("name", ["ridge-07", "7", "A.b_c-d", "x" * 64])
def test_a_name_may_have_characters_that_suit_topics_and_files(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "a+", "#", "a b", "a:b", "-a", ".", "é", "a\n", "x" * 65, "$SYS", "echopub",
     "echosub", "echo-ingest"],
)  # fmt: skip
def test_what_could_speak_for_another_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"type 1 to 64 letters|choose another name"):
        check_name(name)


@pytest.mark.parametrize(
    ("topics", "own"),
    [
        ("iotingestion/#", ["iotingestion/n/#"]),
        ("iotingestion", ["iotingestion/n/#"]),
        ("reserve/+/audio", ["reserve/n/audio"]),
        ("a/b/+,c/+/+/x", ["a/b/n", "c/n/+/x"]),
        ("a/+/c/d,a/n/+", ["a/n/n"]),  # `a/n/c/d` would be read as node c's, by the longer prefix
    ],
)
def test_a_node_may_publish_where_its_name_is_in_the_topic(topics: str, own: list[str]) -> None:
    settings = Settings(topic=topics)
    filters = node_filters(settings.topic_filters, settings.topic_prefixes, "n")
    assert filters == own
    for each in filters:
        topic = each.replace("/#", "/deep/down").replace("+", "y")
        assert settings.node_of(topic) == "n"


def test_only_nodes_that_are_on_have_rules_and_devices_never_read_what_others_send() -> None:
    nodes = [
        NodeAccount(name="ridge-07", made_at=MADE_AT, hash=HASH),
        NodeAccount(name="creek-03", made_at=MADE_AT, hash=HASH, disabled=True),
        # Its certificate stays valid: what it may do is all that can be taken from it.
        NodeAccount(name="swamp-01", made_at=MADE_AT, hash=None, disabled=True),
    ]
    rules = access_rules(Settings(topic="iotingestion/#"), nodes)
    _, own = rules.split("user ridge-07\n")
    assert own.splitlines() == [
        "topic write iotingestion/ridge-07/#",
        "topic write iotaccounts/ridge-07/#",
        "topic read iotreceipts/ridge-07/#",
    ]
    assert "creek-03" not in rules and "swamp-01" not in rules


# ---------------------------------------------------------------------- the file


def test_what_is_written_can_be_read_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "nodes.jsonl"
    assert read_nodes(path) == ()
    nodes = {
        "b": NodeAccount("b", MADE_AT, HASH, disabled=True),
        "a": NodeAccount("a", MADE_AT, None),
    }
    change_nodes(path, lambda existing: existing.update(nodes))
    assert read_nodes(path) == (nodes["a"], nodes["b"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(json.loads(path.read_text().splitlines()[0])) == ["hash", "made_at", "name"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"

    def add(name: str) -> None:
        change_nodes(path, lambda nodes: nodes.update({name: NodeAccount(name, MADE_AT, HASH)}))

    adding = [threading.Thread(target=add, args=(f"n{number}",)) for number in range(20)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert len(read_nodes(path)) == 20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1"),
        ('{"name":"a"}', "line 1"),
        (line() + "\n\n" + line(name="a/b"), "line 3.*type 1 to 64 letters"),
        (line(name="echopub"), "choose another name"),
        (line() + "\n" + line(), "line 2.*ridge-07 is there twice"),
        (line(hash="secret"), "not the hash of a password"),
        (line(hash=HASH.replace("$7$1$", "$7$99999$")), "not the hash of a password"),
        (line(hash=HASH[:-8]), "not the hash of a password"),
        (line(hash=HASH + "\nroot:x"), "not the hash of a password"),
        (line(made_at="2026-09-14T05:45:12"), "no time zone"),
        (line(password="x"), "unknown field"),
        ("\n" * (FILE_BYTES_MAX + 1), "larger than"),
    ],
)
def test_a_file_with_one_invalid_line_is_rejected_whole(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "nodes.jsonl"
    path.write_text(text)
    with pytest.raises(NodesUnusable, match=rf"(?s){path}.*{reason}"):
        read_nodes(path)
    with pytest.raises(NodesUnusable):
        change_nodes(path, lambda nodes: nodes.clear())
    assert path.read_text() == text


def test_a_mounted_secret_is_left_to_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "nodes.jsonl").write_text(line())
    path = tmp_path / "nodes.jsonl"
    path.symlink_to(Path("..data") / "nodes.jsonl")
    assert [node.name for node in read_nodes(path)] == ["ridge-07"]
    with pytest.raises(NodesUnusable, match="change the secret itself"):
        change_nodes(path, lambda nodes: nodes.clear())


# ---------------------------------------------------------------------- the command line


def test_credentials_are_shown_once_and_only_their_hash_is_kept(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    shown = harness.cli("nodes", "add", "ridge-07", "--url", "wss://iot.example.org/mqtt", "--qr")
    assert shown.returncode == 0, shown.stderr
    rows = (row.rsplit(maxsplit=1) for row in shown.stdout.splitlines()[:6])
    fields = {name.strip(): value for name, value in rows}
    assert fields["user"] == "ridge-07"
    assert fields["topic"] == "iotingestion/ridge-07"
    assert fields["url"] == "wss://iot.example.org:443/mqtt"
    password = fields["password"]
    assert len(password) == 24
    assert "▄" in shown.stdout
    everything = "".join(p.read_text() for p in harness.data_dir.rglob("*") if p.is_file())
    assert "ridge-07" in everything
    assert password not in everything + shown.stderr
    assert harness.cli("nodes", "add", "ridge-07").returncode == 1


def test_an_environment_file_is_for_its_owner_and_never_replaces_another(tmp_path: Path) -> None:
    harness, path = Harness(tmp_path / "data"), tmp_path / "ridge-07.env"
    done = harness.cli("nodes", "add", "ridge-07", "--env-file", str(path))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    variables = dict(row.split("=", 1) for row in path.read_text().splitlines())
    assert variables.pop("IOT_PASSWORD") not in done.stdout + done.stderr
    assert variables.pop("IOT_CLIENT_ID").startswith("ridge-07-")
    assert variables == {
        "IOT_ENDPOINT": f"mqtt://127.0.0.1:{harness.mqtt_port}",
        "IOT_USER": "ridge-07",
        "IOT_TOPIC": "iotingestion/ridge-07",
    }
    again = harness.cli("nodes", "rotate", "ridge-07", "--env-file", str(path))
    assert again.returncode == 1
    assert "already exists" in again.stderr
    other = tmp_path / "other.env"
    assert harness.cli("nodes", "rotate", "unknown", "--env-file", str(other)).returncode == 1
    assert not other.exists()  # it would contain a password that the broker rejects


@pytest.mark.slow
def test_nodes_are_listed_with_their_state(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    harness.cli("nodes", "add", "ridge-07")
    harness.cli("nodes", "add", "swamp-01", "--certificate")
    harness.cli("nodes", "add", "creek-02")
    assert harness.cli("nodes", "disable", "creek-02").returncode == 0
    assert harness.cli("nodes", "remove", "ridge-07").returncode == 0
    assert harness.cli("nodes", "remove", "ridge-07").returncode == 1
    listed = json.loads(harness.cli("nodes", "list", "--json").stdout)
    assert [(each["node"], each["state"], each["certificate_only"]) for each in listed] == [
        ("creek-02", "disabled", False),
        ("swamp-01", "enabled", True),
    ]
    assert harness.cli("nodes", "enable", "creek-02").returncode == 0
    assert "creek-02   enabled" in harness.cli("nodes", "list").stdout


@pytest.mark.parametrize("arguments", [("add", "a/b"), ("add", "echosub"),
                                       ("add", "a", "--certificate", "--qr"),
                                       ("add", "a", "--url", "iot.example.org:0")])  # fmt: skip
def test_impossible_requests_are_rejected_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    harness = Harness(tmp_path / "data")
    assert harness.cli("nodes", *arguments).returncode == 2
    assert not (harness.data_dir / "nodes.jsonl").exists()


def test_a_start_with_an_unusable_file_ends_with_the_line(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data", IOT_NODES_FILE=str(tmp_path / "nodes"))
    (tmp_path / "nodes").write_text(line(hash="secret"))
    done = harness.cli("broker")
    assert done.returncode == 1
    assert f"{tmp_path / 'nodes'} line 1: hash is not the hash" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
def test_a_file_written_by_root_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    path.write_text(line())
    os.chown(path, 4242, 4242)
    change_nodes(path, lambda nodes: nodes.clear())
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4242)


# ---------------------------------------------------------------------- how messages are read


def test_a_node_has_rules_with_and_without_credentials(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    path = harness.data_dir / "nodes.jsonl"
    assert harness.cli("nodes", "set", "bats-03", "--confidence", "fraction").returncode == 0
    assert read_nodes(path) == ()
    assert read_node_rules(path) == {"bats-03": NodeRules(confidence_is_fraction=True)}
    assert harness.cli("nodes", "add", "bats-03").returncode == 0
    assert harness.cli("nodes", "set", "bats-03", "--clock-ahead", "-1h30m").returncode == 0
    both = NodeRules(confidence_is_fraction=True, clock_ahead_seconds=-5_400)
    assert read_node_rules(path) == {"bats-03": both}
    assert [node.name for node in read_nodes(path)] == ["bats-03"]
    assert harness.cli("nodes", "remove", "bats-03").returncode == 0
    assert (read_nodes(path), read_node_rules(path)) == ((), {"bats-03": both})
    assert harness.cli("nodes", "disable", "bats-03").returncode == 1
    usual = ("--confidence", "percent", "--clock-ahead", "0")
    assert harness.cli("nodes", "set", "bats-03", *usual).returncode == 0
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("11h", 39_600), ("-90s", -90), ("1d 2h", 93_600), ("+0.5h", 1_800),
     ("10h30min", 37_800), ("2m", 120)],
)  # fmt: skip
def test_a_span_of_time_is_read_with_its_units(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "11", "h", "1h-2m", "--1h", "1w", "1e3s", "٣h", "200000d"])
def test_a_span_without_a_unit_or_beyond_a_century_is_told_what_to_type(text: str) -> None:
    with pytest.raises(InvalidInput, match="type one such as 11h"):
        parse_span(text)


async def test_rules_follow_the_file_and_survive_one_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    rules = Rules(nodes={"a": NodeRules(clock_ahead_seconds=1)})
    following = asyncio.create_task(follow_node_rules(path, rules, poll_seconds=0.01))
    cases: tuple[tuple[str, dict[str, NodeRules]], ...] = (
        (line(name="b", clock_ahead_seconds=2), {"b": NodeRules(clock_ahead_seconds=2)}),
        ("not JSON", {"b": NodeRules(clock_ahead_seconds=2)}),
        (line(name="c", confidence="fraction"), {"c": NodeRules(confidence_is_fraction=True)}),
        (line(name="c", speaks_for=["frog-*"]), {}),
    )
    with capture_logs() as logs:
        for count, (text, expected) in enumerate(cases, 1):
            atomic_write(path, text.encode())
            async with asyncio.timeout(10):
                while len(logs) < count:  # one for each file that was read
                    await asyncio.sleep(0.01)
            assert rules.nodes == expected
    assert [each["log_level"] for each in logs] == ["info", "error", "info", "info"]
    assert rules.accounts == {"c": ("frog-*",)}
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_rules_that_cannot_be_read_for_a_while_are_read_without_another_change(
    tmp_path: Path,
) -> None:
    path = tmp_path / "nodes.jsonl"
    rules = Rules(nodes={})
    atomic_write(path, line(name="b", clock_ahead_seconds=2).encode())
    with capture_logs() as logs:
        with no_file_may_be_opened():
            following = asyncio.create_task(follow_node_rules(path, rules, poll_seconds=0.01))
            async with asyncio.timeout(10):
                while not logs:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            while not rules.nodes:
                await asyncio.sleep(0.01)
    assert [each["log_level"] for each in logs] == ["error", "info"]
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


@contextlib.contextmanager
def no_file_may_be_opened() -> Iterator[None]:
    """Let this process have no more files open than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.open(os.devnull, os.O_RDONLY)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_running_service_reads_by_a_changed_rule_within_seconds(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    program = harness.up()

    def publish(confidence: float) -> str:
        sent = {"sensor_id": "b", "species": "Myotis myotis", "confidence": confidence}
        (tmp_path / "sent.json").write_text(json.dumps(sent))
        done = harness.cli("publish", "--wait", "--node", "b", str(tmp_path / "sent.json"))
        return done.stdout + done.stderr

    def confidences() -> list[float]:
        status, page = harness.http("/api/records")
        assert status == 200, page
        return [each["record"]["confidence"] for each in page["records"]]

    try:
        publish(0.5)
        assert confidences() == [0.005]
        assert harness.cli("nodes", "set", "b", "--confidence", "fraction").returncode == 0
        eventually(lambda: confidences() == [0.5])
        eventually(lambda: '"confidence": "fraction"' in publish(50))  # another process may lag
        assert harness.ledger_now()["dead_letters"] == 1
        assert harness.stop(program) == 0
    finally:
        harness.close()


@pytest.mark.parametrize(
    "wrong", [{"confidence": "parts"}, {"clock_ahead_seconds": 1e10}, {"clock_ahead_seconds": "1h"}]
)
def test_a_rule_that_cannot_be_is_rejected_with_its_line(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    path = tmp_path / "nodes.jsonl"
    path.write_text(line(**wrong))
    with pytest.raises(NodesUnusable, match=f"line 1: .*{next(iter(wrong))}"):
        read_node_rules(path)
