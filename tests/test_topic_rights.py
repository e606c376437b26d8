"""Where accounts may publish: the proxy's rules and mosquitto's access file are the same ones."""

import asyncio
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from echo_ingest.broker.access_rules import access_rules
from echo_ingest.broker.node_accounts import NodeAccount
from echo_ingest.broker.topic_rights import TopicRights, Verdict, subscriptions
from echo_ingest.decode.rules import Rules
from echo_ingest.proxy.device_topics import Denials, DeviceTopics, apply_rights, follow_rights
from echo_ingest.proxy.packets import PacketWalker
from echo_ingest.record import Message, published
from echo_ingest.settings import LocalEndpoint, Settings, parse_endpoint
from echo_ingest.settings.topics import matches

AS_IT_IS, WITH_ACCOUNT, DENIED = Verdict.AS_IT_IS, Verdict.WITH_ACCOUNT, Verdict.DENIED
MADE_AT = datetime(2026, 9, 14, tzinfo=UTC)
SETTINGS = Settings(topic="iotingestion/#,reserve/+/audio")
ACCOUNTS = ("ridge-07", "gateway-1", "echopub", "echosub", "echo-ingest")


def rights() -> TopicRights:
    rights = TopicRights(SETTINGS.topic_filters)
    rights.speaks_for = {"gateway-1": ("frog-*", "bats-03")}
    return rights


@pytest.mark.parametrize(
    ("account", "topic", "verdict"),
    [
        ("ridge-07", "iotingestion/ridge-07", AS_IT_IS),
        ("ridge-07", "iotingestion/ridge-07/deep/down", AS_IT_IS),
        ("ridge-07", "reserve/ridge-07/audio", AS_IT_IS),
        ("ridge-07", "iotingestion/creek-02", DENIED),
        ("ridge-07", "iotingestion/frog-1", DENIED),
        ("ridge-07", "reserve/creek-02/audio", DENIED),
        ("ridge-07", "reserve/creek-02/video", WITH_ACCOUNT),
        ("ridge-07", "iotingestion", WITH_ACCOUNT),
        ("ridge-07", "birdnet", WITH_ACCOUNT),
        ("ridge-07", "iotaccounts/creek-02/birdnet", WITH_ACCOUNT),
        ("ridge-07", "iotaccounts/ridge-07/birdnet", AS_IT_IS),
        ("ridge-07", "iotaccounts/ridge-07/iotingestion/creek-02", WITH_ACCOUNT),
        ("ridge-07", "iotaccounts/ridge-07/iotreceipts/creek-02", WITH_ACCOUNT),
        ("ridge-07", "iotaccounts/ridge-07/" + "x" * 1_002, AS_IT_IS),
        ("ridge-07", "iotaccounts/ridge-07/" + "x" * 1_003, WITH_ACCOUNT),
        ("gateway-1", "iotaccounts/gateway-1/iotingestion/frog-1", AS_IT_IS),
        ("gateway-1", "iotaccounts/gateway-1/iotingestion/bats-04", WITH_ACCOUNT),
        ("ridge-07", "iotreceipts/ridge-07", DENIED),
        ("ridge-07", "iotprobe/x", DENIED),
        ("ridge-07", "$SYS/broker/clients", DENIED),
        ("ridge-07", "$CONTROL/dynamic-security/v1", DENIED),
        ("gateway-1", "iotingestion/frog-1/x", WITH_ACCOUNT),
        ("gateway-1", "iotingestion/bats-03", WITH_ACCOUNT),
        ("gateway-1", "iotingestion/bats-04", DENIED),
        ("gateway-1", "iotingestion/gateway-1", AS_IT_IS),
        ("echopub", "iotingestion/anybody", AS_IT_IS),
        ("echopub", "birdnet", WITH_ACCOUNT),
        ("echopub", "iotreceipts/x", DENIED),
        ("echosub", "iotingestion/x", DENIED),
        ("echosub", "birdnet", DENIED),
        ("echo-ingest", "iotreceipts/x", AS_IT_IS),
    ],
)
def test_who_may_publish_where(account: str, topic: str, verdict: Verdict) -> None:
    assert rights().verdict(account, topic) is verdict


LEVELS = st.sampled_from(
    (
        *("iotingestion", "reserve", "iotaccounts", "iotreceipts", "iotprobe", "$SYS"),
        *("audio", "birdnet", "ridge-07", "gateway-1", "frog-1", "creek-02", ""),
    )
)
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)


