"""Which faults there are, and when: a plan made from the seed alone."""

from random import Random
from typing import Literal

from msgspec import Struct

PROGRAMS = ("mosquitto", "proxy", "broker", "service", "delivery", "api", "postgres")
"""`broker` is `echo-ingest broker`, the parent of mosquitto and of the proxy through which devices
reach it; `service` is that of `delivery`."""
LINKS = ("devices", "service", "api", "postgres")
"""The faulty links: devices → broker, service → broker, service → API, service → PostgreSQL."""
PAUSE_SECONDS = (0.1, 2.5)
DELAY_SECONDS = (0.1, 1.5)
FURTHER_FAULTS = 0.5
"""How many faults there are besides each kill."""

Kind = Literal["kill", "stop", "cut", "stall", "half open"]
KILLED: tuple[tuple[int, tuple[str, ...]], ...] = (
    (18, ("service",)),
    (10, ("delivery",)),
    (16, ("mosquitto",)),
    (6, ("proxy",)),
    (10, ("api",)),
    (6, ("postgres",)),
    (8, ("broker",)),
    (8, ("broker", "mosquitto")),
    (6, ("service", "mosquitto")),
    (4, ("service", "delivery")),
    (2, ("service", "postgres")),
    (6, PROGRAMS),
)
"""The share of kills that hit each target, in percent."""


class Fault(Struct, frozen=True):
    """A fault, and after how many messages it happens."""

    after: int
    kind: Kind
    targets: tuple[str, ...]
    seconds: float = 0.0
    """How long the target stands still; nothing for a kill or a cut."""
    delay_seconds: float = 0.0
    """How long to wait then: time for programs to come up again, but not always enough."""


def plan(seed: int, kills: int, messages: int) -> list[Fault]:
    """Plan the kills and half as many other faults, spread over the messages."""
    rng = Random(seed)
    others = round(kills * FURTHER_FAULTS)
    kinds: list[Kind] = ["kill"] * kills
    kinds += rng.choices(("stop", "cut", "stall", "half open"), (4, 3, 2, 2), k=others)
    rng.shuffle(kinds)
    faults = []
    for index, kind in enumerate(kinds):
        after = int(messages * (index + rng.random()) / len(kinds))
        faults.append(_fault(kind, after, rng))
    return faults


def _fault(kind: Kind, after: int, rng: Random) -> Fault:
    delay_seconds = rng.uniform(*DELAY_SECONDS)
    match kind:
        case "kill":
            (targets,) = rng.choices([t for _, t in KILLED], [share for share, _ in KILLED])
            return Fault(after, kind, targets, delay_seconds=delay_seconds)
        case "stop":
            stopped = rng.sample(PROGRAMS, rng.choice((1, 1, 2)))
            targets = tuple(stopped)
        case _:
            targets = (rng.choice(LINKS),)
    seconds = 0.0 if kind == "cut" else rng.uniform(*PAUSE_SECONDS)
    return Fault(after, kind, targets, seconds, delay_seconds)
