"""What the head of a posted message says: who sends it, to which topic, and what is in it. Pure.

Each function raises an `HTTPException` that says what to send instead.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from email.message import Message as Header

import msgspec
from litestar.exceptions import ClientException, HTTPException, NotAuthorizedException
from msgspec import Struct

from echo_ingest.broker import PUBLISHER, SERVICE
from echo_ingest.broker.topic_rights import is_ours_elsewhere
from echo_ingest.decode.audio_file import PROPERTIES
from echo_ingest.settings import Settings
from echo_ingest.settings.topics import SEPARATORS_MAX, overlap

CHALLENGE = {"WWW-Authenticate": 'Basic realm="echo-ingest", charset="UTF-8"'}
REMEDY = (
    "send name and password of the node by HTTP Basic, as `echo-ingest nodes add` prints them "
    "(curl -u NAME:PASSWORD)"
)
USER_CHARACTERS_MAX = 256
TOPIC_BYTES_MAX = 1_024
LEVELS_MAX = SEPARATORS_MAX - 2
"""There may be an account before the topic, at the broker."""
PARTS_IN_BODY_BYTES_MAX = 64 * 1024
"""A body from which parts of the topic are taken is parsed here, on the loop of all requests."""
PART = re.compile(r"\{([^{}]*)\}")
CHARSETS = ("utf-8", "utf8", "us-ascii")
PARAMETERS = ("topic", "event", *PROPERTIES)


class Account(Struct, frozen=True):
    """The name and password with which a device logs in at the broker."""

    user: str
    password: str


class TopicPattern(Struct, frozen=True):
    """The topic that a message goes to; parts in braces are filled in from the message."""

    text: str
    event: str | None = None

    @property
    def needs_body(self) -> bool:
        """Return whether something in the body is part of the topic."""
        return any(part != "event" for part in PART.findall(self.text))

    def filled(self, body: bytes) -> str:
        """Return the topic of a message."""
        if "{" not in self.text and "}" not in self.text:
            return _checked(self.text)
        document: object = None
        if self.needs_body:
            if len(body) > PARTS_IN_BODY_BYTES_MAX:
                raise ClientException(
                    f"?topic= takes parts from the body, which then may have "
                    f"{PARTS_IN_BODY_BYTES_MAX // 1024} KiB: send a smaller one"
                )
            try:
                document = msgspec.json.decode(body)
            except (msgspec.DecodeError, RecursionError):
                raise ClientException(
                    "?topic= takes parts from the body, which then must be JSON"
                ) from None
        return _checked(PART.sub(lambda match: self._part(match[1], document), self.text))

    def _part(self, name: str, document: object) -> str:
        found: object = document
        if name == "event":
            found = self.event
        else:
            for key in name.split("."):
                found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
            where = "the address has no ?event=" if name == "event" else f"the body has no {name}"
            raise ClientException(f"?topic= has the part {{{name:.80}}}, and {where:.80}")
        if set(text := str(found)) & set("/+#"):
            raise ClientException(f"{name:.80} cannot be part of a topic: it has one of / + #")
        return text


def account_of(headers: Mapping[str, str]) -> Account:
    """Return the account of a request."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if not encoded:
        raise NotAuthorizedException(f"this needs a log-in: {REMEDY}", headers=CHALLENGE)
    try:
        user, colon, password = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        user = colon = password = ""
    is_text = f"{user}{password}".isprintable() and len(user) <= USER_CHARACTERS_MAX
    if scheme.lower() != "basic" or not colon or not user or not is_text:
        raise NotAuthorizedException(
            f"this is no log-in by HTTP Basic: {REMEDY}", headers=CHALLENGE
        )
    return Account(user, password)


def check_content(headers: Mapping[str, str]) -> None:
    """Raise an `HTTPException` where the body is wrapped in something that we do not unwrap."""
    header = Header()
    header["content-type"] = headers.get("content-type", "")
    charset = header.get_content_charset("utf-8")
    if header.get_content_maintype() == "multipart":
        raise HTTPException(
            "send the message itself as the body, not as a part of a form "
            "(curl --data-binary @FILE)",
            status_code=415,
        )
    if charset not in CHARSETS:
        raise HTTPException(f"send text as UTF-8, not as {charset:.40}", status_code=415)
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException("send the body as it is, not compressed", status_code=415)


