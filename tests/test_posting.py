"""Messages by HTTP: `POST /ingest/<node>` as docs/http.md says it, with real programs."""

import asyncio
import base64
import contextlib
import http.client
import json
import signal
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from litestar import Litestar, post
from litestar.exceptions import HTTPException

from echo_ingest import web
from echo_ingest.mqtt import ConnectionLost
from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.settings import Settings
from echo_ingest.web import connections, posting
from echo_ingest.web.buckets import KEYS_MAX, LeakyBuckets
from echo_ingest.web.posting import bodies, incoming, node_sessions
from echo_ingest.web.posting.bodies import MessagesUnderWay
from echo_ingest.web.posting.incoming import Account, TopicPattern
from echo_ingest.web.posting.node_sessions import NodeSessions
from echo_ingest.web.problems import AnyRequest
from tests.harness import PUB_PASSWORD, SUB_PASSWORD, TOKENS, Device, Harness, eventually, free_port
from tests.test_access import make_node
from tests.test_receipts import detection
from tests.test_web import Fine, Site, serving, tone

NODE = "ridge-07"
STATUS = b'{"id": "m1", "status": "online"}'
THINGS_STACK = {
    "Content-Type": "application/json",
    "User-Agent": "TheThingsStack/3.34.0 (linux/amd64)",
    "X-Downlink-Apikey": "NNSXS.EXAMPLE",
    "X-Downlink-Push": "https://lora.example/api/v3/as/applications/frogs/webhooks/echo/"
    "devices/pond-3/down/push",
    "X-Downlink-Replace": "https://lora.example/api/v3/as/applications/frogs/webhooks/echo/"
    "devices/pond-3/down/replace",
    "X-Tts-Domain": "lora.example",
    "X-Forwarded-Proto": "https",
    "Host": "echo.example",
}
"""What the network server sends, through a proxy with TLS."""


