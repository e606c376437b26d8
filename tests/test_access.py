"""Who may connect, as docs/access.md says it: with real programs, and while they run."""

import contextlib
import os
import pty
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.harness import PUB_PASSWORD, SUB_PASSWORD, Device, Harness, eventually, free_port

pytestmark = pytest.mark.slow

DENIED = 0x87
TAKEN = 0
STATUS = b'{"id": "m1", "status": "online"}'


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield harness
    harness.close()


@pytest.fixture
def one_harness(tmp_path: Path) -> Iterator[Harness]:
    """Return one installation: where mosquitto does not matter, one version is enough."""
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def make_node(harness: Harness, name: str, command: str = "add") -> str:
    """Add a node, or rotate its password; return the password."""
    done = harness.cli("nodes", command, name)
    assert done.returncode == 0, done.stderr
    (password,) = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith("password")
    ]
    return password


def refused(harness: Harness, user: str, password: str) -> bool:
    """Return whether a node is refused. While it reads its files, mosquitto 2.0 may hang up."""
    while True:
        with contextlib.suppress(ConnectionResetError):
            device = Device(harness.mqtt_port, user, password)
            device.close()
            return device.refused


def test_a_node_comes_and_goes_while_the_broker_runs_and_nobody_else_minds(
    harness: Harness,
) -> None:
    harness.up()
    bystander = Device(harness.mqtt_port)
    password = make_node(harness, "ridge-07")
    other_password = make_node(harness, "creek-02")
    eventually(lambda: not refused(harness, "ridge-07", password), seconds=5)
    eventually(lambda: not refused(harness, "creek-02", other_password), seconds=5)
    other = Device(harness.mqtt_port, "creek-02", other_password)

    node = Device(harness.mqtt_port, "ridge-07", password)
    node.subscribe("iotreceipts/ridge-07/#")
    other.subscribe("iotreceipts/#", "iotreceipts/ridge-07", "iotreceipts/+", "#")
    assert node.put("iotingestion/ridge-07/deep/down", STATUS) == TAKEN
    assert node.received_topics(2.0) == ["iotreceipts/ridge-07"]
    assert other.received_topics(0.5) == [], "a receipt is for the node that asked"
    eventually(lambda: harness.ledger_now()["stored"] == 1)

    assert harness.cli("nodes", "disable", "ridge-07").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(harness, "ridge-07", password)
    assert harness.cli("nodes", "enable", "ridge-07").returncode == 0
    eventually(lambda: not refused(harness, "ridge-07", password), seconds=5)

    node = Device(harness.mqtt_port, "ridge-07", password)
    new = make_node(harness, "ridge-07", "rotate")
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(harness, "ridge-07", password)
    node = Device(harness.mqtt_port, "ridge-07", new)
    assert not node.refused

    assert harness.cli("nodes", "remove", "ridge-07").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(harness, "ridge-07", new)
    for unaffected in (bystander, other):
        assert unaffected.is_connected()
    assert harness.broker_connections() == 1
    assert other.put("iotingestion/creek-02", STATUS) == TAKEN
    eventually(lambda: harness.ledger_now()["stored"] == 2)
    listed = {day["node"] for day in harness.http("/api/nodes")[1]["nodes"]}
    assert listed == {"ridge-07", "creek-02"}
    (logged,) = {line for line in harness.log("up").splitlines() if '"removed"' in line}
    assert '"ridge-07"' in logged


def test_a_mounted_secret_is_taken_over_and_a_broken_one_is_not(
    one_harness: Harness, tmp_path: Path
) -> None:
    """The kubelet puts the files into a folder of their own and exchanges a link to it."""
    harness = one_harness
    mount, source = tmp_path / "mount", tmp_path / "made.jsonl"
    mount.mkdir()
    elsewhere = Harness(tmp_path / "elsewhere", IOT_NODES_FILE=str(source))

    def publish(version: str, text: str) -> None:
        (mount / version).mkdir()
        (mount / version / "nodes.jsonl").write_text(text)
        (mount / "..new").symlink_to(version)
        (mount / "..new").replace(mount / "..data")

    publish("..1", "")
    (mount / "nodes.jsonl").symlink_to(Path("..data") / "nodes.jsonl")
    harness.settings["IOT_NODES_FILE"] = str(mount / "nodes.jsonl")
    harness.up()
    password = make_node(elsewhere, "ridge-07")
    publish("..2", source.read_text())
    eventually(lambda: not refused(harness, "ridge-07", password), seconds=5)
    done = harness.cli("nodes", "remove", "ridge-07")
    assert done.returncode == 1
    assert "change the secret itself" in done.stderr

    publish("..3", source.read_text() + "{")
    eventually(lambda: "change not applied" in harness.log("up"), seconds=5)
    assert "line 2" in harness.log("up")
    assert not refused(harness, "ridge-07", password)
    publish("..4", "")
    eventually(lambda: refused(harness, "ridge-07", password), seconds=5)


