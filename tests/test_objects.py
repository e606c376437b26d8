"""Object storage beyond the contract: what lies there, how surely, and what each answer means."""

import base64
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import obstore
import pytest
from obstore.store import AzureStore, LocalStore, S3Store

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Clip, Message, record_key
from echo_ingest.sinks import Cause, Delivery, Unavailable, Written, clips
from echo_ingest.sinks.objects import PROBE_NAME, ClipSidecar, Objects
from tests.azure import CONTAINER, Azure
from tests.decode.messages import CLIPS
from tests.harness import AUDIO
from tests.s3 import ACCOUNT, BUCKET, S3, clear, objects
from tests.several_records import delivery_of
from tests.sinks.doubtful import EVERY_PROBLEM, deliveries, problems
from tests.sinks.messages import MORNING, clip, detection, record_of, recording
from tests.test_full_disk import fill
from tests.wire import Answer, Request, Wire

GUANO = "GUANO|Version: 1.0\nMake: Open Acoustic Devices\nNote: 🐸"
PREFIX = "otway/north"
DATE = {"Last-Modified": "Mon, 14 Sep 2026 05:45:12 GMT", "ETag": '"1"'}

Store = LocalStore | S3Store | AzureStore


def delivery(number: int, message: Message) -> Delivery:
    return delivery_of(number, number.to_bytes(16), message, record_of(message))


def file(number: int, content: bytes, node: str = "ridge-07") -> Delivery:
    topic = f"iotingestion/{node}/recording"
    return delivery(number, Message(topic, content, MORNING * 1000, node))


def clip_of_record(each: Delivery) -> Clip:
    heard = clips.clip_of(each.records[0])
    assert heard is not None
    return heard


def clip_name(each: Delivery) -> str:
    return clips.clip_name(each.records[0], clip_of_record(each))


def sidecar_name(each: Delivery) -> str:
    return clips.sidecar_name(each.records[0], clip_of_record(each), each.key)


async def test_a_sidecar_says_what_was_not_believed(tmp_path: Path) -> None:
    batch = deliveries(300)
    assert problems(batch) == EVERY_PROBLEM
    sink = Objects(tmp_path.as_uri())
    assert await sink.write(batch) == Written(300, (), tmp_path.as_uri())
    await sink.close()
    with_clip = [each for each in batch if clips.clip_of(each.records[0]) is not None]
    assert len(with_clip) > 100
    for each in with_clip:
        content = (tmp_path / sidecar_name(each)).read_bytes()
        assert msgspec.json.decode(content, type=ClipSidecar).record == each.records[0]
        fields = msgspec.json.decode(content)["record"]
        assert fields.get("time_problem") == each.records[0].time_problem
        assert fields.get("device_time") == each.records[0].device_time
        assert fields["clip"].get("problem") == clip_of_record(each).problem


def large_clip(size_bytes: int) -> bytes:
    sound = os.urandom(size_bytes)
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 48_000, 96_000, 2, 16)
    chunks = head + b"data" + struct.pack("<I", size_bytes) + sound
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    s3 = S3(tmp_path_factory.mktemp("s3") / "s3.log")
    s3.start()
    yield s3
    s3.close()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    program = os.environ.get("TEST_AZURITE")
    if program is None:
        pytest.skip(
            "set TEST_AZURITE to an azurite-blob program: `tests/azurite FOLDER` fetches one and "
            "prints its path"
        )
    azure = Azure(Path(program), tmp_path_factory.mktemp("azure"))
    azure.start()
    yield azure
    azure.close()


class Place:
    """Somewhere to put clips, and how to look at it from outside."""

    def __init__(self, url: str, store: Store, prefix: str = "") -> None:
        self.url = url
        self.store = store
        self._prefix = prefix

    def objects(self) -> dict[str, bytes]:
        return {name.removeprefix(self._prefix): c for name, c in objects(self.store).items()}

    def replace(self, name: str, content: bytes) -> None:
        obstore.put(self.store, self._prefix + name, content)


