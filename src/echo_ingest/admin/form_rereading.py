"""Reading stored messages by the present version of their form, when a person asks for that.

A message that this version does not read keeps its form. The walk goes through the journal in short
transactions, and one that was interrupted is begun again: what is done already is passed over.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec
from msgspec import Struct, structs

from echo_ingest.broker.configuration import PUBLISHER
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import DecodedByForm, Form
from echo_ingest.decode.forms.misfit import misfit
from echo_ingest.decode.identified import DecodedMessage
from echo_ingest.journal import Journal
from echo_ingest.journal.decoding import DAMAGED
from echo_ingest.journal.entries import Entry
from echo_ingest.journal.reader import JournalReader
from echo_ingest.journal.rereading import Repinned, Reread
from echo_ingest.record import Ignored, Message, Rejected, node_of
from echo_ingest.settings import Settings
from echo_ingest.settings.topics import node_of as node_of_topic

PARKED = "a sink has parked it, and it would have fewer records: retry it there first"
CHANGED = "it was changed or removed meanwhile"


class Rereading(Struct):
    """What became of the messages, or would become."""

    read: int = 0
    """How many are read by the present version now."""
    kept: Counter[str] = msgspec.field(default_factory=Counter[str])
    """Why others keep their form → how many."""
    moved: int = 0
    """How many of those that were read belong to another node now."""
    fewer: int = 0
    """How many of those that were read have fewer records than before."""
    first_received_at_ms: int | None = None
    """When the first of those that were read was received."""
    first_offset: int | None = None


class FormRereading:
    """One walk through the journal: `steps` does it, and `found` says what became of messages."""

    def __init__(self, settings: Settings, decoder: Decoder, form: Form, *, own: bool) -> None:
        """`own` includes the messages of our own dialects that would be in the form today."""
        self._settings = settings
        self._decoder = decoder
        self._form = form
        self._own = own
        self.found = Rereading()

    def steps(self, reader: JournalReader, journal: Journal | None) -> Iterator[int]:
        """Read all messages that are here, and yield how many offsets each step has passed.

        Without `journal` nothing is changed.
        """
        position, last = 0, reader.last_offset()
        while position < last:
            entries, end = reader.not_in_version(self._form, position, last, own=self._own)
            rereads = [each for each in map(self._reread, entries) if each is not None]
            if journal is None:
                outcomes = [_outlook(reader, each) for each in rereads]
            else:
                outcomes = journal.reread(rereads, self._form) if rereads else []
            for reread, outcome in zip(rereads, outcomes, strict=True):
                self._note(reread, outcome)
            yield end - position
            position = end

    def _note(self, reread: Reread, outcome: Repinned) -> None:
        found, message = self.found, reread.entry.message
        if outcome is not Repinned.DONE:
            found.kept[PARKED if outcome is Repinned.PARKED else CHANGED] += 1
            return
        found.read += 1
        found.moved += reread.node != message.node
        found.fewer += reread.has_fewer_records
        at_ms = message.received_at_ms
        found.first_received_at_ms = min(found.first_received_at_ms or at_ms, at_ms)
        found.first_offset = found.first_offset or reread.entry.offset

    def _reread(self, entry: Entry) -> Reread | None:
        """Return what the form makes of a message; None, and why is counted, if it keeps its own.

        A message of our own dialects that would be in no form, or in another, is not counted.
        """
        if entry.damaged:
            self.found.kept[DAMAGED.render()] += 1
            return None
        message = self._as_it_came(entry.message)
        if not entry.message.form and self._decoder.form_of_new(message) != self._form:
            return None
        decoded = self._by_form(message)
        if isinstance(decoded, Rejected | Ignored):
            self.found.kept[self._why_not(message, decoded)] += 1
            return None
        return Reread(
            entry,
            decoded.identity,
            node_of(message, decoded.identity),
            len(decoded.records) < len(self._decoder.records(entry.message)),
        )

    def _by_form(self, message: Message) -> DecodedMessage | Rejected | Ignored:
        pinned = structs.replace(message, form=self._form.digest)
        return self._decoder.identified(pinned, hashed=False)

    def _why_not(self, message: Message, decoded: Rejected | Ignored) -> str:
        if (why := misfit(self._form, message)) is not None:
            return f"not in the form: {why}"
        if isinstance(decoded, Ignored):
            return "it would be ignored"
        return f"it would be rejected: {decoded.render()}"

    def _as_it_came(self, stored: Message) -> Message:
        """Return a message without what its form has noted: the node that this one took."""
        message = structs.replace(stored, form=None)
        if not stored.form:
            return message
        unnamed = self._decoder.identified(structs.replace(stored, node=None), hashed=False)
        if not isinstance(unnamed, DecodedByForm) or unnamed.identity.node is None:
            return message
        if stored.account is not None:
            node = None if stored.account == PUBLISHER else stored.account
        else:
            node = self._node_of(stored.topic)
        return structs.replace(message, node=node)

    def _node_of(self, topic: str) -> str | None:
        endpoints = self._settings.endpoint_entries
        known = (self._settings.topic_prefixes, *(each.topic_prefixes for each in endpoints))
        nodes = (node_of_topic(topic, prefixes) for prefixes in known)
        return next((node for node in nodes if node is not None), None)


def _outlook(reader: JournalReader, reread: Reread) -> Repinned:
    """Return what would become of a message."""
    is_parked = reread.has_fewer_records and reader.parked_at(reread.entry.offset)
    return Repinned.PARKED if is_parked else Repinned.DONE
