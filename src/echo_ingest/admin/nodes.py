"""Giving a node its own credentials, replacing or removing them, and blocking a node."""

import secrets
import socket

import msgspec
from msgspec import Struct

from echo_ingest.admin import ActionError, InvalidInput
from echo_ingest.broker.access_rules import node_filters
from echo_ingest.broker.node_accounts import NodeAccount, change_nodes, check_name, now
from echo_ingest.settings import RECEIPTS_PREFIX, Settings, parse_endpoint
from echo_ingest.settings.endpoint import is_loopback

NAME_SHOWN_MAX = 50  # a client id may have 64 characters, as IOT_CLIENT_ID


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
        if name in nodes:
            raise ActionError(
                f"the node {name} exists already; `echo-ingest nodes rotate {name}` gives it "
                "a new password"
            )
        nodes[name] = NodeAccount(name, now(), hashed)

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
    """Remove a node's credentials."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        _existing(nodes, name)
        del nodes[name]

    change_nodes(settings.nodes_path, change)


def _existing(nodes: dict[str, NodeAccount], name: str) -> NodeAccount:
    if name not in nodes:
        raise ActionError(
            f"there is no node {name!r:.80}; `echo-ingest nodes list` shows all nodes"
        )
    return nodes[name]
