"""Who may come in, as docs/access.md says it: with real programs, and while they run."""

import ssl
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
def house(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    house = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield house
    house.close()


@pytest.fixture
def one_house(tmp_path: Path) -> Iterator[Harness]:
    """For what is ours and not the broker's: one version will do."""
    house = Harness(tmp_path / "data")
    yield house
    house.close()


def make_node(house: Harness, name: str, command: str = "add") -> str:
    """The password of a node that is made, or given another one."""
    done = house.cli("nodes", command, name)
    assert done.returncode == 0, done.stderr
    (password,) = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith("password")
    ]
    return password


def refused(house: Harness, user: str, password: str) -> bool:
    device = Device(house.mqtt_port, user, password)
    device.close()
    return device.refused


def test_a_node_comes_and_goes_while_the_broker_runs_and_nobody_else_minds(house: Harness) -> None:
    house.up()
    bystander = Device(house.mqtt_port)
    password = make_node(house, "ridge-07")
    other_password = make_node(house, "creek-02")
    eventually(lambda: not refused(house, "ridge-07", password), seconds=5)
    eventually(lambda: not refused(house, "creek-02", other_password), seconds=5)
    other = Device(house.mqtt_port, "creek-02", other_password)

    node = Device(house.mqtt_port, "ridge-07", password)
    node.subscribe("iotreceipts/ridge-07/#")
    assert node.put("iotingestion/ridge-07/deep/down", STATUS) == TAKEN
    assert node.heard(2.0) == ["iotreceipts/ridge-07"]
    eventually(lambda: house.ledger_now()["stored"] == 1)

    assert house.cli("nodes", "disable", "ridge-07").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(house, "ridge-07", password)
    assert house.cli("nodes", "enable", "ridge-07").returncode == 0
    eventually(lambda: not refused(house, "ridge-07", password), seconds=5)

    node = Device(house.mqtt_port, "ridge-07", password)
    new = make_node(house, "ridge-07", "rotate")
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(house, "ridge-07", password)
    node = Device(house.mqtt_port, "ridge-07", new)
    assert not node.refused

    assert house.cli("nodes", "remove", "ridge-07").returncode == 0
    eventually(lambda: not node.is_connected(), seconds=5)
    assert refused(house, "ridge-07", new)
    for still_there in (bystander, other):
        assert still_there.is_connected()
    assert house.broker_connections() == 1
    assert other.put("iotingestion/creek-02", STATUS) == TAKEN
    eventually(lambda: house.ledger_now()["stored"] == 2)
    heard = {day["node"] for day in house.http("/api/nodes")[1]["nodes"]}
    assert heard == {"ridge-07", "creek-02"}
    (said,) = {line for line in house.log("up").splitlines() if '"removed"' in line}
    assert '"ridge-07"' in said


def test_a_mounted_secret_is_taken_over_and_a_broken_one_is_not(
    one_house: Harness, tmp_path: Path
) -> None:
    """As the kubelet does it: files in a folder of their own, and a link that is exchanged."""
    house = one_house
    mount, made = tmp_path / "mount", tmp_path / "made.jsonl"
    mount.mkdir()
    elsewhere = Harness(tmp_path / "elsewhere", IOT_NODES_FILE=str(made))

    def publish(version: str, text: str) -> None:
        (mount / version).mkdir()
        (mount / version / "nodes.jsonl").write_text(text)
        (mount / "..new").symlink_to(version)
        (mount / "..new").replace(mount / "..data")

    publish("..1", "")
    (mount / "nodes.jsonl").symlink_to(Path("..data") / "nodes.jsonl")
    house.settings["IOT_NODES_FILE"] = str(mount / "nodes.jsonl")
    house.up()
    password = make_node(elsewhere, "ridge-07")
    publish("..2", made.read_text())
    eventually(lambda: not refused(house, "ridge-07", password), seconds=5)
    done = house.cli("nodes", "remove", "ridge-07")
    assert done.returncode == 1
    assert "change the secret itself" in done.stderr

    publish("..3", made.read_text() + "{")
    eventually(lambda: "change not taken over" in house.log("up"), seconds=5)
    assert "line 2" in house.log("up")
    assert not refused(house, "ridge-07", password)
    publish("..4", "")
    eventually(lambda: refused(house, "ridge-07", password), seconds=5)


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
        """What a client comes with that trusts this authority; `name` is its own by it."""
        context = ssl.create_default_context(cafile=self.ca)
        if name is not None:
            self._authority.issue_cert(common_name=name).configure_cert(context)
        return context


