"""MQTT as bytes, over TCP or in WebSocket frames, well formed or not.

The good devices and the attackers are made on this alone: a codec would refuse to write most of
what attackers send, and ours does not know MQTT 3.1.1.
"""

import asyncio
import base64
import os
import struct
from collections.abc import Iterator
from typing import Self

from msgspec import Struct

CHUNK_BYTES = 262_144
EMPTY_PROPERTY = b"\x26\0\0\0\0"
"""A user property without name and value: the least that the parser makes an object of."""
PINGREQ = b"\xc0\0"
NAMES = {
    0x20: "CONNACK",
    0x30: "PUBLISH",
    0x40: "PUBACK",
    0x50: "PUBREC",
    0x90: "SUBACK",
    0xD0: "PINGRESP",
    0xE0: "DISCONNECT",
    0xF0: "AUTH",
}


class Will(Struct, frozen=True):
    """What the broker is to publish when the connection breaks."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: bytes = b""


# ---------------------------------------------------------------------- packets


def variable_integer(value: int) -> bytes:
    """Return a length as MQTT writes it."""
    written = bytearray()
    while True:
        value, low = divmod(value, 128)
        written.append(low | (128 if value else 0))
        if not value:
            return bytes(written)


def text(value: str | bytes) -> bytes:
    """Return a string with its length before it; bytes need not be UTF-8."""
    encoded = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(encoded)) + encoded


def user_property(name: str, value: str) -> bytes:
    return b"\x26" + text(name) + text(value)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + variable_integer(len(body)) + body


def connect(
    client_id: str | bytes,
    user: str | bytes | None = None,
    password: str | bytes | None = None,
    *,
    version: int = 5,
    properties: bytes = b"",
    clean: bool = True,
    keep_alive: int = 60,
    will: Will | None = None,
) -> bytes:
    flags = 2 if clean else 0
    payload = text(client_id)
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        if version == 5:
            payload += variable_integer(len(will.properties)) + will.properties
        payload += text(will.topic) + text(will.payload)
    for bit, value in ((0x80, user), (0x40, password)):
        if value is not None:
            flags |= bit
            payload += text(value)
    head = text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    if version == 5:
        head += variable_integer(len(properties)) + properties
    return packet(0x10, head + payload)


def publish(
    topic: str | bytes,
    payload: bytes,
    packet_id: int = 1,
    *,
    qos: int = 1,
    version: int = 5,
    properties: bytes = b"",
    retain: bool = False,
    duplicate: bool = False,
) -> bytes:
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    if version == 5:
        body += variable_integer(len(properties)) + properties
    return packet(0x30 | duplicate << 3 | qos << 1 | retain, body + payload)


class HugePacket(Struct, frozen=True):
    """A packet with a part that repeats, made piece by piece: attackers shall cost little."""

    first: int
    before: bytes
    size_bytes: int
    """How much of `repeated` there is."""
    after: bytes = b""
    repeated: bytes = EMPTY_PROPERTY

    @property
    def length(self) -> int:
        """Return the size of the whole packet."""
        return len(self._head) + self.size_bytes + len(self.after)

    @property
    def _head(self) -> bytes:
        size_bytes = len(self.before) + self.size_bytes + len(self.after)
        return bytes([self.first]) + variable_integer(size_bytes) + self.before

    def pieces(self, lacking: int = 0) -> Iterator[bytes]:
        """Yield the packet but for its last bytes."""
        left = self.length - lacking
        chunk = self.repeated * (CHUNK_BYTES // len(self.repeated))
        whole, rest = divmod(self.size_bytes, len(chunk))
        parts = (self._head, *[chunk] * whole, chunk[:rest], self.after)
        for part in filter(None, parts):
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return


def huge_connect(size_bytes: int) -> HugePacket:
    """Return a CONNECT with properties of that size, from a stranger."""
    size_bytes -= size_bytes % len(EMPTY_PROPERTY)
    before = text("MQTT") + b"\x05\xc2\0\x3c" + variable_integer(size_bytes)
    return HugePacket(0x10, before, size_bytes, text("x") + text("nobody") + text("wrong"))


def huge_publish(topic: str, payload: bytes, size_bytes: int) -> HugePacket:
    """Return a PUBLISH with properties of that size."""
    size_bytes -= size_bytes % len(EMPTY_PROPERTY)
    return HugePacket(
        0x32, text(topic) + b"\0\1" + variable_integer(size_bytes), size_bytes, payload
    )


def subscribe(*filters: str, packet_id: int = 1, version: int = 5, qos: int = 1) -> bytes:
    body = struct.pack(">H", packet_id) + (b"\0" if version == 5 else b"")
    return packet(0x82, body + b"".join(text(each) + bytes([qos]) for each in filters))


def named(first: int, body: bytes) -> str:
    """Name a packet from the server, with its reason code if it has one."""
    kind = first & 0xF0
    name = NAMES.get(kind, hex(first))
    if kind == 0x20:
        return f"{name} {body[1]}"
    if kind in (0x40, 0x50):
        return f"{name} {body[2] if len(body) > 2 else 0}"
    if kind == 0xE0:
        return f"{name} {body[0] if body else 0}"
    if kind == 0x90:
        return f"{name} {body[-1]}"
    return name


# ---------------------------------------------------------------------- frames


def frame(opcode: int, data: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a WebSocket frame of a client."""
    return frame_head(opcode, len(data), final=final, reserved=reserved) + data


