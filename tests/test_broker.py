"""Our broker, with each version of mosquitto: who may do what, and what it keeps."""

import asyncio
import contextlib
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from structlog.testing import capture_logs

from echo_ingest import broker
from echo_ingest.broker import BrokerError, Credentials, MosquittoMissing
from echo_ingest.broker.configuration import password_line
from echo_ingest.broker.program import PLUGINS
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.process.memory import resident_bytes
from echo_ingest.service.proxy_process import open_to_devices
from echo_ingest.settings import Endpoint, Settings
from tests.harness import free_port

pytestmark = pytest.mark.slow

PUBLISHER_PASSWORD = "pä ss:wörd$7$#"
MESSAGES = 2_000

RUN_A_BROKER = """
import asyncio, sys
from echo_ingest import broker
from echo_ingest.settings import Settings

async def main():
    async with broker.running(Settings.model_validate_json(sys.argv[1])) as own:
        print(own.pid, flush=True)
        await own.wait()

asyncio.run(main())
"""


def site(data_dir: Path, program: Path | None, **more: object) -> Settings:
    ports = {"mqtt_port": free_port(), "ws_port": free_port()}
    return Settings.model_validate({"data_dir": data_dir, "mosquitto": program, **ports, **more})


async def start(settings: Settings) -> None:
    async with broker.running(settings):
        pass


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[broker.Broker]:
    """Run a broker to which devices can connect."""
    async with broker.running(settings) as own, open_to_devices(settings, own, 0.5):
        yield own


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


def kept_secrets(settings: Settings) -> set[str]:
    return {path.name for path in (settings.data_dir / "secrets").iterdir()}


