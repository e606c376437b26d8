"""What the meaning of a message depends on besides its bytes: the site, its nodes and its words."""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.record import ObservationType

FIRST_DAY = date(2015, 1, 1)
NOT_ANIMALS: Mapping[str, ObservationType] = MappingProxyType(
    {
        "nocall": "blank",
        "noise": "blank",
        "environmental": "blank",
        "background": "blank",
        "silence": "blank",
        "rain": "blank",
        "wind": "blank",
        "unknown": "unknown",
        "unidentified": "unknown",
        "human": "human",
        "human vocal": "human",
        "human non-vocal": "human",
        "human whistle": "human",
        "speech": "human",
        "fireworks": "human",
        "gun": "human",
        "power tools": "human",
        "chainsaw": "human",
        "siren": "vehicle",
        "engine": "vehicle",
        "vehicle": "vehicle",
    }
)
"""Labels of classifiers that name no animal, in lower case."""


class NodeRules(Struct, frozen=True):
    """What is known about one node and cannot be told from its messages."""

    confidence_is_fraction: bool = False
    """It sends confidence from 0 to 1, where others send percent."""
    clock_ahead_seconds: float = 0
    """How far its clock is ahead of the true time; negative where it is behind."""


NO_RULES = NodeRules()


class Rules(Struct, frozen=True):
    """What a `Decoder` goes by; the default is that of a new installation."""

    zone: ZoneInfo | None = None
    """The zone of times that name none; None: it is not known."""
    first_day: date = FIRST_DAY
    """Nothing was recorded before this day, UTC."""
    not_animals: Mapping[str, ObservationType] = NOT_ANIMALS
    """Labels that name no animal, in lower case."""
    nodes: dict[str, NodeRules] = {}
    """By the node's name. It is brought up to date in place when the nodes file changes."""

    def of(self, node: str | None) -> NodeRules:
        """Return the rules for the messages of `node`."""
        return self.nodes.get(node or "", NO_RULES) if self.nodes else NO_RULES
