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
from msgspec import Struct

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


class LimitedLog:
    """A log for events that strangers cause: at most `lines_max` of each event in a while.

    The first line of that event after the while is over is preceded by a count of those left out.
    """

    def __init__(
        self,
        log: Any,
        *,
        lines_max: int = LINES_MAX,
        seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._lines_max = lines_max
        self._seconds = seconds
        self._clock = clock
        self._windows: dict[str, LogWindow] = {}

    def info(self, event: str, **fields: object) -> None:
        """Log `event` as information, unless there were too many."""
        self.line("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log `event` as a warning, unless there were too many."""
        self.line("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log `event` as an error, unless there were too many."""
        self.line("error", event, fields)

    def line(
        self, level: str, event: str, fields: dict[str, object], kind: str | None = None
    ) -> None:
        """Log `event` at `level`, unless there were too many of its `kind`, `event` by default.

        There must be few kinds: each is remembered.
        """
        kind, now = kind or event, self._clock()
        window = self._windows.get(kind)
        if window is None or now - window.began_at >= self._seconds:
            if window is not None and (left_out := window.lines - self._lines_max) > 0:
                self._log.warning(LINES_LEFT_OUT, of=kind, lines=left_out)
            window = self._windows[kind] = LogWindow(now)
        window.lines += 1
        if window.lines <= self._lines_max:
            getattr(self._log, level)(event, **fields)


class LogWindow(Struct):
    """The lines of one kind in the current while."""

    began_at: float
    lines: int = 0


class LibraryLines(logging.Handler):
    """Passes on what libraries log, such as the HTTP server about a request, at a limited rate."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = LimitedLog(structlog.get_logger())

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as a line of ours."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, object] = {"library": record.name}
        if record.exc_info is not None and (error := record.exc_info[1]) is not None:
            fields["error"] = repr(error)
            if frames := traceback.extract_tb(error.__traceback__):
                fields["raised_at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
        self._log.line(level, record.getMessage().strip(), fields, kind=record.name)


class _LogOutput:
    """Standard output for the log: a full disk may lose a line, but never ends the process."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
