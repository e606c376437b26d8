"""What docs/http.md promises, over real HTTP and on a real journal."""

import asyncio
import base64
import contextlib
import io
import json
import socket
import wave
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import aiohttp
import apsw
import pytest
from litestar import Litestar
from yarl import URL

from echo_ingest import web
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Journal, Ledger
from echo_ingest.journal.cursors import Refused
from echo_ingest.quality import ClipProblem, TimeProblem
from echo_ingest.record import KINDS, Message
from echo_ingest.service.web_process import listen
from echo_ingest.settings import Settings
from echo_ingest.sinks import SinkState
from echo_ingest.web import api, connections, downloads, failed_attempts, reader
from tests.harness import HTTP_TOKEN, TOKENS, free_port
from tests.stored import as_stored

PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
RECEIVED_AT_MS = 1_789_365_000_123
SINK = "echo_api"
WITH_TOKEN = {"Authorization": f"Bearer {HTTP_TOKEN}"}


class Fine:
    """Conditions as a test wants them."""

    def __init__(self, journal: Journal) -> None:
        self.problems: dict[str, dict[str, str]] = {
            "live": {},
            "ready": {},
            "healthy": {},
            "endpoints": {},
        }
        self.samples = 0
        self._journal = journal

    async def live(self) -> dict[str, str]:
        return self.problems["live"]

    async def ready(self) -> dict[str, str]:
        return self.problems["ready"]

    async def healthy(self) -> dict[str, str]:
        return self.problems["healthy"]

    async def endpoints(self) -> dict[str, str]:
        return self.problems["endpoints"]

    async def ledger(self) -> Ledger:
        return self._journal.ledger()

    async def sink_states(self) -> dict[str, SinkState]:
        return {SINK: SinkState("unavailable", datetime(2026, 9, 14, tzinfo=UTC), "gone fishing")}

    async def gauges(self) -> ServiceGauges:
        return ServiceGauges(
            journal_bytes=self._journal.used_bytes(),
            disk_free_bytes=self._journal.disk_free_bytes(),
            room_bytes=self._journal.room_bytes(),
        )

    async def metrics(self) -> str:
        self.samples += 1
        return f"echo_ingest_echo_age_seconds {self.samples}.0\n"


class Site:
    """A journal, and the HTTP side in front of it."""

    def __init__(self, path: Path, port: int, http: aiohttp.ClientSession) -> None:
        self.path = path
        self.port = port
        self.http = http
        self.journal = Journal(path)
        self.journal.add_sink(SINK)
        self.conditions = Fine(self.journal)

    def store(self, *messages: Message) -> None:
        self.journal.append(as_stored(messages, PAYLOAD_BYTES_MAX))

    async def get(self, path: str, **query: str | int) -> tuple[int, Any]:
        async with self.http.get(path, params=query) as reply:
            assert reply.content_type == "application/json", await reply.text()
            return reply.status, await reply.json()

    async def download(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        async with self.http.get(path) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.read(), reply.headers


@contextlib.asynccontextmanager
async def serving(
    app: Litestar, port: int, limits: connections.Limits = web.LIMITS
) -> AsyncIterator[asyncio.Task[None]]:
    started = asyncio.Event()
    task = asyncio.create_task(web.serve(app, listen("127.0.0.1", port), started, limits))
    async with asyncio.timeout(10):
        await started.wait()
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=WITH_TOKEN) as http:
        site = Site(tmp_path / "journal.db", port, http)
        app = web.create_app(site.conditions, Settings(data_dir=tmp_path), TOKENS)
        async with serving(app, port):
            yield site
        site.journal.close()


def detection(hour: int, *, node: str = "ridge-07", sensor_id: str = "node-7") -> Message:
    """Return a detection of form 10, observed at that hour of 14 September 2026."""
    observed_at = datetime(2026, 9, 14, hour, tzinfo=UTC)
    fields = {
        "timestamp": str(int(observed_at.timestamp())),
        "sensor_id": sensor_id,
        "species": "Litoria ewingii",
        "confidence": 63.64,
    }
    topic = f"iotingestion/{node}"
    return Message(topic, json.dumps(fields).encode(), RECEIVED_AT_MS + hour, node)


