"""Every metric, once. Labels are bounded: sinks and outcomes, never a device.

docs/metrics.md has a heading for each; a test compares them.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from echo_ingest import __version__

# When each counter was made: a second series for each, of no use.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Info("echo_ingest_build", "Which version runs.", registry=REGISTRY).info({"version": __version__})

RECEIVED_MESSAGES = Counter(
    "echo_ingest_received_messages",
    "Messages read from the broker and settled: stored, duplicate or dead letter.",
    registry=REGISTRY,
)
OUTCOMES = Counter(
    "echo_ingest_outcomes_messages",
    "What became of received messages.",
    ["outcome"],
    registry=REGISTRY,
)
for outcome in ("stored", "duplicate", "dead letter"):
    OUTCOMES.labels(outcome)  # there from the start: an increase from nothing is not seen
RECEIVED_BYTES = Counter(
    "echo_ingest_received_bytes", "Payload bytes of received messages.", registry=REGISTRY
)
RECEIPTS = Counter(
    "echo_ingest_receipts",
    "Receipts for devices that asked: sent to the broker, or dropped because it took none.",
    ["outcome"],
    registry=REGISTRY,
)
for outcome in ("sent", "dropped"):
    RECEIPTS.labels(outcome)
NODES_HEARD = Gauge(
    "echo_ingest_nodes_heard",
    "Nodes from which a message came within the last hour, day or week.",
    ["within"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "echo_ingest_dead_letters", "Dead letters there are in the journal.", registry=REGISTRY
)
COMMIT_SECONDS = Histogram(
    "echo_ingest_journal_commit_seconds",
    "Time to make one batch durable, fsync included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
BATCH_MESSAGES = Histogram(
    "echo_ingest_batch_messages",
    "Messages made durable by one commit.",
    buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 5000, 20000),
    registry=REGISTRY,
)
JOURNAL_BYTES = Gauge(
    "echo_ingest_journal_bytes", "Bytes of the journal that are in use.", registry=REGISTRY
)
DISK_FREE_BYTES = Gauge(
    "echo_ingest_disk_free_bytes", "Bytes free on the journal's disk.", registry=REGISTRY
)
JOURNAL_ROOM_BYTES = Gauge(
    "echo_ingest_journal_room_bytes",
    "Bytes that can still be written before acknowledgements stop.",
    registry=REGISTRY,
)
JOURNAL_SALVAGED = Gauge(
    "echo_ingest_journal_salvaged",
    "1 while the report of a salvage waits to be read and removed.",
    registry=REGISTRY,
)
JOURNAL_LOST_MESSAGES = Gauge(
    "echo_ingest_journal_lost_messages",
    "Messages once stored that a damaged journal did not give back.",
    registry=REGISTRY,
)
JOURNAL_BLOCKED = Gauge(
    "echo_ingest_journal_blocked",
    "1 while acknowledgements have stopped because there is no room.",
    registry=REGISTRY,
)
CONNECTED = Gauge(
    "echo_ingest_broker_connected", "1 while connected and subscribed.", registry=REGISTRY
)
CONNECTIONS = Counter(
    "echo_ingest_broker_connections",
    "Connections to the broker that came up, the first included.",
    registry=REGISTRY,
)
SESSIONS_LOST = Counter(
    "echo_ingest_sessions_lost",
    "Times the broker had forgotten our session: messages may have been lost there.",
    registry=REGISTRY,
)
ECHO_AGE_SECONDS = Gauge(
    "echo_ingest_echo_age_seconds",
    "Time since the newest message to ourselves that came back through the broker was sent.",
    registry=REGISTRY,
)
SINK_PAUSED = Gauge(
    "echo_ingest_sink_paused",
    "1 while a person has the sink wait.",
    ["sink"],
    registry=REGISTRY,
)
SINK_BACKLOG = Gauge(
    "echo_ingest_sink_backlog_records", "Records waiting for a sink.", ["sink"], registry=REGISTRY
)
SINK_PARKED = Gauge(
    "echo_ingest_sink_parked_records",
    "Records a sink refused that wait for a person.",
    ["sink"],
    registry=REGISTRY,
)
SINK_LAG_SECONDS = Gauge(
    "echo_ingest_sink_lag_seconds",
    "Age of the oldest record waiting for a sink.",
    ["sink"],
    registry=REGISTRY,
)
RESTARTS = Counter(
    "echo_ingest_process_restarts",
    "Times a process beside the line has ended by itself and was started again.",
    ["process"],
    registry=REGISTRY,
)
for process in ("web", "delivery"):
    RESTARTS.labels(process)

# ---------------------------------------------------------------------- of the delivery process

DELIVERY = CollectorRegistry()
"""What is counted where records are delivered, in a process of its own."""

SINK_DELIVERED = Counter(
    "echo_ingest_sink_delivered_records", "Records a sink took.", ["sink"], registry=DELIVERY
)
SINK_REFUSED = Counter(
    "echo_ingest_sink_refused_records", "Records a sink refused.", ["sink"], registry=DELIVERY
)
SINK_UNAVAILABLE = Gauge(
    "echo_ingest_sink_unavailable",
    "Attempts in a row that found the sink unavailable; 0 when it takes records.",
    ["sink"],
    registry=DELIVERY,
)

BROKER_CLIENTS = "echo_ingest_broker_clients"
BROKER_HELD_MESSAGES = "echo_ingest_broker_held_messages"
BROKER_HELD_BYTES = "echo_ingest_broker_held_bytes"
BROKER_HEAP_BYTES = "echo_ingest_broker_heap_bytes"
BROKER_DROPPED_MESSAGES = "echo_ingest_broker_dropped_messages"


class BrokerFigures(Collector):
    """What the broker says of itself; a series is there only while its figure is known."""

    def __init__(self) -> None:
        self.known: Mapping[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        """One family for each figure."""
        for name, text in (
            (BROKER_CLIENTS, "Clients connected to the broker, ours included."),
            (BROKER_HELD_MESSAGES, "Messages that the broker holds."),
            (BROKER_HELD_BYTES, "Payload bytes of the messages that the broker holds."),
            (BROKER_HEAP_BYTES, "Memory that the broker has allocated."),
        ):
            yield GaugeMetricFamily(name, text, value=self.known.get(name))
        yield CounterMetricFamily(
            BROKER_DROPPED_MESSAGES,
            "Messages that the broker did not keep for a client.",
            value=self.known.get(BROKER_DROPPED_MESSAGES),
        )


BROKER = BrokerFigures()
REGISTRY.register(BROKER)
