"""The delivery process, as the ingest process sees it: it is told of new records and reports back.

It is a process of its own because decoding records again and writing them to a sink takes longer
than storing them here: so it does not hold up the line, and neither does a sink's library that
crashes.
"""

import asyncio
import socket
from datetime import UTC, datetime
from typing import NoReturn

import msgspec

from echo_ingest.ipc import LINE_BYTES_MAX, next_line
from echo_ingest.journal import JournalUnusable
from echo_ingest.pipeline.deliver.ipc import DRAIN_SECONDS, WAKE, DeliveryBootstrap, DeliveryReport
from echo_ingest.process.log import log_level
from echo_ingest.service.supervisor import ChildProcess, keep_running
from echo_ingest.settings import Settings
from echo_ingest.sinks import Cause, SinkState
from echo_ingest.sinks.registry import sink_names

STOP_SECONDS_MAX = DRAIN_SECONDS + 5.0
PAUSE_SECONDS_MAX = 60.0


class DeliveryProcess:
    """The process that delivers to the sinks of `settings`."""

    def __init__(self, settings: Settings) -> None:
        self.names = sink_names(settings)
        self.metrics = ""
        """The metrics of the sinks, in Prometheus' text format, as the process reported them."""
        self._settings = settings
        self._states: dict[str, SinkState] = {}
        self._away_since = datetime.now(UTC)
        self._line: asyncio.StreamWriter | None = None

    @property
    def states(self) -> dict[str, SinkState]:
        """What each sink does now; whether one is paused is in the journal."""
        away = SinkState(
            "unavailable",
            since=self._away_since,
            reason="the process that delivers is starting",
            cause=Cause.STARTING,
        )
        return {name: self._states.get(name, away) for name in self.names}

    def wake(self) -> None:
        """Tell the process that the journal has new records."""
        if self._line is not None and not self._line.transport.get_write_buffer_size():
            self._line.write(WAKE)

    async def run(self, lock: int) -> NoReturn:
        """Keep the process running until cancelled; then let each sink finish its current write.

        Raises `JournalUnusable` if the journal must be salvaged first.
        """
        await keep_running(
            ChildProcess(
                name="delivery",
                module="echo_ingest.pipeline.deliver",
                lock=lock,
                hand=lambda line: DeliveryBootstrap(self._settings, line, log_level()),
                speak=self._listen,
                stop_seconds_max=STOP_SECONDS_MAX,
                pause_seconds_max=PAUSE_SECONDS_MAX,
            )
        )

    async def _listen(self, end: socket.socket) -> bool:
        reader, self._line = await asyncio.open_connection(sock=end, limit=LINE_BYTES_MAX)
        try:
            while line := await next_line(reader):
                report = msgspec.json.decode(line, type=DeliveryReport)
                if report.unusable is not None:
                    raise JournalUnusable(report.unusable)
                self._states, self.metrics = report.states, report.metrics
        except TimeoutError:
            return False
        except ConnectionError:
            pass  # the process has ended
        finally:
            self._line.close()
            self._line, self._states, self._away_since = None, {}, datetime.now(UTC)
        return True