def test_a_certificate_is_a_node_until_it_is_removed(house: Harness, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    house.settings |= {
        "IOT_TLS_PORT": str(port),
        "IOT_TLS_CERT_FILE": str(authority.certificate),
        "IOT_TLS_KEY_FILE": str(authority.key),
        "IOT_TLS_CLIENT_CA_FILE": str(authority.ca),
    }
    assert house.cli("nodes", "add", "swamp-01", "--certificate").returncode == 0
    house.up()
    node = Device(port, None, tls=authority.context("swamp-01"))
    assert node.put("iotingestion/swamp-01", STATUS) == TAKEN
    assert node.put("iotingestion/creek-02", STATUS) == DENIED
    # its name counts, and not what it says of itself
    liar = Device(port, "echosub", SUB_PASSWORD, tls=authority.context("swamp-01"))
    liar.subscribe("iotingestion/#")
    assert node.put("iotingestion/swamp-01", STATUS) == TAKEN
    assert liar.heard(0.5) == []
    unknown = Device(port, None, tls=authority.context("unknown"))
    assert unknown.put("iotingestion/unknown", STATUS) == DENIED
    for context in (authority.context(None), stranger(authority)):
        with pytest.raises((OSError, AssertionError)):
            Device(port, None, tls=context)
    assert refused(house, "swamp-01", "")

    shown = ssl.get_server_certificate(("127.0.0.1", port))
    authority.renew()
    eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != shown, seconds=5)
    assert node.is_connected()

    assert house.cli("nodes", "remove", "swamp-01").returncode == 0
    eventually(lambda: node.put("iotingestion/swamp-01", STATUS) == DENIED, seconds=5)
    again = Device(port, None, tls=authority.context("swamp-01"))
    assert again.put("iotingestion/swamp-01", STATUS) == DENIED


def stranger(authority: Authority) -> ssl.SSLContext:
    """Trusts the broker, and comes with a certificate of another authority."""
    context = authority.context(None)
    trustme.CA().issue_cert(common_name="swamp-01").configure_cert(context)
    return context


def test_certificates_that_do_not_fit_are_said_at_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    house = Harness(tmp_path / "data", IOT_TLS_CERT_FILE=str(authority.certificate))
    done = house.cli("broker")
    assert (done.returncode, "IOT_TLS_KEY_FILE" in done.stderr) == (2, True)
    house.settings["IOT_TLS_KEY_FILE"] = str(authority.ca)
    done = house.cli("broker")
    assert (done.returncode, "cannot be used" in done.stderr) == (1, True)


# ---------------------------------------------------------------------- without echopub


def test_without_echopub_there_are_only_nodes_with_one_session_each(
    house: Harness, tmp_path: Path
) -> None:
    house.settings["IOT_ECHOPUB"] = "false"
    password, other_password = make_node(house, "ridge-07"), make_node(house, "creek-02")
    house.up()
    assert Device(house.mqtt_port).refused
    node = Device(house.mqtt_port, "ridge-07", password, client_id="mine", session_seconds=600)
    node.subscribe("iotreceipts/ridge-07/#", at_least_once=True)
    # nobody is thrown out by another account that uses the same client id, nor gets its session
    thief = Device(house.ws_port, "creek-02", other_password, websocket=True, client_id="ridge-07",
                   session_seconds=600)  # fmt: skip
    assert not thief.has_session
    assert node.is_connected()
    # a second connection takes the place of the first, under whatever client id
    second = Device(house.mqtt_port, "ridge-07", password, client_id="other", session_seconds=600)
    assert second.has_session
    assert not node.is_connected()
    assert second.put("iotingestion/ridge-07", STATUS, retain=True) is None
    # who is shut out leaves no session behind, though it was away
    second.close()
    for command in ("disable", "enable"):
        assert house.cli("nodes", command, "ridge-07").returncode == 0
        shut_out = command == "disable"
        eventually(lambda: refused(house, "ridge-07", password) == shut_out, seconds=5)  # noqa: B023
    again = Device(house.mqtt_port, "ridge-07", password, session_seconds=600)
    assert not again.has_session
    # our own tools go on
    report = tmp_path / "report.json"
    report.write_bytes(STATUS)
    done = house.cli("publish", "--wait", "--node", "ridge-07", str(report))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 stored")
    assert house.cli("check").returncode == 0
    assert house.ledger()["stored"] == 1
    assert house.broker_connections() == 1


