"""Making a form: what a draft makes of messages that are kept, and saving it for the site.

A draft is tried with what is kept of messages without a form, and nothing is changed by that.
Saved, it is a file in the data folder like one that a person has put there.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from echo_ingest.admin import ActionError, InvalidInput
from echo_ingest.admin.form_outlook import KeptEntry, Outlook, outlook
from echo_ingest.decode.forms import FILE_NAME, FORMS_MAX, SHIPPED, SUFFIX, Form, FormError, Forms
from echo_ingest.decode.forms.examples import error_words
from echo_ingest.decode.forms.form import digest_of
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.suggest import NoSuggestion, suggest
from echo_ingest.decode.forms.trial import Trial, try_form
from echo_ingest.decode.rules import Rules
from echo_ingest.process.files import atomic_write
from echo_ingest.record import Message
from echo_ingest.settings import Settings

TRIED_MAX = 500
"""How many messages a draft is tried with: the newest."""
TRIED_SECONDS_MAX = 2.0
"""What takes longer is not tried any more, so that nothing else has to wait for it."""
DRAFTED_BYTES_MAX = 2_000_000
"""To draft a form, a message is read once for each of its values."""
NAME_CHARACTERS_MAX = 100
OWN_NAME = "my-device"

Entry = TypeVar("Entry", bound=KeptEntry)


class NameTaken(ActionError):
    """A form or a file of that name is there already, and nobody has said to replace it."""

    def __init__(self, words: str, digest: str) -> None:
        """Take the digest of what would be replaced."""
        super().__init__(words)
        self.digest = digest


class DraftTrial(Struct, frozen=True, kw_only=True):
    """What a draft makes of messages."""

    errors: tuple[FormError, ...] = ()
    """All that is wrong with its text; then nothing was tried."""
    trial: Trial | None = None
    """What becomes of the message that is shown."""
    outlook: Outlook = msgspec.field(default_factory=Outlook)
    """What becomes of all messages that were tried."""
    taken_before: Sequence[tuple[str, int]] = ()
    """Other forms of the site that come before it, and how many messages they take."""


class FirstDraft(Struct, frozen=True):
    """The text to begin with."""

    text: str
    remark: str | None = None
    """Why nothing could be drafted."""


def draft_of(message: Message, rules: Rules, forms: Forms) -> FirstDraft:
    """Draft a form for a message, under a name that is free."""
    name = _free_name(forms)
    remark = "the message is too large to be drafted from"
    if len(message.payload) <= DRAFTED_BYTES_MAX:
        try:
            return FirstDraft(suggest(message, rules, name).text)
        except NoSuggestion as error:
            remark = str(error)
    return FirstDraft(f'name = "{name}"\nabout = ""\n\n[match]\n\n[[record]]\nkind = ""\n', remark)


def _free_name(forms: Forms) -> str:
    numbered = (f"{OWN_NAME}-{number}" for number in itertools.count(2))
    names = itertools.chain([OWN_NAME], numbered)
    return next(name for name in names if forms.named(name) is None)


def try_draft(
    source: bytes,
    shown: Message | None,
    kept: Iterable[KeptEntry],
    rules: Rules,
    others: Forms | None = None,
    folder: Path | None = None,
) -> DraftTrial:
    """Try the text of a form with the message that is shown, and with all that is kept.

    `others` are the forms in use: those in `folder` whose names come first are asked first.
    """
    form = read(source, None if others is None else others.payloads)
    if not isinstance(form, Form):
        return DraftTrial(errors=form)
    before: Counter[str] = Counter()

    def left_over() -> Iterator[KeptEntry]:
        for entry in _in_time(kept):
            name = None
            if others is not None and folder is not None and not entry.damaged:
                name = _taken_before(entry.message, form, others, folder)
            if name is None:
                yield entry
            else:
                before[name] += 1

    found = outlook(left_over(), form, rules)
    return DraftTrial(
        trial=None if shown is None else try_form(form, shown, rules),
        outlook=found,
        taken_before=before.most_common(),
    )


def _in_time(kept: Iterable[Entry]) -> Iterator[Entry]:
    """Yield messages as long as there is time for them, at least one."""
    end = time.monotonic() + TRIED_SECONDS_MAX
    for number, entry in enumerate(itertools.islice(kept, TRIED_MAX)):
        if number and time.monotonic() >= end:
            return
        yield entry


def _taken_before(message: Message, form: Form, others: Forms, folder: Path) -> str | None:
    """Return the form of the site that takes a message before this one is asked."""
    fit = others.fit_own(message)
    if fit is None or fit.form.name == form.name:
        return None
    first, second = Path(others.files[fit.form.name]), _file_of(form.name, others, folder)
    return fit.form.name if _place(first) < _place(second) else None


def _place(file: Path) -> str:
    """Return what tells the order in which the files of forms are tried."""
    return file.parent.name if file.name == FILE_NAME else file.stem


# ---------------------------------------------------------------------- saving


def save_form(settings: Settings, source: bytes, replaces: str | None = None) -> Form:
    """Write a form into the data folder, where the service follows it; return the form.

    `replaces` is the digest of the form or file of that name that a person has agreed to replace;
    otherwise `NameTaken` is raised where there is one. Raises `InvalidInput` for a text that is no
    form.
    """
    form = read(source)
    if not isinstance(form, Form):
        raise InvalidInput("; ".join(map(error_words, form)))
    if len(form.name) > NAME_CHARACTERS_MAX:
        raise InvalidInput(f"the name is too long; type at most {NAME_CHARACTERS_MAX} characters")
    folder = settings.forms_path
    forms = Forms.of_folder(SHIPPED, folder)
    file = _file_of(form.name, forms, folder)
    there = _what_is_there(form.name, forms, file)
    if there is not None and there.digest not in (replaces, form.digest):
        raise there
    if there is None and len(forms.forms) + len(forms.errors) >= FORMS_MAX:
        raise ActionError(f"there are {FORMS_MAX} forms already: remove one from {folder} first")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        atomic_write(file, source, owner=settings.data_dir.stat())
    except OSError as error:
        raise ActionError(f"{file} cannot be written: {error.strerror}") from None
    return form


def _file_of(name: str, forms: Forms, folder: Path) -> Path:
    """Return the file in which a form of the site is, or is to be."""
    known = forms.files.get(name)
    if known is not None and Path(known).is_relative_to(folder):
        return Path(known)
    of_folder = folder / name / FILE_NAME
    return of_folder if of_folder.exists() else folder / f"{name}{SUFFIX}"


def _what_is_there(name: str, forms: Forms, file: Path) -> NameTaken | None:
    """Return what a form of that name would replace, in words and as a digest."""
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        form = forms.named(name)
        if form is None:
            return None
        return NameTaken(f"{name} is a form that we ship ({form.about})", form.digest)
    except OSError as error:
        raise ActionError(f"{file} cannot be read: {error.strerror}") from None
    return NameTaken(f"there is a form in {file} already", digest_of(source))