class Answer:
    """What a post is answered with."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.body: dict[str, Any] = json.loads(reply.read())

    @property
    def error(self) -> str:
        return str(self.body["error"])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def send(harness: Harness, path: str, body: bytes = STATUS, **given: Any) -> Answer:
    """Post a body as a device does: again, while the answer is that nothing can be stored now."""
    while (answer := send_once(harness, path, body, **given)).status == 503:
        pass
    return answer


def send_once(
    harness: Harness,
    path: str,
    body: bytes = STATUS,
    *,
    account: tuple[str, str] | None = ("echopub", PUB_PASSWORD),
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Post a body, and return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", harness.http_port, timeout=40)
    login = {} if account is None else {"Authorization": basic(*account)}
    with contextlib.closing(connection):
        connection.request("POST", path, body, {**login, **(headers or {})})
        return Answer(connection.getresponse())


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


# ---------------------------------------------------------------------- what becomes of a message


@pytest.mark.slow
def test_the_receipt_is_the_answer_and_the_ledger_closes(harness: Harness) -> None:
    harness.up()
    account = (NODE, make_node(harness, NODE))
    eventually(lambda: send(harness, f"/ingest/{NODE}", account=account).status != 401)

    first = send(harness, f"/ingest/{NODE}", detection(1), account=account)
    assert (first.status, first.body["outcome"]) == (201, "stored")
    status, record = harness.http(first.headers["Location"])
    assert (status, record["topic"]) == (200, f"iotingestion/{NODE}")
    assert record["record"]["species"] == "Litoria ewingii"

    again = send(harness, f"/ingest/{NODE}", detection(1), account=account)
    assert again.status == 200
    assert again.body == {"outcome": "duplicate", "offset": first.body["offset"]}

    rejected = send(harness, f"/ingest/{NODE}", b"rubbish", account=account)
    assert (rejected.status, rejected.body["outcome"]) == (422, "rejected")
    assert 'text "rubbish"' in rejected.body["reason"]

    clip = send(
        harness,
        f"/ingest/{NODE}/recording?file_name=20261004_203000.wav&id=c1&latitude=-37.5&longitude=145",
        tone(),
        account=account,
        headers={"Content-Type": "application/json"},  # it decides nothing
    )
    assert (clip.status, clip.body["id"]) == (201, "c1")
    record = harness.http(clip.headers["Location"])[1]
    assert record["topic"] == f"iotingestion/{NODE}/recording"
    assert record["record"]["clip_reference"] == "20261004_203000.wav"
    assert record["record"]["place"] == {"latitude": -37.5, "longitude": 145.0}
    assert harness.http_bytes(f"{clip.headers['Location']}/clip") == tone()

    ledger = harness.ledger_now()
    assert (ledger["received"], ledger["stored"]) == (5, 3)
    assert (ledger["duplicates"], ledger["dead_letters"]) == (1, 1)
    assert {day["node"] for day in harness.http("/api/nodes")[1]["nodes"]} == {NODE}


@pytest.mark.slow
def test_the_broker_decides_who_may_post_and_where(harness: Harness) -> None:
    harness.up()
    password = make_node(harness, NODE)
    other = ("creek-02", make_node(harness, "creek-02"))
    own, mine = f"/ingest/{NODE}", (NODE, password)
    eventually(lambda: send(harness, own, account=mine).status in (200, 201))
    eventually(lambda: send(harness, "/ingest/creek-02", account=other).status in (200, 201))
    before = harness.ledger_now()

    for account in (None, (NODE, "wrong"), ("nobody", password), ("", ""), (NODE, "")):
        answer = send(harness, own, account=account)
        assert answer.status == 401, account
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="echo-ingest"')
        assert "nodes add" in answer.error
    for path in (
        "/ingest/creek-02",
        "/ingest/creek-02/recording",
        f"/ingest/{NODE}?topic=iotingestion/creek-02",
        "/ingest/creek-02%2Frecording",
    ):
        answer = send(harness, path, account=mine)
        assert (answer.status, "may not publish on" in answer.error) == (403, True), path
    assert harness.ledger_now() == before

    assert send(harness, own, b'{"id": "m2", "status": "online"}', account=mine).status == 201
    assert harness.cli("nodes", "disable", NODE).returncode == 0
    eventually(lambda: send(harness, own, account=mine).status == 401, seconds=10)
    assert send(harness, "/ingest/creek-02", account=other).status == 200

    new = (NODE, make_node(harness, NODE, "rotate"))
    assert harness.cli("nodes", "enable", NODE).returncode == 0
    eventually(lambda: send(harness, own, account=new).status == 200, seconds=10)
    assert send(harness, own, account=mine).status == 401


@pytest.mark.slow
def test_wrong_passwords_are_counted_and_lock_out_nobody_who_is_logged_in(
    one_harness: Harness,
) -> None:
    one_harness.up()
    assert send(one_harness, "/ingest/creek").status == 201
    wrong = ("echopub", "wrong")
    statuses = [send(one_harness, "/ingest/creek", account=wrong).status for _ in range(25)]
    assert set(statuses[:20]) == {401}
    assert statuses[-1] == 429
    answer = send(one_harness, "/ingest/creek", account=wrong)
    assert "too many wrong passwords for echopub" in answer.error
    assert int(answer.headers["Retry-After"]) >= 1
    assert send(one_harness, "/ingest/creek").status == 200, "this one has a session"
    assert send(one_harness, "/ingest/x", account=("other", "x")).status == 401
    assert one_harness.log("up").count("wrong password in a post") <= 21


@pytest.mark.slow
def test_where_an_account_has_one_connection_a_post_fights_with_no_device(
    tmp_path: Path, mosquitto: Path
) -> None:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto, IOT_ECHOPUB="false")
    try:
        harness.up()
        password = make_node(harness, NODE)
        eventually(lambda: send(harness, f"/ingest/{NODE}", account=(NODE, password)).status == 201)
        device = Device(harness.mqtt_port, NODE, password)  # which ends the session of the post
        assert device.received_topics(4.0) == []
        assert device.is_connected(), "nothing else has connected in its name"
        assert send(harness, f"/ingest/{NODE}", account=(NODE, password)).status == 200
    finally:
        harness.close()


@pytest.mark.slow
def test_what_is_too_large_or_wrapped_is_refused_in_words(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data", IOT_PAYLOAD_BYTES_MAX="100000")
    try:
        harness.up()
        assert send(harness, "/ingest/creek", b"x" * 100_000).status == 422, "as large as may be"
        answer = send(harness, "/ingest/creek", b"x" * 100_001)
        assert (answer.status, "may have 100,000 bytes" in answer.error) == (413, True)
        assert _chunked(harness, [b"x" * 50_000, b"x" * 50_001]) == 413
        assert _chunked(harness, [STATUS[:10], STATUS[10:]]) == 201
        for headers, words in (
            ({"Content-Type": "multipart/form-data; boundary=x"}, "the message itself"),
            ({"Content-Type": "application/json; charset=latin1"}, "as UTF-8"),
            ({"Content-Encoding": "gzip"}, "not compressed"),
        ):
            answer = send(harness, "/ingest/creek", headers=headers)
            assert (answer.status, words in answer.error) == (415, True), headers
        ledger = harness.ledger_now()
        assert (ledger["received"], ledger["stored"], ledger["dead_letters"]) == (2, 1, 1)
    finally:
        harness.close()


def _chunked(harness: Harness, pieces: list[bytes]) -> int:
    """Post a body that does not say how large it is; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", harness.http_port, timeout=40)
    with contextlib.closing(connection):
        headers = {"Authorization": basic("echopub", PUB_PASSWORD)}
        connection.request("POST", "/ingest/creek", iter(pieces), headers, encode_chunked=True)
        return connection.getresponse().status


