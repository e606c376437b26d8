"""A range of inputs on all cores, a part of it at a time, with a progress bar."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

PART = 2_000

T = TypeVar("T")


def on_all_cores(judge: Callable[[int, range], T], seed: int, inputs: int) -> Iterator[T]:
    """Yield what `judge` returns for each part, in as many processes as there are cores."""
    parts = [range(first, min(first + PART, inputs)) for first in range(0, inputs, PART)]
    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar, ProcessPoolExecutor(os.cpu_count()) as processes:
        progress = bar.add_task("", total=inputs)
        running = {processes.submit(judge, seed, part): part for part in parts}
        for done in as_completed(running):
            yield done.result()
            bar.advance(progress, len(running[done]))