# ---------------------------------------------------------------------- our own session


def test_nobody_can_take_over_the_service_or_have_it_forgotten(house: Harness) -> None:
    """What can be guessed of its name is not enough; with an account, it would be."""
    house.up()
    ours = (house.data_dir / "secrets" / "session").read_text().strip()
    for client_id in ("echo-ingest", "echo-ingest-figures", "echo-ingest-"):
        Device(house.mqtt_port, client_id=client_id).close()
    assert house.broker_connections() == 1
    device = Device(house.mqtt_port)
    assert device.put("iotingestion/ridge-07", STATUS) == TAKEN
    eventually(lambda: house.ledger_now()["stored"] == 1)
    Device(house.mqtt_port, client_id=f"echo-ingest-{ours}").close()
    eventually(lambda: "taken over" in house.log("up") or house.broker_connections() > 1)


# ---------------------------------------------------------------------- secrets


def test_no_secret_is_in_a_log_an_error_or_a_metric(one_house: Harness, tmp_path: Path) -> None:
    house = one_house
    authority, port = Authority(tmp_path), free_port()
    house.settings |= {
        "IOT_TLS_PORT": str(port),
        "IOT_TLS_CERT_FILE": str(authority.certificate),
        "IOT_TLS_KEY_FILE": str(authority.key),
    }
    for made in ("IOT_PUB_PASSWORD", "IOT_SUB_PASSWORD", "IOT_HTTP_TOKEN", "IOT_OPERATOR_TOKEN"):
        del house.settings[made]
    node_password = make_node(house, "ridge-07")
    program = house.start("up")
    kept = house.data_dir / "secrets"
    eventually(lambda: (kept / "http").exists(), seconds=30)
    house.wait_healthy(program)
    service = house.data_dir / "broker" / "service.json"
    names = ("echopub", "echosub", "http", "operator")
    passwords = {name: (kept / name).read_text().strip() for name in names}
    secrets = {
        *passwords.values(),
        node_password,
        service.read_text().split('"password":"')[1].split('"')[0],
        *authority.key.read_text().splitlines()[1:-1],
    }
    shown_once = house.log("up")
    for secret in passwords.values():  # of a start that made them, before anything is logged
        assert shown_once.count(secret) == 1
    seen = [house.http_bytes("/metrics", None).decode()]
    for path in ("/api/records", "/api/ledger", "/healthz", "/api/nothing"):
        seen += [str(house.http(path, token)) for token in (passwords["http"], "wrong", None)]
    device = Device(house.mqtt_port, "echopub", passwords["echopub"])
    assert device.put("iotingestion/ridge-07", b"rubbish") == TAKEN
    assert refused(house, "echopub", passwords["echosub"])
    Device(port, "ridge-07", node_password, tls=authority.context(None)).close()
    for command in (("check",), ("status",), ("nodes", "list"), ("dead-letters", "list")):
        done = house.cli(*command)
        seen += [done.stdout, done.stderr]
    make_node(house, "creek-02")
    eventually(lambda: "nodes changed" in house.log("up"), seconds=5)
    house.stop(program)
    house.up()
    seen.append(house.log("up").removeprefix(shown_once))
    for secret in secrets:
        assert not [text for text in seen if secret in text], "a secret is shown"
    assert PUB_PASSWORD not in secrets
    files = [path for path in house.data_dir.rglob("*") if path.is_file() and path.parent != kept]
    holding = {
        path.name for path in files for secret in secrets if secret.encode() in path.read_bytes()
    }
    assert holding == {"tls-key.pem"}
