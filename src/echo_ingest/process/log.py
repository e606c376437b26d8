"""How our long-running programs log: to standard output, which they share."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


def configure_log(level: int = logging.INFO) -> None:
    """Log one line for each event: readable text on a terminal, JSON elsewhere, in UTC."""
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
    """Return the lowest level that is logged, for a program that we start."""
    return int(structlog.get_logger().get_effective_level())


class _LogOutput:
    """Standard output for the log: a full disk may lose a line, but never ends the process."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
