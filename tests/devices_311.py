"""A device that speaks MQTT 3.1.1, as most devices of other makers do."""

import socket

from echo_ingest.proxy.packets import write_length

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ, PINGRESP = 0x10, 0x20, 0x30, 0x40, 0xC0, 0xD0
WILL, WILL_RETAIN, USER, PASSWORD, CLEAN = 0x04, 0x20, 0x80, 0x40, 0x02


def field(data: str | bytes) -> bytes:
    encoded = data.encode() if isinstance(data, str) else data
    return len(encoded).to_bytes(2) + encoded


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + write_length(len(body)) + body


class Device311:
    """A device, on the bare protocol, so that what it says is what came over the wire."""

    def __init__(
        self,
        port: int,
        user: str,
        password: str,
        *,
        client_id: str = "device",
        clean: bool = True,
        retained_will: tuple[str, bytes] | None = None,
    ) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), timeout=20)
        flags = USER | PASSWORD | (CLEAN if clean else 0)
        will = b""
        if retained_will is not None:
            flags |= WILL | WILL_RETAIN
            will = field(retained_will[0]) + field(retained_will[1])
        head = field("MQTT") + bytes((4, flags)) + (60).to_bytes(2)
        body = head + field(client_id) + will + field(user) + field(password)
        self._stream.sendall(packet(CONNECT, body))
        first, body = self._read()
        assert first == CONNACK
        self.has_session, self.refused = body[0] == 1, body[1] != 0

    def put(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Publish a message; return whether it was acknowledged, with QoS 0 whether all goes on."""
        body = field(topic) + (b"\0\1" if qos else b"") + payload
        try:
            self._stream.sendall(packet(PUBLISH | qos << 1 | retain, body))
            return self._read()[0] == PUBACK if qos else self.is_connected()
        except ConnectionError:
            return False

    def is_connected(self) -> bool:
        """Tell whether the broker answers."""
        try:
            self._stream.sendall(packet(PINGREQ, b""))
            return self._read()[0] == PINGRESP
        except ConnectionError:
            return False

    def drop(self) -> None:
        """Leave without a goodbye: the broker publishes the last will."""
        self._stream.close()

    def _read(self) -> tuple[int, bytes]:
        head = self._exactly(2)
        assert head[1] < 0x80
        return head[0], self._exactly(head[1])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._stream.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the broker closed the connection")
            data += part
        return data
