"""How a process that the service starts begins, and how it gives way to the ingest process.

It reads what it needs from its standard input, which nobody else can read. The ingest process goes
first where both want the processor, and where memory is short.
"""

import contextlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")


def begin(niceness: int, oom_score: int) -> Any:
    """Return what the parent handed over; from here on, this process gives way to its parent.

    `oom_score` decides which process the kernel ends first where memory is short: with 0 this one
    is as likely to be ended as the ingest process and the broker, with 1,000 it goes before all
    others.
    """
    bootstrap = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our parent
    os.nice(niceness)
    with contextlib.suppress(OSError):  # only Linux has this file
        OOM_SCORE_FILE.write_text(str(oom_score))
    return bootstrap
