"""How many nodes were heard lately, for the metrics; which they are, `status --by-node` says."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from echo_ingest import metrics
from echo_ingest.journal.reader import JournalReader

PERIOD_SECONDS = 30.0


async def count_nodes(path: Path) -> NoReturn:
    """Keep the number of nodes heard in the journal at `path` up to date, until cancelled."""
    while True:
        for within, nodes in (await asyncio.to_thread(_heard, path)).items():
            metrics.NODES_HEARD.labels(within).set(nodes)
        await asyncio.sleep(PERIOD_SECONDS)


def _heard(path: Path) -> dict[str, int]:
    """In a thread: it takes a look at each node there is, 27 ms for 10,000 of them."""
    with closing(JournalReader(path)) as archive:
        return archive.nodes_heard(time.time_ns() // 1_000_000)