def tone(seconds: float = 0.2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8_000)
        wav.writeframes(bytes(range(200)) * int(seconds * 80))
    return file.getvalue()


# ---------------------------------------------------------------------- health


async def test_an_endpoint_with_a_problem_is_named_and_fails_nothing(site: Site) -> None:
    site.conditions.problems["endpoints"] = {"farm": "it cannot be reached"}
    degraded = {"status": "degraded", "endpoints": {"farm": "it cannot be reached"}}
    for path in ("/readyz", "/healthz", "/"):
        assert await site.get(path) == (200, degraded)
    assert await site.get("/livez") == (200, {"status": "ok"})
    site.conditions.problems["ready"] = {"journal": "no room"}
    failing = degraded | {"status": "failing", "problems": {"journal": "no room"}}
    assert await site.get("/readyz") == (503, failing)


@pytest.mark.parametrize(
    ("path", "part"),
    [("/livez", "live"), ("/readyz", "ready"), ("/healthz", "healthy"), ("/", "healthy")],
)
async def test_a_health_page_fails_with_the_reason_and_recovers(
    site: Site, path: str, part: str
) -> None:
    assert await site.get(path) == (200, {"status": "ok"})
    site.conditions.problems[part] = {"broker": "nothing was heard for 31 s"}
    assert await site.get(path) == (
        503,
        {"status": "failing", "problems": {"broker": "nothing was heard for 31 s"}},
    )
    async with site.http.head(path) as reply:
        assert (reply.status, await reply.read()) == (503, b"")
    site.conditions.problems[part] = {}
    async with site.http.head(path) as reply:
        assert (reply.status, await reply.read()) == (200, b"")
        assert reply.headers["Cache-Control"] == "no-store"


