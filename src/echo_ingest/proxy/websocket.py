"""MQTT over WebSockets [MQTT-6]: frames are taken apart as they come, and never gathered.

Like mosquitto we answer at any path, and want one of its two subprotocols to be offered.
"""

from struct import pack

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import (
    MAX_PAYLOAD_NORMAL,
    MAX_PAYLOAD_TWO_BYTE,
    PAYLOAD_LENGTH_EIGHT_BYTE,
    PAYLOAD_LENGTH_TWO_BYTE,
    CloseReason,
)
from wsproto.utilities import RemoteProtocolError

from echo_ingest.proxy.layers import LayerRefused

REQUEST_BYTES_MAX = 8_192
CHUNK_BYTES_AT_FIRST = 1_024
CHUNK_BYTES_MAX = 16_384
FRAMES_PER_CHUNK_MAX = 32
"""Each frame takes 25 µs, even if it is empty: who sends more of them in a chunk gets small chunks,
so that 10,000 frames at once do not hold up all others for a quarter of a second."""
FRAMES_BEFORE_LOGIN_MAX = 64
SUBPROTOCOLS = ("mqtt", "mqttv3.1")
BAD_REQUEST, UPGRADE = "400 Bad Request", "426 Upgrade Required"
TOO_LARGE = "431 Request Header Fields Too Large"
FINAL_BINARY = 0x82
END_OF_REQUEST = b"\r\n\r\n"


class WebSocketLayer:
    """The server's side of a WebSocket."""

    def __init__(self) -> None:
        self.ended: str | None = None
        self.name: str | None = None
        self.trusted = False
        self.chunk_bytes_max = CHUNK_BYTES_AT_FIRST
        self._connection = WSConnection(ConnectionType.SERVER)
        self._frames = 0
        self._request: bytearray | None = bytearray()
        """What has come of the request; None once it has been accepted."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what the frames in `data` hold, and what is to be answered to them."""
        answer = b""
        if self._request is not None:
            self._request += data
            head, end, data = bytes(self._request).partition(END_OF_REQUEST)
            if len(head) > REQUEST_BYTES_MAX:
                raise self._not_accepted(TOO_LARGE, f"more than {REQUEST_BYTES_MAX:,} bytes")
            if not end:
                return b"", b""
            answer = self._accept(head + end)
            self._request = None
        if data:
            self._connection.receive_data(data)
        messages, answers = [], [answer]
        frames = 0
        for event in self._connection.events():
            frames += 1
            if not self.trusted and frames + self._frames > FRAMES_BEFORE_LOGIN_MAX:
                raise self._broken(CloseReason.POLICY_VIOLATION, "too many frames for a CONNECT")
            match event:
                case BytesMessage():
                    messages.append(event.data)
                case Ping():
                    answers.append(self._connection.send(event.response()))
                case CloseConnection() if self._connection.state is ConnectionState.OPEN:
                    raise self._broken(
                        CloseReason(event.code), f"a WebSocket error: {event.reason}"
                    )
                case CloseConnection():
                    answers.append(self._connection.send(event.response()))
                    self.ended = "it closed the WebSocket"
                    break
                case TextMessage():
                    raise self._broken(
                        CloseReason.UNSUPPORTED_DATA,
                        "MQTT comes in binary frames, and it sent text",
                    )
        self._frames += frames
        if frames > FRAMES_PER_CHUNK_MAX:
            self.chunk_bytes_max = CHUNK_BYTES_AT_FIRST
        else:
            self.chunk_bytes_max = min(2 * self.chunk_bytes_max, CHUNK_BYTES_MAX)
        return b"".join(messages), b"".join(answers)

    def _accept(self, request: bytes) -> bytes:
        """Answer a complete request. Raises `LayerRefused`."""
        try:
            self._connection.receive_data(request)
            (event,) = self._connection.events()
        except (RemoteProtocolError, ValueError) as error:
            if b"upgrade: websocket" not in request.lower():
                raise self._not_accepted(UPGRADE, "this port speaks MQTT over WebSockets") from None
            raise self._not_accepted(BAD_REQUEST, f"{error}"[:100]) from None
        assert isinstance(event, Request)
        offered = next((each for each in event.subprotocols if each in SUBPROTOCOLS), None)
        if offered is None:
            raise self._not_accepted(BAD_REQUEST, "the subprotocol mqtt is not offered")
        return self._connection.send(AcceptConnection(subprotocol=offered))

    def send(self, data: bytes) -> bytes:
        """Return `data` in one binary frame."""
        # wsproto would take 7 µs for this, fifteen times as long.
        size = len(data)
        if size <= MAX_PAYLOAD_NORMAL:
            return bytes((FINAL_BINARY, size)) + data
        if size <= MAX_PAYLOAD_TWO_BYTE:
            return pack(">BBH", FINAL_BINARY, PAYLOAD_LENGTH_TWO_BYTE, size) + data
        return pack(">BBQ", FINAL_BINARY, PAYLOAD_LENGTH_EIGHT_BYTE, size) + data

    def close(self) -> bytes:
        """Return the frame that closes the WebSocket, unless it is not open."""
        if self._request is not None or self.ended is not None:
            return b""
        return self._closing(CloseReason.NORMAL_CLOSURE)

    def _closing(self, reason: CloseReason) -> bytes:
        self.ended = "we closed the WebSocket"
        return self._connection.send(CloseConnection(reason))

    def _broken(self, reason: CloseReason, words: str) -> LayerRefused:
        return LayerRefused("websocket", words, self._closing(reason))

    def _not_accepted(self, status: str, words: str) -> LayerRefused:
        body = f"{words}\n"
        answer = (
            f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body.encode())}"
            f"\r\n\r\n{body}"
        )
        return LayerRefused("websocket", words, answer.encode())