# ---------------------------------------------------------------------- certificates


class Authority:
    """An authority for nodes, and the broker's own certificate."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca, self.certificate, self.key = (folder / n for n in ("ca.pem", "c.pem", "k.pem"))
        self._authority.cert_pem.write_to_path(self.ca)
        self.renew()

    def renew(self) -> None:
        """Give the broker another certificate."""
        server = self._authority.issue_cert("localhost")
        for path, blobs in ((self.key, [server.private_key_pem]),
                            (self.certificate, server.cert_chain_pems)):  # fmt: skip
            new = path.with_suffix(".new")
            new.write_bytes(b"".join(blob.bytes() for blob in blobs))
            new.replace(path)

    def context(self, name: str | None) -> ssl.SSLContext:
        """Return the context of a client that trusts us; with `name`, it has a certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        if name is not None:
            self._authority.issue_cert(common_name=name).configure_cert(context)
        return context


def test_a_certificate_is_a_node_until_it_is_removed(harness: Harness, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    harness.settings |= {
        "IOT_TLS_PORT": str(port),
        "IOT_TLS_CERT_FILE": str(authority.certificate),
        "IOT_TLS_KEY_FILE": str(authority.key),
        "IOT_TLS_CLIENT_CA_FILE": str(authority.ca),
    }
    assert harness.cli("nodes", "add", "swamp-01", "--certificate").returncode == 0
    make_node(harness, "ridge-07")  # which has a password, and no certificate
    harness.up()
    node = Device(port, None, tls=authority.context("swamp-01"))
    assert node.put("iotingestion/swamp-01", STATUS) == TAKEN
    assert node.put("iotingestion/creek-02", STATUS) == DENIED
    # the name in the certificate counts, and not the user name
    liar = Device(port, "echosub", SUB_PASSWORD, tls=authority.context("swamp-01"))
    liar.subscribe("iotingestion/#")
    assert node.put("iotingestion/swamp-01", STATUS) == TAKEN
    assert liar.received_topics(0.5) == []
    # a name that is not a node's may not connect, not even that of an account of ours
    for name in ("unknown", "echo-ingest", "echosub", "ridge-07"):
        assert Device(port, None, tls=authority.context(name)).refused
    for context in (authority.context(None), stranger(authority)):
        with pytest.raises((OSError, AssertionError)):
            Device(port, None, tls=context)
    assert refused(harness, "swamp-01", "")

    presented = ssl.get_server_certificate(("127.0.0.1", port))
    authority.renew()
    eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != presented, seconds=5)
    assert node.is_connected()

    def may_connect() -> bool:
        return not Device(port, None, tls=authority.context("swamp-01")).refused

    assert harness.cli("nodes", "disable", "swamp-01").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert not may_connect()
    assert harness.cli("nodes", "enable", "swamp-01").returncode == 0
    eventually(may_connect, seconds=5)
    node = Device(port, None, tls=authority.context("swamp-01"))
    assert node.put("iotingestion/swamp-01", STATUS) == TAKEN
    assert harness.cli("nodes", "remove", "swamp-01").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert not may_connect()


def stranger(authority: Authority) -> ssl.SSLContext:
    """Return the context of a client whose certificate is from another authority."""
    context = authority.context(None)
    trustme.CA().issue_cert(common_name="swamp-01").configure_cert(context)
    return context


def test_certificates_that_do_not_fit_are_reported_at_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    harness = Harness(tmp_path / "data", IOT_TLS_CERT_FILE=str(authority.certificate))
    done = harness.cli("broker")
    assert (done.returncode, "IOT_TLS_KEY_FILE" in done.stderr) == (2, True)
    harness.settings["IOT_TLS_KEY_FILE"] = str(authority.ca)
    done = harness.cli("broker")
    assert (done.returncode, "cannot be used" in done.stderr) == (1, True)


# ---------------------------------------------------------------------- without echopub


