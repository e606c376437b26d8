"""A good device: it keeps each message until its receipt, and sends it again meanwhile.

It speaks MQTT 5 with a response topic, or MQTT 3.1.1 with an id, over TCP or WebSockets, as an
account of its own or as `echopub`.
"""

import asyncio
import contextlib
import json
import time
from random import Random

from msgspec import Struct

from tests.siege.link import Link, connect, named, publish, subscribe, text
from tests.siege.messages import payload_of, topic_of

AGAIN_SECONDS = 10.0
"""When a message without its receipt is sent again: what docs/devices.md says."""
GIVE_UP_SECONDS = 25.0
"""When a device that waits for a receipt breaks its connection off and begins anew."""
LOGIN_SECONDS_MAX = 15.0
PAUSE_SECONDS = (0.5, 1.5)
RECONNECT_SECONDS = (0.2, 2.0)


class Role(Struct, frozen=True):
    """How a device connects."""

    node: str
    user: str
    password: str
    version: int
    websocket: bool
    address: str


class Sent(Struct):
    """A message of a device, and what became of it."""

    due_seconds: float
    """When it is there to be sent, from the beginning of the siege."""
    times: int = 0
    first_sent_at: float = 0.0
    receipted_at: float = 0.0
    """When its first receipt came; 0 for never."""
    outcome: str = ""


class GoodDevice:
    """One device; it has one message under way at a time."""

    def __init__(self, seed: int, role: Role, port: int, seconds: float) -> None:
        self.role = role
        self.reconnects = 0
        self.troubles: list[str] = []
        """Why connections ended."""
        self.messages: list[Sent] = []
        self._seed = seed
        self._port = port
        self._rng = Random(f"{seed} {role.node}")
        due_seconds = 0.0
        while (due_seconds := due_seconds + self._rng.uniform(*PAUSE_SECONDS)) < seconds:
            self.messages.append(Sent(due_seconds))

    @property
    def receipted(self) -> int:
        return sum(message.receipted_at > 0 for message in self.messages)

    async def run(self) -> None:
        """Send every message when it is due, until its receipt."""
        began_at = time.monotonic()
        while self.receipted < len(self.messages):
            try:
                await self._connected(began_at)
            except (OSError, EOFError) as trouble:  # TimeoutError is an OSError
                self.reconnects += 1
                self.troubles.append(f"{type(trouble).__name__} {trouble}".strip())
                await asyncio.sleep(self._rng.uniform(*RECONNECT_SECONDS))

    async def _connected(self, began_at: float) -> None:
        role = self.role
        async with asyncio.timeout(LOGIN_SECONDS_MAX):
            link = await Link.open(self._port, role.address, websocket=role.websocket)
        with contextlib.closing(link):
            async with asyncio.timeout(LOGIN_SECONDS_MAX):
                sent = connect(role.node, role.user, role.password, version=role.version)
                await _expect(link, sent, "CONNACK 0")
                wanted = subscribe(f"iotreceipts/{role.node}/#", version=role.version)
                await _expect(link, wanted, "SUBACK 1")
            for number, message in enumerate(self.messages):
                if not message.receipted_at:
                    await asyncio.sleep(began_at + message.due_seconds - time.monotonic())
                    await self._deliver(link, number, message)

    async def _deliver(self, link: Link, number: int, message: Sent) -> None:
        """Send a message again and again until its receipt has come."""
        payload = payload_of(self._seed, self.role.node, number)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not message.receipted_at:
                message.times += 1
                message.first_sent_at = message.first_sent_at or time.monotonic()
                await link.send(self._packet(number, payload))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_SECONDS):
                        while not message.receipted_at:
                            self._take(*await link.packet())

    def _packet(self, number: int, payload: bytes) -> bytes:
        node, version = self.role.node, self.role.version
        properties = b""
        if version == 5:
            properties = b"\x08" + text(f"iotreceipts/{node}/siege")
            properties += b"\x09" + text(number.to_bytes(4))
        packet_id = number % 65_535 + 1
        return publish(topic_of(node), payload, packet_id, version=version, properties=properties)

    def _take(self, first: int, body: bytes) -> None:
        if first & 0xF0 != 0x30:
            answer = named(first, body)
            if answer not in ("PUBACK 0", "PUBACK 16", "PINGRESP"):  # 16: nobody has subscribed
                raise ConnectionResetError(answer)
            return
        receipt = json.loads(body[body.index(b'{"outcome"') :])
        node, _, number = receipt.get("id", "").partition("/")
        if node != self.role.node:
            return  # of what `echopub` published in our name
        message = self.messages[int(number)]
        if not message.receipted_at:
            message.receipted_at = time.monotonic()
            message.outcome = receipt["outcome"]


async def _expect(link: Link, sent: bytes, answer: str) -> None:
    await link.send(sent)
    while (got := await link.answer()) != answer:
        if got != "PUBLISH":
            raise ConnectionRefusedError(got)
