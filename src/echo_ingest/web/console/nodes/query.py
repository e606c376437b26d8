"""The query of the table of nodes: which nodes, in which order, and which page of them. Pure."""

from collections.abc import Mapping
from typing import cast, get_args

from msgspec import Struct

from echo_ingest.almanac import Order, Which

PAGE_NODES = 50
PAGE_MAX = 2_000
TEXT_MAX = 64
PARAMETERS = ("q", "which", "order", "down", "page")
STATES: tuple[tuple[Which, str], ...] = (
    ("all", "all"),
    ("hour", "heard in the last hour"),
    ("day", "heard in the last day"),
    ("silent", "silent"),
    ("never", "never heard"),
)
COLUMNS: tuple[tuple[Order | None, str, bool], ...] = (
    ("name", "node", False),
    ("last_heard", "last heard", False),
    ("battery", "battery", True),
    ("messages_today", "messages today", True),
    (None, "calls today", True),
    ("dead_letters", "rejected, last day", True),
    ("clock", "clock offset", False),
)
"""The order that a column's heading leads to, its words, and whether it is aligned to the right."""
DESCENDING_FIRST: frozenset[Order] = frozenset(
    ("last_heard", "messages_today", "dead_letters", "clock")
)
"""In these columns people look for the most; in the others, for the least."""


class NodesQuery(Struct, frozen=True):
    """Which nodes the table shows."""

    text: str = ""
    """A part of the name, in upper or lower case."""
    which: Which = "all"
    order: Order = "name"
    descending: bool = False
    page: int = 1

    @property
    def skip(self) -> int:
        """Return how many nodes come before this page."""
        return (self.page - 1) * PAGE_NODES

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the address; defaults are left out."""
        return {
            "q": self.text,
            "which": "" if self.which == "all" else self.which,
            "order": "" if self.order == "name" and not self.descending else self.order,
            "down": "1" if self.descending else "",
            "page": "" if self.page == 1 else self.page,
        }

    def ordered(self, order: Order) -> dict[str, object]:
        """Return where the heading of a column leads: to its order, or to the reverse."""
        first = order in DESCENDING_FIRST
        down = not self.descending if order == self.order else first
        return NodesQuery(self.text, self.which, order, down).parameters


def read(given: Mapping[str, str]) -> NodesQuery:
    """Read the parameters of an address; raise `ValueError`, in words, where one is wrong."""
    text, which = given.get("q", "").strip(), given.get("which", "all") or "all"
    order, page = given.get("order", "name") or "name", given.get("page", "1") or "1"
    if unknown := given.keys() - set(PARAMETERS):
        raise ValueError(
            f"{min(unknown)!r:.40} is not a parameter of this page; they are "
            + ", ".join(PARAMETERS)
        )
    if len(text) > TEXT_MAX:
        raise ValueError(f"q is too long: a node's name has at most {TEXT_MAX} characters")
    if which not in get_args(Which):
        raise ValueError(f"which is {which!r:.40}: it must be one of {', '.join(get_args(Which))}")
    if order not in get_args(Order):
        raise ValueError(f"order is {order!r:.40}: it must be one of {', '.join(get_args(Order))}")
    if not (page.isascii() and page.isdecimal() and 1 <= int(page) <= PAGE_MAX):
        raise ValueError(f"page is {page!r:.40}: it must be a whole number from 1 to {PAGE_MAX}")
    return NodesQuery(
        text, cast(Which, which), cast(Order, order), given.get("down") == "1", int(page)
    )
