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

from msgspec import Struct

from echo_ingest.broker.configuration import PUBLISHER, SERVICE, SUBSCRIBER
from echo_ingest.decode.rules import may_speak_for
from echo_ingest.settings import ACCOUNTS_PREFIX, LOOPBACK_PREFIX, RECEIPTS_PREFIX
from echo_ingest.settings.topics import matches, node_of, prefixes

RESERVED = (RECEIPTS_PREFIX, LOOPBACK_PREFIX)
"""The first levels of topics on which the service alone publishes."""


class Verdict(Enum):
    """What becomes of a message, by its topic."""

    AS_IT_IS = "as it is"
    WITH_ACCOUNT = "with account"
    DENIED = "denied"


class Origin(Struct, frozen=True):
    """Where a message comes from, as its topic at the broker tells."""

    topic: str
    """The topic on which it was published."""
    node: str | None
    account: str | None = None
    """The account that published it, where the topic does not name a node."""
    receipts_to: str | None = None
    """The gateway that spoke for the node, and gets the receipt."""


class TopicRights:
    """Who may publish where."""

    def __init__(self, topic_filters: tuple[str, ...]) -> None:
        """Take the filters of `IOT_TOPIC`."""
        self._filters = topic_filters
        self._prefixes = prefixes(topic_filters)
        self.speaks_for: Mapping[str, tuple[str, ...]] = {}
        """For which nodes each gateway may speak: patterns of their names."""

    def verdict(self, account: str, topic: str) -> Verdict:
        """Return what becomes of a message that `account` publishes on `topic`."""
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

    def origin(self, topic: str) -> Origin:
        """Return where a message comes from that has `topic` at the broker."""
        if not topic.startswith(f"{ACCOUNTS_PREFIX}/"):
            return Origin(topic, node_of(topic, self._prefixes))
        account, _, published = topic[len(ACCOUNTS_PREFIX) + 1 :].partition("/")
        if any(matches(each, published) for each in self._filters):
            node = node_of(published, self._prefixes)
            if node is not None:
                return Origin(published, node, receipts_to=account)
        return Origin(published, None if account == PUBLISHER else account, account)


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
