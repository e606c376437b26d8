"""The file of `IOT_ENDPOINTS`: brokers elsewhere, each with its topics and its account.

Every error of the file is reported at once, with its line and what to type.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from msgspec import Struct

from echo_ingest.key_lines import KeyPath, key_lines, line_of, syntax_error
from echo_ingest.settings.endpoint import Endpoint, parse_endpoint
from echo_ingest.settings.topics import overlap, parse_topics, prefixes

MqttVersion = Literal["5", "3.1.1"]

ENDPOINTS_MAX = 32
CLIENT_ID_CHARACTERS_MAX = 128
SECRET_BYTES_MAX = 1024
SHOWN_CHARACTERS_MAX = 60
KEYS = (
    *("name", "url", "topics", "user", "password_file", "tls_ca_file"),
    *("version", "qos", "client_id", "receipts"),
)
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
NAME_REMEDY = "type 1 to 32 small letters, digits, hyphens or underscores"
EXAMPLE = (
    'type [[endpoint]] and below it name = "farm", url = "mqtts://broker.example.org" and topics'
)


class FileProblems(ValueError):
    """A file that a setting names cannot be used: one line for each problem, with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class EndpointEntry(Struct, frozen=True, kw_only=True):
    """One broker elsewhere, as the file has it."""

    name: str
    url: Endpoint
    topic_filters: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    tls_ca_file: Path | None = None
    version: MqttVersion = "5"
    qos: Literal[0, 1] = 1
    client_id: str | None = None
    """The name of our session there; None: one that nobody can guess."""
    receipts: bool = False
    """Whether devices get receipts there."""

    def __repr__(self) -> str:
        return f"EndpointEntry({self.name!r}, {self.url})"

    @property
    def login(self) -> tuple[str, str] | None:
        """Return user and password, if there is a user."""
        return None if self.user is None else (self.user, self.password or "")

    @property
    def topic_prefixes(self) -> tuple[str, ...]:
        """Return the levels before the first wildcard of each filter, the longest first."""
        return prefixes(self.topic_filters)


class EndpointTable(Struct, frozen=True):
    """All brokers of a file."""

    path: Path
    entries: tuple[EndpointEntry, ...]


def read_endpoint_table(given: object) -> EndpointTable:
    """Read the file at a path; raise `FileProblems`, or `ValueError` where there is no file."""
    path = Path(str(given))
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"it cannot be read ({reason}); type the path of a TOML file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, words = syntax_error(text, error)
        raise FileProblems([f"{path}, line {line}: the TOML is broken: {words}"]) from None
    reading = _Reading(path, key_lines(text))
    entries = reading.entries(table)
    if reading.problems:
        raise FileProblems([words for _, words in sorted(reading.problems)])
    return EndpointTable(path, entries)