def may_write(rules: str, account: str, topic: str) -> bool:
    """Tell what mosquitto does by the access file."""
    section = rules.partition(f"user {account}\n")[2].partition("user ")[0]
    lines = [line.split(" ", 2)[1:] for line in section.splitlines()]
    return any(matches(each, topic) for kind, each in lines if "write" in kind)


@given(st.sampled_from(ACCOUNTS[:4]), TOPICS)
def test_mosquitto_lets_through_what_the_proxy_does_not_call_denied(
    account: str, topic: str
) -> None:
    nodes = [NodeAccount(name, MADE_AT, None) for name in ("ridge-07", "gateway-1", "creek-02")]
    rules = access_rules(SETTINGS, nodes)
    verdict = rights().verdict(account, topic)
    at_broker = f"iotaccounts/{account}/{topic}" if verdict is WITH_ACCOUNT else topic
    assert may_write(rules, account, at_broker) == (verdict is not DENIED)
    others = {"ridge-07", "gateway-1", "creek-02", "echopub"} - {account}
    assert not any(may_write(rules, other, f"iotaccounts/{account}/{topic}") for other in others)


@given(st.sampled_from(ACCOUNTS[:2]), TOPICS, st.booleans())
def test_nothing_arrives_in_the_name_of_a_node_that_its_sender_may_not_use(
    account: str, topic: str, repeated: bool
) -> None:
    at_broker = rights().at_broker(account, f"iotaccounts/{account}/{topic}" if repeated else topic)
    if at_broker is not None:
        node = arrived(at_broker).node
        assert node == account or (account, node) == ("gateway-1", "frog-1")


def arrived(topic: str) -> Message:
    return rights().arrived(Message(topic, b"{}", 1, SETTINGS.node_of(topic)))


def test_the_account_of_a_message_is_known_where_its_topic_names_no_node() -> None:
    message = arrived("iotaccounts/ridge-07/birdnet/detections")
    assert (message.topic, message.node, message.account) == (
        "birdnet/detections",
        "ridge-07",
        "ridge-07",
    )
    assert message.full_topic == "iotaccounts/ridge-07/birdnet/detections"
    assert published(message.full_topic) == ("ridge-07", "birdnet/detections")
    shared = arrived("iotaccounts/echopub/birdnet")
    assert (shared.topic, shared.node, shared.account) == ("birdnet", None, "echopub")
    nobody = arrived("iotaccounts/ridge-07/reserve/creek-02/video")
    assert (nobody.node, nobody.topic) == ("ridge-07", "reserve/creek-02/video")
    own = arrived("iotingestion/ridge-07/x")
    assert (own.topic, own.node, own.account) == ("iotingestion/ridge-07/x", "ridge-07", None)
    assert own.full_topic == own.topic


def test_what_a_gateway_sends_for_a_node_is_as_if_the_node_had_sent_it() -> None:
    message = arrived("iotaccounts/gateway-1/iotingestion/frog-1/x")
    assert (message.topic, message.node, message.account) == (
        "iotingestion/frog-1/x",
        "frog-1",
        None,
    )
    assert message.receipts_to == "gateway-1"


def test_only_an_account_of_a_node_is_bound_to_its_name() -> None:
    rules = Rules(accounts={"ridge-07": (), "gateway-1": ("frog-*",)})

    def speaks_for(node: str | None, account: str | None) -> tuple[str, ...] | None:
        return rules.speaks_for(Message("t", b"", 1, node, account=account))

    assert speaks_for("ridge-07", "ridge-07") == speaks_for("ridge-07", None) == ()
    assert speaks_for("removed", "removed") == ()
    assert speaks_for("gateway-1", "gateway-1") == ("frog-*",)
    assert speaks_for(None, "echopub") is None
    assert speaks_for("unknown", None) is None
    assert speaks_for("frog-1", "gateway-1") is None, "it was decided when it was stored"


def test_a_broker_elsewhere_is_asked_for_its_own_topics_alone() -> None:
    ours, elsewhere = LocalEndpoint(Path("/x")), parse_endpoint("mqtt://broker.example:1883")
    assert subscriptions(SETTINGS, ours) == (*SETTINGS.topic_filters, "iotaccounts/#")
    assert subscriptions(SETTINGS, elsewhere) == SETTINGS.topic_filters
    service = Settings(user="echo-ingest", password=SecretStr("x" * 20), endpoint=str(elsewhere))
    assert subscriptions(service, elsewhere)[-1] == "iotaccounts/#"


