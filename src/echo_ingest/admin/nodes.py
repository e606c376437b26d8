"""Devices get credentials of their own, lose them, or are shut out for a while."""

import secrets
import socket

import msgspec
from msgspec import Struct

from echo_ingest.admin import ActionError, InvalidInput
from echo_ingest.broker.nodes import NodeAccount, change_nodes, check_name, now, own_filters
from echo_ingest.settings import RECEIPTS_PREFIX, Settings, parse_endpoint
from echo_ingest.settings.endpoint import is_loopback

NAME_SHOWN_MAX = 50  # a client id has 64 characters, as IOT_CLIENT_ID


class NodeCredentials(Struct, frozen=True):
    """All that a device needs: what the QR code holds, as JSON."""

    url: str
    user: str
    password: str
    client_id: str
    topic: str
    receipts: str


def are_here(settings: Settings) -> bool:
    """Is the file of nodes that of the broker that we use?"""
    if settings.endpoint is None or settings.nodes_file is not None:
        return True
    endpoint = parse_endpoint(settings.endpoint)
    return is_loopback(endpoint.host) and endpoint.port == settings.mqtt_port


def check(settings: Settings, name: str) -> None:
    """Raise `InvalidInput` where no node may be called that."""
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    if not own_filters(settings.topic_filters, settings.topic_prefixes, name):
        raise InvalidInput(
            f"IOT_TOPIC is {settings.topic}, which has no place for a node called {name}"
        )


def place_of(settings: Settings, url: str | None = None) -> str:
    """Where devices reach the broker, as far as this machine can tell if nobody says so."""
    if url is None:
        everywhere = settings.bind in ("0.0.0.0", "::")  # noqa: S104 - to be told, not to bind
        url = f"mqtt://{socket.gethostname() if everywhere else settings.bind}:{settings.mqtt_port}"
    try:
        return str(parse_endpoint(url))
    except ValueError as error:
        raise InvalidInput(f"{url:.200}: {error}") from None


def given(settings: Settings, name: str, password: str, url: str) -> NodeCredentials:
    """What a device called `name` is told."""
    own = own_filters(settings.topic_filters, settings.topic_prefixes, name)
    # With a client id that others cannot guess, they cannot throw the device out by using it.
    return NodeCredentials(
        url,
        name,
        password,
        f"{name[:NAME_SHOWN_MAX]}-{secrets.token_hex(4)}",
        own[0].removesuffix("/#") if own else "",
        f"{RECEIPTS_PREFIX}/{name}",
    )


def add(settings: Settings, name: str, hashed: str | None) -> None:
    """Let a new node in, with the password of this hash; None: with a certificate alone."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        if name in nodes:
            raise ActionError(
                f"{name} is there already; `echo-ingest nodes rotate {name}` makes a new password"
            )
        nodes[name] = NodeAccount(name, now(), hashed)

    change_nodes(settings.nodes_path, change)


def rotate(settings: Settings, name: str, hashed: str) -> None:
    """Give it another password."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        nodes[name] = msgspec.structs.replace(_known(nodes, name), hash=hashed)

    change_nodes(settings.nodes_path, change)


def set_disabled(settings: Settings, name: str, disabled: bool) -> None:
    """Shut it out, or let it in again with the credentials that it had."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        nodes[name] = msgspec.structs.replace(_known(nodes, name), disabled=disabled)

    change_nodes(settings.nodes_path, change)


def remove(settings: Settings, name: str) -> None:
    """Forget its credentials."""

    def change(nodes: dict[str, NodeAccount]) -> None:
        _known(nodes, name)
        del nodes[name]

    change_nodes(settings.nodes_path, change)


def _known(nodes: dict[str, NodeAccount], name: str) -> NodeAccount:
    if name not in nodes:
        raise ActionError(
            f"there is no node {name!r:.80}; `echo-ingest nodes list` shows those there are"
        )
    return nodes[name]
