"""What every sink promises while people pause it and fill it again, and beside one that hangs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from echo_ingest.sinks import Delivery
from tests.sinks.backend import Backend
from tests.sinks.backends.echo_api import EchoApiBackend
from tests.sinks.backends.objects import FolderBackend
from tests.sinks.delivering import Line, until
from tests.sinks.messages import messages

pytestmark = pytest.mark.slow


async def test_paused_it_gets_nothing_and_resumed_all(line: Line, backend: Backend) -> None:
    line.append(messages(0, 20))
    taken_by_each: list[int] = []
    async with line.delivering(batch_records_max=5) as (deliver, sink):

        async def pause_after_the_first(taken: Sequence[Delivery]) -> None:
            taken_by_each.append(len(taken))
            line.journal.pause(backend.name)

        sink.after_write = pause_after_the_first
        await until(lambda: deliver.paused)
        there = Counter(await backend.stored())
        line.append(messages(20, 5))
        deliver.wake()
        assert [line.figures.delivered] == taken_by_each, "one write alone, even within a batch"
        assert Counter(await backend.stored()) == there
        sink.after_write = None
        line.journal.resume(backend.name)
        await line.until_settled()
    assert line.unsure == 0
    await line.check()


async def test_a_store_that_was_emptied_is_filled_again(line: Line, backend: Backend) -> None:
    line.append(messages(0, 20))
    async with line.delivering(batch_records_max=5) as (deliver, _):
        await line.until_settled()
        await backend.clear()
        assert line.journal.backfill(backend.name, 1) == 20
        deliver.wake()
        await line.until_settled()
    await line.check()


@pytest.mark.only(where=lambda backend: backend.is_idempotent)
async def test_begun_anew_while_it_writes_nothing_is_passed_over(
    line: Line, backend: Backend
) -> None:
    """Twice, each time in the middle of a batch that was read before."""
    again = [12, 3]

    async def begin_anew(_taken: object) -> None:
        if again and line.figures.delivered > 15:
            assert line.journal.backfill(backend.name, again.pop()) > 0

    line.append(messages(0, 30))
    async with line.delivering(batch_records_max=5) as (_, sink):
        sink.after_write = begin_anew
        await until(lambda: not again)
        await line.until_settled()
    await line.check()
    assert line.figures.delivered == 30


@pytest.mark.only(where=lambda backend: backend.has_server)
async def test_one_that_hangs_holds_up_nobody(tmp_path: Path, backend: Backend) -> None:
    other = (EchoApiBackend if backend.is_idempotent else FolderBackend)(tmp_path)
    await other.start()
    line = Line(tmp_path, backend)
    beside = Line(tmp_path, other, beside=line)
    backend.freeze()
    try:
        line.append(messages(0, 20))
        async with line.delivering() as (deliver, _), beside.delivering():
            await beside.until_settled()
            await until(lambda: deliver.unavailable)
            line.append(messages(20, 20))
            await beside.until_settled()
            assert beside.figures.delivered == 40
            # The first has no clip: a sink that keeps nothing else is done with it.
            assert line.figures.delivered <= 1
            backend.thaw()
            await line.until_settled()
    finally:
        backend.thaw()
        other.close()
    await line.check()
    await beside.check()
    line.close()
