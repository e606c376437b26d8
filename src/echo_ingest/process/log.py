"""How our long-running programs log: to standard output, which they share.

What strangers can cause is logged at a limited rate, so that nobody can fill a disk with it.
"""

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

LINES_MAX = 20
WINDOW_SECONDS = 60.0
LINES_LEFT_OUT = "log lines left out"


def configure_log(level: int = logging.INFO) -> None:
    """Log one line for each event: readable text on a terminal, JSON elsewhere, in UTC.

    What libraries log by Python's own `logging` goes the same way, warnings and errors alone.
    """
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
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, LibraryLines)]:
        root.removeHandler(earlier)
    root.addHandler(LibraryLines())


def log_level() -> int:
    """Return the lowest level that is logged, for a program that we start."""
    return int(structlog.get_logger().get_effective_level())


class LineLimit:
    """Lets `lines_max` lines through in a while, and counts those that are left out."""

    def __init__(
        self,
        lines_max: int,
        seconds: float,
        left_out: Callable[[int], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `left_out` to log how many lines were left out."""
        self._lines_max = lines_max
        self._seconds = seconds
        self._left_out = left_out
        self._clock = clock
        self._began_at = clock()
        self._lines = 0

    def allows_one(self) -> bool:
        """Return whether one more line may be written."""
        self.report()
        self._lines += 1
        return self._lines <= self._lines_max

    def report(self) -> None:
        """Begin anew if it is time, and log how many lines were left out until then."""
        if (now := self._clock()) - self._began_at >= self._seconds:
            if self._lines > self._lines_max:
                self._left_out(self._lines - self._lines_max)
            self._began_at, self._lines = now, 0


class LimitedLog:
    """A log for events that strangers cause: at most `LINES_MAX` a minute of each kind."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._limits: dict[str, LineLimit] = {}

    def warning(self, event: str, **fields: object) -> None:
        """Log `event`, which is its own kind, as a warning, unless there were too many."""
        if self.allows_one(event):
            self._log.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log `event`, which is its own kind, as an error, unless there were too many."""
        if self.allows_one(event):
            self._log.error(event, **fields)

    def allows_one(self, kind: str) -> bool:
        """Return whether one more line of that kind may be written. There must be few kinds."""
        if kind not in self._limits:

            def left_out(lines: int) -> None:
                self._log.warning(LINES_LEFT_OUT, of=kind, lines=lines)

            self._limits[kind] = LineLimit(LINES_MAX, WINDOW_SECONDS, left_out, self._clock)
        return self._limits[kind].allows_one()

    def report(self) -> None:
        """Log how many lines were left out, also if no further line follows."""
        for limit in self._limits.values():
            limit.report()


class LibraryLines(logging.Handler):
    """Passes on what libraries log, such as the HTTP server about a request, at a limited rate."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = structlog.get_logger()
        self._limited = LimitedLog(self._log)

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as a line of ours."""
        if not self._limited.allows_one(record.name):
            return
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
        fields: dict[str, object] = {"library": record.name}
        if record.exc_info is not None and (error := record.exc_info[1]) is not None:
            fields["error"] = repr(error)
            if frames := traceback.extract_tb(error.__traceback__):
                fields["raised_at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
        self._log.log(level, record.getMessage().strip(), **fields)


class _LogOutput:
    """Standard output for the log: a full disk may lose a line, but never ends the process."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