@pytest.mark.slow
def test_while_the_broker_is_away_a_device_is_told_to_come_again(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    try:
        broker = harness.start("broker")
        harness.wait_healthy(harness.start("run", harness.data_dir.with_suffix(".up.log")))
        assert send(harness, "/ingest/creek", detection(1)).status == 201
        assert harness.stop(broker) == 0
        answer = send_once(harness, "/ingest/creek", detection(2))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "nothing can be stored now" in answer.error
        harness.start("broker")
        eventually(
            lambda: send_once(harness, "/ingest/creek", detection(2)).status in (200, 201),
            seconds=30,
        )
        assert harness.ledger_now()["stored"] == 2
    finally:
        harness.close()


@pytest.mark.slow
def test_while_the_line_stands_still_nothing_is_taken_in(one_harness: Harness) -> None:
    program = one_harness.up()
    assert send(one_harness, "/ingest/creek", detection(1)).status == 201
    program.send_signal(signal.SIGSTOP)
    try:
        answer = send_once(one_harness, "/ingest/creek", detection(2))
    finally:
        program.send_signal(signal.SIGCONT)
    assert (answer.status, "has not answered" in answer.error) == (503, True)


@pytest.mark.slow
async def test_what_nothing_has_confirmed_is_not_called_stored(
    one_harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker acknowledges, and nobody puts the message on disk."""
    monkeypatch.setattr(posting, "RECEIPT_SECONDS_MAX", 3.0)
    one_harness.start("broker")

    async def status(client: aiohttp.ClientSession) -> tuple[int, str]:
        headers = {"Authorization": basic("echopub", PUB_PASSWORD)}
        async with client.post("/ingest/creek", data=detection(1), headers=headers) as reply:
            return reply.status, await reply.text()

    async with posting_site(one_harness.data_dir.parent, mqtt_port=one_harness.mqtt_port) as (
        _,
        client,
    ):
        async with asyncio.timeout(90):
            while "cannot be reached" in (answer := await status(client))[1]:
                await asyncio.sleep(0.1)
        assert (answer[0], "nothing has confirmed" in answer[1]) == (503, True), answer
        monkeypatch.undo()  # a slow machine needs longer to store it
        one_harness.start("run")
        async with asyncio.timeout(90):
            while (answer := await status(client))[0] == 503:
                pass
        assert answer[0] in (200, 201), answer


@pytest.mark.slow
async def test_past_the_proxy_a_post_has_the_rights_of_its_account_and_no_more(
    one_harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingestion on another machine reaches mosquitto itself, as in docs/http.md."""
    monkeypatch.setattr(posting, "RECEIPT_SECONDS_MAX", 1.0)  # nobody puts it on disk
    port = free_port()
    one_harness.settings |= {"IOT_SERVICE_PORT": str(port), "IOT_SERVICE_PASSWORD": "x" * 20}
    password = await asyncio.to_thread(make_node, one_harness, NODE)
    one_harness.start("broker")

    def subscribed() -> Device:
        reader = Device(port, "echosub", SUB_PASSWORD)
        reader.subscribe("iotingestion/#", "iotaccounts/#")
        return reader

    reader = await asyncio.to_thread(eventually, subscribed, seconds=60)
    site = posting_site(
        one_harness.data_dir.parent,
        endpoint=f"mqtt://127.0.0.1:{port}",
        user="echo-ingest",
        password="x" * 20,
    )
    async with site as (_, client):
        for address, status in (
            (NODE, 503),
            (f"{NODE}?topic=birdnet", 503),
            (f"{NODE}?topic=iotaccounts/{NODE}/iotingestion/creek-02", 503),
            (f"{NODE}?topic=iotingestion/creek-02", 403),
            (f"{NODE}?topic=iotreceipts/creek-02", 403),
        ):
            headers = {"Authorization": basic(NODE, password)}
            async with client.post(f"/ingest/{address}", data=STATUS, headers=headers) as reply:
                assert reply.status == status, (address, await reply.text())
    assert set(await asyncio.to_thread(reader.received_topics, 1.0)) == {
        f"iotingestion/{NODE}",
        f"iotaccounts/{NODE}/birdnet",
        f"iotaccounts/{NODE}/iotaccounts/{NODE}/iotingestion/creek-02",
    }


# ---------------------------------------------------------------------- webhooks


@pytest.mark.slow
def test_webhooks_of_network_servers_reach_the_topics_of_mqtt(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data", IOT_TOPIC="iotingestion/#,v3/#,application/#")
    try:
        harness.up()
        # The Things Stack puts base URL and path together, and fills in {appID} and {devID}.
        uplink = {
            "end_device_ids": {
                "device_id": "pond-3",
                "application_ids": {"application_id": "frogs"},
                "dev_eui": "70B3D57ED0001234",
            },
            "received_at": "2026-10-05T09:12:44.120Z",
            "uplink_message": {
                "session_key_id": "AZ0kQ9pM2w==",
                "f_port": 2,
                "f_cnt": 41,
                "decoded_payload": {"species": "Limnodynastes tasmaniensis", "confidence": 0.81},
                "received_at": "2026-10-05T09:12:43.900Z",
            },
        }
        address = "/ingest/frogs?topic=v3/frogs/devices/pond-3/up"
        answer = send(harness, address, json.dumps(uplink).encode(), headers=THINGS_STACK)
        assert answer.status == 201, answer.body
        # ChirpStack has one address for all devices, and adds ?event= to it.
        event = {
            "deduplicationId": "6a7e5a0c-3f0c-4b53-9c39-6f0b9d7f1c11",
            "time": "2026-10-05T09:20:00.511Z",
            "deviceInfo": {
                "applicationId": "0e8c6a64-6d2b-4d0e-8f0e-2a4a8f0b7c10",
                "devEui": "70b3d57ed0005678",
            },
            "fCnt": 7,
            "object": {"species": "Crinia signifera", "confidence": 73},
        }
        pattern = urllib.parse.quote(
            "application/{deviceInfo.applicationId}/device/{deviceInfo.devEui}/event/{event}",
            safe="/{}",
        )
        headers = {"Content-Type": "application/json", "Host": "localhost:8080"}
        address = f"/ingest/chirpstack?topic={pattern}&event=up"
        answer = send(harness, address, json.dumps(event).encode(), headers=headers)
        assert answer.status == 201, answer.body

        calls = harness.http("/api/records?kind=detection")[1]["records"]
        assert {
            (call["topic"], call["record"]["form"], call["record"]["species"]) for call in calls
        } == {
            (
                "v3/frogs/devices/pond-3/up",
                "things-stack-uplink",
                "Limnodynastes tasmaniensis",
            ),
            (
                "application/0e8c6a64-6d2b-4d0e-8f0e-2a4a8f0b7c10/device/70b3d57ed0005678/event/up",
                "chirpstack-uplink",
                "Crinia signifera",
            ),
        }
        # The network tries an uplink again: it is the same message.
        again = send(harness, address, json.dumps(event).encode(), headers=headers)
        assert (again.status, again.body["outcome"]) == (200, "duplicate")
        answer = send(harness, address, b'{"deviceInfo": {"applicationId": "a"}}', headers=headers)
        assert answer.status == 400
        assert "the body has no deviceInfo.devEui" in answer.error
    finally:
        harness.close()


# ---------------------------------------------------------------------- the head of a request


def test_a_topic_is_filled_in_from_body_and_address() -> None:
    body = b'{"a": {"b": "x", "n": 7, "bad": "p/q", "no": true, "empty": ""}, "list": [1]}'
    assert TopicPattern("t/{a.b}/{a.n}/{event}", "up").filled(body) == "t/x/7/up"
    assert TopicPattern("plain/topic").filled(b"no JSON") == "plain/topic"
    assert TopicPattern("t/{event}", "up").filled(b"no JSON") == "t/up"
    for text, words in (
        ("t/{a.c}", "the body has no a.c"),
        ("t/{list.0}", "the body has no list.0"),
        ("t/{a.bad}", "a.bad cannot be part of a topic"),
        ("t/{a.no}", "the body has no a.no"),
        ("t/{a.empty}", "the body has no a.empty"),
        ("t/{a}", "the body has no a"),
        ("t/{event}", "the address has no ?event="),
        ("t/{", "cannot be a topic"),
        ("t/#", "cannot be a topic"),
        ("/t", "cannot be a topic"),
        ("t\n", "cannot be a topic"),
        ("", "cannot be a topic"),
        ("t" * 1_025, "cannot be a topic"),
        ("t" + "/t" * 198, "in up to 198 levels"),
    ):
        with pytest.raises(HTTPException) as caught:
            TopicPattern(text).filled(body)
        assert (caught.value.status_code, words in caught.value.detail) == (400, True), text
    for strange in (b"no JSON", b"[" * 100_000, b"[]", b"1"):
        with pytest.raises(HTTPException):
            TopicPattern("t/{a.b}").filled(strange)
    with pytest.raises(HTTPException, match="64 KiB"):
        TopicPattern("t/{a.b}").filled(b" " * 70_000 + body)


def test_the_path_leads_to_a_topic_that_is_ingested(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, topic="reserve/+/audio,iotingestion/#")
    own = incoming.topic_of(settings, "ridge", "", {})
    assert own.filled(b"") == "iotingestion/ridge"
    assert incoming.topic_of(settings, "ridge", "audio", {}).filled(b"") in (
        "iotingestion/ridge/audio",
        "reserve/ridge/audio",
    )
    only = Settings(data_dir=tmp_path, topic="reserve/+/audio")
    assert incoming.topic_of(only, "ridge", "audio", {}).filled(b"") == "reserve/ridge/audio"
    with pytest.raises(HTTPException) as caught:
        incoming.topic_of(only, "ridge", "", {})
    assert (caught.value.status_code, "reserve/ridge" in caught.value.detail) == (404, True)
    with pytest.raises(HTTPException, match="not in both"):
        incoming.topic_of(only, "ridge", "audio", {"topic": "x"})


def test_the_answer_comes_to_the_account_or_to_the_node_that_shares_one(tmp_path: Path) -> None:
    own = Settings(data_dir=tmp_path)
    elsewhere = Settings(data_dir=tmp_path, endpoint="broker.example")
    topic = "iotingestion/creek/x"
    assert incoming.receiver_of(own, Account("ridge", ""), topic) == "ridge"
    assert incoming.receiver_of(own, Account("ridge", ""), "v3/frogs/up") == "ridge"
    assert incoming.receiver_of(own, Account("echopub", ""), topic) == "creek"
    assert incoming.receiver_of(elsewhere, Account("field", ""), topic) == "creek"
    with pytest.raises(HTTPException, match="nodes add"):
        incoming.receiver_of(own, Account("echopub", ""), "v3/frogs/up")
    ours = Settings(data_dir=tmp_path, endpoint="broker.example", user="echo-ingest")
    assert incoming.receiver_of(ours, Account("ridge", ""), "iotaccounts/ridge/v3/up") == "ridge"


def test_a_node_has_one_share_of_what_may_be_posted_whatever_it_calls_itself(
    tmp_path: Path,
) -> None:
    own = Settings(data_dir=tmp_path)
    elsewhere = Settings(data_dir=tmp_path, endpoint="broker.example")
    assert incoming.sender_of(own, Account("ridge", ""), "a") == "ridge"
    assert incoming.sender_of(own, Account("echopub", ""), "a") == "echopub a"
    assert incoming.sender_of(elsewhere, Account("field", ""), "a") == "field a"


def test_a_log_in_is_read_as_browsers_and_programs_write_it() -> None:
    assert incoming.account_of({"authorization": basic("ä", "p:q")}) == Account("ä", "p:q")
    lower = basic("a", "b").replace("Basic", "basic")
    assert incoming.account_of({"authorization": lower}) == Account("a", "b")
    for text in (
        "",
        "Basic",
        "Basic !",
        "Basic " + "YQ==",
        "Bearer x",
        "Basic Og==",
        "Basic /w==",
        basic("a" * 257, "b"),
    ):
        with pytest.raises(HTTPException) as caught:
            incoming.account_of({"authorization": text})
        assert caught.value.status_code == 401, text


# ---------------------------------------------------------------------- limits


def test_a_bucket_drains_and_only_the_newest_keys_are_kept() -> None:
    now = [0.0]
    buckets = LeakyBuckets(3, 0.5, lambda: now[0])
    for _ in range(3):
        assert buckets.wait_seconds("a") == 0
        buckets.count("a")
    assert buckets.wait_seconds("a") == 2
    assert buckets.wait_seconds("b") == 0
    now[0] = 2.0
    assert buckets.wait_seconds("a") == 0
    for number in range(KEYS_MAX + 5):
        buckets.count(str(number))
    assert len(buckets) == KEYS_MAX


@contextlib.asynccontextmanager
async def posting_site(
    tmp_path: Path, **settings: Any
) -> AsyncIterator[tuple[Fine, aiohttp.ClientSession]]:
    """Serve in this process, where no broker is; yield the conditions and a client."""
    port = free_port()
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", headers={"Authorization": basic("a", "b")}
    ) as client:
        site = Site(tmp_path / "other.db", port, client)
        app = web.create_app(
            site.conditions,
            Settings(**{"data_dir": tmp_path, "mqtt_port": free_port(), **settings}),
            TOKENS,
        )
        async with serving(app, port):
            yield site.conditions, client
        site.journal.close()


async def test_posts_are_limited_by_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "ADDRESS_AT_ONCE", 2)
    monkeypatch.setattr(posting, "ADDRESS_PER_SECOND", 0.1)
    async with posting_site(tmp_path) as (_, client):
        statuses = []
        for _ in range(3):
            async with client.post("/ingest/ridge", data=STATUS) as reply:
                statuses.append(reply.status)
        assert statuses == [503, 503, 429]
        assert int(reply.headers["Retry-After"]) >= 1


@pytest.mark.slow
async def test_posts_are_limited_by_node(
    one_harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "NODE_AT_ONCE", 2)
    monkeypatch.setattr(posting, "NODE_PER_SECOND", 0.1)
    await asyncio.to_thread(one_harness.up)
    async with posting_site(one_harness.data_dir.parent, mqtt_port=one_harness.mqtt_port) as (
        _,
        client,
    ):
        headers = {"Authorization": basic("echopub", PUB_PASSWORD)}
        for node, statuses in (("creek", [422, 422, 429]), ("ridge", [422])):
            for status in statuses:
                async with client.post(f"/ingest/{node}", data=b"{", headers=headers) as reply:
                    assert reply.status == status, await reply.text()
    ledger = await asyncio.to_thread(one_harness.ledger_now)
    assert ledger["received"] == 3


async def test_where_nothing_can_be_stored_the_body_is_not_asked_for(tmp_path: Path) -> None:
    async with posting_site(tmp_path) as (conditions, client):
        conditions.problems["ready"] = {"journal": "the disk is full"}
        async with client.post("/ingest/ridge", data=STATUS) as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
            assert "the disk is full" in (await reply.json())["error"]
        conditions.problems["ready"] = {}
        async with client.post("/ingest/ridge", data=STATUS) as reply:
            assert reply.status == 503
            assert "the broker cannot be reached" in (await reply.json())["error"]


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "echo.example"}, 403, "use HTTPS"),
        ({"Host": "echo.example", "X-Forwarded-Proto": "https"}, 503, ""),
        ({"Origin": "http://evil.example"}, 403, "another site"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "another site"),
    ],
)
async def test_a_password_goes_only_over_tls_and_no_foreign_page_posts(
    tmp_path: Path, headers: dict[str, str], status: int, words: str
) -> None:
    async with (
        posting_site(tmp_path) as (_, client),
        client.post("/ingest/ridge", data=STATUS, headers=headers) as reply,
    ):
        assert (reply.status, words in (await reply.json())["error"]) == (status, True)


