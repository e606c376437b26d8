"""Other stores name a clip once it is there, and where it was put. Journal and folder are real."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.reader import JournalReader
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.pipeline import deliver as deliver_room
from echo_ingest.pipeline.deliver import Deliver
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message
from echo_ingest.sinks import Delivery, Written, clips
from echo_ingest.sinks.objects import Objects
from tests.api import Api
from tests.harness import Device, Harness, eventually
from tests.s3 import BUCKET, S3, objects
from tests.sinks.delivering import assert_closes, until
from tests.sinks.messages import (
    PAYLOAD_BYTES_MAX,
    arrivals,
    clip,
    detection,
    record_of,
    recording,
)


class Names:
    """A sink that keeps the reference of each record."""

    name = "names"
    address = "here"
    batch_records_max = 10
    is_idempotent = True

    def __init__(self) -> None:
        self.references: dict[int, str | None] = {}

    async def write(self, batch: Sequence[Delivery]) -> Written:
        for delivery in batch:
            reference = clips.reference_of(delivery, delivery.records[0])
            self.references[delivery.offset] = reference
            if reference is not None:
                kept = path_of(reference).read_bytes()
                clip_of_record = clips.clip_of(delivery.records[0])
                assert clip_of_record is not None
                assert len(kept) == clip_of_record.size_bytes, "it is named before it is there"
        return Written(len(batch))

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


def path_of(reference: str) -> Path:
    return Path(unquote(urlsplit(reference).path))


def name_of(message: Message) -> str:
    record = record_of(message)
    clip_of_record = clips.clip_of(record)
    assert clip_of_record is not None
    return clips.clip_name(record, clip_of_record)


def detection_with_clip(number: int) -> Message:
    return detection(number, audioClip=base64.b64encode(clip(number)).decode())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_room, "delay_seconds", lambda attempt, rng: 0.01)


class Pair:
    """The sink that keeps clips, and one that names them, both delivered to."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        self.objects, self.names = Objects(folder.as_uri()), Names()
        self.clip_store = Deliver(
            journal, self.objects, decoder=Decoder(PAYLOAD_BYTES_MAX), on_settled=self.wake
        )
        self.namer = Deliver(
            journal, self.names, decoder=Decoder(PAYLOAD_BYTES_MAX), clip_store=self.clip_store
        )

    def wake(self) -> None:
        for deliver in (self.clip_store, self.namer):
            deliver.wake()


@asynccontextmanager
async def delivering(journal: Journal, folder: Path) -> AsyncIterator[Pair]:
    pair, stopping = Pair(journal, folder), asyncio.Event()
    tasks = [asyncio.create_task(each.run(stopping)) for each in (pair.clip_store, pair.namer)]
    try:
        yield pair
    finally:
        stopping.set()
        pair.wake()
        await asyncio.gather(*tasks)
        await pair.objects.close()
        assert_closes(journal.ledger())


async def bring_up_to_date(
    journal: Journal, sink: Names, clip_store: Deliver | None = None
) -> None:
    """Deliver to one more sink until it has every record."""
    deliver = Deliver(journal, sink, decoder=Decoder(PAYLOAD_BYTES_MAX), clip_store=clip_store)
    stopping = asyncio.Event()
    task = asyncio.create_task(deliver.run(stopping))
    await until(lambda: backlog(journal, sink.name) == 0)
    stopping.set()
    deliver.wake()
    await task


def backlog(journal: Journal, sink: str) -> int:
    return journal.ledger().sinks[sink].backlog


def parked(journal: Journal, sink: str) -> dict[int, str]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        return {each.offset: each.reason for each in reader.parked(sink)}


def codes(journal: Journal, sink: str) -> dict[int, str | None]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        return {each.offset: each.code for each in reader.parked(sink)}


