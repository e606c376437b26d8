"""What a run leaves behind."""

from pathlib import Path

from msgspec import Struct

from tests.crash.devices import Answers
from tests.crash.faults import Fault

NODES = tuple(f"node-{n}" for n in range(8))


class Done(Struct, frozen=True):
    """A fault as it happened."""

    at: float
    """When it happened, in epoch seconds."""
    fault: Fault
    hit: int
    """How many processes it really killed or stopped: one may just have been dead."""


class Evidence(Struct):
    """What a run leaves behind: all that `reconcile` needs."""

    seed: int
    messages: int
    version: tuple[int, int, int]
    journal: Path
    delivered: Path
    """What the API has stored, in JSON lines."""
    clips: Path
    """The folder where audio is kept."""
    keys: list[bytes]
    """The message key of each row in PostgreSQL."""
    answers: Answers
    faults: list[Done]
    problems: list[str]
    """What went wrong apart from messages."""
    starts: dict[str, int]
    transitions: dict[str, int]
    """How often the service has logged each event."""
    reconnects: int
    flow_seconds: float
    drain_seconds: float

    @property
    def total(self) -> int:
        """Count the messages of the run and the last message of each node."""
        return self.messages + len(NODES)

    def node(self, number: int) -> str:
        """Return the node that sends a message."""
        last = number - self.messages
        return NODES[last if last >= 0 else number % len(NODES)]