@contextlib.asynccontextmanager
async def slow_downloads(site: Site, path: str) -> AsyncIterator[list[aiohttp.ClientResponse]]:
    """Begin as many downloads as there are turns, from two addresses, and take nothing of them."""
    async with contextlib.AsyncExitStack() as slow:
        replies = []
        for number in range(reader.DOWNLOADS_MAX):
            first = number < reader.DOWNLOADS_OF_ADDRESS_MAX
            connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{2 if first else 3}", 0))
            http = aiohttp.ClientSession(connector=connector, headers=WITH_TOKEN)
            await slow.enter_async_context(http)
            address = f"http://127.0.0.1:{site.port}{path}"
            replies.append(await slow.enter_async_context(http.get(address)))
        yield replies


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/records/1/clip", "/console/calls/1/clip"])
async def test_slow_downloads_hold_up_no_question_and_no_health_check(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(reader, "WAIT_SECONDS_MAX", 0.2)
    clip = tone(1800.0)  # more than the buffers between us hold
    site.store(Message("iotingestion/ridge-07/recording", clip, RECEIVED_AT_MS, "ridge-07"))
    async with slow_downloads(site, path) as replies:
        for question in ("/healthz", "/livez", "/api/ledger", "/api/records", "/api/records/1"):
            assert (await site.get(question))[0] == 200
        async with site.http.get(path) as further:
            assert (further.status, "try again" in await further.text()) == (503, True)
        for reply in replies:
            assert await reply.read() == clip
    async with site.http.get(path) as again:
        assert again.status == 200


@pytest.mark.slow
async def test_answers_that_are_not_taken_hold_up_no_question(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WAIT_SECONDS_MAX", 0.2)
    properties = (("a", "b" * 60_000),)
    site.store(*(Message("t", b"{", RECEIVED_AT_MS, None, properties) for _ in range(50)))
    token = f"Authorization: Bearer {HTTP_TOKEN}"
    request = f"GET /api/dead-letters HTTP/1.1\r\nHost: localhost\r\n{token}\r\n\r\n"
    with contextlib.ExitStack() as slow:
        for _ in range(2 * reader.QUESTIONS_MAX):
            one = slow.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(one, ("127.0.0.1", site.port))
            await loop.sock_sendall(one, request.encode())
            assert (await loop.sock_recv(one, 12)) == b"HTTP/1.1 200"
        assert (await site.get("/api/dead-letters/1"))[0] == 200


@pytest.mark.slow
async def test_one_address_cannot_have_all_turns_to_download(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WAIT_SECONDS_MAX", 0.2)
    clip = tone(1800.0)
    site.store(Message("iotingestion/ridge-07/recording", clip, RECEIVED_AT_MS, "ridge-07"))
    async with contextlib.AsyncExitStack() as slow:
        for _ in range(reader.DOWNLOADS_OF_ADDRESS_MAX):
            await slow.enter_async_context(site.http.get("/api/records/1/clip"))
        assert (await site.get("/api/records/1/payload"))[0] == 503
        elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        other = aiohttp.ClientSession(connector=elsewhere, headers=WITH_TOKEN)
        await slow.enter_async_context(other)
        async with other.get(f"http://127.0.0.1:{site.port}/api/records/1/clip") as reply:
            assert await reply.read() == clip


@pytest.mark.slow
async def test_messages_that_were_refused_are_downloaded_in_turn_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WAIT_SECONDS_MAX", 0.2)
    site.store(Message("iotingestion/ridge-07", bytes(30_000_000), RECEIVED_AT_MS, "ridge-07"))
    path = "/console/refused/letters/1/payload"
    async with slow_downloads(site, path), site.http.get(path) as further:
        assert further.status == 503


@pytest.mark.slow
async def test_a_request_that_takes_too_long_is_ended_and_gives_its_turn_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tone(1800.0)
    site.store(Message("iotingestion/ridge-07/recording", clip, RECEIVED_AT_MS, "ridge-07"))
    monkeypatch.setattr(reader, "REQUEST_SECONDS_MAX", 0.0)
    for _ in range(reader.QUESTIONS_MAX + 1):
        status, body = await site.get("/api/records")
        assert (status, "ask for less" in body["error"]) == (503, True)
    monkeypatch.setattr(reader, "REQUEST_SECONDS_MAX", 1.0)
    async with slow_downloads(site, "/api/records/1/clip") as replies:
        assert (await site.get("/api/records/2/clip"))[0] == 404  # waits until one is ended
        with pytest.raises(aiohttp.ClientPayloadError):
            await replies[0].read()


async def test_two_thousand_health_checks_on_fifty_connections_are_all_answered(
    site: Site,
) -> None:
    async def ask() -> list[int]:
        return [(await site.get("/healthz"))[0] for _ in range(40)]

    answers = await asyncio.gather(*(ask() for _ in range(50)))
    assert {status for statuses in answers for status in statuses} == {200}


async def test_metrics_are_sampled_at_each_scrape(site: Site) -> None:
    for scrape in (1, 2):
        body, headers = await site.download("/metrics")
        assert f"echo_ingest_echo_age_seconds {scrape}.0" in body.decode().splitlines()
        assert headers["Content-Type"].startswith("text/plain; version=")


# ---------------------------------------------------------------------- ledger and records


async def test_the_ledger_is_the_journals(site: Site) -> None:
    site.store(detection(1), detection(2), detection(1), Message("t", b"{", RECEIVED_AT_MS))
    site.journal.settle(SINK, [1], {1: Refused("unknown species")})
    status, ledger = await site.get("/api/ledger")
    lag_seconds = ledger["sinks"][SINK].pop("lag_seconds")
    assert status == 200
    assert lag_seconds >= 0
    assert ledger == {
        "received": 4,
        "stored": 2,
        "duplicates": 1,
        "dead_letters": 1,
        "ignored": 0,
        "unclaimed": 0,
        "discarded": 0,
        "lost": 0,
        "sinks": {
            SINK: {"delivered": 0, "parked": 1, "backlog": 1, "skipped": 0, "paused_at_ms": None}
        },
    }


async def test_a_record_is_shown_as_it_was_decoded(site: Site) -> None:
    site.store(detection(5))
    status, record = await site.get("/api/records/1")
    assert status == 200
    assert record.pop("key")[:8] == f"{int(datetime(2026, 9, 14, 5, tzinfo=UTC).timestamp()):08x}"
    assert record == {
        "offset": 1,
        "index": 0,
        "received_at": "2026-09-14T05:50:00.128000Z",
        "topic": "iotingestion/ridge-07",
        "record": {
            "kind": "detection",
            "form": "edge-prediction",
            "node": "ridge-07",
            "sensor_id": "node-7",
            "observed_at": "2026-09-14T05:00:00Z",
            "time_source": "device",
            "species": "Litoria ewingii",
            "confidence": 0.6364,
        },
        "problem": None,
        "audio_reference": None,
    }


async def test_a_record_says_why_its_time_is_not_what_the_device_wrote(site: Site) -> None:
    fields = {"sensor_id": "node-7", "species": "nocall", "confidence": 50,
              "timestamp": "2036-02-07T06:28:16Z"}  # fmt: skip
    topic = "iotingestion/ridge-07"
    site.store(Message(topic, json.dumps(fields).encode(), RECEIVED_AT_MS, "ridge-07"))
    _, stored = await site.get("/api/records/1")
    record = stored["record"]
    assert (record["time_source"], record["time_problem"]) == ("received", "after_receipt")
    assert record["device_time"] == "2036-02-07T06:28:16Z"
    assert record["observed_at"] == stored["received_at"]
    async with site.http.get("/api/openapi.json") as reply:
        schemas = json.loads(await reply.read())["components"]["schemas"]
    described = json.dumps(schemas)
    for name in ("time_problem", "device_time", "observation_type", "external_power"):
        assert f'"{name}"' in described
    assert all(f'"{problem}"' in described for problem in (*TimeProblem, *ClipProblem))


async def test_records_are_newest_first_and_read_on_with_before(site: Site) -> None:
    site.store(*(detection(hour) for hour in range(10)))
    seen: list[int] = []
    query: dict[str, int] = {}
    while True:
        _, page = await site.get("/api/records", limit=4, **query)
        if page["next"] is None:
            break
        seen += [record["offset"] for record in page["records"]]
        query = {"before": page["next"]}
    assert seen == list(range(10, 0, -1))


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({"node": "creek"}, [2]),
    ({"kind": "detection"}, [3, 2, 1]),
    ({"kind": "movement"}, []),
    ({"since": "2026-09-14T02:00:00Z"}, [3, 2]),
    ({"until": "2026-09-14T02:00:00Z"}, [1]),
    ({"since": "2026-09-14T11:30:00+10:00", "until": "2026-09-14T12:30:00+10:00"}, [2]),
    ({"limit": "1", "node": "ridge-07"}, [3]),
]


async def test_filters_narrow_the_records_down(site: Site) -> None:
    site.store(detection(1), detection(2, node="creek"), detection(3))
    for query, offsets in FILTERS:
        _, page = await site.get("/api/records", **query)
        assert [record["offset"] for record in page["records"]] == offsets, query


def test_the_kinds_one_can_ask_for_are_those_there_are() -> None:
    assert get_args(api.Kind) == KINDS


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_clip_comes_out_byte_for_byte(site: Site, as_json: bool) -> None:
    clip = tone()
    payload = clip
    if as_json:
        payload = json.dumps({"audio_file": base64.b64encode(clip).decode()}).encode()
    site.store(Message("iotingestion/ridge-07/recording", payload, RECEIVED_AT_MS, "ridge-07"))
    body, headers = await site.download("/api/records/1/clip")
    assert body == clip
    assert headers["Content-Type"] == "audio/wav"
    assert headers["Content-Disposition"] == 'attachment; filename="record-1.wav"'
    assert headers["Content-Length"] == str(len(clip))
    body, headers = await site.download("/api/records/1/payload")
    assert body == payload
    assert headers["Content-Type"] == "application/octet-stream"


PARTS: list[tuple[dict[str, str], int, slice]] = [
    ({}, 200, slice(0, 244)),
    ({"Range": "bytes=0-9"}, 206, slice(0, 10)),
    ({"Range": "bytes=234-"}, 206, slice(234, 244)),
    ({"Range": "bytes=234-1000"}, 206, slice(234, 244)),
    ({"Range": "bytes=-7"}, 206, slice(237, 244)),
    ({"Range": "bytes=-1000"}, 206, slice(0, 244)),
    ({"Range": "bytes=244-"}, 416, slice(0, 0)),
    ({"Range": "bytes=-0"}, 416, slice(0, 0)),
    ({"Range": "bytes=9-0"}, 200, slice(0, 244)),
    ({"Range": "bytes=0-1,5-6"}, 200, slice(0, 244)),
    ({"Range": "bytes=-"}, 200, slice(0, 244)),
    ({"Range": "frogs=0-1"}, 200, slice(0, 244)),
    ({"Range": "bytes=0-"}, 206, slice(0, 244)),
    ({"Range": "bytes=10-", "Sec-Fetch-Dest": "audio"}, 206, slice(10, 60)),
    ({"Range": "bytes=10-243", "Sec-Fetch-Dest": "audio"}, 206, slice(10, 244)),
]


async def test_a_part_of_a_clip_can_be_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tone(1 / 80)
    monkeypatch.setattr(downloads, "PLAYED_BYTES_MAX", 50)
    site.store(Message("iotingestion/ridge-07/recording", clip, RECEIVED_AT_MS, "ridge-07"))
    for headers, status, part in PARTS:
        async with site.http.get("/api/records/1/clip", headers=headers) as reply:
            body = await reply.read()
        assert (reply.status, body) == (status, clip[part]), headers
        assert reply.headers["Accept-Ranges"] == "bytes"
        assert reply.headers["Content-Length"] == str(len(body))
        span = f"{part.start}-{part.stop - 1}" if body else "*"
        assert reply.headers.get("Content-Range") == (
            None if status == 200 else f"bytes {span}/244"
        )


async def test_a_damaged_record_says_so_and_its_bytes_can_still_be_had(site: Site) -> None:
    site.store(Message("iotingestion/ridge-07/recording", tone(), RECEIVED_AT_MS, "ridge-07"))
    other = apsw.Connection(str(site.path))
    other.execute("UPDATE record SET payload = x'00'")
    other.close()
    status, record = await site.get("/api/records/1")
    assert (status, record["record"]) == (200, None)
    assert record["problem"].startswith("damaged")
    status, body = await site.get("/api/records/1/clip")
    assert (status, "damaged" in body["error"]) == (404, True)
    assert (await site.download("/api/records/1/payload"))[0] == b"\0"


# ---------------------------------------------------------------------- dead letters and parked


async def test_dead_letters_are_listed_shown_and_downloaded(site: Site) -> None:
    payload = b"\xff<script>"
    site.store(
        *(Message(f"t/{n}", b"{", RECEIVED_AT_MS) for n in range(3)),
        Message("iotingestion/creek", payload, RECEIVED_AT_MS, "creek", (("a", "b"),)),
    )
    _, first = await site.get("/api/dead-letters", limit=3)
    _, second = await site.get("/api/dead-letters", limit=3, after=first["next"])
    assert [d["id"] for d in first["dead_letters"] + second["dead_letters"]] == [1, 2, 3, 4]
    _, of_node = await site.get("/api/dead-letters", node="creek")
    _, by_reason = await site.get("/api/dead-letters", reason=of_node["dead_letters"][0]["reason"])
    assert by_reason["dead_letters"][-1:] == of_node["dead_letters"]
    _, shown = await site.get("/api/dead-letters/4")
    assert shown == of_node["dead_letters"][0]
    assert shown.pop("reason")
    assert shown == {
        "id": 4,
        "received_at": "2026-09-14T05:50:00.123000Z",
        "node": "creek",
        "topic": "iotingestion/creek",
        "properties": [["a", "b"]],
        "size_bytes": len(payload),
    }
    site.store(Message("t/empty", b"", RECEIVED_AT_MS))
    assert (await site.download("/api/dead-letters/5/payload"))[0] == b""
    body, headers = await site.download("/api/dead-letters/4/payload")
    assert body == payload
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_parked_records_are_listed_with_the_sinks_words(site: Site) -> None:
    site.store(*(detection(hour) for hour in range(3)))
    site.journal.settle(SINK, [1, 2], {1: Refused("unknown species"), 2: Refused("no such node")})
    site.journal.request_replay(SINK, [2])
    status, page = await site.get("/api/parked", sink=SINK, limit=1)
    assert (status, page["total"]) == (200, 2)
    (parked,) = page["parked"]
    assert datetime.fromisoformat(parked.pop("parked_at")).tzinfo is not None
    assert parked == {
        "sink": SINK,
        "offset": 1,
        "reason": "unknown species",
        "attempts": 1,
        "replay_requested": False,
        "node": "ridge-07",
        "topic": "iotingestion/ridge-07",
        "size_bytes": len(detection(0).payload),
    }
    assert [p["replay_requested"] for p in (await site.get("/api/parked"))[1]["parked"]] == [
        False,
        True,
    ]


async def test_parked_records_are_read_on_from_an_offset_and_by_node(site: Site) -> None:
    site.store(*(detection(hour, node=f"n{hour % 2}") for hour in range(6)))
    site.journal.settle(SINK, range(1, 6), {offset: Refused("no") for offset in range(1, 6)})

    async def offsets(**query: str | int) -> list[int]:
        return [p["offset"] for p in (await site.get("/api/parked", **query))[1]["parked"]]

    assert await offsets(sink=SINK, limit=2) == [1, 2]
    assert await offsets(sink=SINK, limit=2, after=2) == [3, 4]
    assert await offsets(sink=SINK, after=5) == []
    assert await offsets(node="n1") == [2, 4]
    assert (await site.get("/api/parked", node="n1", after=2))[1]["total"] == 2


async def test_nodes_are_counted_by_day_and_outlive_their_records(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = b'{"status": "online", "id": "1"}'
    site.store(detection(1), *(Message("iotingestion", status, RECEIVED_AT_MS),) * 2)
    for day in (1, 2):
        at_ms = RECEIVED_AT_MS + day * 86_400_000
        site.store(Message("iotingestion/creek", b'{"status": "online"}', at_ms, "creek"))
    site.journal.settle(SINK, [1, 2, 3], {})
    assert site.journal.trim(RECEIVED_AT_MS + 86_400_000) == 1
    code, page = await site.get("/api/nodes")
    assert (code, page["more"]) == (200, False)
    assert [(each["day"], each["node"]) for each in page["nodes"]] == [
        ("2026-09-16", "creek"),
        ("2026-09-15", "creek"),
        ("2026-09-14", None),
        ("2026-09-14", "ridge-07"),
    ]
    first_heard = "2026-09-14T05:50:00.124000Z"
    assert (await site.get("/api/nodes", node="ridge-07"))[1]["nodes"] == [
        {
            "node": "ridge-07",
            "day": "2026-09-14",
            "received": 1,
            "stored": 1,
            "duplicates": 0,
            "dead_letters": 0,
            "ignored": 0,
            "unclaimed": 0,
            "discarded": 0,
            "received_bytes": len(detection(1).payload),
            "first_heard_at": first_heard,
            "last_heard_at": first_heard,
        }
    ]
    assert len((await site.get("/api/nodes", since="2026-09-15"))[1]["nodes"]) == 2
    monkeypatch.setattr(api, "NODE_DAYS_MAX", 3)
    page = (await site.get("/api/nodes"))[1]
    assert (len(page["nodes"]), page["more"]) == (3, True)


# ---------------------------------------------------------------------- errors and limits


ERRORS = [
    ("/api/records?limit=501", 400, "limit must be a whole number from 1 to 500"),
    ("/api/records?limit=ten&before=0", 400, "before must be an offset"),
    ("/api/records?limit=1&limit=2", 400, "'limit' is unknown or given twice"),
    (
        "/api/records?kind=bird",
        400,
        "kind must be detection, recording, telemetry, movement or measurement",
    ),
    ("/api/records?since=2026-09-14T05:45:12", 400, "since must be a time with its zone"),
    ("/api/records?since=0001-01-01T00:00:00%2B14:00&until=9999-12-31T23:59:59-14:00", 200, ""),
    ("/api/records?since=1789365000", 400, "since must be a time with its zone"),
    ("/api/records?until=2026-09-14T05:45:12+10:00", 400, "send + as %2B"),
    (
        "/api/records?nodes=creek",
        400,
        "'nodes' is unknown or given twice; allowed, once each: before, kind",
    ),
    (
        "/api/records/1?offset=2",
        400,
        "'offset' is unknown or given twice; allowed, once each: index",
    ),
    ("/api/records/1?index=1", 404, "message 1 has 1 record, and none with the index 1"),
    ("/api/records/1?index=1000", 400, "index must be a whole number from 0 to 999"),
    ("/api/records/7", 404, "there is no record 7; the newest one is 1"),
    ("/api/records/0", 400, "offset must be a whole number from 1"),
    ("/api/records/99999999999999999999", 400, "offset must be a whole number from 1"),
    ("/api/records/one", 404, "there is nothing at /api/records/one"),
    ("/api/records/1/clip", 404, "record 1 has no clip"),
    ("/api/records/1/clip?request=1", 400, "'request' is unknown"),
    ("/api/dead-letters/9", 404, "there is no dead letter 9"),
    ("/api/dead-letters/9/payload", 404, "there is no dead letter 9"),
    ("/api/nodes?since=yesterday", 400, "since must be a day in UTC, such as 2026-09-14"),
    ("/api/nodes?limit=3", 400, "allowed, once each: node, since"),
    ("/api/parked?sink=s3", 404, "there is no sink 's3'; known sinks: echo_api"),
    ("/api", 404, "/api/openapi.json lists"),
    ("/nothing%2Fhere", 404, "there is nothing at"),
    ("/api/records?node=%ff%00", 200, ""),
]


async def test_an_error_says_what_to_send(site: Site) -> None:
    site.store(detection(1))
    for path, status, words in ERRORS:
        async with site.http.get(URL(f"http://127.0.0.1:{site.port}{path}", encoded=True)) as reply:
            body = await reply.json()
            assert (reply.status, words in body.get("error", "")) == (status, True), (path, body)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-store"
            assert "Server" not in reply.headers


async def test_nothing_can_be_written(site: Site) -> None:
    for path in ("/api/records", "/healthz", "/metrics"):
        async with site.http.post(path, data=b"x" * 1_000_000) as reply:
            assert reply.status == 405
            assert "read-only" in (await reply.json())["error"]


async def test_a_journal_that_is_not_there_is_a_503_with_a_remedy(tmp_path: Path) -> None:
    port = free_port()
    journal = Journal(tmp_path / "elsewhere.db")
    app = web.create_app(Fine(journal), Settings(data_dir=tmp_path), TOKENS)
    async with (
        serving(app, port),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=WITH_TOKEN) as http,
        http.get("/api/records") as reply,
    ):
        assert reply.status == 503
        assert "IOT_DATA_DIR" in (await reply.json())["error"]
    journal.close()


async def test_a_body_that_never_ends_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.2)
    source, sink = await asyncio.open_connection("127.0.0.1", site.port)
    sink.write(b"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000000\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await source.readline()).startswith(b"HTTP/1.1 405")
        with pytest.raises(ConnectionError):
            while True:  # until the server has closed
                sink.write(bytes(1_000))
                await sink.drain()
                await asyncio.sleep(0.01)
    sink.close()


async def test_oversized_headers_and_broken_http_are_turned_away(site: Site) -> None:
    for request in (
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 100_000,
        b"\x10\x0c\x00\x04MQTT\x05\x02",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        source, sink = await asyncio.open_connection("127.0.0.1", site.port)
        sink.write(request)
        async with asyncio.timeout(10):
            assert (await source.readline()).startswith(b"HTTP/1.1 4"), request[:40]
        sink.close()
    assert (await site.get("/healthz"))[0] == 200


async def test_a_mistake_of_ours_is_a_500_without_its_details(site: Site) -> None:
    site.conditions.problems.clear()
    assert await site.get("/livez") == (
        500,
        {"error": "the service failed to answer; its log says more"},
    )
    assert (await site.get("/api/records"))[0] == 200


async def test_the_api_describes_itself_without_other_hosts(site: Site) -> None:
    async with site.http.get("/api/openapi.json") as reply:
        schema = json.loads(await reply.read())
    assert set(schema["paths"]) >= {"/healthz", "/api/ledger", "/api/records/{offset}/clip"}
    kinds = schema["components"]["schemas"]["StoredRecord"]["properties"]["record"]["oneOf"]
    assert len(kinds) == len(KINDS) + 1
    for path in (
        "/api",
        "/schema",
        "/docs",
        "/api/openapi.json/swagger",
        "/api/openapi.json/scalar",
    ):
        async with site.http.get(path) as reply:
            assert reply.status == 404


# ---------------------------------------------------------------------- who may read


async def test_all_but_health_and_metrics_asks_for_the_token(site: Site) -> None:
    site.store(detection(1))
    async with site.http.get("/api/openapi.json") as reply:
        schema = json.loads(await reply.read())
    pages = {path: page["get"] for path, page in schema["paths"].items() if "get" in page}
    asking = {path for path, page in pages.items() if "security" in page}
    asking.add("/api/openapi.json")
    open_to_all = pages.keys() - asking
    assert open_to_all == {"/", "/healthz", "/livez", "/readyz", "/metrics"}
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{site.port}") as stranger:
        for path in open_to_all:
            async with stranger.get(path) as reply:
                assert reply.status == 200, path
        for path in asking:
            async with stranger.get(path.format(offset=1, number=1, name="detection")) as reply:
                assert reply.status == 401, path
                assert reply.headers["WWW-Authenticate"] == 'Bearer realm="echo-ingest"'
                assert reply.headers["X-Content-Type-Options"] == "nosniff"
                assert "IOT_HTTP_TOKEN" in (await reply.json())["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"Bearer {HTTP_TOKEN}"], 200),
        ([f"bearer  {HTTP_TOKEN} "], 200),
        ([f"Bearer {HTTP_TOKEN}x"], 401),
        ([f"Bearer {HTTP_TOKEN[:-1]}"], 401),
        ([f"Bearer {HTTP_TOKEN[:-1]}x"], 401),
        ([f"Bearer x{HTTP_TOKEN[1:]}"], 401),
        (["Bearer"], 401),
        (["Bearer "], 401),
        ([HTTP_TOKEN], 401),
        ([f"Basic {HTTP_TOKEN}"], 401),
        ([f"Bearer {HTTP_TOKEN}", "Bearer x"], 401),
        (["Bearer \xff"], 401),
    ],
)
async def test_only_the_token_will_do(site: Site, headers: list[str], status: int) -> None:
    source, sink = await asyncio.open_connection("127.0.0.1", site.port)
    lines = "".join(f"Authorization: {each}\r\n" for each in headers)
    sink.write(f"GET /api/ledger HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode("latin-1"))
    async with asyncio.timeout(10):
        assert (await source.readline()).startswith(b"HTTP/1.1 %d " % status)
    sink.close()


async def test_an_address_that_guesses_has_to_wait_and_others_do_not(site: Site) -> None:
    wrong = {"Authorization": "Bearer guess"}
    for _ in range(20):  # as docs/access.md says
        async with site.http.get("/api/ledger", headers=wrong) as reply:
            assert reply.status == 401
            assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
    async with site.http.get("/api/ledger") as reply:  # even with the right one
        assert reply.status == 429
        assert 1 <= int(reply.headers["Retry-After"]) <= 3
    assert (await site.get("/healthz"))[0] == 200
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        aiohttp.ClientSession(
            f"http://127.0.0.1:{site.port}", connector=elsewhere, headers=WITH_TOKEN
        ) as other,
        other.get("/api/ledger") as reply,
    ):
        assert reply.status == 200


def test_guesses_are_forgotten_in_time_and_their_count_takes_little_memory() -> None:
    seconds = [0.0]
    refusals = failed_attempts.FailedAttempts(lambda: seconds[0])
    for _ in range(20):
        assert refusals.wait_seconds("a") == 0
        refusals.count("a")
    assert refusals.wait_seconds("a") == 3
    seconds[0] = 3.0
    assert refusals.wait_seconds("a") == 0
    refusals.count("a")
    assert refusals.wait_seconds("a") == 3
    for number in range(10_000):
        refusals.count(f"{number}")
    assert len(refusals) == 1_000


# ---------------------------------------------------------------------- start and stop


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"{port} .*IOT_HTTP_PORT"):
            listen("127.0.0.1", port)
    with pytest.raises(OSError, match="IOT_BIND"):
        listen("192.0.2.1", port)


async def test_a_cancelled_server_frees_its_port_though_clients_stay_connected(
    tmp_path: Path,
) -> None:
    port = free_port()
    journal = Journal(tmp_path / "journal.db")
    app = web.create_app(Fine(journal), Settings(data_dir=tmp_path), TOKENS)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=WITH_TOKEN) as http:
        for _ in range(2):  # the second start finds the port free
            async with serving(app, port) as task, http.get("/livez") as reply:
                assert reply.status == 200
            assert task.cancelled()
    journal.close()
