"""How a process that the service starts begins, and how it is told apart from the line.

It is handed what it needs by its standard input, which nobody else can read. It is to give way to
the line: where both want the processor, or memory is short.
"""

import contextlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")


def begin(niceness: int, oom_score: int) -> Any:
    """What its parent hands it; from here on it gives way.

    `oom_score` says which one the kernel ends first where memory is short: 0 is as likely as the
    line and the broker, 1,000 before all others.
    """
    handed = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our parent
    os.nice(niceness)
    with contextlib.suppress(OSError):  # only Linux has it
        OOM_SCORE_FILE.write_text(str(oom_score))
    return handed
