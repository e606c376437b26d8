"""Nodes and certificates may change while mosquitto runs: then it is told, and nobody else minds.

Whoever changes them replaces files: the command line, cert-manager, or Kubernetes, which exchanges
a link to a whole folder. So the files are looked at, by name, twice a second. On SIGHUP mosquitto
reads its own again; it closes the connections of those whose password is not good any more, lets
the others be, and asks the rules anew at each message.

It keeps the sessions of those who are shut out, with what they subscribed to and what waits there.
Where a session is named after its node we have it forgotten, too.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import mqtt5
import structlog

from echo_ingest.broker.configuration import Credentials
from echo_ingest.broker.files import Accounts, write_access, write_certificates
from echo_ingest.broker.local_login import own_endpoint
from echo_ingest.broker.nodes import NodeAccount, read_nodes
from echo_ingest.broker.program import BrokerError
from echo_ingest.settings import LocalEndpoint, Settings

POLL_SECONDS = 0.5
FORGET_SECONDS_MAX = 5.0
NAMES_SHOWN_MAX = 20

Stamp = tuple[int, int, int] | None

log = structlog.get_logger("broker")


async def follow(
    settings: Settings,
    accounts: Accounts,
    nodes: tuple[NodeAccount, ...],
    reload: Callable[[], None],
) -> None:
    """Take changes over until cancelled, and call `reload` after each; `nodes` are known already.

    What cannot be used is said once and left alone, and what was there before goes on.
    """
    given = (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    paths = [settings.nodes_path, *(path for path in given if path is not None)]
    taken: list[Stamp] | None = None
    seen: list[Stamp] = []
    while True:
        stamps = [_stamp(path) for path in paths]
        # Seen twice: whoever writes a file in place, or removes it first, has finished.
        if stamps == seen and stamps != taken:
            taken = stamps
            known = nodes
            try:
                nodes = await asyncio.to_thread(_take_over, settings, accounts, known, reload)
            except BrokerError as error:
                log.error("change not taken over", reason=str(error))
            if not settings.echopub:
                for name in sorted(_let_in(known) - _let_in(nodes)):
                    await _forget(own_endpoint(settings.data_dir), accounts.service, name)
        seen = stamps
        await asyncio.sleep(POLL_SECONDS)


def _take_over(
    settings: Settings,
    accounts: Accounts,
    known: tuple[NodeAccount, ...],
    reload: Callable[[], None],
) -> tuple[NodeAccount, ...]:
    nodes = read_nodes(settings.nodes_path)
    if nodes != known:
        write_access(settings, accounts, nodes)
        reload()
        log.info("nodes changed", **_differences(known, nodes))
    if write_certificates(settings):
        reload()
        log.info("certificates changed")
    return nodes


def _let_in(nodes: tuple[NodeAccount, ...]) -> set[str]:
    return {node.name for node in nodes if not node.disabled}


async def _forget(endpoint: LocalEndpoint, account: Credentials, client_id: str) -> None:
    """Take a session over and leave nothing of it [MQTT-3.1.2-4]; close its connection, too."""
    connect = mqtt5.ConnectPacket(
        client_id,
        username=account.user,
        password=account.password.encode(),
        clean_start=True,
        keep_alive=10,
    )
    with contextlib.suppress(OSError, TimeoutError):  # that mosquitto has ended is told elsewhere
        async with asyncio.timeout(FORGET_SECONDS_MAX):
            with endpoint.name() as name:
                reader, writer = await asyncio.open_unix_connection(name)
            writer.write(connect.write())
            await reader.read(1)
            writer.write(mqtt5.DisconnectPacket().write())
            writer.close()


def _differences(
    known: tuple[NodeAccount, ...], nodes: tuple[NodeAccount, ...]
) -> dict[str, list[str]]:
    before, after = ({each.name: each for each in some} for some in (known, nodes))
    said = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(n for n in before.keys() & after.keys() if before[n] != after[n]),
    }
    return {
        how: [*names[:NAMES_SHOWN_MAX], *(["…"] if len(names) > NAMES_SHOWN_MAX else [])]
        for how, names in said.items()
        if names
    }


def _stamp(path: Path) -> Stamp:
    """What changes when the file does; None while it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