async def test_nothing_goes_on_before_its_clip_is_there(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "audio store"
    journal.append(arrivals([detection(1), detection_with_clip(2), detection(3), recording(4)]))
    async with delivering(journal, folder) as pair:
        await until(lambda: pair.namer.held_up)
        assert (
            pair.namer.held_up
            == f"waits until Audio storage has the clips: {pair.clip_store.unavailable}"
        )
        assert str(folder) in pair.namer.held_up
        await until(lambda: backlog(journal, "names") == 3)
        assert pair.names.references == {1: None}, "it went past a clip that is not there"
        folder.mkdir()
        await until(lambda: backlog(journal, "names") == 0)
        assert pair.namer.held_up is None
    references = pair.names.references
    assert [references[1], references[3]] == [None, None]
    assert str(references[2]).startswith(f"{folder.as_uri()}/audio/creek-03/")
    assert path_of(str(references[2])).read_bytes() == clip(2)
    assert path_of(str(references[4])).read_bytes() == clip(4)


async def test_what_is_parked_where_clips_are_kept_is_parked_by_those_that_name_it(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / name_of(detection_with_clip(1))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what somebody put there")
    journal.append(arrivals([detection_with_clip(1), detection_with_clip(2)]))
    async with delivering(journal, tmp_path) as pair:
        await until(lambda: backlog(journal, "names") == 0)
        assert pair.names.references.keys() == {2}
        assert parked(journal, "objects").keys() == {1}
        reason = "its clip is parked at Audio storage: replay it there first, then here"
        assert parked(journal, "names") == {1: reason}
        assert codes(journal, "names") == {1: ReasonCode.CLIP_NOT_STORED}
        journal.request_replay("names", [1])
        pair.wake()
        await until(lambda: backlog(journal, "names") == 0)
        assert parked(journal, "names") == {1: reason}
        path.unlink()
        for sink in ("objects", "names"):
            journal.request_replay(sink, [1])
            pair.wake()
            await until(lambda sink=sink: backlog(journal, sink) == 0)  # type: ignore[misc]
        assert path_of(str(pair.names.references[1])).read_bytes() == clip(1)


async def test_an_address_leads_to_where_the_clip_was_put_then(
    journal: Journal, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    stranger = first / name_of(detection_with_clip(2))
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"what somebody put there")
    second.mkdir()
    for number, folder in ((1, first), (3, second)):
        journal.append(arrivals([detection_with_clip(number), detection_with_clip(number + 1)]))
        async with delivering(journal, folder):
            await until(lambda: backlog(journal, "names") == 0)
    journal.request_replay("objects", [2])  # it was refused in the first, and goes to the second
    async with delivering(journal, second) as pair:
        await until(lambda: backlog(journal, "objects") == 0)
        late = Names()
        late.name = "late"
        await bring_up_to_date(journal, late, pair.clip_store)
    folders = [str(late.references[offset]).partition("/audio/")[0] for offset in (1, 2, 3, 4)]
    assert folders == [first.as_uri(), second.as_uri(), second.as_uri(), second.as_uri()]


async def test_a_record_from_before_the_clips_were_kept_says_what_to_do(
    journal: Journal, tmp_path: Path
) -> None:
    """It was parked elsewhere all that time, while retention removed those after it."""
    journal.append(
        arrivals([detection_with_clip(1), detection_with_clip(2), detection_with_clip(3)])
    )
    journal.add_sink("names")
    journal.settle("names", [1, 2, 3], {1: Refused("not yet")})
    assert journal.trim(2**62) == 1
    async with delivering(journal, tmp_path) as pair:
        await until(lambda: backlog(journal, "objects") == 0)
        journal.request_replay("names", [1])
        pair.wake()
        await until(lambda: backlog(journal, "names") == 0)
        assert pair.names.references == {}
        assert "set IOT_AUDIO to embedded" in parked(journal, "names")[1]
        assert codes(journal, "names") == {1: ReasonCode.CLIP_OLDER_THAN_STORAGE}
    journal.request_replay("names", [1])
    embedded = Names()
    await bring_up_to_date(journal, embedded)
    assert embedded.references == {1: None}


async def test_where_clips_are_survives_a_salvage(journal: Journal, tmp_path: Path) -> None:
    journal.append(arrivals([detection_with_clip(1), detection(2), detection_with_clip(3)]))
    async with delivering(journal, tmp_path) as pair:
        await until(lambda: backlog(journal, "names") == 0)
    journal.close()
    salvage(journal.path, "a test")
    with contextlib.closing(Journal(journal.path)) as saved:
        assert [saved.place_of("objects", offset) for offset in (1, 3, 4)] == [
            *(tmp_path.as_uri(), tmp_path.as_uri()),
            None,
        ]
    assert pair.names.references[3] is not None


@pytest.mark.slow
def test_the_api_is_told_where_each_clip_is_and_gets_no_audio(tmp_path: Path) -> None:
    """With the real service, killed while clips are under way to a bucket that comes and goes."""
    s3, api = S3(tmp_path / "s3.log"), Api()
    harness = Harness(
        tmp_path / "data",
        IOT_API_URL=api.url,
        IOT_OBJECTS_URL=f"s3://{BUCKET}/otway",
        IOT_AUDIO="reference",
    )
    harness.settings |= s3.environment()
    try:
        api.start()
        service = harness.up()
        arrived = [detection_with_clip(number) for number in range(40)] + [
            recording(number) for number in (7, 8)
        ]
        Device(harness.mqtt_port).publish([(each.topic, each.payload) for each in arrived])
        eventually(lambda: "unavailable" in harness.log("up"))
        assert harness.ledger()["sinks"]["echo_api"]["delivered"] == 0
        assert api.received() == []
        s3.start()
        eventually(lambda: harness.ledger_now()["sinks"]["objects"]["delivered"] > 0)
        harness.kill(service)
        s3.front.stop()
        harness.up()
        s3.start()
        eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["delivered"] == 42, seconds=60)
        received = api.received()
        assert {each["collection"] for each in received} <= {"events", "detections"}
        references = {each["document"]["audioClip"] for each in received}
        kept = objects(s3.store())
        named = {kept[address.removeprefix(f"s3://{BUCKET}/")] for address in references}
        assert named == {clip(number) for number in range(40)}
        shown = harness.cli("records", "show", "1").stdout
        assert any(address in shown for address in references)
        assert harness.http("/api/records/1")[1]["audio_reference"] in references
        checked = harness.cli("check")
        assert re.search(rf"Audio storage +s3://{BUCKET}/otway answers", checked.stdout), (
            checked.stdout
        )
    finally:
        harness.close()
        api.stop()
        s3.close()
