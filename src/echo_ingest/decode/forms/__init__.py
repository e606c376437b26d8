"""Interpret forms as data: what messages of other devices mean, written down in TOML files.

A form says which messages it is for, and what each of them becomes. docs/form-files.md is the
reference. Reading a file is `reading.read`; everything after that is pure.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from echo_ingest.decode.forms import reading
from echo_ingest.decode.forms.form import Form, FormError
from echo_ingest.decode.forms.interpret import DecodedByForm, differ_only_in_time, interpret
from echo_ingest.decode.forms.interpret import clip_bytes as clip_bytes_of
from echo_ingest.decode.forms.match import Arrived, Fit, Matcher, fit_of
from echo_ingest.decode.forms.records import FormRecord
from echo_ingest.decode.rules import Rules
from echo_ingest.record import Identity, Ignored, Message, Rejected

__all__ = [
    "SHIPPED",
    "DecodedByForm",
    "Form",
    "FormError",
    "FormRecord",
    "Forms",
    "differ_only_in_time",
]

FORMS_MAX = 200
SHIPPED = Path(__file__).parent / "shipped"
"""The forms that we ship: a folder for each, with an example and what it becomes beside it."""
SUFFIX = ".toml"
FILE_NAME = f"form{SUFFIX}"


class Forms:
    """All forms of an installation. It holds no state: the same message gives the same answer."""

    def __init__(
        self,
        forms: Iterable[Form],
        errors: Mapping[str, tuple[FormError, ...]],
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Take the forms in the order in which they are tried, and what is wrong with others."""
        self.forms = tuple(forms)
        self.errors = dict(errors)
        """The file of each form that cannot be used, with all that is wrong with it."""
        self.files = dict(files or {})
        """The file of each form that can be used, by its name."""
        self._matcher = Matcher(self.forms)
        self._by_name = {form.name: form for form in self.forms}

    @classmethod
    def of_folder(cls, shipped: Path, own: Path | None = None) -> "Forms":
        """Read the forms of two folders: `NAME.toml` or `NAME/form.toml`.

        Those of the site are tried first, in order of the names of their files, and one with the
        name of a shipped form takes its place. Reading is all that is done here with files.
        """
        return cls.of_sources(cls.sources(own), cls.sources(shipped))

    @classmethod
    def of_sources(
        cls, own: Iterable[tuple[str, bytes]], shipped: Iterable[tuple[str, bytes]] = ()
    ) -> "Forms":
        """Read forms from the names and bytes of their files."""
        forms: dict[str, Form] = {}
        files: dict[str, str] = {}
        errors: dict[str, tuple[FormError, ...]] = {}
        for name, source, is_own in (
            *((name, source, True) for name, source in own),
            *((name, source, False) for name, source in shipped),
        ):
            if len(forms) + len(errors) >= FORMS_MAX:
                errors[name] = (FormError(1, f"there are more than {FORMS_MAX} forms"),)
                break
            form = reading.read(source)
            if not isinstance(form, Form):
                errors[name] = form
            elif form.name not in forms:
                forms[form.name], files[form.name] = form, name
            elif is_own:
                words = f"name: {form.name!r} is the name of {files[form.name]} too; type another"
                errors[name] = (FormError(1, words),)
        return cls(forms.values(), errors, files)

    @staticmethod
    def sources(folder: Path | None) -> list[tuple[str, bytes]]:
        """Return the names and bytes of the files of a folder, `NAME.toml` or `NAME/form.toml`."""
        if folder is None or not folder.is_dir():
            return []
        files = {path.stem: path for path in folder.glob(f"*{SUFFIX}") if path.is_file()}
        files |= {path.parent.name: path for path in folder.glob(f"*/{FILE_NAME}")}
        return [(str(path), path.read_bytes()) for _, path in sorted(files.items())]

    def fit(self, message: Message) -> Fit | None:
        """Return the first form that a message is in, with what it captured; None if none fits."""
        return self._matcher.fit(message)

    def named(self, name: str) -> Form | None:
        """Return the form with that name."""
        return self._by_name.get(name)

    def decode(
        self, message: Message, rules: Rules
    ) -> tuple[FormRecord, ...] | Rejected | Ignored | None:
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
