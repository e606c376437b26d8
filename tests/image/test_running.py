"""What the image promises of a running container; each as strictly confined as can be."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PUB_PASSWORD, Device, eventually
from tests.image.conftest import Start
from tests.image.container import MESSAGES, STRICT, Container, detections
from tests.image.engine import docker

MEMORY_BYTES_MAX = 640 * 1024 * 1024
CLIP_BYTES = 30_000_000


def publish(
    harness: Container, messages: list[tuple[str, bytes]], *, websocket: bool = False
) -> None:
    """Return when the broker has acknowledged all."""
    device = Device(
        harness.ws_port if websocket else harness.mqtt_port,
        password=PUB_PASSWORD,
        websocket=websocket,
    )
    device.publish(messages)
    device.close()


def holds(harness: Container, count: int) -> bool:
    ledger = harness.ledger()
    return bool(ledger["stored"] == count)


@pytest.fixture
def up(container: Start, volume: str) -> Container:
    """Start a container of the whole system on a volume that outlives it; yield it when healthy."""
    harness = container(volume=volume)
    harness.begin()
    return harness


def test_it_takes_messages_over_tcp_and_websockets_and_has_them_after_a_restart(
    up: Container,
) -> None:
    publish(up, detections("tcp"))
    publish(up, detections("ws", 500), websocket=True)
    eventually(lambda: holds(up, MESSAGES + 500))
    docker("restart", "-t", "30", up.name)
    up.begin()
    publish(up, detections("after", 500), websocket=True)
    eventually(lambda: holds(up, MESSAGES + 1_000))
    assert {"tcp-0", "ws-499", "after-1"} <= {record["message_id"] for record in up.records()}


def test_nothing_is_root_and_nothing_has_a_capability(up: Container) -> None:
    assert up.inside("id", "-u").strip() == "1883"
    status = statuses(up)
    assert set(re.findall(r"^Uid:\t(.+)$", status, re.MULTILINE)) == {"1883\t1883\t1883\t1883"}
    capabilities = re.findall(r"^Cap\w+:\t(.+)$", status, re.MULTILINE)
    assert set(capabilities) == {"0" * 16}
    with pytest.raises(RuntimeError, match="Read-only file system"):
        up.inside("touch", "/etc/here")


def test_sqlite_finds_room_for_its_temporary_files(up: Container) -> None:
    """Large sorts spill to a file: on a root file system that is read-only, into the volume."""
    spilling = (
        "import apsw, os\n"
        "scratch = apsw.Connection('')\n"
        "scratch.pragma('temp_store', 1), scratch.pragma('cache_size', 10)\n"
        "scratch.execute('create table t as with recursive n(i) as (select 1 union all'\n"
        "    ' select i + 1 from n where i < 50000) select hex(randomblob(50)) from n')\n"
        "print([os.readlink(each.path) for each in os.scandir('/proc/self/fd')])\n"
    )
    assert "/data/" in up.inside("python", "-c", spilling)


def test_the_first_process_reaps_orphans(up: Container) -> None:
    up.inside("sh", "-c", "sleep 2 >/dev/null 2>&1 &")
    assert "Name:\tsleep\n" in statuses(up)
    eventually(lambda: "Name:\tsleep\n" not in statuses(up))
    assert up.inside("cat", "/proc/1/comm").strip() == "tini"


def statuses(harness: Container) -> str:
    return harness.inside("sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null")


def test_a_stop_ends_within_the_grace_period_and_loses_nothing(up: Container) -> None:
    publish(up, detections("before"))
    assert up.end() < 10
    assert '"stopped"' in up.logs()
    up.begin()
    eventually(lambda: holds(up, MESSAGES))
    assert up.ledger()["duplicates"] == 0


def test_sigkill_loses_nothing_that_is_on_disk(up: Container) -> None:
    publish(up, detections("killed"))
    # The broker commits a moment after it acknowledges: the last turn of its loop may be lost.
    publish(up, detections("last", 1))
    up.signal("KILL")
    eventually(lambda: not up.state()["Running"])
    assert up.state()["ExitCode"] == 137
    up.begin()

    def all_are_there() -> bool:
        there = {record["message_id"] for record in up.records()}
        return {f"killed-{n}" for n in range(MESSAGES)} <= there

    eventually(all_are_there)
    up.ledger()


def test_it_takes_over_from_the_previous_image_with_all_data(
    container: Start, volume: str, image: str, previous_image: str
) -> None:
    assert docker("image", "inspect", "-f", "{{.Id}}", image).stdout != (
        docker("image", "inspect", "-f", "{{.Id}}", previous_image).stdout
    )
    before = container(of=previous_image, volume=volume)
    before.begin()
    publish(before, detections("before"))
    eventually(lambda: holds(before, MESSAGES))
    before.end()
    after = container(volume=volume)
    after.begin()
    publish(after, detections("after"))
    eventually(lambda: holds(after, 2 * MESSAGES))
    assert "before-0" in {record["message_id"] for record in after.records()}
    assert '"session_present": true' in after.logs()
    assert "salvaged" not in after.logs()


def test_the_health_check_sees_a_broker_that_stands_still(container: Start) -> None:
    harness = container(options=(*STRICT, "--health-interval=1s", "--health-retries=2"))
    harness.begin()
    eventually(lambda: harness.health() == "healthy")
    harness.inside("sh", "-c", "kill -STOP $(pidof mosquitto)")
    eventually(lambda: harness.health() == "unhealthy", seconds=30)
    harness.inside("sh", "-c", "kill -CONT $(pidof mosquitto)")
    eventually(lambda: harness.health() == "healthy", seconds=30)


def test_the_memory_limit_holds_under_load(container: Start) -> None:
    harness = container(
        options=(*STRICT, f"--memory={MEMORY_BYTES_MAX}", f"--memory-swap={MEMORY_BYTES_MAX}")
    )
    harness.begin()
    publish(harness, detections("many", 100_000))
    clip = bytes(range(256)) * (CLIP_BYTES // 256)
    publish(harness, [(f"iotingestion/ridge-{n}/recording", b"%d" % n + clip) for n in range(5)])
    eventually(lambda: harness.ledger()["received"] == 100_005, seconds=60)
    state = harness.state()
    assert state["Running"] and not state["OOMKilled"]
    peaks = re.findall(r"^Name:\t(.+)$|^VmHWM:\t *(\d+) kB$", statuses(harness), re.MULTILINE)
    print(peaks)


@pytest.mark.parametrize("given", [{}, {"IOT_SUB_PASSWORD": "only the readers'"}])
def test_without_passwords_it_does_not_start_and_says_what_to_do(
    container: Start, given: dict[str, str]
) -> None:
    harness = container(**({"IOT_PUB_PASSWORD": "", "IOT_SUB_PASSWORD": ""} | given))
    docker("start", harness.name)
    eventually(lambda: not harness.state()["Running"])
    assert harness.state()["ExitCode"] == 1
    assert "IOT_PUB_PASSWORD_FILE" in harness.logs()
    assert ("IOT_SUB_PASSWORD_FILE" in harness.logs()) is (not given)


def test_secrets_are_read_through_symbolic_links(container: Start, tmp_path: Path) -> None:
    """As Kubernetes mounts them."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for user, password in (("echopub", PUB_PASSWORD), ("echosub", "read")):
        (tmp_path / "..2026" / user).write_text(f"{password}\n")
        (tmp_path / user).symlink_to(f"..data/{user}")
    tmp_path.chmod(0o755)
    harness = container(
        options=(*STRICT, "-v", f"{tmp_path}:/run/secrets:ro"),
        IOT_PUB_PASSWORD="",
        IOT_SUB_PASSWORD="",
        IOT_PUB_PASSWORD_FILE="/run/secrets/echopub",
        IOT_SUB_PASSWORD_FILE="/run/secrets/echosub",
    )
    harness.begin()
    publish(harness, detections("linked", 1))
    assert PUB_PASSWORD not in docker("inspect", harness.name).stdout + harness.logs()


