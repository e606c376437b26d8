"""The address of the table of nodes: which, in which order, and where in it. Pure."""

from collections.abc import Mapping
from typing import cast, get_args

from msgspec import Struct

from echo_ingest.almanac import Order, Which

PAGE_NODES = 50
PAGE_MAX = 2_000
TEXT_MAX = 64
WORDS: Mapping[Which, str] = {
    "all": "all",
    "hour": "heard in the last hour",
    "day": "heard in the last day",
    "silent": "silent",
    "never": "never heard",
}
DESCENDING_FIRST: frozenset[Order] = frozenset(
    ("last_heard", "records_today", "dead_letters", "clock")
)
"""Where people look for the most; of the others, for the least."""


class NodesQuery(Struct, frozen=True):
    """What the table is to show."""

    text: str = ""
    """In the name, in upper or lower case."""
    which: Which = "all"
    order: Order = "name"
    descending: bool = False
    page: int = 1

    @property
    def skip(self) -> int:
        """How many nodes come before."""
        return (self.page - 1) * PAGE_NODES

    @property
    def parameters(self) -> dict[str, object]:
        """As they stand in the address; what is as ever is left out."""
        return {
            "q": self.text,
            "which": "" if self.which == "all" else self.which,
            "order": "" if self.order == "name" and not self.descending else self.order,
            "down": "1" if self.descending else "",
            "page": "" if self.page == 1 else self.page,
        }

    def ordered(self, order: Order) -> dict[str, object]:
        """What the heading of a column leads to: its order, or the other way round."""
        first = order in DESCENDING_FIRST
        down = not self.descending if order == self.order else first
        return NodesQuery(self.text, self.which, order, down).parameters


def read(given: Mapping[str, str]) -> NodesQuery:
    """Raises `ValueError` in words."""
    text, which = given.get("q", "").strip(), given.get("which", "all") or "all"
    order, page = given.get("order", "name") or "name", given.get("page", "1") or "1"
    if unknown := given.keys() - {"q", "which", "order", "down", "page"}:
        raise ValueError(f"nothing is known of {min(unknown)!r:.40} here")
    if len(text) > TEXT_MAX:
        raise ValueError(f"a part of a node's name has at most {TEXT_MAX} characters")
    if which not in get_args(Which):
        raise ValueError(f"which is {which!r:.40}: it must be one of {', '.join(get_args(Which))}")
    if order not in get_args(Order):
        raise ValueError(f"order is {order!r:.40}: it must be one of {', '.join(get_args(Order))}")
    if not (page.isascii() and page.isdecimal() and 1 <= int(page) <= PAGE_MAX):
        raise ValueError(f"page is {page!r:.40}: it must be a whole number from 1 to {PAGE_MAX}")
    return NodesQuery(
        text, cast(Which, which), cast(Order, order), given.get("down") == "1", int(page)
    )
