"""A byte stream to a broker: TCP or TLS, with WebSocket frames where the address asks for them."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from echo_ingest.mqtt.connection_errors import ConnectionLost
from echo_ingest.settings import Endpoint, LocalEndpoint

OPEN_TIMEOUT_SECONDS = 10.0
WRITE_BUFFER_BYTES = 1024 * 1024


class Link(asyncio.Protocol):
    """One connection. `on_bytes` gets what arrives, `on_lost` is called once, at the end."""

    def __init__(
        self,
        websocket: WebSocketURI | None,
        on_bytes: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._frames: ClientProtocol | None = None
        if websocket is not None:
            # [MQTT-6.0.0-3] the name of the subprotocol is mqtt. Frames have no size limit, because
            # a broker that exceeded it would be disconnected and would send the same message again.
            self._frames = ClientProtocol(
                websocket, subprotocols=[Subprotocol("mqtt")], max_size=None
            )
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    # ------------------------------------------------------------------ called by the session

    def write(self, data: bytes) -> None:
        """Send without waiting. [MQTT-6.0.0-1] Over WebSockets, MQTT is sent in binary frames."""
        if self._frames is None:
            self._transport.write(data)
        elif self._frames.state is State.OPEN:  # after a close frame nothing may follow
            self._frames.send_binary(data)
            self._flush(self._frames)

    @property
    def is_congested(self) -> bool:
        """Whether the other side reads more slowly than we write."""
        return not self._writable.is_set()

    async def drained(self) -> None:
        """Wait while the other side reads more slowly than we write."""
        await self._writable.wait()

    def pause(self) -> None:
        """Stop reading; the broker keeps the remaining messages."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Continue reading."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Send what was written, then close."""
        if self._frames is not None and self._frames.state is State.OPEN:
            self._frames.send_close()
            self._flush(self._frames)
        self._transport.close()

    def abort(self) -> None:
        """Close at once; bytes that were not sent are lost."""
        self._transport.abort()

    # ------------------------------------------------------------------ called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the WebSocket handshake; without WebSockets, the link is open at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        if self._frames is None:
            self._opened.set_result(None)
        else:
            self._frames.send_request(self._frames.connect())
            self._flush(self._frames)

    def data_received(self, data: bytes) -> None:
        """Pass on the bytes, without their frames."""
        if self._frames is None:
            self._on_bytes(data)
            return
        self._frames.receive_data(data)
        pieces = []
        for event in self._frames.events_received():
            if isinstance(event, Response):
                self._finish_handshake(self._frames)
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                pieces.append(event.data)
        if pieces:
            # [MQTT-6.0.0-2] packets need not begin or end where frames do. mosquitto sends each
            # packet in a frame of its own; a call for each would cost more than its content.
            self._on_bytes(b"".join(pieces))
        self._flush(self._frames)
        if self._frames.close_expected():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake all calls that wait."""
        self._writable.set()
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionResetError("closed before it was open"))
        self._on_lost(exc)

    def pause_writing(self) -> None:
        """Let `drained` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let `drained` return."""
        self._writable.set()

    async def opened(self) -> None:
        """Wait until MQTT packets can be sent."""
        await self._opened

    def _finish_handshake(self, frames: ClientProtocol) -> None:
        if frames.handshake_exc is not None:
            self._opened.set_exception(frames.handshake_exc)
        else:
            self._opened.set_result(None)

    def _flush(self, frames: ClientProtocol) -> None:
        for data in frames.data_to_send():
            if data:
                self._transport.write(data)


async def open_link(
    endpoint: Endpoint | LocalEndpoint,
    tls_ca_file: Path | None,
    tls_ca_file_name: str,
    on_bytes: Callable[[bytes], None],
    on_lost: Callable[[Exception | None], None],
) -> Link:
    """Connect to `endpoint`; raise `OSError` or `ConnectionLost`, each with the reason in words.

    `tls_ca_file_name` is what people call the option.
    """
    websocket = None
    if isinstance(endpoint, Endpoint) and endpoint.scheme in ("ws", "wss"):
        secure = endpoint.scheme == "wss"
        websocket = WebSocketURI(secure, endpoint.host, endpoint.port, endpoint.path, "")
    link: Link | None = None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
            context = None
            if isinstance(endpoint, Endpoint) and endpoint.scheme in ("mqtts", "wss"):
                context = _tls_context(tls_ca_file, tls_ca_file_name)
            link = await _connect(endpoint, context, lambda: Link(websocket, on_bytes, on_lost))
            await link.opened()
            return link
    except (InvalidHandshake, ProtocolError) as error:
        assert link is not None
        assert isinstance(endpoint, Endpoint)
        link.abort()
        raise ConnectionRefusedError(
            f"the server does not speak MQTT over WebSockets at {endpoint.path} ({error})"
        ) from error
    except BaseException:
        if link is not None:
            link.abort()
        raise


async def _connect(
    endpoint: Endpoint | LocalEndpoint, context: ssl.SSLContext | None, make: Callable[[], Link]
) -> Link:
    loop = asyncio.get_running_loop()
    if isinstance(endpoint, LocalEndpoint):
        with endpoint.name() as name:
            _, link = await loop.create_unix_connection(make, name)
        return link
    _, link = await loop.create_connection(make, endpoint.host, endpoint.port, ssl=context)
    return link


def _tls_context(ca_file: Path | None, name: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConnectionLost(
            f"{name} is {ca_file}, which cannot be used ({error.strerror}): set it to a "
            "PEM file with the certificate of an authority"
        ) from error