async def test_what_an_address_may_have_is_said(tmp_path: Path) -> None:
    async with posting_site(tmp_path) as (_, client):
        for path, status, words in (
            ("/ingest/ridge?topc=x", 400, "'topc' is unknown"),
            ("/ingest/ridge?id=1&id=2", 400, "given twice"),
            ("/ingest/a+b", 400, "cannot be a topic"),
            ("/ingest/ridge/a?topic=b", 400, "not in both"),
            ("/ingest", 404, "there is nothing at /ingest"),
        ):
            async with client.post(path, data=STATUS) as reply:
                assert (reply.status, words in (await reply.json())["error"]) == (status, True)
        async with client.get("/ingest/ridge") as reply:
            assert (reply.status, "use POST" in (await reply.json())["error"]) == (405, True)


async def test_so_many_messages_of_a_node_and_so_many_bytes_are_under_way_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "UNDER_WAY_OF_NODE_MAX", 2)
    monkeypatch.setattr(bodies, "UNDER_WAY_MAX", 3)
    monkeypatch.setattr(bodies, "HELD_BYTES_MAX", 100)
    monkeypatch.setattr(bodies, "TURN_SECONDS_MAX", 0.2)
    under_way = MessagesUnderWay(60)
    with under_way.counted("a"), under_way.counted("a"):
        with pytest.raises(HTTPException) as caught, under_way.counted("a"):
            pass
        assert caught.value.status_code == 429
        with under_way.counted("b"):
            with pytest.raises(HTTPException) as caught, under_way.counted("c"):
                pass
            assert caught.value.status_code == 503
        with under_way.counted("c"):
            pass
    async with under_way.room(60):
        async with under_way.room(40):
            with pytest.raises(HTTPException) as caught:
                async with under_way.room(1):
                    pass
            assert caught.value.status_code == 503
        async with under_way.room(40):
            pass
    monkeypatch.setattr(bodies, "TURN_SECONDS_MAX", 60)
    async with under_way.room(60), under_way.room(40):

        async def take_in_large() -> None:
            async with under_way.room(50):
                pass

        waiting = asyncio.create_task(take_in_large())
        await asyncio.sleep(0)  # it is first in line now
        async with asyncio.timeout(5), under_way.room(0):
            pass
        assert not waiting.done()
    async with asyncio.timeout(5):
        await waiting


