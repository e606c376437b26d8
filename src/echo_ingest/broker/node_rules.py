"""How the messages of each node are read, kept up to date while the service runs."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from echo_ingest.broker.node_accounts import NodesUnusable, read_node_rules, read_rights
from echo_ingest.broker.reload import FileState, file_state
from echo_ingest.decode import Rules

POLL_SECONDS = 1.0

T = TypeVar("T")

log = structlog.get_logger("broker")


async def follow_node_rules(path: Path, rules: Rules, poll_seconds: float = POLL_SECONDS) -> None:
    """Bring `rules` up to date in place whenever the nodes file changes, until cancelled.

    While the file cannot be used, the earlier rules stay in effect, and that is logged once.
    """
    applied: FileState = None  # so a change since the rules were read is not missed
    problem = ""
    while True:
        await asyncio.sleep(poll_seconds)
        state = file_state(path)
        if state == applied:
            continue
        try:
            nodes, accounts = read_node_rules(path), read_rights(path)
        except NodesUnusable as error:
            # It may be mended without a change of the file: its rights, or files left to open.
            if str(error) != problem:
                problem = str(error)
                log.error("rules of nodes not applied", reason=problem)
            continue
        applied, problem = state, ""
        become(rules.accounts, accounts)
        if nodes != rules.nodes:
            become(rules.nodes, nodes)
            log.info("rules of nodes changed", nodes=len(rules.nodes))


def become(earlier: dict[str, T], changed: Mapping[str, T]) -> None:
    """Make a dict like another, in place: no node ever has other than its old or its new value."""
    earlier.update(changed)
    for name in earlier.keys() - changed.keys():
        del earlier[name]