@pytest.fixture(
    params=["folder", *(pytest.param(p, marks=pytest.mark.slow) for p in ("s3", "azure"))]
)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":
        return Place(tmp_path.as_uri(), LocalStore(tmp_path))
    server: S3 | Azure = request.getfixturevalue(request.param)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    clear(server.store())
    scheme = f"s3://{BUCKET}" if request.param == "s3" else f"az://{CONTAINER}"
    return Place(f"{scheme}/{PREFIX}", server.store(), f"{PREFIX}/")


async def written(url: str, *batch: Delivery, patience_seconds: float = 20.0) -> Written:
    sink = Objects(url, patience_seconds)
    try:
        return await sink.write(batch)
    finally:
        await sink.close()


# ---------------------------------------------------------------------- what lies there


async def test_a_clip_lies_there_as_it_came_with_what_is_known_of_it(place: Place) -> None:
    sound = clip(1, guano=GUANO)
    text = base64.b64encode(sound).decode()
    batch = [file(1, sound), delivery(2, detection(2, audioClip=text)), delivery(3, detection(3))]
    assert await written(place.url, *batch) == Written(3, (), place.url)
    there = place.objects()
    assert there.keys() == {name(each) for each in batch[:2] for name in (clip_name, sidecar_name)}
    for each in batch[:2]:
        assert there[clip_name(each)] == sound
        facts = msgspec.json.decode(there[sidecar_name(each)], type=ClipSidecar)
        assert facts.record == each.records[0]
        assert (facts.key, facts.topic) == (each.key.hex(), each.message.topic)
        assert clip_name(each).endswith(f"/{facts.audio}")
        assert b'"Make": "Open Acoustic Devices"' in there[sidecar_name(each)]


@pytest.mark.skipif(not AUDIO.exists(), reason="needs the real recordings")
async def test_real_recordings_come_out_byte_for_byte(place: Place) -> None:
    paths = sorted(p for p in AUDIO.iterdir() if p.suffix in (".wav", ".mp3"))
    contents = [p.read_bytes() for p in paths if p.name != "empty_2c.wav"]
    batch = [file(number, content) for number, content in enumerate(contents, 1)]
    assert (await written(place.url, *batch)).count == len(batch) > 5
    there = place.objects()
    assert [there[clip_name(each)] for each in batch] == contents


async def test_records_that_share_a_clip_have_it_once_and_a_description_each(
    place: Place,
) -> None:
    text = base64.b64encode(clip(1)).decode()
    frogs = [
        delivery(number, detection(1, species=species, audioClip=text))
        for number, species in enumerate(("Litoria ewingii", "Crinia signifera"), 1)
    ]
    elsewhere = delivery(3, detection(1, sensorId="creek-03", audioClip=text))
    for _ in range(2):
        assert (await written(place.url, *frogs, elsewhere)).count == 3
        names = place.objects().keys()
        assert sum(name.endswith(".wav") for name in names) == 2
        assert sum(name.endswith(".json") for name in names) == 3


@pytest.mark.parametrize("size_bytes", [100_000, 20_000_000], ids=["one-request", "in-parts"])
async def test_a_repeat_writes_nothing(place: Place, size_bytes: int) -> None:
    clip_file = file(1, large_clip(size_bytes))
    assert (await written(place.url, clip_file)).count == 1
    assert place.objects()[clip_name(clip_file)] == clip_file.message.payload
    marked = bytes(len(clip_file.message.payload))  # as long, so that it passes for the clip
    place.replace(clip_name(clip_file), marked)
    assert (await written(place.url, clip_file)).count == 1
    assert place.objects()[clip_name(clip_file)] == marked


async def test_what_somebody_wrote_over_is_said_and_left_alone(place: Place) -> None:
    batch = [file(number, clip(number)) for number in (1, 2, 3)]
    place.replace(clip_name(batch[1]), b"notes")
    wrote = await written(place.url, *batch)
    assert wrote.count == 3
    assert [(r.index, r.code) for r in wrote.refusals] == [(1, ReasonCode.NAME_TAKEN_AT_SINK)]
    assert re.search(r"5 bytes.*move it away, then replay", wrote.refusals[0].reason)
    assert place.objects()[clip_name(batch[1])] == b"notes"


