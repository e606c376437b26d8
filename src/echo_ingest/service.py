"""The one place where things are wired: what starts, in which order, and how it ends.

Start: data folder, journal, broker (`up`), HTTP, sinks, session. Stop: first nothing new comes in
(the batch at hand is stored and acknowledged), then the broker stops and saves what it holds,
then each sink finishes and settles the write it is in, then HTTP and the journal close.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from echo_ingest import broker, metrics, web
from echo_ingest.deliver import Deliver
from echo_ingest.ingest import Ingest
from echo_ingest.journal import Journal, Ledger
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pulse import Pulse
from echo_ingest.settings import Endpoint, Settings, node_of, parse_endpoint
from echo_ingest.sinks import Sink
from echo_ingest.sinks.echo_api import EchoApi

JOURNAL_FILE = "journal.db"
ECHO_AGE_SECONDS_MAX = 8.0
DRAIN_SECONDS = 20.0
RETENTION_POLL_SECONDS = 60.0
TRIM_PAUSE_SECONDS = 0.05
TOPICS_REMEMBERED = 10_000
DAY_MS = 86_400_000

log = structlog.get_logger("service")


class Stopped(Exception):
    """This process cannot start or go on; the text says why and what to do, for people."""


class House:
    """Everything that runs in this process, and how it is: what the HTTP side may ask."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        endpoint: Endpoint,
        account: broker.Credentials | None,
        publisher: broker.Credentials | None = None,
    ) -> None:
        """`account` is ours at the broker, `publisher` that of the devices, if the broker is."""
        self.settings = settings
        self.journal = journal
        self.endpoint = endpoint
        self.publisher = publisher
        self.draining = False
        self.pulse = Pulse(settings.client_id)
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=settings.client_id,
                user=account.user if account else None,
                password=account.password if account else None,
                tls_ca_file=settings.tls_ca_file,
                topic_filters=settings.topic_filters,
                echo_topic=self.pulse.topic,
                session_expiry_seconds=settings.session_expiry_seconds,
            ),
            node_of=functools.lru_cache(TOPICS_REMEMBERED)(
                functools.partial(node_of, prefixes=settings.topic_prefixes)
            ),
            on_connected=self._on_connected,
            on_echo=self.pulse.on_echo,
        )
        self.sinks = sinks_of(settings)
        self.deliveries = [
            Deliver(journal, sink, payload_bytes_max=settings.payload_bytes_max)
            for sink in self.sinks
        ]
        self.ingest = Ingest(
            self.session,
            journal,
            payload_bytes_max=settings.payload_bytes_max,
            batch_records_max=settings.batch_records_max,
            linger_seconds=settings.batch_linger_ms / 1000,
            on_stored=self._wake_sinks,
        )

    # ------------------------------------------------------------------ what HTTP asks

    def live(self) -> dict[str, str]:
        """The loops turn: that this is answered at all says so, for one that ends ends us all."""
        return {}

    def ready(self) -> dict[str, str]:
        """The journal takes records and the session is up."""
        problems = {}
        if self.draining:
            problems["service"] = "stopping"
        if self.ingest.blocked is not None:
            problems["journal"] = self.ingest.blocked
        if not self.session.is_connected:
            problems["broker"] = self.session.state
        return problems

    def healthy(self) -> dict[str, str]:
        """Messages really pass through the broker to us. Sinks do not count: they have a backlog."""
        problems = self.ready()
        age_seconds = self.pulse.age_seconds
        if age_seconds > ECHO_AGE_SECONDS_MAX:
            problems["echo"] = (
                "no message to ourselves has come back through the broker yet"
                if age_seconds == float("inf")
                else f"the last message to ourselves came back {age_seconds:.0f} s ago"
            )
        return problems

    def ledger(self) -> Ledger:
        """As the journal counts it."""
        return self.journal.ledger()

    def sample(self) -> None:
        """Bring the gauges up to date."""
        metrics.JOURNAL_BYTES.set(self.journal.used_bytes())
        metrics.DISK_FREE_BYTES.set(self.journal.disk_free_bytes())
        metrics.JOURNAL_BLOCKED.set(self.ingest.blocked is not None)
        metrics.CONNECTED.set(self.session.is_connected)
        metrics.ECHO_AGE_SECONDS.set(self.pulse.age_seconds)
        for name, sink in self.journal.ledger().sinks.items():
            metrics.SINK_BACKLOG.labels(name).set(sink.backlog)
            metrics.SINK_PARKED.labels(name).set(sink.parked)
            metrics.SINK_LAG_SECONDS.labels(name).set(sink.lag_seconds)

    # ------------------------------------------------------------------ what happens inside

    def _wake_sinks(self) -> None:
        for deliver in self.deliveries:
            deliver.wake()

    def _on_connected(self, session_present: bool) -> None:
        expected = self.journal.remember_session(f"{self.settings.client_id}@{self.endpoint}")
        metrics.CONNECTIONS.inc()
        if expected and not session_present:
            metrics.SESSIONS_LOST.inc()
            log.error(
                "session lost",
                meaning="the broker had forgotten our session; what it held for us while we "
                "were away is lost, unless the devices send it again",
            )


def sinks_of(settings: Settings) -> list[Sink]:
    """The sinks that are configured."""
    sinks: list[Sink] = []
    if settings.api_url is not None:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        sinks.append(EchoApi(settings.api_url, key, settings.api_schema, settings.api_bulk))
    return sinks


# ---------------------------------------------------------------------- the three ways to run


def run_up(settings: Settings, beside: Callable[[House], Awaitable[None]] | None = None) -> int:
    """Broker, ingestion and HTTP in one process group, until told to stop; the exit code.

    `beside` runs along with them and ends with them.
    """
    if settings.endpoint is not None and not _is_local(settings.endpoint):
        raise Stopped(
            f"IOT_ENDPOINT is {settings.endpoint}: `up` runs a broker of its own and would not "
            "use that one; type `echo-ingest run`, or unset IOT_ENDPOINT"
        )

    async def serve() -> None:
        with _sole(settings.data_dir), contextlib.closing(open_journal(settings)) as journal:
            async with broker.running(settings) as own:
                house = House(settings, journal, own.endpoint, own.service, own.publisher)
                _announce(settings, own)
                await _serve(house, own, beside)

    return asyncio.run(_until_stopped(serve()))
