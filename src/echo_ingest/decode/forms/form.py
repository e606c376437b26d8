"""A form as it is after reading: what it matches, and what its messages mean."""

from msgspec import Struct

from echo_ingest.decode.forms.bytes_layout import Layout
from echo_ingest.decode.forms.fields import Field
from echo_ingest.decode.forms.paths import Path, Step
from echo_ingest.decode.forms.patterns import TextPattern
from echo_ingest.decode.forms.record_spec import RecordSpec
from echo_ingest.record import PinnedForm

DIGEST_DIGITS = 16


class FormError(Struct, frozen=True, order=True):
    """One thing that is wrong with a form."""

    line: int
    """From 1; that of the key it is about."""
    words: str
    """What was found, and what to type."""


class Match(Struct, frozen=True):
    """Which messages are in a form."""

    payload: str
    """One of `documents.PAYLOADS`."""
    topics: tuple[tuple[str, ...], ...]
    """The levels of each pattern; none: any topic."""
    has: tuple[tuple[Step, ...], ...]
    """What the document has, or in a table its first row."""
    where: Path | None
    opens: TextPattern | None
    columns: tuple[str, ...]
    separator: str


class Form(Struct, frozen=True):
    """A form in a file, compiled."""

    name: str
    """A stable name: `Record.form`."""
    digest: str
    """The first digits of the SHA-256 of its text, in hex: which version of the form it is."""
    source: bytes
    """The bytes of its file: who keeps them can read the form again as it was."""
    about: str
    """Which devices send it, for people."""
    match: Match
    ignore: bool = False
    layout: Layout | None = None
    records: tuple[RecordSpec, ...] = ()
    message_id: Field | None = None
    """The id of the message as a whole."""
    is_unique_in_form: bool = False
    """Whether that id is the same message on every topic."""

    @property
    def pinned(self) -> PinnedForm:
        """What the journal keeps of it, beside the messages in it."""
        return PinnedForm(self.name, self.digest, self.source)
