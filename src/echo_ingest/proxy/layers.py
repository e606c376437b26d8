"""What may lie between the bytes of a connection and MQTT: TLS, WebSockets, or one in the other."""

from typing import Protocol

from echo_ingest.proxy.packets import PacketRefused

CHUNK_BYTES = 65_536


class Layer(Protocol):
    """What lies between the bytes of the connection and MQTT: TLS, or WebSockets."""

    ended: str | None
    """How the device has ended the layer, in words, once it has."""
    name: str | None
    """What the device has proved to be called."""
    trusted: bool
    """Whether the device has logged in."""
    chunk_bytes_max: int
    """How much to read at once: each chunk holds up all other devices."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what came; return what it means, and what is to be answered.

        Raises `LayerRefused`.
        """

    def send(self, data: bytes) -> bytes:
        """Return what to write so that the device gets `data`."""

    def close(self) -> bytes:
        """Return what to write last."""


class LayerRefused(PacketRefused):
    """A device breaks the rules of a layer."""

    def __init__(self, label: str, words: str, answer: bytes) -> None:
        super().__init__(label, words)
        self.answer = answer
        """What is to be written by the layer itself, before the connection ends."""