def test_without_echopub_there_are_only_nodes_with_one_session_each(
    harness: Harness, tmp_path: Path
) -> None:
    harness.settings["IOT_ECHOPUB"] = "false"
    password, other_password = make_node(harness, "ridge-07"), make_node(harness, "creek-02")
    harness.up()
    assert Device(harness.mqtt_port).refused
    node = Device(harness.mqtt_port, "ridge-07", password, client_id="mine", session_seconds=600)
    node.subscribe("iotreceipts/ridge-07/#", at_least_once=True)
    # another account with the same client id neither disconnects it nor gets its session
    thief = Device(
        harness.ws_port,
        "creek-02",
        other_password,
        websocket=True,
        client_id="ridge-07",
        session_seconds=600,
    )
    assert not thief.has_session
    assert node.is_connected()
    # a second connection replaces the first, whatever its client id
    second = Device(harness.mqtt_port, "ridge-07", password, client_id="other", session_seconds=600)
    assert second.has_session
    assert not node.is_connected()
    assert second.put("iotingestion/ridge-07", b'{"id": "m0", "status": "online"}') == TAKEN
    # a blocked node leaves no session behind, even if it was not connected
    second.close()
    assert harness.cli("nodes", "disable", "ridge-07").returncode == 0
    eventually(lambda: refused(harness, "ridge-07", password), seconds=5)
    assert harness.cli("nodes", "enable", "ridge-07").returncode == 0

    def connected() -> Device | None:
        # Each attempt asks for the session: a clean start would discard it, as we are to do.
        device = Device(harness.mqtt_port, "ridge-07", password, session_seconds=600)
        return None if device.refused else device

    device = eventually(connected, seconds=5)
    assert device is not None
    assert not device.has_session
    # our own tools go on working
    report = tmp_path / "report.json"
    report.write_bytes(STATUS)
    done = harness.cli("publish", "--wait", "--node", "ridge-07", str(report))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 stored")
    assert harness.cli("check").returncode == 0
    assert harness.ledger()["stored"] == 2
    assert harness.broker_connections() == 1


def test_of_a_disabled_certificate_neither_connection_nor_session_is_left(
    harness: Harness, tmp_path: Path
) -> None:
    """A certificate stays valid, so that mosquitto by itself would keep both."""
    authority, port = Authority(tmp_path), free_port()
    harness.settings |= {
        "IOT_ECHOPUB": "false",
        "IOT_TLS_PORT": str(port),
        "IOT_TLS_CERT_FILE": str(authority.certificate),
        "IOT_TLS_KEY_FILE": str(authority.key),
        "IOT_TLS_CLIENT_CA_FILE": str(authority.ca),
    }
    assert harness.cli("nodes", "add", "swamp-01", "--certificate").returncode == 0
    harness.up()

    def connect() -> Device:
        context = authority.context("swamp-01")
        return Device(port, None, tls=context, session_seconds=600)

    changes = 0
    for is_away in (False, True):
        node = connect()
        assert not node.has_session
        node.subscribe("iotreceipts/swamp-01/#", at_least_once=True)
        if is_away:
            node.close()
            node = connect()
            assert node.has_session
            node.close()
        for command in ("disable", "enable"):
            assert harness.cli("nodes", command, "swamp-01").returncode == 0
            changes += 1
            eventually(lambda: harness.log("up").count("nodes changed") == changes, seconds=5)  # noqa: B023
        assert is_away or not node.is_connected()
    assert not connect().has_session


# ---------------------------------------------------------------------- our own session


def test_nobody_can_take_over_or_discard_our_session(harness: Harness) -> None:
    """Not even who knows its client id, which is a secret and in no log."""
    harness.up()
    ours = (harness.data_dir / "secrets" / "session").read_text().strip()
    reserved = (f"echo-ingest-{ours}", "echo-ingest")
    for client_id in reserved:
        for port, websocket in ((harness.mqtt_port, False), (harness.ws_port, True)):
            assert Device(port, websocket=websocket, client_id=client_id).refused
    for client_id in ("echo-ingest-figures", "echo-ingest-"):
        assert not Device(harness.mqtt_port, client_id=client_id).refused
    device = Device(harness.mqtt_port)
    assert device.put("iotingestion/ridge-07", STATUS) == TAKEN
    eventually(lambda: harness.ledger_now()["stored"] == 1)
    assert harness.broker_connections() == 1
    assert "taken over" not in harness.log("up")
    assert ours not in harness.log("up")


