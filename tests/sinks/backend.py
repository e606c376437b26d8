"""What the contract suite must be able to do with the server behind a sink."""

from pathlib import Path
from typing import ClassVar, Protocol

from echo_ingest.record import AnyRecord, Message
from echo_ingest.sinks import Sink


class Backend(Protocol):
    """The other side of one sink: a server on 127.0.0.1, made once and used by each test in turn.

    Each test has an event loop of its own: what an `async` function opens, it closes.
    """

    name: ClassVar[str]
    """The name of its sink."""
    has_server: ClassVar[bool]
    """False for a mere folder: nothing can be stopped, and `port` means nothing."""
    is_idempotent: ClassVar[bool]
    """It can tell a repeat. If not, each repeat must have a fault that explains it."""
    refused: ClassVar[Message | None]
    """A message that decodes and that it refuses; None if there is none."""
    cannot_hold: ClassVar[frozenset[str]]
    """Names of `messages.LIMITS` and `messages.BEYOND` that it refuses instead of storing."""
    port: int
    """Where the server listens, the same each time."""

    def __init__(self, folder: Path) -> None:
        """All its files go below `folder`."""

    def missing(self) -> str | None:
        """Return what must be installed for it and how, in words; None if everything is there."""

    async def start(self) -> None:
        """Have the server run, with what it had stored when it was stopped or killed."""

    async def stop(self) -> None:
        """Stop it in order; it may be stopped already."""

    async def kill(self) -> None:
        """SIGKILL it; what it has confirmed is there after `start`."""

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing, and its connections stay as they are."""

    def thaw(self) -> None:
        """SIGCONT."""

    async def clear(self) -> None:
        """Forget all that is stored; the server runs."""

    def close(self) -> None:
        """End what still runs, frozen or not, for good."""

    def sink(self, port: int) -> Sink:
        """Return a new sink that reaches the server at `port`; it waits at most about a second."""

    def settings(self, port: int) -> dict[str, str]:
        """Return the settings that give the service this sink; the first one holds its address."""

    def keeps(self, record: AnyRecord) -> bool:
        """Whether it keeps such a record; what it does not keep is settled without a trace."""

    async def stored(self) -> list[bytes]:
        """Return the message key of each record that it has; twice if it has the record twice.

        In the order in which it took them, where it still knows; the server runs.
        """
