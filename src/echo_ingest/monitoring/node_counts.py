"""How many nodes have sent messages lately, for the metrics; `status --by-node` lists them."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from echo_ingest import metrics
from echo_ingest.journal.reader import JournalReader

PERIOD_SECONDS = 30.0


async def count_nodes(path: Path) -> NoReturn:
    """Keep the number of nodes in the journal at `path` up to date in the metrics."""
    while True:
        for within, nodes in (await asyncio.to_thread(_count, path)).items():
            metrics.NODES_HEARD.labels(within).set(nodes)
        await asyncio.sleep(PERIOD_SECONDS)


def _count(path: Path) -> dict[str, int]:
    """Count in a thread: it looks at each node, which takes 27 ms for 10,000 of them."""
    with closing(JournalReader(path)) as reader:
        return reader.nodes_heard(time.time_ns() // 1_000_000)