# ---------------------------------------------------------------------- slow bodies


class Slowly:
    """A server that lets bodies take their time."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.port = free_port()

    def app(self) -> Litestar:
        under_way = MessagesUnderWay(1_000_000)

        @post("/slow")
        async def slow(request: AnyRequest) -> str:
            async with under_way.body(request) as body:
                self.bodies.append(body)
            return "thank you"

        return Litestar([slow], logging_config=None)


@pytest.mark.parametrize(("piece", "is_taken"), [(b"x" * 300, True), (b"x", False)])
async def test_a_body_may_be_slow_but_not_stand_still(
    monkeypatch: pytest.MonkeyPatch, piece: bytes, is_taken: bool
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", 0.3)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "BODY_PACE_BYTES_PER_SECOND", 500)
    server = Slowly()
    pieces = 40
    async with serving(server.app(), server.port):
        source, sink = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            f"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {pieces * len(piece)}\r\n"
        )
        sink.write(f"{head}\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(pieces):  # together they take more than a request may
                sink.write(piece)
                await sink.drain()
                await asyncio.sleep(0.03)
        answer = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                answer = await source.readline()
        sink.transport.abort()
    assert answer.startswith(b"HTTP/1.1 201") == is_taken
    assert server.bodies == ([piece * pieces] if is_taken else [])


# ---------------------------------------------------------------------- sessions at the broker


@pytest.mark.slow
async def test_a_session_is_shared_and_left_when_nobody_posts(
    one_harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_sessions, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(node_sessions, "LOOK_SECONDS", 0.05)
    await asyncio.to_thread(one_harness.up)
    sessions = NodeSessions(
        Settings(data_dir=one_harness.data_dir, mqtt_port=one_harness.mqtt_port)
    )
    account = Account("echopub", PUB_PASSWORD)

    async def one(number: int) -> Receipt:
        async with sessions.logged_in(account) as session:
            return await session.publish("iotingestion/creek", detection(number), node="creek")

    receipts = await asyncio.gather(*(one(number) for number in range(30)))
    assert {each.outcome for each in receipts} == {"stored"}
    assert sessions.knows(account)
    assert not sessions.knows(Account("echopub", "wrong"))
    log = await asyncio.to_thread(one_harness.log, "up")
    assert log.count("echo-ingest-http-") == 1
    async with asyncio.timeout(10):
        while sessions.knows(account):
            await asyncio.sleep(0.05)
    assert (await one(31)).outcome == "stored"

    monkeypatch.setattr(node_sessions, "SESSIONS_MAX", 1)
    async with sessions.logged_in(Account("echosub", SUB_PASSWORD)):  # which is idle makes room
        assert not sessions.knows(account)
        with pytest.raises(HTTPException, match="1 accounts post"):
            await one(32)


@pytest.mark.slow
async def test_log_ins_of_strangers_end_no_session_and_only_so_many_wait(
    one_harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_sessions, "SESSIONS_MAX", 3)
    monkeypatch.setattr(node_sessions, "LOGINS_WAITING_MAX", 20)
    one_harness.start("broker")
    sessions = NodeSessions(
        Settings(data_dir=one_harness.data_dir, mqtt_port=one_harness.mqtt_port)
    )
    known = Account("echopub", PUB_PASSWORD)

    async def log_in(account: Account) -> str:
        try:
            async with sessions.logged_in(account):
                return "in"
        except (ConnectionLost, HTTPException) as error:
            return type(error).__name__

    async with asyncio.timeout(90):
        while await log_in(known) != "in":
            await asyncio.sleep(0.05)
    outcomes = await asyncio.gather(*(log_in(Account(f"x{n}", "wrong")) for n in range(60)))
    assert set(outcomes) == {"LoginRefused", "ServiceUnavailableException"}
    assert outcomes.count("LoginRefused") == 20
    assert sessions.knows(known)


async def test_without_a_broker_a_log_in_fails_at_once(tmp_path: Path) -> None:
    sessions = NodeSessions(Settings(data_dir=tmp_path, mqtt_port=free_port()))
    with pytest.raises(ConnectionLost):
        async with asyncio.timeout(5), sessions.logged_in(Account("a", "b")):
            pass
