"""How the messages of each node are read, kept up to date while the service runs."""

import asyncio
from pathlib import Path

import structlog

from echo_ingest.broker.node_accounts import NodesUnusable, read_node_rules
from echo_ingest.broker.reload import FileState, file_state
from echo_ingest.decode import NodeRules

POLL_SECONDS = 1.0

log = structlog.get_logger("broker")


async def follow_node_rules(
    path: Path, rules: dict[str, NodeRules], poll_seconds: float = POLL_SECONDS
) -> None:
    """Bring `rules` up to date in place whenever the nodes file changes, until cancelled.

    A file that cannot be used is logged once and ignored; the earlier rules stay in effect.
    """
    applied: FileState = None  # so a change since the rules were read is not missed
    while True:
        await asyncio.sleep(poll_seconds)
        state = file_state(path)
        if state == applied:
            continue
        applied = state
        try:
            changed = read_node_rules(path)
        except NodesUnusable as error:
            log.error("rules of nodes not applied", reason=str(error))
            continue
        if changed != rules:
            # In this order a node never has other rules than its old or its new ones.
            rules.update(changed)
            for name in rules.keys() - changed.keys():
                del rules[name]
            log.info("rules of nodes changed", nodes=len(rules))