# ---------------------------------------------------------------------- at the proxy


@pytest.mark.parametrize(
    ("account", "sent", "at_broker"),
    [
        (b"ridge-07", b"BirdNET-Go", b"ridge-07:BirdNET-Go"),
        (b"ridge-07", b"creek-02:x", b"ridge-07:creek-02:x"),
        (b"ridge-07", b"", None),
        (b"echopub", b"BirdNET-Go", None),
        (b"echopub", b"ridge-07:BirdNET-Go", b"echopub:ridge-07:BirdNET-Go"),
        (b"echosub", b"ridge-07:BirdNET-Go", b"echosub:ridge-07:BirdNET-Go"),
        (b"echo-ingest", b"our:session", None),
    ],
)
def test_nobody_has_the_client_id_of_another_account_at_the_broker(
    account: bytes, sent: bytes, at_broker: bytes | None
) -> None:
    assert DeviceTopics(rights(), Denials(), account).client_id(sent) == at_broker


def test_a_gateway_that_loses_a_right_has_lost_it_on_the_connection_that_it_has() -> None:
    known = rights()
    device = DeviceTopics(known, Denials(), b"gateway-1")
    walker = PacketWalker(4, 1_000, device.topic_at_broker)
    topics = (b"iotingestion/frog-1", b"iotaccounts/gateway-1/iotingestion/frog-1")

    def passed(topic: bytes) -> bytes:
        body = len(topic).to_bytes(2) + topic + b"x"
        publish = bytes((0x30, len(body))) + body
        return walker.passed_on(publish, walker.feed(publish))

    for topic in topics:
        for _ in range(2):
            assert passed(topic).endswith(b"iotaccounts/gateway-1/iotingestion/frog-1x")
    known.speaks_for = {}
    assert b"iotaccounts" not in passed(topics[0]), "mosquitto denies it"
    assert b"iotaccounts/gateway-1/iotaccounts/gateway-1/" in passed(topics[1])


def test_no_account_hides_what_others_are_denied() -> None:
    denials = Denials()
    for number in range(1_000):
        denials.note(b"loud", b"$SYS/%d" % number)
    denials.note(b"quiet", b"iotprobe/x")
    counted = {(each.account, each.topic): each.messages for each in denials.all}
    assert counted["quiet", "iotprobe/x"] == 1
    assert counted["loud", "others"] == 980
    for number in range(1_000):
        denials.note(b"a%d" % number, b"$SYS/x")
    assert len(denials.all) <= 201
    assert sum(each.messages for each in denials.all) == 2_001


def test_a_device_that_changes_its_topics_fills_no_memory() -> None:
    devices = [DeviceTopics(rights(), Denials(), b"ridge-07") for _ in range(20)]
    tracemalloc.start()
    try:
        for device in devices:
            for number in range(300):
                long, short = b"%d/%b" % (number, b"x" * 900), b"%d/birdnet" % number
                assert device.topic_at_broker(long) == b"iotaccounts/ridge-07/" + long
                assert device.topic_at_broker(short) == b"iotaccounts/ridge-07/" + short
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(devices) < 12_000


async def test_the_rights_of_gateways_are_there_at_once_and_followed(tmp_path: Path) -> None:
    path, known = tmp_path / "nodes.jsonl", rights()
    line = '{"name":"gateway-1","made_at":"2026-09-14T00:00:00Z","hash":null,"speaks_for":["%s"]}\n'
    path.write_text(line % "frog-1")
    applied = apply_rights(path, known)
    assert known.speaks_for == {"gateway-1": ("frog-1",)}
    following = asyncio.create_task(follow_rights(path, known, applied, poll_seconds=0.01))
    path.write_text(line[:40])
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            while not logs:
                await asyncio.sleep(0.01)
    assert logs[0]["event"] == "rights of gateways not applied"
    assert known.speaks_for == {"gateway-1": ("frog-1",)}, "a file that cannot be used is ignored"
    path.write_text(line % "frog-2")
    async with asyncio.timeout(10):
        while known.speaks_for != {"gateway-1": ("frog-2",)}:
            await asyncio.sleep(0.01)
    following.cancel()
