"""Attacks by those who have a password: of one node, or of the account that nodes share."""

import asyncio
import contextlib
import json

from tests.siege.attackers import ODDITY_SECONDS_MAX, Attacker
from tests.siege.link import (
    EMPTY_PROPERTY,
    PINGREQ,
    HugePacket,
    Link,
    Will,
    connect,
    huge_publish,
    packet,
    publish,
    subscribe,
    text,
    user_property,
)

HUGE_BYTES = 40 * 2**20
LARGE_BYTES = 10 * 2**20
SMALL_MESSAGES = 2_500
SMALL_PAUSE_SECONDS = 0.1
SMALL_AT_ONCE = 100
HALF_SENT = 24
"""With 10 to 40 MB each this is 600 MB, more than any broker of ours may take."""
TRICKLE_SECONDS = 0.5
FLOODS, PINGS_AT_ONCE = 3, 10_000
SESSIONS = 1_000
SUBSCRIPTIONS = 2_000
LONG = 60_000


async def property_bomb_of_node(attacker: Attacker) -> None:
    """Publish eight million properties in one message, then a few million, as a node."""
    await _property_bombs(attacker, (HUGE_BYTES, LARGE_BYTES, LARGE_BYTES), node=True)


async def property_bomb_of_echopub(attacker: Attacker) -> None:
    """Publish ten messages with two million properties each, as `echopub`."""
    await _property_bombs(attacker, (LARGE_BYTES,) * 10, node=False)


async def _property_bombs(attacker: Attacker, sizes: tuple[int, ...], *, node: bool) -> None:
    async def publish_one(number: int) -> str:
        link = await attacker.login(node=node)
        try:
            huge = huge_publish(_topic(attacker), detection(attacker), sizes[number])
            await link.send_huge(huge)
            return await link.answer()
        finally:
            link.close()

    await attacker.each(len(sizes), 2, publish_one)