def frame_head(opcode: int, size_bytes: int, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return what stands before the data; the mask is zero, which saves the work of masking."""
    head = bytes([final << 7 | reserved << 4 | opcode])
    if size_bytes < 126:
        head += bytes([0x80 | size_bytes])
    elif size_bytes < 65_536:
        head += b"\xfe" + struct.pack(">H", size_bytes)
    else:
        head += b"\xff" + struct.pack(">Q", size_bytes)
    return head + bytes(4)


def upgrade(*more: str, path: str = "/mqtt", subprotocol: str | None = "mqtt") -> bytes:
    """Return the request that begins a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []
    return "\r\n".join([*lines, *more, "", ""]).encode()


# ---------------------------------------------------------------------- a connection


class Link:
    """One connection; over WebSockets what is sent becomes one binary frame each time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, websocket: bool
    ) -> None:
        self.reader = reader
        self._writer = writer
        self._websocket = websocket
        self._buffer = bytearray()
        self._frames = bytearray()

    @classmethod
    async def open(cls, port: int, address: str, *, websocket: bool = False) -> Self:
        """Connect from an address; a WebSocket is upgraded."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        link = cls(reader, writer, websocket=websocket)
        if websocket:
            try:
                writer.write(upgrade())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 101"):
                    raise ConnectionRefusedError(head[:40].decode(errors="replace"))
            except BaseException:
                link.close()
                raise
        return link

    async def send(self, data: bytes) -> None:
        """Send MQTT bytes."""
        await self.send_raw(frame(2, data) if self._websocket else data)

    async def send_huge(self, huge: HugePacket, lacking: int = 0) -> None:
        """Send a huge packet, perhaps without its end; in a WebSocket it is one frame."""
        if self._websocket:
            await self.send_raw(frame_head(2, huge.length - lacking))
        for piece in huge.pieces(lacking):
            await self.send_raw(piece)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        for start in range(0, len(data), CHUNK_BYTES):
            if self._writer.is_closing() or self.reader.exception() is not None:
                raise ConnectionResetError("closed by the server")
            self._writer.write(data[start : start + CHUNK_BYTES])
            await self._writer.drain()

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet: its first byte and its body. Raises `EOFError` when closed."""
        while True:
            found = self._complete()
            if found is not None:
                return found
            self._buffer += await self._more()

    async def answer(self) -> str:
        """Return the name of the next packet."""
        return named(*await self.packet())

    async def end(self) -> str:
        """Wait until the server closes the connection, and return its last words."""
        last = "nothing said"
        while True:
            try:
                last = await self.answer()
            except (OSError, EOFError):
                return f"{last}, closed"

    @property
    def is_closed(self) -> bool:
        """Tell whether the server has closed it, as far as we have heard."""
        return self.reader.at_eof() or self.reader.exception() is not None

    def close(self) -> None:
        """Break it off."""
        self._writer.transport.abort()

    def _complete(self) -> tuple[int, bytes] | None:
        length = shift = 0
        for index in range(1, min(len(self._buffer), 5)):
            length |= (self._buffer[index] & 127) << shift
            shift += 7
            if self._buffer[index] < 128:
                end = index + 1 + length
                if len(self._buffer) < end:
                    return None
                first, body = self._buffer[0], bytes(self._buffer[index + 1 : end])
                del self._buffer[:end]
                return first, body
        return None

    async def _more(self) -> bytes:
        """Return what comes next; a caller that gives up waiting loses nothing."""
        while True:
            if self._websocket and (found := self._next_frame()) is not None:
                opcode, data = found
                if opcode == 8:
                    raise EOFError("closed by the server")
                if opcode == 9:
                    await self.send_raw(frame(10, data))
                elif data:
                    return data
                continue
            chunk = await self.reader.read(CHUNK_BYTES)
            if not chunk:
                raise EOFError("closed by the server")
            if not self._websocket:
                return chunk
            self._frames += chunk

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Take a complete frame of the server out of what was read: its opcode and its data."""
        size = {126: 2, 127: 8}.get(self._frames[1] & 127, 0) if len(self._frames) > 1 else 0
        start = 2 + size
        if len(self._frames) < start:
            return None
        length = int.from_bytes(self._frames[2:start]) if size else self._frames[1] & 127
        if len(self._frames) < start + length:
            return None
        opcode, data = self._frames[0] & 15, bytes(self._frames[start : start + length])
        del self._frames[: start + length]
        return opcode, data
