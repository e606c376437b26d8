"""The access file: which account may publish and read which topics. Pure."""

from collections.abc import Iterable

from echo_ingest.broker.configuration import PUBLISHER, SERVICE, SUBSCRIBER
from echo_ingest.broker.node_accounts import NodeAccount
from echo_ingest.settings import LOOPBACK_PREFIX, RECEIPTS_PREFIX, Settings


def access_rules(settings: Settings, nodes: Iterable[NodeAccount]) -> str:
    """Return the access file: devices publish and get receipts, readers read, we do our work.

    There is a rule for each node, and no pattern for all of them: a node that is not in the file
    may do nothing, even while it is still connected or has a valid certificate.
    """
    filters = settings.topic_filters
    lines = [
        f"user {SUBSCRIBER}",
        *(f"topic read {each}" for each in filters),
        f"user {SERVICE}",
        f"topic readwrite {LOOPBACK_PREFIX}/#",
        "topic read $SYS/broker/#",
    ]
    if settings.echopub:
        lines += [
            *(f"topic read {each}" for each in filters),
            f"topic write {RECEIPTS_PREFIX}/#",
            f"user {PUBLISHER}",
            *(f"topic write {each}" for each in filters),
            f"topic read {RECEIPTS_PREFIX}/#",
        ]
    else:  # our own tools have no other account to publish with
        lines += [
            *(f"topic readwrite {each}" for each in filters),
            f"topic readwrite {RECEIPTS_PREFIX}/#",
        ]
    for node in nodes:
        if not node.disabled:
            own = node_filters(filters, settings.topic_prefixes, node.name)
            lines += [
                f"user {node.name}",
                *(f"topic write {each}" for each in own),
                f"topic read {RECEIPTS_PREFIX}/{node.name}/#",
            ]
    return "\n".join([*lines, ""])


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