def announced_bytes(headers: Mapping[str, str], bytes_max: int) -> int:
    """Return how large the body is; as large as it may be, where it does not say so."""
    text = headers.get("content-length")
    size = int(text) if text is not None and text.isdecimal() else bytes_max
    if size > bytes_max:
        raise too_large(bytes_max)
    return size


def too_large(bytes_max: int) -> HTTPException:
    """Return what to say about a body that is too large."""
    return HTTPException(
        f"a message may have {bytes_max:,} bytes (IOT_PAYLOAD_BYTES_MAX): send a smaller one",
        status_code=413,
    )


def query_of(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters of the address; a misspelt one would quietly change the meaning."""
    query: dict[str, str] = {}
    for name, text in items:
        if name not in PARAMETERS or name in query:
            known = ", ".join(PARAMETERS)
            raise ClientException(f"{name!r:.80} is unknown or given twice; allowed, once: {known}")
        query[name] = text
    return query


def properties_of(query: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what is known beside the sound, as the user properties of MQTT would say it."""
    properties = tuple((name, query[name]) for name in PROPERTIES if name in query)
    for name, text in properties:
        if "\0" in text or len(text) > TOPIC_BYTES_MAX:
            raise ClientException(f"{name} has more than {TOPIC_BYTES_MAX:,} characters, or a null")
    return properties


def topic_of(settings: Settings, node: str, rest: str, query: Mapping[str, str]) -> TopicPattern:
    """Return the topic that the address asks for: the node's own, unless it names another."""
    topic = query.get("topic")
    if topic is not None:
        if rest:
            raise ClientException("the topic is either in the path or in ?topic=, not in both")
        return TopicPattern(topic, query.get("event"))
    own = _checked("/".join(filter(None, (settings.topic_prefixes[-1], node, rest))))
    for prefix in reversed(settings.topic_prefixes):
        own = _checked("/".join(filter(None, (prefix, node, rest))))
        if any(overlap(own, each) for each in settings.topic_filters):
            return TopicPattern(own)
    raise HTTPException(
        f"nothing is ingested from {own:.80}: IOT_TOPIC is {settings.topic:.80}. Add what is "
        "missing to the path, or name the whole topic with ?topic=",
        status_code=404,
    )


def receiver_of(settings: Settings, account: Account, topic: str) -> str:
    """Return below which name in `iotreceipts/` the answer comes.

    It is the account's own; those who share an account get it in the name of the topic's node.
    """
    node = settings.node_of(topic)
    if not _is_shared(settings, account):
        return account.user
    if node is None:
        raise ClientException(
            f"{topic:.80} names no node, so {account.user:.80} would get no answer: use an account "
            "of its own, as `echo-ingest nodes add` makes it"
        )
    return node


def sender_of(settings: Settings, account: Account, node: str) -> str:
    """Return who has a share of what may be posted: an account, or one of those that share it."""
    return f"{account.user} {node}" if _is_shared(settings, account) else account.user


def _is_shared(settings: Settings, account: Account) -> bool:
    is_foreign = settings.endpoint is not None and not is_ours_elsewhere(settings)
    return is_foreign or account.user in (PUBLISHER, SERVICE)


def _checked(topic: str) -> str:
    if (
        not topic
        or not topic.isprintable()
        or set(topic) & set("+#{}")
        or topic.startswith("/")
        or len(topic.encode()) > TOPIC_BYTES_MAX
        or topic.count("/") >= LEVELS_MAX
    ):
        raise ClientException(
            f"{topic!r:.80} cannot be a topic: type up to {TOPIC_BYTES_MAX:,} printable "
            f"characters without + and #, in up to {LEVELS_MAX} levels"
        )
    return topic
