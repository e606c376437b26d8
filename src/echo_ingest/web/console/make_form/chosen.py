"""For which messages a form is made: a group of dead letters, or those of an unclaimed topic."""

from collections.abc import Mapping, Sequence

from litestar.exceptions import NotFoundException
from msgspec import Struct

from echo_ingest.admin.form_making import TRIED_MAX
from echo_ingest.admin.form_outlook import KeptEntry
from echo_ingest.almanac import Almanac
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.journal.entries import entry_bytes, up_to_bytes
from echo_ingest.journal.reader import JournalReader
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused_groups import (
    find_group,
    group_address,
    group_fields,
    is_number,
    key_of,
)

UNCLAIMED = "/console/unclaimed"


class ChosenMessages(Struct, frozen=True, kw_only=True):
    """What an address or a form names."""

    topic: str | None
    """The unclaimed topic; None for a group of dead letters."""
    key: ReasonKey
    """The reason of the group."""
    node: str | None
    """The node whose dead letters alone are meant."""
    shown: int | None
    """The number of the message to show; None for the newest."""

    @property
    def fields(self) -> dict[str, str | None]:
        """Return the parameters that name them again."""
        if self.topic is not None:
            return {"topic": self.topic}
        return group_fields(None, self.key, self.node)

    @property
    def back(self) -> str:
        """Return the address of the page that has led here."""
        return UNCLAIMED if self.topic is not None else group_address(None, self.key, self.node)


class KeptMessages(Struct, frozen=True, kw_only=True):
    """The messages as they are now."""

    in_common: str
    """What they have in common."""
    total: int
    numbers: Sequence[int]
    """Those of the newest, at most `TRIED_MAX`; none where they are read with the messages."""


def chosen_by(parameters: Mapping[str, str]) -> ChosenMessages:
    """Read what an address or a form names."""
    shown = parameters.get("show") or parameters.get("shown") or ""
    return ChosenMessages(
        topic=parameters.get("topic") or None,
        key=key_of(parameters),
        node=parameters.get("node") or None,
        shown=int(shown) if is_number(shown) else None,
    )


async def kept_now(sources: ConsoleContext, chosen: ChosenMessages) -> KeptMessages:
    """Look up how many messages there are; raise `NotFoundException` where there are none."""
    if (topic := chosen.topic) is not None:
        total = await sources.journal.ask(lambda reader: reader.count_unclaimed(topic))
        if not total:
            raise NotFoundException(f"Nothing is kept of {topic:.200} any more.")
        return KeptMessages(in_common=topic, total=total, numbers=())

    def members(almanac: Almanac) -> KeptMessages:
        group = find_group(almanac, None, chosen.key, chosen.node)
        numbers = almanac.refused_ones(group, node=chosen.node, ones_max=TRIED_MAX)
        return KeptMessages(in_common=group.reason, total=group.count, numbers=numbers)

    return await sources.almanac.ask(members)


def read_kept(
    reader: JournalReader, chosen: ChosenMessages, kept: KeptMessages
) -> Sequence[KeptEntry]:
    """Read the newest of them, as many as may be read at once."""
    if chosen.topic is not None:
        return reader.newest_unclaimed(chosen.topic, TRIED_MAX)
    read = map(reader.dead_letter, kept.numbers)
    return list(up_to_bytes((each for each in read if each is not None), entry_bytes))


def shown_of(
    entries: Sequence[KeptEntry], chosen: ChosenMessages
) -> tuple[KeptEntry, int | None, int | None]:
    """Return the message to show, and the numbers of the one before and the one after it."""
    whole = [entry for entry in entries if not entry.damaged]
    if not whole:
        raise NotFoundException("None of these messages can be read any more.")
    at = next((at for at, entry in enumerate(whole) if entry.id == chosen.shown), 0)
    newer = whole[at - 1].id if at else None
    older = whole[at + 1].id if at + 1 < len(whole) else None
    return whole[at], newer, older
