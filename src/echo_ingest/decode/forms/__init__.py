"""Interpret forms as data: what messages of other devices mean, written down in TOML files.

A form says which messages it is for, and what each of them becomes. docs/form-files.md is the
reference. Reading a file is `reading.read`; everything after that is pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from echo_ingest.decode.fast_path import PLAIN_KEYS
from echo_ingest.decode.fields import BACKSLASH
from echo_ingest.decode.forms import reading
from echo_ingest.decode.forms.at_a_glance import PAYLOAD_BYTES_MAX as PLAIN_BYTES_MAX
from echo_ingest.decode.forms.at_a_glance import QUOTE, Glance, Shapes, glance_of
from echo_ingest.decode.forms.form import Form, FormError
from echo_ingest.decode.forms.interpret import DecodedByForm, differ_only_in_time, interpret
from echo_ingest.decode.forms.interpret import clip_bytes as clip_bytes_of
from echo_ingest.decode.forms.match import Arrived, Fit, Matcher, fit_of
from echo_ingest.decode.payloads import Payloads
from echo_ingest.decode.rules import Rules
from echo_ingest.record import AnyRecord, Identity, Ignored, Message, Rejected

__all__ = [
    "SHIPPED",
    "DecodedByForm",
    "Form",
    "FormError",
    "Forms",
    "Loader",
    "differ_only_in_time",
    "form_files",
    "sources",
]

FORMS_MAX = 200
SHIPPED = Path(__file__).parent / "shipped"
"""The forms that we ship: a folder for each, with an example and what it becomes beside it."""
SUFFIX = ".toml"
FILE_NAME = f"form{SUFFIX}"


Source = bytes | FormError


class _FormSet(Struct, frozen=True):
    """The forms of one moment: they change together, or not at all."""

    forms: tuple[Form, ...]
    errors: dict[str, tuple[FormError, ...]]
    own_count: int
    own: Matcher
    shipped: Matcher
    by_name: dict[str, Form]
    by_digest: dict[str, Form]
    files: dict[str, str]
    glances: dict[str, Glance]
    """By digest, of the forms of which there is one."""
    shapes: Shapes
    """What was learned of their messages."""


Loader = Callable[[str], bytes | None]
"""Returns the source of a form that was pinned, by its digest; None if nobody has kept it."""


class Forms:
    """All forms of an installation: the same message gives the same answer while they are the same.

    They are brought up to date in place when the folder of the site changes. A message that was
    stored is decoded by the form of then: `loader` gets those that are not here any more.
    """

    def __init__(
        self,
        own: Iterable[Form],
        shipped: Iterable[Form] = (),
        errors: Mapping[str, tuple[FormError, ...]] = MappingProxyType({}),
        loader: Loader | None = None,
        payloads: Payloads | None = None,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Take the forms in the order in which they are tried, and what is wrong with others."""
        self._loader = loader
        self.payloads = payloads
        """What reads payloads of bytes, with the keys of the site."""
        self._earlier: dict[str, Form] = {}
        own, shipped = tuple(own), tuple(shipped)
        forms = (*own, *shipped)
        self._set = _FormSet(
            forms,
            dict(errors),
            len(own),
            Matcher(own),
            Matcher(shipped),
            {form.name: form for form in forms},
            {form.digest: form for form in forms},
            dict(files),
            {form.digest: glance for form in forms if (glance := glance_of(form)) is not None},
            Shapes(),
        )
        self.shapes = self._set.shapes
        """What was learned of messages in these forms: they change together, but for a moment."""

    @classmethod
    def of_folder(
        cls,
        shipped: Path,
        own: Path | None = None,
        loader: Loader | None = None,
        payloads: Payloads | None = None,
    ) -> "Forms":
        """Read the forms of two folders: `NAME.toml` or `NAME/form.toml`.

        Those of the site are tried first, in order of the names of their files, and one with the
        name of a shipped form takes its place. Reading is all that is done here with files.
        """
        return cls.of_sources(sources(own), sources(shipped), loader, payloads)

    @classmethod
    def of_sources(
        cls,
        own: Iterable[tuple[str, Source]],
        shipped: Iterable[tuple[str, Source]] = (),
        loader: Loader | None = None,
        payloads: Payloads | None = None,
    ) -> "Forms":
        """Read forms from the names and bytes of their files, as far as these can be read.

        `payloads` as in `reading.read`.
        """
        forms: dict[str, tuple[Form, bool]] = {}
        files: dict[str, str] = {}
        errors: dict[str, tuple[FormError, ...]] = {}
        for name, source, is_own in (
            *((name, source, True) for name, source in own),
            *((name, source, False) for name, source in shipped),
        ):
            if len(forms) + len(errors) >= FORMS_MAX:
                errors[name] = (FormError(1, f"there are more than {FORMS_MAX} forms"),)
                break
            form = (source,) if isinstance(source, FormError) else reading.read(source, payloads)
            if not isinstance(form, Form):
                errors[name] = form
            elif form.name not in forms:
                forms[form.name], files[form.name] = (form, is_own), name
            elif is_own:
                words = f"name: {form.name!r} is the name of {files[form.name]} too; type another"
                errors[name] = (FormError(1, words),)
        return cls(
            [form for form, is_own in forms.values() if is_own],
            [form for form, is_own in forms.values() if not is_own],
            errors,
            loader,
            payloads,
            files,
        )

    def become(self, other: "Forms") -> None:
        """Take the forms of another, in one step; what was pinned is found as before."""
        self._set, self.shapes = other._set, other.shapes

    @property
    def forms(self) -> tuple[Form, ...]:
        """All forms, in the order in which they are tried."""
        return self._set.forms

    @property
    def errors(self) -> Mapping[str, tuple[FormError, ...]]:
        """The file of each form that cannot be used, with all that is wrong with it."""
        return self._set.errors

    @property
    def files(self) -> Mapping[str, str]:
        """The file of each form, by the name of the form."""
        return self._set.files

    @property
    def own_count(self) -> int:
        """How many of them are the site's."""
        return self._set.own_count

    @property
    def digests(self) -> frozenset[str]:
        """Which versions of which forms these are."""
        return frozenset(self._set.by_digest)

    def fit(self, message: Message) -> Fit | None:
        """Return the first form that a message is in, with what it captured; None if none fits."""
        own = self.fit_own(message)
        if own is not None and own.unreadable is None:
            return own
        return self.fit_shipped(message) or own

    def fit_own(self, message: Message) -> Fit | None:
        """Return the first form of the site that a message is in."""
        return self._set.own.fit(message)

    def fit_shipped(self, message: Message) -> Fit | None:
        """Return the first of our own forms that a message is in."""
        return self._set.shipped.fit(message)

    def identify_at_a_glance(self, message: Message) -> Identity | None:
        """Tell which message it is, if it is plain and like one before it."""
        shapes = self.shapes.by_topic.get(message.topic)
        if shapes is None or len(message.payload) > PLAIN_BYTES_MAX:
            return None
        shape = shapes.get(message.payload.count(QUOTE))
        return None if shape is None else shape.identify(message)

    def learn(self, fit: Fit, message: Message) -> None:
        """Remember what a message that became a record is like, if that alone tells its form."""
        if BACKSLASH in message.payload or not message.payload.isascii():
            return  # none like it is plain
        now = self._set
        glance = now.glances.get(fit.form.digest)
        if glance is None or fit.document.keys() >= PLAIN_KEYS:  # the fast path may know others
            return
        if not now.shapes.may_learn(message):
            return
        if now.own.tells(fit.form, message) or (
            now.own.tells(None, message) and now.shipped.tells(fit.form, message)
        ):
            now.shapes.learn(message, glance, fit.document)

    def named(self, name: str) -> Form | None:
        """Return the form with that name."""
        return self._set.by_name.get(name)

    def pinned(self, digest: str) -> Form | None:
        """Return the form with that digest, of now or of before; None if nobody has kept it."""
        form = self._set.by_digest.get(digest) or self._earlier.get(digest)
        if form is None and self._loader is not None:
            source = self._loader(digest)
            read = None if source is None else reading.read(source, self.payloads)
            if not isinstance(read, Form) or read.digest != digest:
                return None
            form = self._earlier[digest] = read
        return form

    def decode(
        self, message: Message, rules: Rules
    ) -> tuple[AnyRecord, ...] | Rejected | Ignored | None:
        """Make the records of a message; None if it is in no form. Never raises."""
        decoded = self.decoded(message, rules, hashed=True)
        return decoded.records if isinstance(decoded, DecodedByForm) else decoded

    def identify(self, message: Message, rules: Rules) -> Identity | Rejected | Ignored | None:
        """Tell which message it is, as `decode` would decide; None if it is in no form."""
        decoded = self.decoded(message, rules, hashed=False)
        return decoded.identity if isinstance(decoded, DecodedByForm) else decoded

    def decoded(
        self, message: Message, rules: Rules, *, hashed: bool
    ) -> DecodedByForm | Rejected | Ignored | None:
        """Return the records with the form and the identity; `hashed` as in `audio.describe`."""
        fit = self.fit(message)
        return None if fit is None else interpret(fit, message, rules, hashed=hashed)

    @staticmethod
    def decoded_as(
        form: Form, message: Message, rules: Rules, *, hashed: bool
    ) -> DecodedByForm | Rejected | Ignored | None:
        """Decode a message by this very form, as a journal that has pinned it asks."""
        fit = fit_of(form, Arrived(message))
        return None if fit is None else interpret(fit, message, rules, hashed=hashed)

    def clip_bytes(self, message: Message, rules: Rules, index: int) -> bytes | None:
        """Return the audio of the record at `index`; None where it has none."""
        fit = self.fit(message)
        return None if fit is None else clip_bytes_of(fit, message, rules, index)


def form_files(folder: Path) -> list[Path]:
    """Return the files of forms in a folder, in the order in which they are tried."""
    files = {path.stem: path for path in folder.glob(f"*{SUFFIX}") if path.is_file()}
    files |= {path.parent.name: path for path in folder.glob(f"*/{FILE_NAME}")}
    return [path for _, path in sorted(files.items())]


def sources(folder: Path | None) -> Iterator[tuple[str, Source]]:
    """Yield the name and the bytes of each file, or why it cannot be read."""
    for path in () if folder is None else form_files(folder):
        try:
            with path.open("rb") as file:
                yield str(path), file.read(reading.FORM_BYTES_MAX + 1)
        except OSError as error:
            yield str(path), FormError(1, f"the file cannot be read ({error.strerror})")
