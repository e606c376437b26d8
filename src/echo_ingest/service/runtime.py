"""Everything that runs in the process of the line, wired, and how all of it is."""

import contextlib
import functools
from collections.abc import Callable

import structlog
from prometheus_client import generate_latest

from echo_ingest import broker, metrics
from echo_ingest.decode import Decoder
from echo_ingest.formatting import utc
from echo_ingest.ipc import Answers, ServiceGauges
from echo_ingest.journal import Journal, JournalFull, Ledger
from echo_ingest.journal.recovery.salvage import report_of
from echo_ingest.monitoring.broker_stats import BrokerStats
from echo_ingest.monitoring.loopback import LoopbackCheck
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pipeline.ingest import Ingest
from echo_ingest.record import TOPICS_REMEMBERED
from echo_ingest.service.delivery_process import DeliveryProcess
from echo_ingest.settings import Endpoint, LocalEndpoint, Settings
from echo_ingest.sinks import SinkState

log = structlog.get_logger("service")


class Runtime:
    """Everything that runs in this process, and how it is: what the web process may ask."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        endpoint: Endpoint | LocalEndpoint,
        login: Callable[[], tuple[str, str] | None],
        publisher: broker.Credentials | None = None,
    ) -> None:
        """`login` is ours at the broker, `publisher` the devices', where its password is known."""
        self.settings = settings
        self.journal = journal
        self.endpoint = endpoint
        self.publisher = publisher
        self.draining = False
        self.pulse = LoopbackCheck(settings.client_id)
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=broker.session_name(settings, endpoint),
                login=login,
                tls_ca_file=settings.tls_ca_file,
                topic_filters=settings.topic_filters,
                echo_topic=self.pulse.topic,
                session_expiry_seconds=settings.session_expiry_seconds,
            ),
            node_of=functools.lru_cache(TOPICS_REMEMBERED)(settings.node_of),
            on_connected=self._on_connected,
            on_echo=self.pulse.on_echo,
        )
        self.figures = BrokerStats(self.session.options)
        self.delivery = DeliveryProcess(settings)
        for name in self.delivery.names:
            journal.add_sink(name)  # before retention looks: what a new sink wants must stay
        self.ingest = Ingest(
            self.session,
            journal,
            Decoder(settings.payload_bytes_max),
            batch_records_max=settings.batch_records_max,
            linger_seconds=settings.batch_linger_ms / 1000,
            on_stored=self.delivery.wake,
        )

    # ------------------------------------------------------------------ what the web process asks

    @property
    def answers(self) -> Answers:
        """By question."""
        return {
            "live": self.live,
            "ready": self.ready,
            "healthy": self.healthy,
            "ledger": self.ledger,
            "sink_states": self.sink_states,
            "gauges": self.gauges,
            "metrics": self.metrics,
        }

    def live(self) -> dict[str, str]:
        """The loops turn: that this is answered at all says so, for one that ends ends us all."""
        return {}

    def ready(self) -> dict[str, str]:
        """The journal takes records and the session is up."""
        problems = {}
        if self.draining:
            problems["service"] = "the service is stopping"
        if self.ingest.blocked is not None:
            problems["journal"] = self.ingest.blocked
        if not self.session.is_connected:
            problems["broker"] = self.session.state
        return problems

    def healthy(self) -> dict[str, str]:
        """Messages really pass through the broker to us. Sinks do not count: records wait."""
        return self.ready() | self.pulse.problems()

    def ledger(self) -> Ledger:
        """As the journal counts it."""
        return self.journal.ledger()

    def sink_states(self) -> dict[str, SinkState]:
        """What each sink does, also those that the journal knows from before."""
        running, states = self.delivery.states, {}
        for name, figures in self.journal.ledger().sinks.items():
            states[name] = running.get(name, SinkState("not configured"))
            if figures.paused_at_ms is not None and name in running:
                since = utc(figures.paused_at_ms)
                states[name] = SinkState("paused", since)
        return states

    def gauges(self) -> ServiceGauges:
        """Return the figures of journal, disk and broker, as of now."""
        clients = self.figures.known.get(metrics.BROKER_CLIENTS)
        dropped = self.figures.known.get(metrics.BROKER_DROPPED_MESSAGES)
        return ServiceGauges(
            journal_bytes=self.journal.used_bytes(),
            disk_free_bytes=self.journal.disk_free_bytes(),
            room_bytes=self.journal.room_bytes(),
            broker_clients=None if clients is None else int(clients),
            broker_dropped=None if dropped is None else int(dropped),
        )

    def metrics(self) -> str:
        """All figures in Prometheus' text format, the gauges as of now."""
        ledger = self.journal.ledger()
        metrics.JOURNAL_BYTES.set(self.journal.used_bytes())
        metrics.DISK_FREE_BYTES.set(self.journal.disk_free_bytes())
        metrics.JOURNAL_ROOM_BYTES.set(self.journal.room_bytes())
        metrics.JOURNAL_SALVAGED.set(report_of(self.journal.path).exists())
        metrics.JOURNAL_LOST_MESSAGES.set(ledger.lost)
        metrics.DEAD_LETTERS.set(ledger.dead_letters)
        metrics.JOURNAL_BLOCKED.set(self.ingest.blocked is not None)
        metrics.CONNECTED.set(self.session.is_connected)
        metrics.ECHO_AGE_SECONDS.set(self.pulse.age_seconds)
        metrics.BROKER.known = self.figures.known
        for name, sink in ledger.sinks.items():
            metrics.SINK_PAUSED.labels(name).set(sink.paused_at_ms is not None)
            metrics.SINK_BACKLOG.labels(name).set(sink.backlog)
            metrics.SINK_PARKED.labels(name).set(sink.parked)
            metrics.SINK_LAG_SECONDS.labels(name).set(sink.lag_seconds)
        return generate_latest(metrics.REGISTRY).decode() + self.delivery.metrics

    # ------------------------------------------------------------------ what happens inside

    def _on_connected(self, session_present: bool) -> None:
        metrics.CONNECTIONS.inc()
        expected = False
        with contextlib.suppress(JournalFull):  # it is noted at the next connection
            expected = self.journal.remember_session(f"{self.settings.client_id}@{self.endpoint}")
        if expected and not session_present:
            metrics.SESSIONS_LOST.inc()
            log.error(
                "session lost",
                meaning="the broker had forgotten our session; what it held for us while we "
                "were away is lost, unless the devices send it again",
            )