# ---------------------------------------------------------------------- secrets


def test_no_secret_is_in_a_log_an_error_or_a_metric(one_harness: Harness, tmp_path: Path) -> None:
    harness = one_harness
    authority, port = Authority(tmp_path), free_port()
    harness.settings |= {
        "IOT_TLS_PORT": str(port),
        "IOT_TLS_CERT_FILE": str(authority.certificate),
        "IOT_TLS_KEY_FILE": str(authority.key),
    }
    for generated in (
        "IOT_PUB_PASSWORD",
        "IOT_SUB_PASSWORD",
        "IOT_HTTP_TOKEN",
        "IOT_OPERATOR_TOKEN",
    ):
        del harness.settings[generated]
    node_password = make_node(harness, "ridge-07")
    program = harness.start("up")
    folder = harness.data_dir / "secrets"
    eventually(lambda: (folder / "http").exists(), seconds=30)
    harness.wait_healthy(program)
    service = harness.data_dir / "broker" / "service.json"
    names = ("echopub", "echosub", "http", "operator", "session")
    passwords = {name: (folder / name).read_text().strip() for name in names}
    secrets = {
        *passwords.values(),
        node_password,
        service.read_text().split('"password":"')[1].split('"')[0],
        *authority.key.read_text().splitlines()[1:-1],
    }
    for name in names[:4]:
        assert str(folder / name) in harness.log("up")
    seen = [harness.http_bytes("/metrics", None).decode()]
    for path in ("/api/records", "/api/ledger", "/healthz", "/api/nothing"):
        seen += [str(harness.http(path, token)) for token in (passwords["http"], "wrong", None)]
    device = Device(harness.mqtt_port, "echopub", passwords["echopub"])
    assert device.put("iotingestion/ridge-07", b"rubbish") == TAKEN
    assert refused(harness, "echopub", passwords["echosub"])
    Device(port, "ridge-07", node_password, tls=authority.context(None)).close()
    for command in (("check",), ("status",), ("nodes", "list"), ("dead-letters", "list")):
        done = harness.cli(*command)
        seen += [done.stdout, done.stderr]
    make_node(harness, "creek-02")
    eventually(lambda: "nodes changed" in harness.log("up"), seconds=5)
    harness.stop(program)
    harness.up()
    seen.append(harness.log("up"))
    for secret in secrets:
        assert not [text for text in seen if secret in text], "a secret is shown"
    assert PUB_PASSWORD not in secrets
    files = [
        path for path in harness.data_dir.rglob("*") if path.is_file() and path.parent != folder
    ]
    holding = {
        path.name.partition(".")[0]
        for path in files
        for secret in secrets
        if secret.encode() in path.read_bytes()
    }
    assert holding == {"queues"}  # in which the broker's queue for our session has its name


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_new_secret_is_shown_to_a_person_and_elsewhere_only_its_file(
    one_harness: Harness, tmp_path: Path, on_terminal: bool
) -> None:
    harness = one_harness
    given = ("IOT_PUB_PASSWORD", "IOT_SUB_PASSWORD", "IOT_HTTP_TOKEN", "IOT_OPERATOR_TOKEN")
    for name in given:
        del harness.settings[name]
    ours, theirs = pty.openpty()
    shown = b""

    def read() -> None:
        nonlocal shown
        with contextlib.suppress(OSError):  # nobody has the other end open any more
            while data := os.read(ours, 10_000):
                shown += data

    with (tmp_path / "output").open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-m", "echo_ingest.cli", "up"],
            env=harness.environment(),
            stdout=output,
            stderr=theirs if on_terminal else output,
        )
    os.close(theirs)
    reading = threading.Thread(target=read)
    reading.start()
    folder = harness.data_dir / "secrets"
    try:
        eventually(lambda: (folder / "operator").exists(), seconds=30)
        token = (folder / "http").read_text().strip()
        eventually(lambda: harness.http("/healthz", token)[0] == 200, seconds=30)
    finally:
        program.terminate()
        program.wait(timeout=40)
        reading.join(10)
        os.close(ours)
    logged = (tmp_path / "output").read_text()
    for name in ("echopub", "echosub", "http", "operator"):
        secret = (folder / name).read_text().strip()
        assert shown.decode().count(secret) == (1 if on_terminal else 0)
        assert secret not in logged
        assert str(folder / name) in (shown.decode() if on_terminal else logged)