async def test_a_probe_leaves_a_note_and_may_be_made_again(place: Place) -> None:
    sink = Objects(place.url)
    await sink.probe()
    await sink.probe()
    await sink.close()
    assert place.objects().keys() == {PROBE_NAME}


@pytest.mark.slow
async def test_a_large_clip_travels_in_parts(s3: S3, account: pytest.MonkeyPatch) -> None:
    account.setenv("AWS_ENDPOINT_URL", s3.environment()["AWS_ENDPOINT_URL"])
    clip_file = file(1, large_clip(20_000_000))
    assert (await written(f"s3://{BUCKET}", clip_file)).count == 1
    mark = obstore.head(s3.store(), clip_name(clip_file))["e_tag"]
    assert mark is not None
    assert mark.strip('"').endswith("-3"), "S3 says in how many parts it came"


# ---------------------------------------------------------------------- a folder


async def test_names_and_content_are_on_disk_before_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("flushed", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def noting_rename(path: Path, target: Path) -> Path:
        done.extend([("renamed", str(path)), ("named", str(target))])
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    batch = [file(number, clip(number)) for number in range(10)]
    await written(tmp_path.as_uri(), *batch)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 20
    for part in [path for how, path in done if how == "renamed"]:
        assert done.index(("flushed", part)) < done.index(("renamed", part))
    for path in files:
        named = done.index(("named", str(path)))
        assert ("flushed", str(path.parent)) in done[named:]
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        assert ("flushed", str(folder.parent)) in done


async def test_nobody_else_may_read_a_folder(tmp_path: Path) -> None:
    await written(tmp_path.as_uri(), file(1, clip(1)))
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in tmp_path.rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Where its disk is not mounted, another disk would fill."""
    url = f"{tmp_path.as_uri()}/not/mounted"
    with pytest.raises(Unavailable, match=r"mount its disk, or create it") as raised:
        await written(url, file(1, clip(1)))
    assert raised.value.cause == Cause.UNREACHABLE
    assert not (tmp_path / "not").exists()


async def test_what_is_before_a_failure_counts(tmp_path: Path) -> None:
    batch = [file(number, clip(number), f"n{number}") for number in range(4)]
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "n2").write_bytes(b"a file where a folder must be")
    assert (await written(tmp_path.as_uri(), *batch)).count == 2
    with pytest.raises(Unavailable, match=r"audio/n2.* cannot be written") as raised:
        await written(tmp_path.as_uri(), *batch[2:])
    assert raised.value.cause == Cause.CREDENTIALS
    (tmp_path / "audio" / "n2").unlink()
    assert (await written(tmp_path.as_uri(), *batch[2:])).count == 2


async def test_folders_that_were_removed_are_made_again(tmp_path: Path) -> None:
    sink = Objects(tmp_path.as_uri())
    for _ in range(2):
        assert (await sink.write([file(1, clip(1))])).count == 1
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    await sink.close()


@pytest.mark.slow
async def test_on_a_full_disk_it_waits_and_leaves_nothing_half_written(disk: Path) -> None:
    filler = fill(disk, leave_bytes=30_000)
    clip_file = file(1, large_clip(100_000))
    with pytest.raises(Unavailable, match=r"is full: make room; .* by itself") as raised:
        await written(disk.as_uri(), clip_file)
    assert raised.value.cause == Cause.DISK_FULL
    assert not [path for path in disk.rglob("*") if path.suffix in (".wav", ".part")]
    filler.unlink()
    assert (await written(disk.as_uri(), clip_file)).count == 1


# ---------------------------------------------------------------------- what each answer means


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def error(status: int, code: str = "SomeCode", words: str = "words of it") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>"
    return Answer(status, body.encode())


FAILURES: dict[str, tuple[Answer | Literal["hang", "close"], str, Cause, int | None]] = {
    "wrong-region": (Answer(301), r"AWS_REGION", Cause.MISCONFIGURED, None),
    "log-in-page": (Answer(200, b"<html>"), r"log-in page", Cause.MISCONFIGURED, None),
    "log-in-page-elsewhere": (
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        r"redirect",
        Cause.MISCONFIGURED,
        302,
    ),
    "expired": (
        error(400, "ExpiredToken"),
        r"400 \(ExpiredToken words of it\).*AWS_ACCESS_KEY_ID",
        Cause.CREDENTIALS,
        400,
    ),
    "unknown-key": (error(401), r"401.*AWS_ACCESS_KEY_ID", Cause.CREDENTIALS, 401),
    "not-allowed": (
        error(403, "AccessDenied"),
        r"403 \(AccessDenied.*write to s3://reserve",
        Cause.CREDENTIALS,
        403,
    ),
    "no-bucket": (
        error(404, "NoSuchBucket"),
        r"404.*create s3://reserve.*IOT_OBJECTS_URL",
        Cause.MISCONFIGURED,
        404,
    ),
    "conflict": (
        error(409, "ConditionalRequestConflict"),
        r"busy with the same object",
        Cause.OVERLOADED,
        409,
    ),
    "throttled": (error(429), r"429 \(SomeCode words of it\)", Cause.OVERLOADED, 429),
    "throttled-by-s3": (error(503, "SlowDown"), r"503 \(SlowDown", Cause.OVERLOADED, 503),
    "broken": (error(500), r"500 \(SomeCode words of it\)", Cause.ANSWERS_ERRORS, 500),
    "away": (
        Answer(503, b"<html>upstream</html>"),
        r"answered 503: the service tries again",
        Cause.ANSWERS_ERRORS,
        503,
    ),
    "closes": (
        "close",
        r"it closed the connection.*IOT_OBJECTS_URL=s3://reserve",
        Cause.UNREACHABLE,
        None,
    ),
    "hangs": ("hang", r"did not take \d+ bytes of audio in 1 s", Cause.NO_ANSWER, None),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_an_answer_that_is_not_yes_leaves_all_as_it_is(
    case: str, account: pytest.MonkeyPatch
) -> None:
    answer, words, cause, http_status = FAILURES[case]
    async with Wire(lambda r: Answer(404) if r.method == "HEAD" else answer) as wire:
        account.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        with pytest.raises(Unavailable, match=words) as raised:
            await written(f"s3://{BUCKET}", file(1, clip(1)), patience_seconds=0.5)
        assert str(raised.value).isprintable()
        assert (raised.value.cause, raised.value.http_status) == (cause, http_status)
        asked = [(request.method, request.path) for request in wire.requests]
        assert len(asked) == len(set(asked)), "asked again, which is for `deliver` to decide"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(413, "EntityTooLarge"), r"413 \(EntityTooLarge"),
        (error(400, "EntityTooLarge"), r"400 \(EntityTooLarge"),
        (Answer(413), "answered 413"),  # not by the store but by what stands before it
    ],
)
async def test_a_clip_that_is_too_large_for_the_store_is_refused_and_the_rest_goes_on(
    account: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    def answering(request: Request) -> Answer:
        return answer if len(request.body) > 50_000 else Answer(200, b"", DATE)

    batch = [file(1, clip(1)), file(2, large_clip(60_000)), file(3, clip(3))]
    async with Wire(answering) as wire:
        account.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        wrote = await written(f"s3://{BUCKET}", *batch)
    assert wrote.count == 3
    assert [(r.index, r.code) for r in wrote.refusals] == [(1, ReasonCode.TOO_LARGE_FOR_SINK)]
    assert re.search(rf"{words}.*60,044 bytes, then replay", wrote.refusals[0].reason)


async def test_where_even_a_description_is_too_large_a_record_is_refused_once(
    account: pytest.MonkeyPatch,
) -> None:
    async with Wire(lambda _: Answer(413)) as wire:
        account.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        wrote = await written(f"s3://{BUCKET}", file(1, clip(1)), file(2, clip(2)))
    assert [r.index for r in wrote.refusals] == [0, 1]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("wide.wav", "audio/wav"),
        ("tone.flac", "audio/flac"),
        ("plain.mp3", "audio/mpeg"),
        ("tone.opus", "audio/ogg"),
    ],
)
async def test_a_clip_is_put_as_what_it_is(
    account: pytest.MonkeyPatch, name: str, content_type: str
) -> None:
    data = (CLIPS / name).read_bytes()
    async with Wire(lambda _: Answer(200, b"", DATE)) as wire:
        account.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        await written(f"s3://{BUCKET}", file(1, data))
    types = {each.headers["content-type"] for each in wire.requests if each.body == data}
    assert types == {content_type}


async def test_what_was_taken_before_the_time_was_up_counts(account: pytest.MonkeyPatch) -> None:
    batch = [file(number, clip(number), f"n{number}") for number in range(4)]

    def answering(request: Request) -> Answer | Literal["hang", "close"]:
        return "hang" if "/n2/" in request.path else Answer(200, b"", DATE)

    async with Wire(answering) as wire:
        account.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        assert (await written(f"s3://{BUCKET}", *batch, patience_seconds=0.5)).count == 2


async def test_google_is_asked_to_create_only_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its XML API documents `x-goog-if-generation-match`; no server of it can be had."""
    kept: dict[str, bytes] = {}

    def answering(request: Request) -> Answer:
        if request.method == "HEAD":
            content = kept.get(request.path)
            size = {"Content-Length": str(len(content))} if content is not None else {}
            return Answer(200, b"", {**DATE, **size}) if content is not None else Answer(404)
        assert request.method == "PUT"
        assert request.headers["x-goog-if-generation-match"] == "0"
        if request.path in kept:
            return error(412, "PreconditionFailed")
        kept[request.path] = request.body
        return Answer(200, b"", DATE)

    clip_file = file(1, clip(1))
    async with Wire(answering) as wire:
        key = {
            "gcs_base_url": f"http://127.0.0.1:{wire.port}",
            "disable_oauth": True,
            **dict.fromkeys(("client_email", "private_key", "private_key_id"), ""),
        }
        (tmp_path / "key.json").write_bytes(msgspec.json.encode(key))
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
        for _ in range(2):
            assert await written("gs://reserve/otway", clip_file) == Written(
                1, (), "gs://reserve/otway"
            )
    assert sorted(path.rpartition("%2E")[2] for path in kept) == ["json", "wav"]
    assert clip_file.message.payload in kept.values()


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        ("s3://reserve", {"AWS_ACCESS_KEY_ID": "half"}, "Missing SecretAccessKey.*AWS_SECRET"),
        (
            "s3://reserve",
            {**ACCOUNT, "AWS_ENDPOINT_URL": "no address"},
            "AWS_ENDPOINT_URL.*an address",
        ),
        (
            "gs://reserve",
            {"GOOGLE_APPLICATION_CREDENTIALS": "/none.json"},
            "/none.json.*GOOGLE_APP",
        ),
        ("az://reserve", {}, "Account must be specified.*AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
async def test_credentials_that_cannot_be_used_are_named(
    url: str, environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sink = Objects(url)
    with pytest.raises(Unavailable, match=words):
        await sink.probe()
    await sink.close()


async def test_each_clip_of_a_message_has_its_sidecar(tmp_path: Path) -> None:
    first, second = (record_of(recording(number, clip(1))) for number in (1, 4))
    none = record_of(detection(2))
    arrived = recording(1, clip(1))
    several = delivery_of(7, b"7" * 16, arrived, none, first, second)
    sink = Objects(tmp_path.as_uri())
    assert await sink.write([several]) == Written(1, (), tmp_path.as_uri())
    await sink.close()
    for index, record in ((1, first), (2, second)):
        heard = clips.clip_of(record)
        assert heard is not None
        assert (tmp_path / clips.clip_name(record, heard)).read_bytes() == clip(1)
        name = clips.sidecar_name(record, heard, record_key(several.key, index))
        facts = msgspec.json.decode((tmp_path / name).read_bytes(), type=ClipSidecar)
        assert (facts.record, facts.index) == (record, index)
    assert len(list(tmp_path.rglob("*.json"))) == 2
