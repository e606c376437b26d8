"""How every long-running program of ours logs: to standard output, which they share."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


def configure_log(level: int = logging.INFO) -> None:
    """One line a transition: for people on a terminal, JSON elsewhere, UTC in both."""
    on_terminal = sys.stdout.isatty()
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _LogOutput())),
    )


def log_level() -> int:
    """The level that is logged from, for a program that we start."""
    return int(structlog.get_logger().get_effective_level())


class _LogOutput:
    """Standard output, for the log: on a full disk a line may be lost, but nothing ends for it."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