class _Reading:
    """Reads the tables, and notes what is wrong with each."""

    def __init__(self, path: Path, lines: dict[KeyPath, int]) -> None:
        self.problems: list[tuple[int, str]] = []
        self._path = path
        self._lines = lines

    def entries(self, table: Mapping[str, object]) -> tuple[EndpointEntry, ...]:
        for key in table:
            if key != "endpoint":
                self._add((key,), f"there is no such key; {EXAMPLE}")
        given = table.get("endpoint", [])
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self._add(("endpoint",), "type [[endpoint]], in two brackets, before each of them")
            return ()
        if not 0 < len(given) <= ENDPOINTS_MAX:
            words = (
                f"found {len(given)} endpoints, and 1 to {ENDPOINTS_MAX} are possible; {EXAMPLE}"
            )
            self._add(("endpoint",), words)
            return ()
        read = [self._entry(each, ("endpoint", number)) for number, each in enumerate(given)]
        entries = tuple(each for each in read if each is not None)
        self._compare(read)
        return entries

    def _entry(self, table: Mapping[str, object], at: KeyPath) -> EndpointEntry | None:
        before = len(self.problems)
        for key in table:
            if key not in KEYS:
                self._add((*at, key), f"{key}: there is no such key; {_nearest(key)}")
        name = self._text(table, at, "name", NAME_REMEDY, NAME)
        url = self._url(table, at)
        topic_filters = self._topics(table, at)
        user = self._text(table, at, "user", "type the name of an account, in quotes")
        entry = EndpointEntry(
            name=name or "",
            url=url,
            topic_filters=topic_filters,
            user=user,
            password=self._password(table, at),
            tls_ca_file=self._tls_ca_file(table, at, url),
            version=self._version(table, at),
            qos=self._qos(table, at),
            client_id=self._client_id(table, at),
            receipts=self._receipts(table, at),
        )
        for key, remedy in (
            ("name", NAME_REMEDY),
            ("url", "type the address of a broker"),
            ("topics", "type the topics to ingest there, in brackets"),
        ):
            if key not in table:
                self._add(at, f"{key} is missing; {remedy}")
        return entry if len(self.problems) == before else None

    def _compare(self, entries: list[EndpointEntry | None]) -> None:
        """Note what cannot stand beside each other."""
        for number, entry in enumerate(entries):
            for earlier in entries[:number]:
                if entry is None or earlier is None:
                    continue
                if entry.name == earlier.name:
                    words = f"an endpoint before has the name {entry.name} too; type another"
                    self._add(("endpoint", number, "name"), f"name: {words}")
                same_account = (entry.url, entry.user) == (earlier.url, earlier.user)
                if same_account and any(
                    overlap(one, other)
                    for one in entry.topic_filters
                    for other in earlier.topic_filters
                ):
                    words = (
                        f"{earlier.name} has some of these topics with the same account at the "
                        "same broker, and messages would arrive twice; leave one of them out"
                    )
                    self._add(("endpoint", number, "topics"), f"topics: {words}")

    # ------------------------------------------------------------------ one key each

    def _url(self, table: Mapping[str, object], at: KeyPath) -> Endpoint:
        nowhere = Endpoint("mqtt", "", 0)
        text = self._text(table, at, "url", "type the address of a broker, in quotes")
        if text is None:
            return nowhere
        try:
            return parse_endpoint(text)
        except ValueError as error:
            shown = f"'…@{text.rpartition('@')[2]}" if "@" in text else text
            self._found(at, "url", shown, str(error))
            return nowhere

    def _topics(self, table: Mapping[str, object], at: KeyPath) -> tuple[str, ...]:
        if "topics" not in table:
            return ()
        given = table["topics"]
        texts = given if isinstance(given, list) else [given]
        if not texts or not all(isinstance(each, str) and "," not in each for each in texts):
            self._found(at, "topics", given, 'type topics as in ["v3/+/devices/+/up"]')
            return ()
        try:
            return parse_topics(",".join(map(str, texts)))
        except ValueError as error:
            self._found(at, "topics", given, str(error))
            return ()

    def _password(self, table: Mapping[str, object], at: KeyPath) -> str | None:
        name = self._text(table, at, "password_file", "type the path of a file, in quotes")
        if name is None:
            return None
        if "user" not in table:
            self._add((*at, "password_file"), "password_file: type user too")
        path = self._path.parent / name
        try:
            text = path.read_text().removesuffix("\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            words = f"which cannot be read ({reason}); type the path of a file with the password"
            self._found(at, "password_file", name, words, sign=",")
            return None
        if not text or not text.isprintable() or len(text.encode()) > SECRET_BYTES_MAX:
            words = f"write 1 to {SECRET_BYTES_MAX} bytes of printable text into it, on one line"
            self._found(at, "password_file", name, words)
        return text

    def _tls_ca_file(self, table: Mapping[str, object], at: KeyPath, url: Endpoint) -> Path | None:
        name = self._text(table, at, "tls_ca_file", "type the path of a PEM file, in quotes")
        if name is None:
            return None
        path = self._path.parent / name
        if not path.is_file():
            self._found(at, "tls_ca_file", name, "type the path of a PEM file that exists")
        elif url.port and url.scheme not in ("mqtts", "wss"):
            words = "only mqtts:// and wss:// have certificates; leave it out, or change url"
            self._add((*at, "tls_ca_file"), f"tls_ca_file: {words}")
        return path

    def _version(self, table: Mapping[str, object], at: KeyPath) -> MqttVersion:
        given = table.get("version", "5")
        for version in get_args(MqttVersion):
            if given == version:
                return version  # type: ignore[no-any-return]
        self._found(at, "version", given, 'type "5" or "3.1.1", in quotes')
        return "5"

    def _qos(self, table: Mapping[str, object], at: KeyPath) -> Literal[0, 1]:
        given = table.get("qos", 1)
        if given == 2:
            words = "type 1, which loses nothing either: what comes twice is recognised"
            self._found(at, "qos", given, words)
        elif given not in (0, 1) or isinstance(given, bool):
            self._found(at, "qos", given, "type 1, or 0 where the broker knows nothing else")
        return 0 if given == 0 else 1

    def _client_id(self, table: Mapping[str, object], at: KeyPath) -> str | None:
        remedy = f"type 1 to {CLIENT_ID_CHARACTERS_MAX} printable characters, or leave it out"
        text = self._text(table, at, "client_id", remedy)
        if text is not None and not (text.isprintable() and len(text) <= CLIENT_ID_CHARACTERS_MAX):
            self._found(at, "client_id", text, remedy)
        return text

    def _receipts(self, table: Mapping[str, object], at: KeyPath) -> bool:
        given = table.get("receipts", False)
        if not isinstance(given, bool):
            self._found(at, "receipts", given, "type true or false")
        return given is True

    # ------------------------------------------------------------------ what is wrong

    def _text(
        self,
        table: Mapping[str, object],
        at: KeyPath,
        key: str,
        remedy: str,
        form: re.Pattern[str] | None = None,
    ) -> str | None:
        """Return the text of a key, and None if it is not there; note what is none."""
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value and (form is None or form.fullmatch(value)):
            return value
        self._found(at, key, value, remedy)
        return None

    def _found(self, at: KeyPath, key: str, value: object, remedy: str, *, sign: str = ";") -> None:
        shown = repr(value)
        if len(shown) > SHOWN_CHARACTERS_MAX:
            shown = f"{shown[:SHOWN_CHARACTERS_MAX]}…"
        self._add((*at, key), f"{key}: found {shown}{sign} {remedy}")

    def _add(self, at: KeyPath, words: str) -> None:
        line = line_of(at, self._lines)
        self.problems.append((line, f"{self._path}, line {line}: {words}"))


def _nearest(key: str) -> str:
    if key == "password":
        return "write the password into a file, and type password_file and its path"
    nearest = difflib.get_close_matches(key, KEYS, n=1)
    return f"type {nearest[0]}" if nearest else f"there are {', '.join(KEYS)}"
