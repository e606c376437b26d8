"""The runtime of the ingest process: its parts, put together, and the state they are in."""

from collections.abc import Callable

from prometheus_client import generate_latest

from echo_ingest import broker, metrics
from echo_ingest.formatting import utc
from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import Answers
from echo_ingest.journal import Journal, Ledger
from echo_ingest.journal.recovery.salvage import report_of
from echo_ingest.mqtt import HeldMessages
from echo_ingest.service.delivery_process import DeliveryProcess
from echo_ingest.service.intake import BrokerIntake, EndpointIntake, IntakeParts
from echo_ingest.service.proxy_process import ProxyProcess
from echo_ingest.service.storage_watch import StorageWatch
from echo_ingest.settings import Endpoint, LocalEndpoint, Settings
from echo_ingest.sinks import SinkState
from echo_ingest.site_decoder import decoder_of


class Runtime:
    """All parts of the ingest process, and the answers to what the web process may ask."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        endpoint: Endpoint | LocalEndpoint | None,
        login: Callable[[], tuple[str, str] | None],
        publisher: broker.Credentials | None = None,
        proxy: ProxyProcess | None = None,
    ) -> None:
        """Put the parts together.

        `endpoint` is where our own broker is, or the one at `IOT_ENDPOINT`; None: those of
        `IOT_ENDPOINTS` are all. `login` is our own account at the broker; `publisher` the devices',
        if we know its password; `proxy` is what devices connect to, if the broker runs here.
        """
        self.settings = settings
        self.journal = journal
        self.endpoint = endpoint
        self.publisher = publisher
        self.proxy = proxy
        self.draining = False
        self.storage = StorageWatch(journal, settings.data_dir)
        self.delivery = DeliveryProcess(settings)
        for name in self.delivery.names:
            journal.add_sink(name)  # before retention runs: what a new sink needs must stay
        self.decoder = decoder_of(settings)
        parts = IntakeParts(settings, journal, self.decoder, HeldMessages(), self.delivery.wake)
        self.broker = None if endpoint is None else BrokerIntake(parts, endpoint, login)
        self.endpoints = [EndpointIntake(parts, entry) for entry in settings.endpoint_entries]

    @property
    def intakes(self) -> list[BrokerIntake | EndpointIntake]:
        """The ways in, each with its session and its first half of the line."""
        ours = [] if self.broker is None else [self.broker]
        return [*ours, *self.endpoints]

    @property
    def blocked(self) -> str | None:
        """Why acknowledgements have stopped, in words; None while they continue."""
        reasons = (intake.ingest.blocked for intake in self.intakes)
        return next((reason for reason in reasons if reason is not None), None)

    # ------------------------------------------------------------------ what the web process asks

    @property
    def answers(self) -> Answers:
        """The function that answers each question."""
        return {
            "live": self.live,
            "ready": self.ready,
            "healthy": self.healthy,
            "endpoints": self.endpoint_problems,
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
        """Return what keeps messages from being stored: a full journal, no lasting session.

        One broker of `IOT_ENDPOINTS` that is away keeps nobody else's messages from being stored.
        """
        problems = {}
        if self.draining:
            problems["service"] = "the service is stopping"
        if (blocked := self.storage.problem or self.blocked) is not None:
            problems["journal"] = blocked
        if self.broker is not None:
            problems |= self.broker.problems()
        elif not any(each.session.is_connected for each in self.endpoints):
            problems["broker"] = "none of the endpoints of IOT_ENDPOINTS can be used"
        if self.proxy is not None:
            problems |= self.proxy.problems()
        return problems

    def healthy(self) -> dict[str, str]:
        """Return what keeps messages from passing through the broker to us.

        Sinks do not count: records wait for them in the journal.
        """
        loopback = {} if self.broker is None else self.broker.loopback.problems()
        return self.ready() | loopback

    def endpoint_problems(self) -> dict[str, str]:
        """Return what is wrong with each broker of `IOT_ENDPOINTS`, by its name."""
        return {each.name: each.problem for each in self.endpoints if each.problem is not None}

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
        values = {} if self.broker is None else self.broker.stats.values
        clients = values.get(metrics.BROKER_CLIENTS)
        dropped = values.get(metrics.BROKER_DROPPED_MESSAGES)
        return ServiceGauges(
            journal_bytes=self.journal.used_bytes(),
            disk_free_bytes=self.journal.disk_free_bytes(),
            room_bytes=self.journal.room_bytes(),
            broker_clients=None if clients is None else int(clients),
            broker_dropped=None if dropped is None else int(dropped),
            denied=() if self.proxy is None else self.proxy.denied,
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
        metrics.JOURNAL_BLOCKED.set(self.blocked is not None)
        if self.broker is not None:
            metrics.CONNECTED.set(self.broker.session.is_connected)
            metrics.LOOPBACK_AGE_SECONDS.set(self.broker.loopback.age_seconds)
            metrics.BROKER.values = self.broker.stats.values
        else:
            metrics.CONNECTED.set(any(each.session.is_connected for each in self.endpoints))
        for each in self.endpoints:
            metrics.ENDPOINT_CONNECTED.labels(each.name).set(each.problem is None)
        for name, sink in ledger.sinks.items():
            metrics.SINK_PAUSED.labels(name).set(sink.paused_at_ms is not None)
            metrics.SINK_BACKLOG.labels(name).set(sink.backlog)
            metrics.SINK_PARKED.labels(name).set(sink.parked)
            metrics.SINK_LAG_SECONDS.labels(name).set(sink.lag_seconds)
        ours = generate_latest(metrics.REGISTRY).decode()
        return ours + self.delivery.metrics + ("" if self.proxy is None else self.proxy.metrics)