async def half_sent_publish(attacker: Attacker) -> None:
    """Hold messages of 10 to 40 MB that lack their last kilobyte, on many connections."""

    async def hold_one(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        try:
            await link.send_huge(_clip(attacker, number), lacking=1_000)
            return await link.end()
        finally:
            link.close()

    await attacker.keep(HALF_SENT, hold_one)


async def trickled_publish(attacker: Attacker) -> None:
    """Send most of such messages fast, and then so little that they are never quiet."""

    async def hold_one(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        try:
            await link.send_huge(_clip(attacker, number), lacking=100_000)
            end = asyncio.create_task(link.end())
            while not end.done():
                with contextlib.suppress(OSError):  # then it has ended
                    await link.send(b"x" * 100)
                await asyncio.wait([end], timeout=TRICKLE_SECONDS)
            return await end
        finally:
            link.close()

    await attacker.keep(HALF_SENT, hold_one)


async def unreleased_qos_2(attacker: Attacker) -> None:
    """Publish messages of 10 MB at QoS 2 and never release them."""
    link = await attacker.login(node=True)

    async def publish_one(number: int) -> str:
        payload = attacker.rng.randbytes(LARGE_BYTES)
        await link.send(publish(_topic(attacker), payload, number + 1, qos=2))
        return await link.answer()

    await attacker.each(12, 1, publish_one)
    await attacker.hold([link])


async def large_messages(attacker: Attacker) -> None:
    """Publish 10 MB at a time: audio that is none, text, and JSON."""
    rng = attacker.rng

    async def publish_one(number: int) -> str:
        match number % 4:
            case 0:
                payload = b"RIFF" + rng.randbytes(LARGE_BYTES)
            case 1:
                payload = b"[" * LARGE_BYTES
            case 2:
                payload = json.dumps({"id": "x", "audioClip": "A" * LARGE_BYTES}).encode()
            case _:
                fields = b",".join(b'"k%d":{}' % n for n in range(10_000))
                payload = b"{" + fields * (LARGE_BYTES // len(fields)) + b"}"
        link = await attacker.login(node=number % 2 == 0)
        return await ask(link, publish(_topic(attacker), payload))

    await attacker.each(12, 2, publish_one)


async def small_messages(attacker: Attacker) -> None:
    """Publish many small messages, most of them with QoS 1, as fast as a receiver must bear."""
    link = await attacker.login(node=attacker.rng.random() < 0.5)

    async def some(number: int) -> str:
        first = number * SMALL_AT_ONCE
        sent = b"".join(
            publish(_topic(attacker), detection(attacker), first + n + 1, qos=n % 5 > 0)
            for n in range(SMALL_AT_ONCE)
        )
        await link.send(sent)
        for _ in range(SMALL_AT_ONCE * 4 // 5):
            answer = await link.answer()
        await asyncio.sleep(SMALL_PAUSE_SECONDS)
        return answer

    await attacker.each(SMALL_MESSAGES // SMALL_AT_ONCE, 1, some)


async def huge_topics(attacker: Attacker) -> None:
    """Publish to topics as long and as deep as MQTT allows."""
    own = _topic(attacker)
    topics = (
        f"{own}/{'x' * LONG}",
        own + "/" * LONG,
        f"{own}/" + "a/" * 30_000,
        own + "/" + "\N{FROG FACE}" * 15_000,
        f"{own}/\N{RIGHT-TO-LEFT OVERRIDE}" + "\N{LEFT-TO-RIGHT ISOLATE}" * 15_000,
        f"iotingestion/{'N' * LONG}",
    )

    async def publish_one(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        sent = publish(topics[number % len(topics)], detection(attacker))
        return await ask(link, sent)

    await attacker.each(60, 2, publish_one)


async def long_names(attacker: Attacker) -> None:
    """Invent nodes, sensors, ids and species of 60 kB, by the hundred."""

    async def publish_one(number: int) -> str:
        long = f"{number}-{attacker.rng.random()}" + "N" * LONG
        fields = {"sensor_id": long, "species": long, "id": long, "confidence": 50, "model": long}
        topic = f"iotingestion/{long}" if number % 2 else f"iotingestion/long-{number}"
        properties = user_property(long[:LONG], "") if number % 3 == 0 else b""
        sent = publish(topic, json.dumps(fields).encode(), properties=properties)
        return await ask(await attacker.login(), sent)

    await attacker.each(100, 2, publish_one)


async def packet_oddities(attacker: Attacker) -> None:
    """Log in, and then break the rules of MQTT 5."""
    own, payload = _topic(attacker), detection(attacker)
    alias = b"\x23"
    odd = (
        publish(own, payload, properties=alias + b"\0\0"),
        publish(own, payload, properties=alias + b"\xff\xff"),
        publish("", payload),
        publish(f"{own}/#", payload),
        publish(f"{own}/+", payload),
        publish(own.encode() + b"/\xff\xfe", payload),
        publish(own.encode() + b"/\0", payload),
        publish(own.encode() + b"/\xed\xa0\x80", payload),
        publish(own, payload, 0),
        publish(own, payload, qos=3),
        publish(own, payload, properties=b"\x02\0\0\0\1" * 1_000),
        publish(own, payload, properties=b"\x08" + text("iotreceipts/good-1")),
        publish(own, payload, properties=b"\x08" + text("#") + b"\x09" + text("x" * LONG)),
        publish(own, payload, properties=b"\x01\xff"),
        publish(own, payload, properties=b"\x7f"),
        packet(0x32, text(own) + b"\0\1" + b"\xff\xff\xff\x7f" + payload),
        packet(0x32, b"\xff\xff" + payload),
        connect("again", "echopub", attacker.target.publisher_password),
        b"\xf0\x00",
        b"\x20\x02\x00\x00",
        b"\x40\x02\xff\xff",
        b"\x62\x02\x00\x01" * 1_000,
        b"\xa2\x05\x00\x01\x00\x00\x00",
        b"\x82\x05\x00\x01\x00\x00\x00",
        subscribe(*["iotreceipts/bad"] * 5_000),
        subscribe("iotreceipts/bad/" + "+/" * 30_000),
        subscribe("$share//#", "$share/+/#", "#/#", "", "\0"),
        b"\xe0\x02\x04\x00",
    )

    async def send_one(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        return await ask(link, odd[number % len(odd)])

    await attacker.each(2 * len(odd), 4, send_one, ODDITY_SECONDS_MAX)


async def subscription_flood(attacker: Attacker) -> None:
    """Subscribe to everything, and by the thousand to shares of it."""
    link = await attacker.login(node=attacker.rng.random() < 0.5)
    everything = ("#", "+/#", "$SYS/#", "$CONTROL/#", "iotreceipts/#", "iotprobe/#", "$share/x/#")

    async def subscribe_some(number: int) -> str:
        filters: tuple[str, ...] = everything
        if number:
            filters = tuple(
                f"$share/{attacker.rng.getrandbits(32)}-{n}/iotingestion/#" for n in range(100)
            )
        await link.send(subscribe(*filters, packet_id=number + 1))
        while (answer := await link.answer()).startswith("PUBLISH"):
            pass
        return answer

    await attacker.each(SUBSCRIPTIONS // 100, 1, subscribe_some)
    await attacker.hold([link])


async def huge_subscriptions(attacker: Attacker) -> None:
    """Subscribe to what takes much memory: topics of 190 levels, and shares with long names."""

    async def flood(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        try:
            while True:
                name = f"{attacker.rng.getrandbits(40):x}"
                deep = (f"{name}-{n}" + "/" * 190 for n in range(300))
                long = (f"$share/{n}{name}{'y' * 30_000}/#" for n in range(2))
                await link.send(subscribe(*(deep if number % 3 else long)))
                await link.answer()
        finally:
            link.close()

    await attacker.keep(FLOODS, flood)


async def slow_receiver(attacker: Attacker) -> None:
    """Ask for thousands of receipts with 30 kB of correlation data each, and read none."""
    target = attacker.target
    link = await attacker.login(node=True)
    topic = f"iotreceipts/{target.node}"
    await link.send(subscribe(f"{topic}/#"))
    properties = b"\x08" + text(f"{topic}/x") + b"\x09" + text("c" * 30_000)

    async def publish_one(number: int) -> None:
        if link.is_closed:
            raise EOFError
        sent = publish(
            f"iotingestion/{target.node}", detection(attacker), number + 1, properties=properties
        )
        await link.send(sent)

    await attacker.each(2_000, 1, publish_one)
    await attacker.until_over()
    attacker.note("closed in time" if link.is_closed else "held")


async def unread_answers(attacker: Attacker) -> None:
    """Ask for answers of two bytes by the million, and read none."""

    async def flood(number: int) -> str:
        link = await attacker.login(node=number % 2 == 0)
        try:
            while True:
                await link.send(PINGREQ * PINGS_AT_ONCE)
        finally:
            link.close()

    await attacker.keep(FLOODS, flood)


async def wills(attacker: Attacker) -> None:
    """Leave wills for the topics of others, and break the connection."""
    target = attacker.target
    topics = (
        "iotreceipts/good-0",
        "iotingestion/good-0",
        "iotprobe/echo-ingest",
        "$SYS/broker/uptime",
        "$CONTROL/dynamic-security/v1",
        "#",
        f"iotingestion/{target.node}",
    )

    async def leave_one(number: int) -> str:
        will = Will(topics[number % len(topics)], detection(attacker), retain=number % 5 == 0)
        is_node = number % 2 == 0
        user = target.node if is_node else "echopub"
        password = target.node_password if is_node else target.publisher_password
        link = await attacker.link()
        sent = connect(f"will-{number}", user, password, version=4 + number % 2, will=will)
        return await ask(link, sent)

    await attacker.each(60, 3, leave_one)


async def property_bomb_in_wills(attacker: Attacker) -> None:
    """Leave sessions with twelve thousand properties in their last will, for two minutes each."""
    properties = EMPTY_PROPERTY * 12_000 + b"\x18" + (120).to_bytes(4)
    will = Will(_topic(attacker), b"{}", properties=properties)

    async def leave(number: int) -> str:
        link = await attacker.link()
        name = f"bomb-{attacker.rng.getrandbits(40):x}"
        sent = connect(
            *(name, "echopub", attacker.target.publisher_password),
            properties=b"\x11" + (120).to_bytes(4),
            will=will,
        )
        return await ask(link, sent)

    await attacker.each(SESSIONS, 10, leave)


async def takeovers(attacker: Attacker) -> None:
    """Connect under the client ids of the service and of others."""
    target = attacker.target
    client_ids = ("echo-ingest", "echo-ingest-1", "good-0", "echopub", "echosub", "", "bad")

    async def take(number: int) -> str:
        is_node = number % 2 == 0
        user = target.node if is_node else "echopub"
        password = target.node_password if is_node else target.publisher_password
        link = await attacker.link()
        sent = connect(
            *(client_ids[number % len(client_ids)], user, password),
            version=4 + number % 2,
            clean=number % 3 > 0,
        )
        return await ask(link, sent)

    await attacker.each(100, 3, take)


async def herd(attacker: Attacker) -> None:
    """Reconnect two thousand nodes at the same time; each publishes once."""
    nodes = attacker.target.herd

    async def come(number: int) -> Link:
        name, password = nodes[number]
        link = await attacker.link(websocket=number % 4 == 0)
        await link.send(connect(name, name, password, version=4 + number % 2))
        answer = await link.answer()
        attacker.note(answer)
        sent = publish(f"iotingestion/{name}", detection(attacker), version=4 + number % 2)
        await link.send(sent)
        return link

    await attacker.hold(await attacker.begin(len(nodes), 200, come))


async def sessions_left(attacker: Attacker) -> None:
    """Leave sessions behind that collect receipts, for two minutes each."""

    async def leave(number: int) -> str:
        link = await attacker.link()
        sent = connect(
            *(f"left-{number}", "echopub", attacker.target.publisher_password),
            clean=False,
            properties=b"\x11" + (120).to_bytes(4),
        )
        await link.send(sent)
        answer = await link.answer()
        await link.send(subscribe("iotreceipts/#"))
        await link.answer()
        link.close()
        return answer

    await attacker.each(10, 2, leave)


async def retained_messages(attacker: Attacker) -> None:
    """Ask the broker to keep messages for ever; each bout replaces those before."""
    link = await attacker.login()
    deep = "/" * 190

    async def keep(number: int) -> str:
        if number % 10 == 0:
            again = await attacker.login()
            topics = (f"iotingestion/{number}-{n}{deep}" for n in range(300))
            return await ask(again, b"".join(publish(each, b"x", retain=True) for each in topics))
        sent = publish(f"iotingestion/kept-{number}", bytes(10_000), number + 1, retain=True)
        await link.send(sent)
        return await link.answer()

    await attacker.each(200, 1, keep)


# ---------------------------------------------------------------------- what they share


def detection(attacker: Attacker) -> bytes:
    """Return a good message, unlike every other."""
    fields = {
        "sensor_id": "evil",
        "species": "Litoria ewingii",
        "confidence": 50,
        "timestamp": "2026-11-28T05:45:12Z",
        "id": f"{attacker.rng.getrandbits(64):x}",
    }
    return json.dumps(fields).encode()


def _topic(attacker: Attacker) -> str:
    """Return where both accounts may publish."""
    return f"iotingestion/{attacker.target.node}"


def _clip(attacker: Attacker, number: int) -> HugePacket:
    """Return a message of 10, 20, 30 or 40 MB."""
    before = text(_topic(attacker)) + b"\0\1\0"
    return HugePacket(0x32, before, LARGE_BYTES * (1 + number % 4), repeated=b"x")


async def ask(link: Link, sent: bytes) -> str:
    """Send something; return what is answered first."""
    try:
        await link.send(sent)
        return await link.answer()
    finally:
        link.close()
