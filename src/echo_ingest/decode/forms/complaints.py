"""Collect what is wrong with a form while it is read: all of it at once, each with its line."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from echo_ingest.decode.forms.form import FormError
from echo_ingest.key_lines import KeyPath, line_of

SHOWN_CHARACTERS_MAX = 60
ERRORS_MAX = 100


class Complaints:
    """The errors of one form."""

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        """Take the line of each key."""
        self._lines = dict(lines)
        self._errors: list[FormError] = []

    def add(self, path: KeyPath, words: str) -> None:
        """Note what is wrong at a key."""
        if len(self._errors) < ERRORS_MAX:
            named = ".".join(str(part) for part in path if isinstance(part, str))
            whole = f"{named}: {words}" if named else words
            self._errors.append(FormError(line_of(path, self._lines), whole))

    @property
    def errors(self) -> tuple[FormError, ...]:
        """All errors, in order of lines, each once."""
        return tuple(sorted(set(self._errors)))

    def unknown_keys(self, table: Mapping[str, object], known: Iterable[str], at: KeyPath) -> None:
        """Complain about each key that is none of those known."""
        known = sorted(known)
        for key in table:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                self.add((*at, key), f"this key is not known; {remedy}")

    def text(self, value: object, at: KeyPath, *, longest: int = 256) -> str | None:
        """Return text that is not empty; complain about anything else."""
        if isinstance(value, str) and 0 < len(value) <= longest:
            return value
        if isinstance(value, str) and value:
            self.add(at, f"the text has {len(value):,} characters; at most {longest:,} are read")
        else:
            self.add(at, f"{shown(value)} was found; type a text in quotes")
        return None

    def number(self, value: object, at: KeyPath) -> float | None:
        """Return a number; complain about anything else."""
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
        self.add(at, f"{shown(value)} was found; type a number")
        return None

    def table(self, value: object, at: KeyPath) -> Mapping[str, object] | None:
        """Return a table; complain about anything else."""
        if isinstance(value, dict):
            return value
        self.add(at, f"{shown(value)} was found; a table was expected")
        return None

    def choice(self, value: object, choices: Iterable[str], at: KeyPath) -> str | None:
        """Return one of the words that are possible; complain about anything else."""
        choices = tuple(choices)
        if isinstance(value, str) and value in choices:
            return value
        self.add(at, f"{shown(value)} was found; type one of {', '.join(choices)}")
        return None

    def texts(self, value: object, at: KeyPath, most: int) -> tuple[str, ...]:
        """Return one text or several; complain about anything else."""
        given = value if isinstance(value, list) else [value]
        if not given or len(given) > most:
            self.add(at, f"{len(given)} texts were found; type 1 to {most}")
            return ()
        texts = [self.text(each, at, longest=1_024) for each in given]
        return tuple(each for each in texts if each is not None)


def shown(value: object) -> str:
    """Show what stands in a form, as TOML writes it, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    try:
        text = repr(value) if isinstance(value, str | list) else str(value)
    except ValueError:  # hexadecimal digits may stand for more decimal ones than Python writes
        return "a number with too many digits"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
