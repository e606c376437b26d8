"""Giving a node its own credentials, blocking it, and saying how its messages are read."""

import re
import secrets
import socket
from typing import Literal

import msgspec
from msgspec import Struct

from echo_ingest.admin import ActionError, InvalidInput
from echo_ingest.admin.node_remedies import UNITS
from echo_ingest.broker.node_accounts import (
    CLOCK_AHEAD_SECONDS_MAX,
    NodeAccount,
    change_nodes,
    check_name,
    check_pattern,
    now,
)
from echo_ingest.broker.topic_rights import node_filters
from echo_ingest.decode import NodeRules
from echo_ingest.settings import RECEIPTS_PREFIX, Settings, parse_endpoint
from echo_ingest.settings.endpoint import is_loopback

NAME_SHOWN_MAX = 50  # a client id may have 64 characters, as IOT_CLIENT_ID
UNIT_SECONDS = {**dict(UNITS), "m": 60}

_SPAN = re.compile(r"([+-]?)((?:\d+(?:\.\d+)?(?:d|h|min|m|s) ?)+|0)", re.ASCII)
_SPAN_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|min|m|s)", re.ASCII)


class NodeCredentials(Struct, frozen=True):
    """All that a device needs to connect; the QR code contains it as JSON."""

    url: str
    user: str
    password: str
    client_id: str
    topic: str
    receipts: str


def manages_our_broker(settings: Settings) -> bool:
    """Return whether our file of nodes belongs to the broker that we use."""
    if settings.endpoint is None or settings.nodes_file is not None:
        return True
    endpoint = parse_endpoint(settings.endpoint)
    return is_loopback(endpoint.host) and endpoint.port == settings.mqtt_port


def check_name_and_topic(settings: Settings, name: str) -> None:
    """Raise `InvalidInput` if no node may have this name, or IOT_TOPIC has no topic for it."""
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    if not node_filters(settings.topic_filters, settings.topic_prefixes, name):
        raise InvalidInput(
            f"IOT_TOPIC is {settings.topic}, which leaves no topic for a node called {name}"
        )


def broker_url(settings: Settings, url: str | None = None) -> str:
    """Return where devices reach the broker: at `url`, or else as this machine guesses."""
    if url is None:
        everywhere = settings.bind in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        url = f"mqtt://{socket.gethostname() if everywhere else settings.bind}:{settings.mqtt_port}"
    try:
        return str(parse_endpoint(url))
    except ValueError as error:
        raise InvalidInput(f"{url:.200}: {error}") from None


def credentials_for(settings: Settings, name: str, password: str, url: str) -> NodeCredentials:
    """Return all that a device called `name` needs to connect."""
    own = node_filters(settings.topic_filters, settings.topic_prefixes, name)
    # Others cannot guess this client id, so they cannot use it to disconnect the device.
    return NodeCredentials(
        url,
        name,
        password,
        f"{name[:NAME_SHOWN_MAX]}-{secrets.token_hex(4)}",
        own[0].removesuffix("/#") if own else "",
        f"{RECEIPTS_PREFIX}/{name}",
    )


def add(settings: Settings, name: str, hashed: str | None) -> None:
    """Add a node, with the password of this hash; None: it uses a certificate only."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        if name in nodes and nodes[name].login:
            raise ActionError(
                f"the node {name} exists already; `echo-ingest nodes rotate {name}` gives it "
                "a new password"
            )
        nodes[name] = msgspec.structs.replace(
            nodes.get(name, NodeAccount(name, now(), hashed)), hash=hashed, login=True
        )

    change_nodes(settings.nodes_path, change)


def rotate(settings: Settings, name: str, hashed: str) -> None:
    """Give a node another password."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        nodes[name] = msgspec.structs.replace(_existing(nodes, name), hash=hashed)

    change_nodes(settings.nodes_path, change)


def set_disabled(settings: Settings, name: str, disabled: bool) -> None:
    """Block a node, or unblock it with the credentials that it had."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        nodes[name] = msgspec.structs.replace(_existing(nodes, name), disabled=disabled)

    change_nodes(settings.nodes_path, change)


def remove(settings: Settings, name: str) -> None:
    """Remove a node's credentials; what is said of its messages stays."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        left = msgspec.structs.replace(
            _existing(nodes, name), hash=None, disabled=False, login=False, speaks_for=()
        )
        _keep_if_needed(nodes, left)

    change_nodes(settings.nodes_path, change)


def set_rules(
    settings: Settings,
    name: str,
    confidence: Literal["percent", "fraction"] | None,
    clock_ahead_seconds: float | None,
) -> NodeRules:
    """Say how a node's messages are read, with or without credentials of its own.

    None leaves a rule as it is. Returns the rules that hold now.
    """
    changed = NodeRules()

    def change(nodes: dict[str, NodeAccount]) -> None:
        nonlocal changed
        before = nodes.get(name, NodeAccount(name, now(), None, login=False))
        after = msgspec.structs.replace(
            before,
            confidence=confidence or before.confidence,
            clock_ahead_seconds=before.clock_ahead_seconds
            if clock_ahead_seconds is None
            else clock_ahead_seconds,
        )
        changed = after.rules
        _keep_if_needed(nodes, after)

    change_nodes(settings.nodes_path, change)
    return changed


def set_speaks_for(settings: Settings, name: str, patterns: tuple[str, ...]) -> None:
    """Let a node with credentials of its own speak for others, as their gateway; () for none."""
    try:
        for pattern in patterns:
            check_pattern(pattern)
    except ValueError as error:
        raise InvalidInput(str(error)) from None

    def change(nodes: dict[str, NodeAccount]) -> None:
        nodes[name] = msgspec.structs.replace(_existing(nodes, name), speaks_for=patterns)

    change_nodes(settings.nodes_path, change)


def parse_span(text: str) -> float:
    """Read a span of time such as `11h`, `-90s` or `1d 2h` as seconds; raise `InvalidInput`."""
    match = _SPAN.fullmatch(text.strip())
    seconds = 0.0
    if match is not None:
        for number, unit in _SPAN_PART.findall(match[2]):
            seconds += float(number) * UNIT_SECONDS[unit]
    if match is None or seconds > CLOCK_AHEAD_SECONDS_MAX:
        raise InvalidInput(
            f"{text!r:.80} is not a span of time: type one such as 11h, 90s or 1d2h, with a minus "
            "where the clock is behind, and 0 where it is right"
        )
    return -seconds if match[1] == "-" else seconds


def _keep_if_needed(nodes: dict[str, NodeAccount], node: NodeAccount) -> None:
    """Keep the line of a node only if it says something."""
    if node.login or node.rules != NodeRules():
        nodes[node.name] = node
    else:
        nodes.pop(node.name, None)


def _existing(nodes: dict[str, NodeAccount], name: str) -> NodeAccount:
    if name not in nodes or not nodes[name].login:
        raise ActionError(
            f"there is no node {name!r:.80}; `echo-ingest nodes list` shows all nodes"
        )
    return nodes[name]
