"""Where an account may publish, and how its name travels to the service with what it publishes.

On the topics of `IOT_TOPIC` the topic names the node, and an account of a node may use no other
name there. Everywhere else any account may publish, and MQTT would not tell who did. So the proxy
hands such a message to mosquitto below `iotaccounts/<account>/`, where nobody else can publish, and
the service takes these levels off again.

A *gateway* is an account of a node that may speak for others. What it publishes on the topic of
another node travels in the same way.
"""

from collections.abc import Mapping
from enum import Enum

from msgspec import structs

from echo_ingest.broker.configuration import PUBLISHER, SERVICE, SUBSCRIBER
from echo_ingest.decode.rules import may_speak_for
from echo_ingest.record import ACCOUNTS, Message, published
from echo_ingest.settings import (
    LOOPBACK_PREFIX,
    RECEIPTS_PREFIX,
    Endpoint,
    LocalEndpoint,
    Settings,
)
from echo_ingest.settings.topics import matches, node_of, prefixes

RESERVED = (RECEIPTS_PREFIX, LOOPBACK_PREFIX)
"""The first levels of topics on which the service alone publishes."""


ELSEWHERE_TOPIC_BYTES_MAX = 1_024
"""How long a topic may be that the proxy changes, since it must hold all of that."""


class Verdict(Enum):
    """What becomes of a message, by its topic."""

    AS_IT_IS = "as it is"
    WITH_ACCOUNT = "with account"
    DENIED = "denied"


class TopicRights:
    """Who may publish where."""

    def __init__(self, topic_filters: tuple[str, ...]) -> None:
        """Take the filters of `IOT_TOPIC`."""
        self._filters = topic_filters
        self._prefixes = prefixes(topic_filters)
        self.speaks_for: Mapping[str, tuple[str, ...]] = {}
        """For which nodes each gateway may speak: patterns of their names."""

    def verdict(self, account: str, topic: str) -> Verdict:
        """Return what becomes of a message that `account` publishes on `topic`.

        It may have the account before the topic already, where it may publish on what follows, and
        where the proxy has seen all of that.
        """
        verdict = self._verdict(account, topic)
        own = f"{ACCOUNTS}/{account}/"
        if (
            verdict is Verdict.WITH_ACCOUNT
            and topic.startswith(own)
            and len(topic.encode()) < ELSEWHERE_TOPIC_BYTES_MAX
            and self._verdict(account, topic.removeprefix(own)) is Verdict.WITH_ACCOUNT
        ):
            return Verdict.AS_IT_IS
        return verdict

    def at_broker(self, account: str, topic: str) -> str | None:
        """Return the topic at the broker of what `account` publishes; None where it may not."""
        match self.verdict(account, topic):
            case Verdict.AS_IT_IS:
                return topic
            case Verdict.WITH_ACCOUNT:
                return f"{ACCOUNTS}/{account}/{topic}"
            case Verdict.DENIED:
                return None

    def _verdict(self, account: str, topic: str) -> Verdict:
        if account == SERVICE:
            return Verdict.AS_IT_IS
        if account == SUBSCRIBER or topic.startswith("$") or topic.partition("/")[0] in RESERVED:
            return Verdict.DENIED
        if not any(matches(each, topic) for each in self._filters):
            return Verdict.WITH_ACCOUNT
        node = node_of(topic, self._prefixes)
        if account == PUBLISHER:
            return Verdict.AS_IT_IS
        if node is None:
            return Verdict.WITH_ACCOUNT
        if node == account:
            own = node_filters(self._filters, self._prefixes, account)
            is_own = any(matches(each, topic) for each in own)
            return Verdict.AS_IT_IS if is_own else Verdict.DENIED
        speaks = may_speak_for(self.speaks_for.get(account, ()), node)
        return Verdict.WITH_ACCOUNT if speaks else Verdict.DENIED

    def arrived(self, message: Message) -> Message:
        """Return a message as it was published: the broker may have an account before its topic."""
        account, topic = published(message.topic)
        if account is None:
            return message
        if any(matches(each, topic) for each in self._filters):
            node = node_of(topic, self._prefixes)
            if node is not None:
                return structs.replace(message, topic=topic, node=node, receipts_to=account)
        node = None if account == PUBLISHER else account
        return structs.replace(message, topic=topic, node=node, account=account)

    def claims(self, message: Message) -> bool:
        """Return whether `IOT_TOPIC` has the topic of a message."""
        return any(matches(each, message.topic) for each in self._filters)


def subscriptions(settings: Settings, endpoint: Endpoint | LocalEndpoint) -> tuple[str, ...]:
    """Return what to subscribe to at a broker: at one of ours, what comes with its account too.

    The account `echo-ingest` is that of a broker of ours on another machine.
    """
    is_ours = isinstance(endpoint, LocalEndpoint) or is_ours_elsewhere(settings)
    return (*settings.topic_filters, *([f"{ACCOUNTS}/#"] if is_ours else []))


def is_ours_elsewhere(settings: Settings) -> bool:
    """Return whether the broker is one of ours on another machine, without a proxy in between."""
    return settings.endpoint is not None and settings.user == SERVICE


def node_filters(topic_filters: tuple[str, ...], prefixes: tuple[str, ...], name: str) -> list[str]:
    """Return what a node may publish to: the part of each filter that its own name marks.

    `iotingestion/#` becomes `iotingestion/<name>/#`, and `reserve/+/audio` `reserve/<name>/audio`.
    A filter is left out where a longer prefix would find another node's name in the topic.
    """
    own = []
    for topic_filter in topic_filters:
        levels = topic_filter.split("/")
        first_wildcard = next(index for index, level in enumerate(levels) if level in ("+", "#"))
        below = "/".join((*levels[:first_wildcard], name))
        if not any(f"{prefix}/".startswith(f"{below}/") for prefix in prefixes):
            own.append(
                "/".join((below, *levels[first_wildcard + (levels[first_wildcard] == "+") :]))
            )
    return own