def test_a_data_folder_of_root_is_told_with_its_remedy(container: Start, tmp_path: Path) -> None:
    for command in ("up", "broker", "run"):
        harness = container(command, options=(*STRICT, "-v", f"{tmp_path}:/data"))
        docker("start", harness.name)
        eventually(lambda harness=harness: not harness.state()["Running"])  # type: ignore[misc]
        assert "chown -R 1883 /data" in harness.logs()


# ---------------------------------------------------------------------- the halves


@pytest.fixture
def halves(container: Start) -> Iterator[tuple[Container, Container]]:
    """Start a broker and an ingestion, each in a container with data of its own."""
    agreed = "agreed-between-the-two"
    options = (*STRICT, "--health-interval=1s", "--health-retries=2")
    broker = container(
        "broker", options=options, IOT_SERVICE_PASSWORD=agreed, IOT_SERVICE_PORT="1884"
    )
    broker.begin()
    ingestion = container(
        "run",
        options=options,
        IOT_ENDPOINT=f"mqtt://{broker.address()}:1884",
        IOT_USER="echo-ingest",
        IOT_PASSWORD=agreed,
    )
    ingestion.begin()
    yield broker, ingestion


def test_broker_and_ingestion_run_apart(halves: tuple[Container, Container]) -> None:
    broker, ingestion = halves
    publish(broker, detections("first", 500), websocket=True)
    eventually(lambda: holds(ingestion, 500))
    ingestion.end()
    publish(broker, detections("while-away"))
    ingestion.begin()
    eventually(lambda: holds(ingestion, MESSAGES + 500))
    for half in halves:
        eventually(lambda half=half: half.health() == "healthy")  # type: ignore[misc]
    assert "mosquitto" in broker.inside("ps")
    assert "mosquitto" not in ingestion.inside("ps", "-o", "args")


def test_the_health_of_each_half_is_its_own(halves: tuple[Container, Container]) -> None:
    broker, ingestion = halves
    broker.inside("sh", "-c", "kill -STOP $(pidof mosquitto)")
    for half in halves:
        eventually(lambda half=half: half.health() == "unhealthy", seconds=30)  # type: ignore[misc]
    broker.inside("sh", "-c", "kill -CONT $(pidof mosquitto)")
    for half in halves:
        eventually(lambda half=half: half.health() == "healthy", seconds=30)  # type: ignore[misc]
    ingestion.end()
    assert broker.health() == "healthy"
