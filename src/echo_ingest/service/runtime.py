"""The runtime of the ingest process: its parts, put together, and the state they are in."""

import contextlib
from collections.abc import Callable

import structlog
from prometheus_client import generate_latest

from echo_ingest import broker, metrics
from echo_ingest.formatting import utc
from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import Answers
from echo_ingest.journal import Journal, JournalFull, Ledger
from echo_ingest.journal.recovery.salvage import report_of
from echo_ingest.monitoring.broker_stats import BrokerStats
from echo_ingest.monitoring.loopback import LoopbackCheck
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pipeline.ingest import Ingest
from echo_ingest.record import remembered
from echo_ingest.service.delivery_process import DeliveryProcess
from echo_ingest.service.proxy_process import ProxyProcess
from echo_ingest.service.storage_watch import StorageWatch
from echo_ingest.settings import Endpoint, LocalEndpoint, Settings
from echo_ingest.sinks import SinkState
from echo_ingest.site_decoder import decoder_of

log = structlog.get_logger("service")


class Runtime:
    """All parts of the ingest process, and the answers to what the web process may ask."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        endpoint: Endpoint | LocalEndpoint,
        login: Callable[[], tuple[str, str] | None],
        publisher: broker.Credentials | None = None,
        proxy: ProxyProcess | None = None,
    ) -> None:
        """Put the parts together.

        `login` is our own account at the broker; `publisher` the devices', if we know its password;
        `proxy` is what devices connect to, if the broker runs here.
        """
        self.settings = settings
        self.journal = journal
        self.endpoint = endpoint
        self.publisher = publisher
        self.proxy = proxy
        self.draining = False
        self.loopback = LoopbackCheck(settings.client_id)
        self._session_name = broker.session_name(settings, endpoint, journal.sessions())
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=self._session_name.client_id,
                login=login,
                tls_ca_file=settings.tls_ca_file,
                topic_filters=settings.topic_filters,
                loopback_topic=self.loopback.topic,
                session_expiry_seconds=settings.session_expiry_seconds,
                payload_bytes_max=settings.asked_payload_bytes_max,
            ),
            node_of=remembered(settings.node_of),
            on_connected=self._on_connected,
            on_loopback=self.loopback.on_message,
        )
        if self._session_name.can_be_guessed:
            log.warning(
                "the name of our session can be guessed",
                meaning="a client with any account at this broker that uses the name can take the "
                "session over, or discard what waits in it; an earlier version gave it that name, "
                "and messages may wait under it",
                remedy=broker.CHANGE_OVER,
            )
        self.broker_stats = BrokerStats(self.session.options)
        self.storage = StorageWatch(journal, settings.data_dir)
        self.delivery = DeliveryProcess(settings)
        for name in self.delivery.names:
            journal.add_sink(name)  # before retention runs: what a new sink needs must stay
        self.decoder = decoder_of(settings)
        self.ingest = Ingest(
            self.session,
            journal,
            self.decoder,
            batch_records_max=settings.batch_records_max,
            linger_seconds=settings.batch_linger_ms / 1000,
            on_stored=self.delivery.wake,
        )

    # ------------------------------------------------------------------ what the web process asks

    @property
    def answers(self) -> Answers:
        """The function that answers each question."""
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
        """Return no problems: an answer alone shows that the event loop runs.

        If a part of this process ends, the process ends.
        """
        return {}

    def ready(self) -> dict[str, str]:
        """Return what keeps messages from being stored: a full journal, no lasting session."""
        problems = {}
        if self.draining:
            problems["service"] = "the service is stopping"
        if (blocked := self.storage.problem or self.ingest.blocked) is not None:
            problems["journal"] = blocked
        shortfall = self.session.shortfall
        if not self.session.is_connected and self.session.state != shortfall:
            problems["broker"] = self.session.state
        elif shortfall is not None:
            problems["session"] = shortfall
        if self.proxy is not None:
            problems |= self.proxy.problems()
        return problems

    def healthy(self) -> dict[str, str]:
        """Return what keeps messages from passing through the broker to us.

        Sinks do not count: records wait for them in the journal.
        """
        return self.ready() | self.loopback.problems()

    def ledger(self) -> Ledger:
        """Return the ledger, as the journal counts it."""
        return self.journal.ledger()

    def sink_states(self) -> dict[str, SinkState]:
        """Return what each sink does, including those that were configured earlier."""
        running, states = self.delivery.states, {}
        for name, figures in self.journal.ledger().sinks.items():
            states[name] = running.get(name, SinkState("not configured"))
            if figures.paused_at_ms is not None and name in running:
                since = utc(figures.paused_at_ms)
                states[name] = SinkState("paused", since)
        return states

    def gauges(self) -> ServiceGauges:
        """Return the figures of journal, disk and broker, as of now."""
        clients = self.broker_stats.values.get(metrics.BROKER_CLIENTS)
        dropped = self.broker_stats.values.get(metrics.BROKER_DROPPED_MESSAGES)
        return ServiceGauges(
            journal_bytes=self.journal.used_bytes(),
            disk_free_bytes=self.journal.disk_free_bytes(),
            room_bytes=self.journal.room_bytes(),
            broker_clients=None if clients is None else int(clients),
            broker_dropped=None if dropped is None else int(dropped),
        )

    def metrics(self) -> str:
        """Return all metrics in Prometheus' text format, with the gauges as they are now."""
        ledger = self.journal.ledger()
        metrics.JOURNAL_BYTES.set(self.journal.used_bytes())
        metrics.DISK_FREE_BYTES.set(self.journal.disk_free_bytes())
        metrics.JOURNAL_ROOM_BYTES.set(self.journal.room_bytes())
        metrics.JOURNAL_SALVAGED.set(report_of(self.journal.path).exists())
        metrics.JOURNAL_LOST_MESSAGES.set(ledger.lost)
        metrics.DEAD_LETTERS.set(ledger.dead_letters)
        metrics.JOURNAL_BLOCKED.set(self.ingest.blocked is not None)
        metrics.CONNECTED.set(self.session.is_connected)
        metrics.LOOPBACK_AGE_SECONDS.set(self.loopback.age_seconds)
        metrics.BROKER.values = self.broker_stats.values
        for name, sink in ledger.sinks.items():
            metrics.SINK_PAUSED.labels(name).set(sink.paused_at_ms is not None)
            metrics.SINK_BACKLOG.labels(name).set(sink.backlog)
            metrics.SINK_PARKED.labels(name).set(sink.parked)
            metrics.SINK_LAG_SECONDS.labels(name).set(sink.lag_seconds)
        ours = generate_latest(metrics.REGISTRY).decode()
        return ours + self.delivery.metrics + ("" if self.proxy is None else self.proxy.metrics)

    # ------------------------------------------------------------------ what happens inside

    def _on_connected(self, session_present: bool) -> None:
        metrics.CONNECTIONS.inc()
        expected = False
        with contextlib.suppress(JournalFull):  # the next connection notes it
            expected = self.journal.remember_session(self._session_name.remembered_as)
        if expected and not session_present:
            metrics.SESSIONS_LOST.inc()
            log.error(
                "session lost",
                meaning="the broker has forgotten our session; the messages that it held for us "
                "while we were away are lost, unless the devices send them again",
            )
