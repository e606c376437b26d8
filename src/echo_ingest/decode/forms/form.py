"""A form as it is after reading: what it matches, and what its messages mean."""

import hashlib

from msgspec import Struct

from echo_ingest.decode.forms.bytes_layout import Layout
from echo_ingest.decode.forms.fields import Field
from echo_ingest.decode.forms.paths import Path, Step
from echo_ingest.decode.forms.patterns import TextPattern
from echo_ingest.decode.forms.record_spec import RecordSpec
from echo_ingest.decode.payloads import PayloadReader
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
    """One of `documents.PAYLOADS`, or what `reader` reads."""
    topics: tuple[tuple[str, ...], ...]
    """The levels of each pattern; none: any topic."""
    has: tuple[tuple[Step, ...], ...]
    """What the document has, or in a table its first row."""
    where: Path | None
    opens: TextPattern | None
    columns: tuple[str, ...]
    separator: str
    reader: PayloadReader | None = None
    """What makes a document of a payload of bytes."""


class Form(PinnedForm, frozen=True):
    """A form in a file, compiled: what is kept of it, and what reads its messages.

    The digest alone says which one it is.
    """

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

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Form) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def digest_of(source: bytes) -> str:
    """Return which version of a form a text is."""
    return hashlib.sha256(source).hexdigest()[:DIGEST_DIGITS]