class Guest:
    """An MQTT client from another library."""

    def __init__(
        self,
        place: int | Path,
        account: Credentials | None,
        *,
        client_id: str = "",
        expiry_seconds: int = 0,
        transport: Literal["tcp", "websockets"] = "tcp",
    ) -> None:
        """`place` is a port, or the path of a socket."""
        self.received: list[bytes] = []
        self.answer: str | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport=transport if isinstance(place, int) else "unix",
            reconnect_on_failure=False,
        )
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.max_inflight_messages_set(1_000)
        if account is not None:
            self._client.username_pw_set(account.user, account.password)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = expiry_seconds
        host, port = ("127.0.0.1", place) if isinstance(place, int) else (str(place), 1)
        self._client.connect(host, port, clean_start=expiry_seconds == 0, properties=properties)

    def _connected(
        self, client: Client, userdata: object, flags: object, code: object, properties: object
    ) -> None:
        self.answer = str(code)

    def _message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    async def __aenter__(self) -> Self:
        self._client.loop_start()
        await eventually(lambda: self.answer is not None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    async def subscribe(self, topic_filter: str) -> None:
        granted: list[object] = []
        self._client.on_subscribe = lambda *arguments: granted.append(arguments)
        self._client.subscribe(topic_filter, qos=1)
        await eventually(lambda: bool(granted))

    async def publish(self, topic: str, *payloads: bytes) -> None:
        """Return once each is acknowledged, with success or not."""
        sent = [self._client.publish(topic, payload, qos=1) for payload in payloads]
        await eventually(lambda: all(each.is_published() for each in sent))


async def test_each_account_may_do_what_it_needs_and_no_more(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = site(tmp_path / "data", mosquitto, pub_password=PUBLISHER_PASSWORD)
    port = settings.mqtt_port
    async with (
        running(settings) as own,
        Guest(port, own.service) as service,
        Guest(port, own.publisher) as device,
        Guest(port, own.subscriber) as reader,
    ):
        assert own.publisher == Credentials("echopub", PUBLISHER_PASSWORD)
        for guest in (service, device, reader):
            assert guest.answer == "Success"
            for topic_filter in ("iotingestion/#", "iotreceipts/#", "iotprobe/#"):
                await guest.subscribe(topic_filter)
        await reader.publish("iotingestion/node-1", b"forged by a reader")
        await reader.publish("iotprobe/echo-ingest", b"forged probe")
        await device.publish("iotprobe/echo-ingest", b"forged probe")
        await device.publish("iotreceipts/node-1", b"forged receipt")
        await service.publish("iotingestion/node-1", b"service has no business here")
        await device.publish("iotingestion", b"measured here")
        await device.publish("iotingestion/node-1", b"measured there")
        await service.publish("iotprobe/echo-ingest", b"probe")
        await service.publish("iotreceipts/node-1", b"receipt")
        await eventually(lambda: b"receipt" in device.received)
        await eventually(lambda: b"probe" in service.received)
        await eventually(lambda: b"measured there" in reader.received)
        assert device.received == [b"receipt"]
        assert service.received == [b"measured here", b"measured there", b"probe"]
        assert reader.received == [b"measured here", b"measured there"]


async def test_strangers_are_refused(mosquitto: Path, tmp_path: Path) -> None:
    settings = site(tmp_path / "data", mosquitto)
    async with running(settings), AsyncExitStack() as guests:
        for account in (
            None,
            *map(Credentials, ("echopub", "echosub", "root"), ("guess", "", "x")),
        ):
            near = Guest(settings.mqtt_port, account)
            far = Guest(settings.ws_port, account, transport="websockets")
            for stranger in (near, far):
                await guests.enter_async_context(stranger)
                assert stranger.answer == "Not authorized"


async def test_of_what_waits_for_a_reader_little_is_copied_when_it_returns(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = site(tmp_path / "data", mosquitto)
    waiting_bytes = 100 * 1_000_000
    async with running(settings) as own:
        socket = own.endpoint.path
        async with Guest(socket, own.service, client_id="away", expiry_seconds=600) as reader:
            await reader.subscribe("iotingestion/#")
        async with Guest(settings.mqtt_port, own.publisher) as device:
            for _ in range(100):
                await device.publish("iotingestion/node-1", os.urandom(1_000_000))
            before = resident_bytes(own.pid)
            assert before is not None and before > waiting_bytes
            # It returns, and reads nothing.
            Guest(socket, own.service, client_id="away", expiry_seconds=600)
            most = 0
            for _ in range(20):
                await device.publish("iotingestion/node-1", b"mosquitto has seen it by now")
                most = max(most, resident_bytes(own.pid) or 0)
        if own.version < (2, 1):
            assert own.copied_bytes_max > waiting_bytes, "2.0 copies all that waits"
        else:
            assert 0.25 * waiting_bytes < most - before < 0.5 * waiting_bytes
            assert most - before < own.copied_bytes_max


async def test_a_clip_of_30_mb_as_base64_passes_on_both_ports(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = site(tmp_path / "data", mosquitto)
    clip = os.urandom(20_000_000) * 2
    async with (
        running(settings) as own,
        Guest(settings.mqtt_port, own.service) as service,
    ):
        device = own.publisher
        assert device is not None
        await service.subscribe("iotingestion/#")
        near = Endpoint("mqtt", "127.0.0.1", settings.mqtt_port)
        far = Endpoint("ws", "127.0.0.1", settings.ws_port, "/mqtt")
        for endpoint in (near, far, own.endpoint):
            # our own session: paho does not get this through WebSockets in time
            options = SessionOptions(
                endpoint=endpoint,
                client_id="device",
                login=lambda: (device.user, device.password),
            )
            session = Session(options)
            connected = asyncio.create_task(session.run())
            await asyncio.wait_for(session.publish("iotingestion/node-1/recording", clip), 20)
            connected.cancel()
        await eventually(lambda: service.received == [clip] * 3)


async def test_what_it_acknowledged_waits_for_us_across_its_end(
    mosquitto: Path, tmp_path: Path
) -> None:
    """2.1 is killed here; 2.0 keeps that promise only if it is stopped in order."""
    settings = site(tmp_path / "data", mosquitto)
    port, messages = settings.mqtt_port, [b"%d" % n for n in range(MESSAGES)]
    async with running(settings) as own:
        async with Guest(port, own.service, client_id="us", expiry_seconds=600) as service:
            await service.subscribe("iotingestion/#")
        async with Guest(port, own.publisher) as device:
            await device.publish("iotingestion/node-1", *messages)
        if own.version >= (2, 1, 0):
            os.kill(own.pid, signal.SIGKILL)
            assert "SIGKILL" in await own.wait()
    async with (
        running(settings) as own,
        Guest(port, own.service, client_id="us", expiry_seconds=600) as service,
    ):
        await eventually(lambda: len(service.received) >= MESSAGES)
        assert service.received == messages


async def test_it_starts_without_complaint(mosquitto: Path, tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with running(site(tmp_path / "data", mosquitto)):
            pass
    complaints = [
        str(each["line"])
        for each in lines
        if each["event"] == "mosquitto" and each["log_level"] != "info"
    ]
    if os.geteuid() == 0:  # known, and documented in docs/settings.md
        complaints = [line for line in complaints if "run as root" not in line]
    assert complaints == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
async def test_started_by_root_2_0_gives_that_up(tmp_path: Path) -> None:
    async with running(site(tmp_path / "data", None)) as own:
        if own.version >= (2, 1, 0):
            pytest.skip("the installed mosquitto is 2.1")
        assert Path(f"/proc/{own.pid}").stat().st_uid == pwd.getpwnam("mosquitto").pw_uid
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_passwords_are_generated_once_and_kept_for_their_owner(tmp_path: Path) -> None:
    settings = site(tmp_path / "data", None)
    async with running(settings) as first:
        assert first.new_accounts == (first.publisher, first.subscriber)
        assert broker.service_credentials(settings.data_dir) == first.service
    async with running(settings) as second:
        assert second.new_accounts == ()
        assert (second.publisher, second.subscriber) == (first.publisher, first.subscriber)
        assert broker.service_credentials(settings.data_dir) == second.service
        assert second.service.password != first.service.password
    files = [path for path in settings.data_dir.rglob("*") if path.is_file()]
    readable = [path for path in files if path.stat().st_mode & 0o077 and path.stat().st_size]
    assert readable == []
    for folder in (settings.data_dir, *(path.parent for path in files)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    hashed = (settings.data_dir / "broker" / "passwords").read_text()
    assert all(account.password not in hashed for account in (second.service, *first.new_accounts))
    assert first.new_accounts[0].password not in repr(first.new_accounts)


async def test_a_hash_is_enough_to_let_an_account_in(mosquitto: Path, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", accounts, "echosub", "hashed by mosquitto"], check=True
    )
    with accounts.open("a") as file:
        file.write(password_line(Credentials("echopub", "hashed by us"), b"twelve bytes"))
    settings = site(tmp_path / "data", mosquitto, accounts_file=accounts)
    port = settings.mqtt_port
    async with (
        running(settings) as own,
        Guest(port, Credentials("echopub", "hashed by us")) as device,
        Guest(port, Credentials("echosub", "hashed by mosquitto")) as reader,
        Guest(port, Credentials("echopub", "hashed by mosquitto")) as stranger,
    ):
        assert (device.answer, reader.answer, stranger.answer) == (
            *("Success",) * 2,
            "Not authorized",
        )
        assert (own.publisher, own.subscriber, own.new_accounts) == (None, None, ())
    assert kept_secrets(settings) == {"session"}


async def test_a_given_password_counts_more_than_a_hash(mosquitto: Path, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text(password_line(Credentials("echopub", "of old"), b"twelve bytes"))
    settings = site(
        tmp_path / "data",
        mosquitto,
        accounts_file=accounts,
        pub_password="given",
        sub_password="given",
        service_password="agreed",
    )
    async with (
        running(settings),
        Guest(settings.mqtt_port, Credentials("echopub", "given")) as device,
        Guest(settings.mqtt_port, Credentials("echopub", "of old")) as stranger,
        Guest(settings.mqtt_port, Credentials("echo-ingest", "agreed")) as service,
    ):
        assert (device.answer, service.answer) == ("Success",) * 2
        assert stranger.answer == "Not authorized"


async def test_with_a_file_of_hashes_no_password_is_generated(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text("")
    with pytest.raises(BrokerError) as error:
        await start(site(tmp_path / "data", None, accounts_file=accounts))
    for word in ("echopub and echosub", str(accounts), "IOT_PUB_PASSWORD_FILE and IOT_SUB_"):
        assert word in str(error.value)
    with pytest.raises(BrokerError) as error:
        await start(site(tmp_path / "data", None, accounts_file=accounts, sub_password="given"))
    assert "IOT_PUB_PASSWORD_FILE" in str(error.value)
    assert "echosub" not in str(error.value)
    assert not (tmp_path / "data" / "secrets").exists()


@pytest.mark.parametrize(
    "text",
    [
        "echopub:hunter2\n",
        "echopub\n",
        "echo-ingest:$7$1000$c2FsdA==$aGFzaA==\n",
        "echopub:$7$1000$c2FsdA==$aGFzaA==\n" * 2,
        "\nechopub:$7$1000$c2FsdA==$aGFzaA==\n",
    ],
)
async def test_an_invalid_file_of_hashes_is_rejected(tmp_path: Path, text: str) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text(text)
    with pytest.raises(BrokerError, match=r"IOT_ACCOUNTS_FILE is .*: line [12]: ") as error:
        await start(site(tmp_path / "data", None, accounts_file=accounts))
    assert "hunter2" not in str(error.value)


async def test_given_passwords_are_not_kept(tmp_path: Path) -> None:
    settings = site(tmp_path / "data", None, pub_password="given", sub_password="given too")
    async with running(settings) as own:
        assert own.new_accounts == ()
    assert kept_secrets(settings) == {"session"}


def test_no_account_was_made_where_no_broker_was_started(tmp_path: Path) -> None:
    assert broker.service_credentials(tmp_path) is None


async def test_the_end_of_its_log_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "mosquitto"
    program.write_text(
        "#!/bin/sh\n[ $1 = -h ] && echo mosquitto version 2.0.11 && exit\n"
        "echo 'Error: the disk is made of cheese' >&2\nexit 3\n"
    )
    program.chmod(0o755)
    with pytest.raises(BrokerError, match=r"exit code 3(?s:.)*made of cheese"):
        await start(site(tmp_path / "data", program))


async def test_a_port_that_is_taken_is_named_with_what_to_type(tmp_path: Path) -> None:
    first = site(tmp_path / "one", None)
    async with running(first):
        taken = site(tmp_path / "two", None, ws_port=first.mqtt_port)
        with pytest.raises(BrokerError) as error:
            await start(taken)
    assert f"port {first.mqtt_port} " in str(error.value)
    assert "systemctl disable --now mosquitto" in str(error.value)
    assert "IOT_WS_PORT=" in str(error.value)


async def test_a_data_folder_may_lie_deep_for_a_socket(mosquitto: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("folder-" * 10) / ("folder-" * 10) / "data"
    async with running(site(deep, mosquitto)) as own:
        assert len(str(own.endpoint.path)) > 107
        options = SessionOptions(
            endpoint=own.endpoint,
            client_id="us",
            login=lambda: (own.service.user, own.service.password),
        )
        session = Session(options)
        connected = asyncio.create_task(session.run())
        await asyncio.wait_for(session.wait_connected(), 20)
        connected.cancel()


async def test_one_data_folder_has_one_broker(tmp_path: Path) -> None:
    settings = site(tmp_path / "data", None)
    async with running(settings) as own:
        with pytest.raises(BrokerError, match="another echo-ingest already runs the broker"):
            await start(settings)
        async with Guest(settings.mqtt_port, own.service) as service:
            assert service.answer == "Success"


async def test_a_restarted_service_takes_over_the_queues_of_an_orphaned_mosquitto(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = site(tmp_path / "data", mosquitto)
    port = settings.mqtt_port
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_A_BROKER, settings.model_dump_json(exclude_none=True)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    orphan = int(await anext(line async for line in parent.stdout if line.strip().isdigit()))
    parent.kill()
    await parent.wait()
    service = broker.service_credentials(settings.data_dir)
    device = Credentials("echopub", (settings.data_dir / "secrets" / "echopub").read_text().strip())
    socket = broker.own_endpoint(settings.data_dir).path
    async with Guest(socket, service, client_id="us", expiry_seconds=600) as us:
        await us.subscribe("iotingestion/#")
    async with Guest(socket, device) as node:
        await node.publish("iotingestion/node-1", b"while it was an orphan")
    async with (
        running(settings) as own,
        Guest(port, own.service, client_id="us", expiry_seconds=600) as us,
    ):
        assert own.pid != orphan
        await eventually(lambda: us.received == [b"while it was an orphan"])


def test_a_missing_mosquitto_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("echo_ingest.broker.program.FOLDERS", ())
    with pytest.raises(MosquittoMissing) as error:
        broker.find_mosquitto(None)
    for command in ("apt-get install", "dnf install", "apk add", "brew install"):
        assert command in str(error.value)
    with pytest.raises(MosquittoMissing, match="IOT_MOSQUITTO"):
        broker.find_mosquitto(tmp_path / "nothing")


def program_of(path: Path, version: str, *, plugins: bool = True) -> Path:
    """Write a program that says it is that version of mosquitto, with the plugins of 2.1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho mosquitto version {version}\n")
    path.chmod(0o755)
    library = path.parent.parent / "lib"
    library.mkdir(exist_ok=True)
    for name in PLUGINS if plugins else ():
        (library / f"{name}.so").touch()
    return path


def test_the_newest_mosquitto_that_can_run_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, system = (tmp_path / name / "bin" for name in ("first", "other", "system"))
    monkeypatch.setenv("PATH", f"{first}:{other}")
    monkeypatch.setattr("echo_ingest.broker.program.FOLDERS", (str(system),))
    monkeypatch.setattr("echo_ingest.broker.program.LIBRARY_FOLDERS", ())
    old = program_of(first / "mosquitto", "2.0.11", plugins=False)
    assert broker.find_mosquitto(None) == old
    program_of(other / "mosquitto", "2.0.9", plugins=False)
    program_of(first / "mosquitto-2.1", "2.1.2", plugins=False)
    program_of(first / "mosquitto-1.6", "1.6.9", plugins=False)
    assert broker.find_mosquitto(None) == old
    new = program_of(system / "mosquitto-2.1", "2.1.2")
    assert broker.find_mosquitto(None) == new
    newer = program_of(other / "mosquitto", "2.10.0")
    assert broker.find_mosquitto(None) == newer
    newer.chmod(0o644)
    assert broker.find_mosquitto(None) == new
    assert broker.find_mosquitto(old) == old


def test_if_none_can_run_the_first_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}")
    monkeypatch.setattr("echo_ingest.broker.program.FOLDERS", ())
    program_of(folder / "mosquitto", "1.6.9", plugins=False)
    with pytest.raises(BrokerError, match=r"2\.0 or later"):
        broker.find_mosquitto(None)


def test_while_messages_may_wait_in_2_0_it_stays_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("echo_ingest.broker.program.FOLDERS", ())
    old = program_of(tmp_path / "bin" / "mosquitto", "2.0.11")
    new = program_of(tmp_path / "bin" / "mosquitto-2.1", "2.1.2")
    assert broker.find_mosquitto(None, tmp_path) == new
    (tmp_path / "queues.db").touch()
    assert broker.find_mosquitto(None, tmp_path) == old
    assert "queues.db" in str(broker.remark((2, 1, 2), tmp_path))
    old.unlink()
    assert broker.find_mosquitto(None, tmp_path) == new
    old = program_of(tmp_path / "bin" / "mosquitto", "2.0.11")
    (tmp_path / "queues.sqlite").touch()
    assert broker.find_mosquitto(None, tmp_path) == new
    assert broker.remark((2, 1, 2), tmp_path) is None


async def test_an_older_version_says_at_the_start_what_it_lacks_and_how_to_get_a_newer(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = site(tmp_path / "data", mosquitto)
    with capture_logs() as lines:
        async with broker.running(settings) as own:
            pass
    told = [line["advice"] for line in lines if line["event"] == "about this mosquitto"]
    queues = {path.name for path in broker.broker_folder(settings.data_dir).glob("queues*")}
    assert queues & {"queues.db", "queues.sqlite"}, "the names on which the choice rests"
    if own.version >= (2, 1, 0):
        assert told == []
    else:
        (words,) = told
        for each in ("once a minute", "Alpine", "Ubuntu", "Debian", "Homebrew", "image"):
            assert each in words


@pytest.mark.parametrize("usage", ["mosquitto version 1.6.9", "cheese"])
def test_an_unusable_program_is_rejected_with_a_reason(tmp_path: Path, usage: str) -> None:
    program = tmp_path / "mosquitto"
    program.write_text(f"#!/bin/sh\necho {usage}\n")
    program.chmod(0o755)
    with pytest.raises(BrokerError, match=r"2\.0 or later|does not say"):
        broker.version(program)


async def test_2_1_without_its_plugins_does_not_start(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mosquitto"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho mosquitto version 2.1.2\n")
    program.chmod(0o755)
    with pytest.raises(BrokerError, match=r"mosquitto_password_file\.so(?s:.)*IOT_MOSQUITTO"):
        await start(site(tmp_path / "data", program))
