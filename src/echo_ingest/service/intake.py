"""The ways in: each broker has a session of its own and a first half of the line of its own.

They share the journal, the decoder, and the limit on what may wait in memory. One that is away does
not hold up the others.
"""

import contextlib
from collections.abc import Callable
from functools import partial

import mqtt5
import structlog
from msgspec import Struct

from echo_ingest import broker, metrics
from echo_ingest.broker.session_name import SessionName, endpoint_session_name
from echo_ingest.broker.topic_rights import TopicRights, subscriptions
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, JournalFull
from echo_ingest.monitoring.broker_stats import BrokerStats
from echo_ingest.monitoring.loopback import LoopbackCheck
from echo_ingest.mqtt import HeldMessages, OptionNames, Session, SessionOptions
from echo_ingest.pipeline.claims import Claims
from echo_ingest.pipeline.ingest import Ingest
from echo_ingest.record import remembered
from echo_ingest.settings import Endpoint, EndpointEntry, LocalEndpoint, Settings, topics

log = structlog.get_logger("service")


class IntakeParts(Struct, frozen=True):
    """What all ways in share."""

    settings: Settings
    journal: Journal
    decoder: Decoder
    held: HeldMessages
    on_stored: Callable[[], None]
    """Called when there are new records."""


class BrokerIntake:
    """The way in from our own broker, or from the one at `IOT_ENDPOINT`."""

    def __init__(
        self,
        parts: IntakeParts,
        endpoint: Endpoint | LocalEndpoint,
        login: Callable[[], tuple[str, str] | None],
    ) -> None:
        """`login` is our own account there."""
        settings = parts.settings
        self.loopback = LoopbackCheck(settings.client_id)
        name = broker.session_name(settings, endpoint, parts.journal.sessions())
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=name.client_id,
                login=login,
                tls_ca_file=settings.tls_ca_file,
                topic_filters=subscriptions(settings, endpoint),
                loopback_topic=self.loopback.topic,
                session_expiry_seconds=settings.session_expiry_seconds,
                payload_bytes_max=settings.asked_payload_bytes_max,
            ),
            node_of=remembered(settings.node_of),
            on_connected=partial(self._on_connected, parts.journal, name),
            on_loopback=self.loopback.on_message,
            held=parts.held,
        )
        if name.can_be_guessed:
            log.warning(
                "the name of our session can be guessed",
                meaning="a client with any account at this broker that uses the name can take the "
                "session over, or discard what waits in it; an earlier version gave it that name, "
                "and messages may wait under it",
                remedy=broker.CHANGE_OVER,
            )
        self.stats = BrokerStats(self.session.options)
        self.claims = Claims(TopicRights(settings.topic_filters), parts.decoder)
        self.ingest = Ingest(
            self.session,
            parts.journal,
            self.claims,
            batch_records_max=settings.batch_records_max,
            linger_seconds=settings.batch_linger_ms / 1000,
            on_stored=parts.on_stored,
            arrived=self.claims.arrived,
        )

    def problems(self) -> dict[str, str]:
        """Return what keeps messages from arriving, or from waiting for us."""
        shortfall = self.session.shortfall
        if not self.session.is_connected and self.session.state != shortfall:
            return {"broker": self.session.state}
        return {} if shortfall is None else {"session": shortfall}

    def _on_connected(self, journal: Journal, name: SessionName, session_present: bool) -> None:
        metrics.CONNECTIONS.inc()
        _note_session(journal, name, session_present)


class EndpointIntake:
    """The way in from one broker of `IOT_ENDPOINTS`."""

    def __init__(self, parts: IntakeParts, entry: EndpointEntry) -> None:
        """Put its parts together."""
        settings = parts.settings
        self.name = entry.name
        is_durable = entry.qos > 0
        name = endpoint_session_name(settings, entry)
        prefixes = entry.topic_prefixes
        self.session = Session(
            SessionOptions(
                endpoint=entry.url,
                client_id=name.client_id,
                login=lambda: entry.login,
                tls_ca_file=entry.tls_ca_file,
                version=entry.version,
                topic_filters=entry.topic_filters,
                qos=mqtt5.QoS(entry.qos),
                session_expiry_seconds=settings.session_expiry_seconds if is_durable else 0,
                names=endpoint_option_names(entry),
            ),
            node_of=remembered(lambda topic: topics.node_of(topic, prefixes)),
            on_connected=partial(_note_session, parts.journal, name) if is_durable else _ignore,
            held=parts.held,
        )
        received = metrics.ENDPOINT_RECEIVED_MESSAGES.labels(entry.name)
        self.ingest = Ingest(
            self.session,
            parts.journal,
            parts.decoder,
            batch_records_max=settings.batch_records_max,
            linger_seconds=settings.batch_linger_ms / 1000,
            on_stored=parts.on_stored,
            endpoint=entry.name,
            gives_receipts=entry.receipts,
            on_received=received.inc,
        )

    @property
    def problem(self) -> str | None:
        """What keeps messages from arriving, or from waiting for us; None: nothing."""
        if not self.session.is_connected:
            return self.session.state
        return self.session.shortfall


def endpoint_option_names(entry: EndpointEntry) -> OptionNames:
    """Return what people call the options of an endpoint, in remedies."""
    where = f"of the endpoint {entry.name}"
    return OptionNames(
        login=f"user and password_file {where}",
        client_id=f"client_id, in the table {where}",
        other_client_id=f"set client_id {where} to one that it takes",
        tls_ca_file=f"tls_ca_file {where}",
        older=f"set version {where} to {'5' if entry.version == '3.1.1' else '3.1.1'}",
    )


def _note_session(journal: Journal, name: SessionName, session_present: bool) -> None:
    """Remember that the broker has our session; say so if it had one and has it no more."""
    expected = False
    with contextlib.suppress(JournalFull):  # the next connection notes it
        expected = journal.remember_session(name.remembered_as)
    if expected and not session_present:
        metrics.SESSIONS_LOST.inc()
        log.error(
            "session lost",
            session=name.remembered_as,
            meaning="the broker has forgotten our session; the messages that it held for us "
            "while we were away are lost, unless the devices send them again",
        )


def _ignore(_session_present: bool) -> None:
    """Note nothing of a session that is not to outlast its connection."""
