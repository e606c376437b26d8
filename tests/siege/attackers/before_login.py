"""Attacks by strangers at the device ports, who have no password."""

import asyncio
import contextlib
import ssl

from tests.siege.attackers import ODDITY_SECONDS_MAX, Attacker
from tests.siege.link import (
    Link,
    Will,
    connect,
    frame,
    huge_connect,
    packet,
    publish,
    subscribe,
    text,
    upgrade,
)

HUGE_BYTES = 48 * 2**20 - 100
MEDIUM_BYTES = 8 * 2**20
LONG = 60_000
WRONG_PASSWORDS = 1_000
IDLE = 600
TRICKLED = 200
ODD = 60


async def ten_million_properties(attacker: Attacker) -> None:
    """Send CONNECT with ten million properties, three at once."""
    huge = huge_connect(HUGE_BYTES)

    async def connect_once(number: int) -> str:
        link = await attacker.link(websocket=number % 3 == 2)
        try:
            await link.send_huge(huge)
            return await link.answer()
        finally:
            link.close()

    await attacker.each(6, 3, connect_once)


async def in_many_frames(attacker: Attacker) -> None:
    """Send the same over WebSockets: in many frames, and in one message of many fragments."""
    huge = huge_connect(HUGE_BYTES)

    async def connect_once(number: int) -> str:
        link = await attacker.link(websocket=True)
        try:
            for index, piece in enumerate(huge.pieces()):
                if number % 2:
                    await link.send(piece)
                else:
                    await link.send_raw(frame(0 if index else 2, piece, final=False))
            if not number % 2:
                await link.send_raw(frame(0, b""))
            return await link.answer()
        finally:
            link.close()

    await attacker.each(4, 2, connect_once)


async def held_connect(attacker: Attacker) -> None:
    """Hold CONNECTs of any size that lack their last byte."""

    async def begin(number: int) -> Link:
        link = await attacker.link(websocket=number % 3 == 2)
        size_bytes = HUGE_BYTES if number < 6 else MEDIUM_BYTES if number < 12 else LONG
        await link.send_huge(huge_connect(size_bytes), lacking=1)
        return link

    await attacker.hold(await attacker.begin(200, 6, begin))


async def trickled_connect(attacker: Attacker) -> None:
    """Send CONNECTs byte by byte, as slowly as the server lets us."""
    sent = connect("x" * 200, "echopub", "wrong")

    links = await attacker.begin(TRICKLED, 10, lambda _number: attacker.link())
    for at in range(len(sent) - 1):
        if attacker.is_over:
            break
        for link in links:
            if not link.is_closed:
                with contextlib.suppress(OSError):
                    await link.send(sent[at : at + 1])
        await asyncio.sleep(1)
    await attacker.hold(links)


async def long_texts(attacker: Attacker) -> None:
    """Log in with strings as long as MQTT allows, and with what is no text."""
    long = "x" * LONG
    odd = (
        connect(long, "echopub", "wrong"),
        connect("x", long, long),
        connect("x", "echopub", "wrong", will=Will(long, b"x" * LONG)),
        connect("x", "echopub", "wrong", version=4, will=Will("/" * LONG, b"x" * LONG)),
        connect(b"\xff" * LONG, b"\xc0\x80", b"\xff" * LONG),
        connect("\N{RIGHT-TO-LEFT OVERRIDE}" * 20_000, "a\0b", "wrong"),
        connect("line\nline", "user\nname:$7$", "wrong\r\n"),
        connect("\x1b[2J" * 10_000, "\x1b]0;title\x07", "wrong"),
    )
    await attacker.each(100, 4, lambda number: _connect_and_ask(attacker, odd[number % len(odd)]))


async def garbage(attacker: Attacker) -> None:
    """Send what is no MQTT, or MQTT in the wrong order."""
    rng = attacker.rng
    hello = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    odd = (
        rng.randbytes(1_000),
        b"\x10\xff\xff\xff\xff\xff\x7f" + bytes(100),  # a length of too many bytes
        b"\x10\xff\xff\xff\x7f" + bytes(100_000),  # 256 MB announced
        b"\x10\x00",
        b"\x00\x00",
        bytes(100_000),
        b"\xff" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + connect("x", "echopub", "wrong"),
        b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21]) * 50,  # version 2 of the same
        hello.read(),
        publish("iotingestion/x", b"{}"),
        subscribe("#"),
        b"\xe0\x00",
        b"\xc0\x00" * 10_000,
        packet(0x10, text("MQTT") + bytes([3, 2]) + bytes(10)),
        packet(0x10, text("MQIsdp") + bytes([3, 0xFF]) + bytes(10)),
        packet(0x10, text("MQTT") + bytes([5, 0xC3]) + b"\0\0" + b"\xff\xff\xff\xff"),
        packet(0x1F, text("MQTT") + bytes([5, 2, 0, 0, 0]) + text("x")),
        packet(0x10, text("x" * LONG) + bytes(10)),
        connect("x", "echopub", "wrong") * 2_000,
        connect("x", properties=b"\x15" + text("SCRAM-SHA-1") + b"\x16" + text("x" * LONG)),
        connect("x", "echopub", "wrong", properties=b"\x27\0\0\0\0\x21\0\0"),
    )

    async def send_one(number: int) -> str:
        return await _connect_and_ask(attacker, odd[number % len(odd)])

    await attacker.each(4 * len(odd), 4, send_one, ODDITY_SECONDS_MAX)


