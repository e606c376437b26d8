"""TLS: the certificate of a port, read again when its files change, and each connection's layer.

The layer works on bytes in memory, because asyncio's own keeps 256 KiB for each connection.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any

import structlog

from echo_ingest.broker.reload import POLL_SECONDS, FileState, file_state
from echo_ingest.proxy.bootstrap import TlsFiles
from echo_ingest.proxy.layers import CHUNK_BYTES, LayerRefused

RECORD_BYTES_MAX = 16_384

log = structlog.get_logger("proxy")


class TlsPort:
    """The certificate of a port. Connections keep the one that they began with."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """Without a certificate it refuses everybody, until the files are there and fit."""
        self._previous = self._states()
        self._loaded: list[FileState] | None = None
        self.look()

    def layer(self) -> "TlsLayer":
        """Return the layer of a new connection."""
        return TlsLayer(self._context, wants_name=self._files.client_authority is not None)

    def look(self) -> None:
        """Read the files again if they have changed; if they do not fit, keep what was read."""
        states = self._states()
        # The same state twice: a program that writes a file in place, or removes it first, is done.
        if states == self._previous and states != self._loaded:
            self._loaded = states
            try:
                self._context = tls_context(self._files)
            except OSError as error:
                log.error("certificate not changed", reason=unusable(self._files, error))
            else:
                log.info("certificate changed", certificate=str(self._files.certificate))
        self._previous = states

    def _states(self) -> list[FileState]:
        paths = (self._files.certificate, self._files.key, self._files.client_authority)
        return [file_state(path) for path in paths if path is not None]


async def follow_certificates(ports: Iterable[TlsPort]) -> None:
    """Look at the files of the ports twice a second, until cancelled."""
    ports = list(ports)
    while True:
        await asyncio.sleep(POLL_SECONDS)
        for port in ports:
            port.look()


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what serves these files. Raises `OSError` if they do not fit, or cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.client_authority is not None:
        context.load_verify_locations(files.client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """Stand for the password of a key: without this, OpenSSL would ask on a terminal."""
    return ""


def unusable(files: TlsFiles, error: OSError) -> str:
    """Return in words what is wrong with the files."""
    return f"{files.certificate} and {files.key} cannot be used ({error.strerror or error})"


class TlsLayer:
    """The server's side of TLS."""

    def __init__(self, context: ssl.SSLContext, *, wants_name: bool) -> None:
        self.ended: str | None = None
        self.chunk_bytes_max = CHUNK_BYTES
        self.trusted = False
        self.name: str | None = None
        """The common name of the client's certificate, where the port asks for one."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._wants_name = wants_name
        self._shaken_hands = self._broken = False

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what `data` says in plain, and what TLS answers by itself."""
        self._incoming.write(data)
        pieces = []
        try:
            if not self._shaken_hands:
                self._tls.do_handshake()
                self._shaken_hands = True
                if self._wants_name:
                    self.name = self._common_name()
            while piece := self._tls.read(RECORD_BYTES_MAX):
                pieces.append(piece)
            self.ended = "it closed the connection"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._broken = True
            words = f"{error.reason or error.strerror}".lower().replace("_", " ")
            raise LayerRefused("tls", f"TLS: {words}", self._outgoing.read()) from None
        return b"".join(pieces), self._outgoing.read()

    def _common_name(self) -> str:
        certificate: Any = self._tls.getpeercert() or {}
        for part in certificate.get("subject", ()):
            for kind, value in part:
                if kind == "commonName":
                    return str(value)
        raise LayerRefused("tls", "its certificate has no common name", self._outgoing.read())

    def send(self, data: bytes) -> bytes:
        """Return `data` as TLS sends it."""
        if self._broken:
            return b""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def close(self) -> bytes:
        """Return the alert that ends TLS, if it has begun."""
        if not self._shaken_hands or self._broken:
            return b""
        with contextlib.suppress(ssl.SSLError):  # the device has not said it yet, and need not
            self._tls.unwrap()
        return self._outgoing.read()
