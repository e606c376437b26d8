"""Changes of nodes while mosquitto runs: applied without disturbing other clients.

The command line or Kubernetes (which exchanges a link to a whole folder) replaces the file. So we
look at it, by name, twice a second. On SIGHUP mosquitto reads its own files again: it closes the
connections of clients whose password is no longer valid, leaves the others alone, and applies the
new rules from the next message on.

It keeps the sessions of nodes that were blocked, with their subscriptions and waiting messages.
Where a session is named after its node, we discard it too.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import mqtt5
import structlog

from echo_ingest.broker.configuration import Credentials
from echo_ingest.broker.files import Accounts, write_access
from echo_ingest.broker.local_login import own_endpoint
from echo_ingest.broker.node_accounts import NodeAccount, read_nodes
from echo_ingest.broker.program import BrokerError
from echo_ingest.settings import LocalEndpoint, Settings

POLL_SECONDS = 0.5
DISCARD_SECONDS_MAX = 5.0
NAMES_SHOWN_MAX = 20

FileState = tuple[int, int, int] | None

log = structlog.get_logger("broker")


async def follow(
    settings: Settings,
    accounts: Accounts,
    nodes: tuple[NodeAccount, ...],
    reload: Callable[[], None],
) -> None:
    """Apply changes until cancelled, and call `reload` after each; `nodes` are applied already.

    A file that cannot be used is logged once and ignored; the earlier content stays in effect.
    """
    applied: FileState | Literal["unknown"] = "unknown"
    previous: FileState | Literal["unknown"] = "unknown"
    while True:
        state = file_state(settings.nodes_path)
        # The same state twice: a program that writes a file in place, or removes it first, is done.
        if state == previous and state != applied:
            applied = state
            before = nodes
            try:
                nodes = await asyncio.to_thread(_apply, settings, accounts, before, reload)
            except BrokerError as error:
                log.error("change not applied", reason=str(error))
            if not settings.echopub:
                for name in sorted(_enabled_names(before) - _enabled_names(nodes)):
                    await _discard_session(own_endpoint(settings.data_dir), accounts.service, name)
        previous = state
        await asyncio.sleep(POLL_SECONDS)


def _apply(
    settings: Settings,
    accounts: Accounts,
    before: tuple[NodeAccount, ...],
    reload: Callable[[], None],
) -> tuple[NodeAccount, ...]:
    nodes = read_nodes(settings.nodes_path)
    if nodes != before:
        write_access(settings, accounts, nodes)
        reload()
        log.info("nodes changed", **_differences(before, nodes))
    return nodes


def _enabled_names(nodes: tuple[NodeAccount, ...]) -> set[str]:
    return {node.name for node in nodes if not node.disabled}


async def _discard_session(endpoint: LocalEndpoint, account: Credentials, client_id: str) -> None:
    """Take a session over with a clean start [MQTT-3.1.2-4]; this closes its connection too."""
    connect = mqtt5.ConnectPacket(
        client_id,
        username=account.user,
        password=account.password.encode(),
        clean_start=True,
        keep_alive=10,
    )
    with contextlib.suppress(OSError, TimeoutError):  # `Broker.wait` reports if mosquitto has ended
        async with asyncio.timeout(DISCARD_SECONDS_MAX):
            with endpoint.name() as name:
                reader, writer = await asyncio.open_unix_connection(name)
            writer.write(connect.write())
            await reader.read(1)
            writer.write(mqtt5.DisconnectPacket().write())
            writer.close()


def _differences(
    before: tuple[NodeAccount, ...], after: tuple[NodeAccount, ...]
) -> dict[str, list[str]]:
    old, new = ({each.name: each for each in nodes} for nodes in (before, after))
    differences = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }
    return {
        kind: [*names[:NAMES_SHOWN_MAX], *(["…"] if len(names) > NAMES_SHOWN_MAX else [])]
        for kind, names in differences.items()
        if names
    }


def file_state(path: Path) -> FileState:
    """Return values that change whenever the file does; None while it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