async def odd_frames(attacker: Attacker) -> None:
    """Begin WebSockets wrongly, or send frames that are wrong, endless or tiny."""
    wrong = connect("x", "echopub", "wrong")
    unmasked = bytes([0x82, len(wrong)]) + wrong
    beginnings = (
        upgrade(*(f"X-{number}: {'x' * 1_000}" for number in range(2_000))),
        upgrade("X: " + "x" * 1_000_000),
        upgrade("Sec-WebSocket-Protocol: " + ", ".join(["mqtt"] * 50_000)),
        upgrade("Sec-WebSocket-Extensions: " + "permessage-deflate, " * 5_000),
        upgrade(subprotocol=None),
        upgrade(subprotocol="soap"),
        upgrade(path="/" + "a" * 60_000),
        upgrade(path="/../../etc/passwd\0"),
        upgrade("Content-Length: 100000000") + bytes(100_000),
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"GET /mqtt HTTP/0.9\r\n\r\n",
        b"POST /mqtt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"\x10\x20\x00\x04MQTT" + bytes(40),
    )
    frames = (
        unmasked,
        frame(1, wrong),
        frame(2, wrong, reserved=7),
        frame(3, wrong),
        frame(0, wrong),
        frame(2, b"", final=False) * 5_000,
        frame(2, b"") * 5_000,
        b"".join(frame(2, wrong[at : at + 1]) for at in range(len(wrong))),
        b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4) + bytes(100_000),
        b"\x82\xff" + b"\xff" * 8 + bytes(4),
        frame(9, b"x" * 125) * 5_000,
        frame(9, b"x" * 70_000),
        frame(10, b"") * 5_000,
        frame(8, b"\x03"),
        frame(8, b"\x00\x00" + b"\xff" * 100),
        frame(8, b"") * 100 + frame(2, wrong),
        frame(2, wrong, final=False) + frame(9, b"", final=False) + frame(2, wrong),
    )

    async def send_once(number: int) -> str:
        which = number % (len(beginnings) + len(frames))
        if which < len(beginnings):
            return await _http_at_device_port(attacker, beginnings[which])
        return await _ask_raw(await attacker.link(websocket=True), frames[which - len(beginnings)])

    await attacker.each(3 * ODD, 6, send_once, ODDITY_SECONDS_MAX)


async def wrong_passwords(attacker: Attacker) -> None:
    """Guess passwords of every account."""
    users = ("echopub", "echosub", "echo-ingest", attacker.target.node, "nobody", "root", "admin")

    async def guess(number: int) -> str:
        user = users[number % len(users)]
        sent = connect("", user, f"guess-{number}", version=4 + number % 2)
        return await _connect_and_ask(attacker, sent)

    await attacker.each(WRONG_PASSWORDS, 10, guess)


async def idle_connections(attacker: Attacker) -> None:
    """Hold connections that send nothing, or the beginning of something."""
    beginnings = (b"", b"\x10\x20\x00\x04MQTT", b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")

    async def begin(number: int) -> Link:
        port = attacker.target.ws_port if number % 2 else attacker.target.mqtt_port
        link = await Link.open(port, attacker.address)
        await link.send_raw(beginnings[number % len(beginnings)])
        return link

    await attacker.hold(await attacker.begin(IDLE, 20, begin))


# ---------------------------------------------------------------------- what they share


async def _connect_and_ask(attacker: Attacker, sent: bytes) -> str:
    return await _ask(await attacker.link(), sent)


async def _ask(link: Link, sent: bytes) -> str:
    try:
        await link.send(sent)
        return await link.answer()
    finally:
        link.close()


async def _ask_raw(link: Link, sent: bytes) -> str:
    try:
        await link.send_raw(sent)
        return await link.answer()
    finally:
        link.close()


async def _http_at_device_port(attacker: Attacker, sent: bytes) -> str:
    link = await Link.open(attacker.target.ws_port, attacker.address)
    try:
        await link.send_raw(sent)
        head = await link.reader.read(1_000)
        return f"HTTP {head[9:12].decode(errors='replace')}" if head else "closed"
    finally:
        link.close()
