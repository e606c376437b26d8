"""Payloads that are neither JSON nor text: readers in Python, which make documents for forms.

A reader is a function that takes the bytes of a payload and the keys of the site, and returns a
`dict` as JSON would be; None where the bytes are of another kind. It raises `ValueError` where they
are of its kind, but cannot be read: then the message is rejected with these words. It must return
the same each time, and take time that is linear in the bytes.

A package adds one by an entry point in the group `echo_ingest.payloads`, whose name is what forms
call it. Ours load their libraries when the first payload of their kind arrives.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from math import isfinite
from typing import Any

from echo_ingest.decode.errors import DecodeError, printable
from echo_ingest.reasons import ReasonCode

GROUP = "echo_ingest.payloads"
OURS = {
    "meshtastic": "meshtastic:read",
    "chirpstack-uplink": "chirpstack:read_uplink",
    "chirpstack-status": "chirpstack:read_status",
    "chirpstack-join": "chirpstack:read_join",
    "chirpstack-log": "chirpstack:read_log",
    "sparkplug": "sparkplug:read",
}
"""What we read: the module in this package, and the function in it."""
DEPTH_MAX = 32
VALUES_MAX = 100_000
WHOLE_MAX = 2**64
WORDS_CHARACTERS_MAX = 150

Read = Callable[[bytes, Mapping[str, bytes]], dict[str, Any] | None]
"""What a package offers."""


class PayloadError(ValueError):
    """A payload cannot be read at all: what is wrong with its name or its package."""


class PayloadReader:
    """Reads one kind of payload, with the keys of the site. They are never shown."""

    def __init__(self, name: str, load: Callable[[], Read], keys: Mapping[str, bytes]) -> None:
        """Take the name, what loads the function, and the keys by name."""
        self.name = name
        self._load = load
        self._keys = keys

    def __call__(self, payload: bytes) -> dict[str, object] | None:
        """Return the document of a payload; None where it is of another kind.

        Raise `DecodeError` where it is of that kind and cannot be read.
        """
        try:
            document = self._load()(payload, self._keys)
            return None if document is None else _plain_document(document)
        except DecodeError:
            raise
        except ValueError as error:
            raise DecodeError(ReasonCode.WRONG_TYPE, _words(str(error))) from None
        except Exception as error:
            # It may be a reader of somebody else: its fault is no reason to end the line.
            words = _words(f"{type(error).__name__}: {error}")
            raise DecodeError(
                ReasonCode.PAYLOAD_READER_FAILED, f"the reader {self.name} failed: {words}"[:190]
            ) from None


class Payloads:
    """All readers of an installation, with the keys of the site."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        """Take the keys by name; look which packages offer readers, without loading them."""
        self._keys = dict(keys or {})
        self._offered: dict[str, list[EntryPoint]] = {}
        for offered in entry_points(group=GROUP):
            self._offered.setdefault(offered.name, []).append(offered)
        self._readers: dict[str, PayloadReader] = {}

    @property
    def names(self) -> Set[str]:
        """What a form can name."""
        return OURS.keys() | self._offered.keys()

    def reader(self, name: str) -> PayloadReader:
        """Return the reader of that name; raise `PayloadError` where none can be used."""
        if name not in self._readers:
            self._readers[name] = PayloadReader(name, self._loader(name), self._keys)
        return self._readers[name]

    def _loader(self, name: str) -> Callable[[], Read]:
        offered = self._offered.get(name, [])
        if len(offered) + (name in OURS) > 1:
            raise PayloadError(
                f"more than one package reads {name}: {', '.join(_packages(offered))}; remove one"
            )
        if name in OURS:
            return lambda: _ours(name)
        if not offered:
            raise PayloadError(f"no package reads {name}")
        try:
            read = offered[0].load()
        except Exception as error:
            raise PayloadError(
                f"the package that reads {name} cannot be loaded:"
                f" {type(error).__name__}: {_words(str(error))}"
            ) from None
        if not callable(read):
            raise PayloadError(f"what the package offers for {name} is no function")
        return lambda: read


@cache
def without_keys() -> Payloads:
    """Return the readers of an installation whose site gives no keys."""
    return Payloads()


@cache
def _ours(name: str) -> Read:
    module, _, function = OURS[name].partition(":")
    read: Read = getattr(import_module(f"{__name__}.{module}"), function)
    return read


def _packages(offered: list[EntryPoint]) -> Iterator[str]:
    for each in offered:
        yield each.dist.name if each.dist is not None else each.value


def _plain_document(document: object) -> dict[str, object]:
    if not isinstance(document, dict):
        raise TypeError("it returned no dict")
    return _Plain().table(document, 1)


class _Plain:
    """Makes what a reader returns into what JSON could hold, within limits."""

    def __init__(self) -> None:
        self._left = VALUES_MAX

    def table(self, sent: dict[Any, Any], depth: int) -> dict[str, object]:
        if not all(isinstance(key, str) for key in sent):
            raise TypeError("a key is no text")
        return {key: self._value(value, depth) for key, value in sent.items()}

    def _value(self, value: object, depth: int) -> object:
        self._left -= 1
        if self._left < 0:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX, f"the message holds more than {VALUES_MAX:,} values"
            )
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, int) and abs(value) <= WHOLE_MAX:
            return value
        if isinstance(value, float):
            return value if isfinite(value) else None
        if isinstance(value, bytes):
            return b64encode(value).decode()
        if not isinstance(value, dict | list | tuple):
            raise TypeError(f"a value of the type {type(value).__name__} is none of JSON")
        if depth >= DEPTH_MAX:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX, f"objects and lists are nested more than {DEPTH_MAX} deep"
            )
        if isinstance(value, dict):
            return self.table(value, depth + 1)
        return [self._value(each, depth + 1) for each in value]


def _words(text: str) -> str:
    return printable(" ".join(text.split()))[:WORDS_CHARACTERS_MAX]
