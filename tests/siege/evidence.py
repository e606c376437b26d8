"""What a siege leaves behind."""

from collections import Counter
from pathlib import Path

from msgspec import Struct

from tests.siege.good import Sent
from tests.siege.watch import HealthPage


class Attacked(Struct):
    """How often a kind attacked, and what the server answered."""

    bouts: int
    attempts: int
    answers: Counter[str]


class Evidence(Struct):
    """All that `judge` needs."""

    seed: int
    seconds: float
    journal: Path
    clips: Path
    """The folder where audio is kept."""
    rows: Counter[bytes]
    """How often PostgreSQL has each key."""
    devices: list[tuple[str, list[Sent]]]
    """The good devices, by node, and their messages by number."""
    troubles: dict[str, Counter[str]]
    """Why their connections ended."""
    attacked: dict[str, Attacked]
    health: dict[str, HealthPage]
    peak_bytes: dict[str, int]
    """The most memory in use, by group, without what the kernel could have dropped."""
    limit_bytes: dict[str, int]
    process_peak_bytes: dict[str, int]
    oom_kills: int
    restarts: int
    events: Counter[str]
    """How often each event is in the logs."""
    traces: list[str]
    """The traces in the logs."""
    log_bytes: int
    problems: list[str]
    """What went wrong apart from messages."""

    @property
    def held_back(self) -> int:
        """How often devices were held back because the broker's memory was short."""
        return self.events["devices held back"]
