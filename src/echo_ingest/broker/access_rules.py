"""The access file: which account may publish and read which topics. Pure."""

from collections.abc import Iterable

from echo_ingest.broker.configuration import PUBLISHER, SERVICE, SUBSCRIBER
from echo_ingest.broker.node_accounts import NodeAccount
from echo_ingest.broker.topic_rights import node_filters
from echo_ingest.record import ACCOUNTS
from echo_ingest.settings import LOOPBACK_PREFIX, RECEIPTS_PREFIX, Settings


def access_rules(settings: Settings, nodes: Iterable[NodeAccount]) -> str:
    """Return the access file: devices publish and get receipts, readers read, we do our work.

    There is a rule for each node, and no pattern for all of them: a node that is not in the file
    may do nothing, even while it is still connected or has a valid certificate. What an account
    publishes elsewhere the proxy puts below the account's own topic (`topic_rights`).
    """
    filters = settings.topic_filters
    lines = [
        f"user {SUBSCRIBER}",
        *(f"topic read {each}" for each in filters),
        f"topic read {ACCOUNTS}/#",
        f"user {SERVICE}",
        f"topic read {ACCOUNTS}/#",
        f"topic readwrite {LOOPBACK_PREFIX}/#",
        "topic read $SYS/broker/#",
    ]
    if settings.echopub:
        lines += [
            *(f"topic read {each}" for each in filters),
            f"topic write {RECEIPTS_PREFIX}/#",
            f"user {PUBLISHER}",
            *(f"topic write {each}" for each in filters),
            f"topic write {ACCOUNTS}/{PUBLISHER}/#",
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
                f"topic write {ACCOUNTS}/{node.name}/#",
                f"topic read {RECEIPTS_PREFIX}/{node.name}/#",
            ]
    return "\n".join([*lines, ""])
