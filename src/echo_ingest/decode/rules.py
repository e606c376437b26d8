"""What the meaning of a message depends on besides its bytes: the site, its nodes and its words."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from fnmatch import fnmatchcase
from types import MappingProxyType
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.record import Message, ObservationType

FIRST_DAY = date(2015, 1, 1)
_NOT_ANIMALS_BY_KIND: dict[ObservationType, tuple[str, ...]] = {
    "blank": (
        *("nocall", "no call", "no-call", "no detection", "no bird", "no bat", "not bat"),
        *("noise", "background", "background noise", "ambient", "ambient noise", "environmental"),
        *("silence", "static", "microphone noise", "wind noise", "clipping", "false positive"),
        *("rain", "heavy rain", "wind", "thunder", "thunderstorm", "water", "stream", "waves"),
        *("blank", "empty", "none", "nothing"),
    ),
    "unknown": (
        *("unknown", "unidentified", "undetermined", "don't know", "not sure", "other", "noid"),
        *("no id", "unknown species", "unknown bird", "unknown bat", "unknown frog", "nan", "n/a"),
    ),
    "unclassified": ("unclassified",),
    "human": (
        *("human", "homo sapiens", "human vocal", "human non-vocal", "human whistle"),
        *("human noise", "person", "people"),
        *("human voice", "human speech", "speech", "voice", "voices", "talking", "conversation"),
        *("laughter", "footsteps", "music", "anthropogenic", "fireworks", "firework"),
        *("gun", "gunshot", "gunshot, gunfire", "explosion", "power tools", "chainsaw", "hammer"),
    ),
    "vehicle": (
        *("vehicle", "engine", "engine noise", "motor", "machinery", "siren", "car", "truck"),
        *("bus", "motorcycle", "traffic", "train"),
        *("traffic noise", "aircraft", "airplane", "aeroplane", "plane", "helicopter"),
        *("boat", "boat engine", "ship", "car horn"),
    ),
}
NOT_ANIMALS: Mapping[str, ObservationType] = MappingProxyType(
    {label: kind for kind, labels in _NOT_ANIMALS_BY_KIND.items() for label in labels}
)
"""Labels of classifiers that name no animal, in lower case."""
BEFORE_COMMON_NAME = frozenset(
    (
        "engine",
        "environmental",
        "fireworks",
        "gun",
        "homo sapiens",
        "human non-vocal",
        "human vocal",
        "human whistle",
        "noise",
        "power tools",
        "siren",
    )
)
"""What labels that name no animal have in the place of a scientific name, before a common name in
any language: BirdNET's "Human vocal_Menschliche Stimme", and "Homo sapiens_Human"."""


def may_speak_for(patterns: Iterable[str], node: str) -> bool:
    """Return whether one of a gateway's patterns is for `node`: `*` stands for any characters."""
    return any(fnmatchcase(node, pattern) for pattern in patterns)


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
    accounts: dict[str, tuple[str, ...]] = {}
    """For whom each account of a node may speak beside itself, as patterns; kept up to date too."""

    @property
    def first_moment(self) -> datetime:
        """The beginning of the first day."""
        return datetime.combine(self.first_day, time(), UTC)

    def observation_type(self, species: str) -> ObservationType:
        """Return what the label of a classifier stands for."""
        label = species.casefold()
        kind = self.not_animals.get(label)
        if kind is None and ("_" in label or "-" in label):
            kind = self.not_animals.get(label.replace("_", " ").replace("-", " "))
            name, _, common_name = label.partition("_")
            if kind is None and (name == common_name or name in BEFORE_COMMON_NAME):
                kind = self.not_animals.get(name)
        return kind or "animal"

    def speaks_for(self, message: Message) -> tuple[str, ...] | None:
        """Return for whom the sender of a message may speak beside itself; None: for everybody.

        Only an account of a node is bound to its own name. It is the node of what it publishes,
        except where a gateway spoke for another node: that was decided when it was stored.
        """
        if message.account is None:
            return self.accounts.get(message.node or "")
        if message.account != message.node:
            return None
        return self.accounts.get(message.account, ())

    def of(self, node: str | None) -> NodeRules:
        """Return the rules for the messages of `node`."""
        return self.nodes.get(node or "", NO_RULES) if self.nodes else NO_RULES
