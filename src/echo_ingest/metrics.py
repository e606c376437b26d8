"""All metrics. The values of labels are bounded: sinks, endpoints, outcomes, never a device.

docs/metrics.md has a heading for each metric; a test compares them.
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

# Otherwise each counter has a second series with the time of its creation, which nobody needs.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Info("echo_ingest_build", "The version that runs.", registry=REGISTRY).info(
    {"version": __version__}
)

RECEIVED_MESSAGES = Counter(
    "echo_ingest_received_messages",
    "Messages received from the broker and settled as stored, duplicate or dead letter.",
    registry=REGISTRY,
)
OUTCOMES = Counter(
    "echo_ingest_outcomes_messages",
    "Received messages by outcome.",
    ["outcome"],
    registry=REGISTRY,
)
for outcome in ("stored", "duplicate", "dead letter", "ignored", "unclaimed"):
    OUTCOMES.labels(outcome)  # present from the start: Prometheus sees no increase from nothing
RECEIVED_BYTES = Counter(
    "echo_ingest_received_bytes", "Payload bytes of received messages.", registry=REGISTRY
)
RECEIPTS = Counter(
    "echo_ingest_receipts",
    "Receipts for devices that asked for them: sent, or dropped because the broker was busy.",
    ["outcome"],
    registry=REGISTRY,
)
for outcome in ("sent", "dropped"):
    RECEIPTS.labels(outcome)
NODES_HEARD = Gauge(
    "echo_ingest_nodes_heard",
    "Nodes that sent a message within the last hour, day or week.",
    ["within"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge("echo_ingest_dead_letters", "Dead letters in the journal.", registry=REGISTRY)
COMMIT_SECONDS = Histogram(
    "echo_ingest_journal_commit_seconds",
    "Time to write one batch durably, fsync included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
BATCH_MESSAGES = Histogram(
    "echo_ingest_batch_messages",
    "Messages written durably by one commit.",
    buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 5000, 20000),
    registry=REGISTRY,
)
JOURNAL_BYTES = Gauge(
    "echo_ingest_journal_bytes", "Bytes that the journal uses.", registry=REGISTRY
)
DISK_FREE_BYTES = Gauge(
    "echo_ingest_disk_free_bytes", "Free bytes on the journal's disk.", registry=REGISTRY
)
JOURNAL_ROOM_BYTES = Gauge(
    "echo_ingest_journal_room_bytes",
    "Bytes that can still be stored before acknowledgements stop.",
    registry=REGISTRY,
)
JOURNAL_SALVAGED = Gauge(
    "echo_ingest_journal_salvaged",
    "1 while the report about a repaired journal waits to be read and removed.",
    registry=REGISTRY,
)
JOURNAL_LOST_MESSAGES = Gauge(
    "echo_ingest_journal_lost_messages",
    "Messages that were stored and could not be recovered from a damaged journal.",
    registry=REGISTRY,
)
JOURNAL_BLOCKED = Gauge(
    "echo_ingest_journal_blocked",
    "1 while acknowledgements have stopped because there is no space.",
    registry=REGISTRY,
)
CONNECTED = Gauge(
    "echo_ingest_broker_connected",
    "1 while the service is connected and subscribed.",
    registry=REGISTRY,
)
CONNECTIONS = Counter(
    "echo_ingest_broker_connections",
    "Successful connections to the broker, the first included.",
    registry=REGISTRY,
)
ENDPOINT_CONNECTED = Gauge(
    "echo_ingest_endpoint_connected",
    "1 while an endpoint of IOT_ENDPOINTS is connected, subscribed, and grants what is needed.",
    ["endpoint"],
    registry=REGISTRY,
)
ENDPOINT_RECEIVED_MESSAGES = Counter(
    "echo_ingest_endpoint_received_messages",
    "Messages received from an endpoint of IOT_ENDPOINTS; they count in the total too.",
    ["endpoint"],
    registry=REGISTRY,
)
SESSIONS_LOST = Counter(
    "echo_ingest_sessions_lost",
    "Times the broker no longer had our session, so that messages may have been lost there.",
    registry=REGISTRY,
)
LOOPBACK_AGE_SECONDS = Gauge(
    "echo_ingest_echo_age_seconds",
    "Time since the newest loopback message that came back from the broker was sent.",
    registry=REGISTRY,
)
SINK_PAUSED = Gauge(
    "echo_ingest_sink_paused",
    "1 while a person has paused the sink.",
    ["sink"],
    registry=REGISTRY,
)
SINK_BACKLOG = Gauge(
    "echo_ingest_sink_backlog_records",
    "Records that wait for the sink.",
    ["sink"],
    registry=REGISTRY,
)
SINK_PARKED = Gauge(
    "echo_ingest_sink_parked_records",
    "Records that the sink refused and that wait for a person's decision.",
    ["sink"],
    registry=REGISTRY,
)
SINK_LAG_SECONDS = Gauge(
    "echo_ingest_sink_lag_seconds",
    "Age of the oldest record that waits for the sink.",
    ["sink"],
    registry=REGISTRY,
)
RESTARTS = Counter(
    "echo_ingest_process_restarts",
    "Times the web, delivery or proxy process ended by itself and was started again.",
    ["process"],
    registry=REGISTRY,
)
for process in ("web", "delivery", "proxy"):
    RESTARTS.labels(process)

# ---------------------------------------------------------------------- the delivery process

DELIVERY = CollectorRegistry()
"""The metrics of the delivery process."""

SINK_DELIVERED = Counter(
    "echo_ingest_sink_delivered_records",
    "Records that the sink accepted.",
    ["sink"],
    registry=DELIVERY,
)
SINK_REFUSED = Counter(
    "echo_ingest_sink_refused_records",
    "Records that the sink refused.",
    ["sink"],
    registry=DELIVERY,
)
SINK_UNAVAILABLE = Gauge(
    "echo_ingest_sink_unavailable",
    "Consecutive attempts that found the sink unavailable; 0 while it accepts records.",
    ["sink"],
    registry=DELIVERY,
)

BROKER_CLIENTS = "echo_ingest_broker_clients"
BROKER_HELD_MESSAGES = "echo_ingest_broker_held_messages"
BROKER_HELD_BYTES = "echo_ingest_broker_held_bytes"
BROKER_HEAP_BYTES = "echo_ingest_broker_heap_bytes"
BROKER_DROPPED_MESSAGES = "echo_ingest_broker_dropped_messages"


class BrokerCollector(Collector):
    """The broker's statistics; a series exists only while its value is known."""

    def __init__(self) -> None:
        self.values: Mapping[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family for each statistic."""
        for name, text in (
            (BROKER_CLIENTS, "Clients connected to the broker, including three of ours."),
            (BROKER_HELD_MESSAGES, "Messages that the broker holds."),
            (BROKER_HELD_BYTES, "Payload bytes of the messages that the broker holds."),
            (BROKER_HEAP_BYTES, "Memory that the broker has allocated."),
        ):
            yield GaugeMetricFamily(name, text, value=self.values.get(name))
        yield CounterMetricFamily(
            BROKER_DROPPED_MESSAGES,
            "Messages that the broker dropped instead of keeping them for a client.",
            value=self.values.get(BROKER_DROPPED_MESSAGES),
        )


BROKER = BrokerCollector()
REGISTRY.register(BROKER)

# ---------------------------------------------------------------------- the proxy process

PROXY = CollectorRegistry()
"""The metrics of the proxy process."""

DEVICE_CONNECTIONS = Gauge(
    "echo_ingest_device_connections",
    "Connections at the port now, those that have not logged in included.",
    ["port"],
    registry=PROXY,
)
DEVICES_ACCEPTED = Counter(
    "echo_ingest_devices_accepted",
    "Connections at the port that have logged in.",
    ["port"],
    registry=PROXY,
)
DEVICES_REFUSED = Counter(
    "echo_ingest_devices_refused",
    "Connections that ended before they had logged in, by reason.",
    ["reason"],
    registry=PROXY,
)
for reason in (
    *("credentials", "too large", "malformed", "reserved id", "too slow", "left"),
    *("full", "memory", "broker away", "tls", "websocket"),
):
    DEVICES_REFUSED.labels(reason)
DENIED_MESSAGES = Counter(
    "echo_ingest_denied_messages",
    "Messages on topics where their account may not publish: the broker discards them.",
    ["account", "topic"],
    registry=PROXY,
)
BROKER_MEMORY_BYTES = Gauge(
    "echo_ingest_broker_memory_bytes",
    "Memory of the broker that is in use, as far as the proxy knows.",
    registry=PROXY,
)
BROKER_MEMORY_LIMIT_BYTES = Gauge(
    "echo_ingest_broker_memory_limit_bytes",
    "From this on, what devices publish is held back.",
    registry=PROXY,
)
DEVICES_WAITING = Gauge(
    "echo_ingest_devices_waiting",
    "Devices that wait to publish because the broker's memory is short.",
    registry=PROXY,
)
HELD_BACK = Gauge(
    "echo_ingest_devices_held_back",
    "1 while what devices publish is held back because the broker's memory is short.",
    registry=PROXY,
)
HELD_BACK_SECONDS = Counter(
    "echo_ingest_devices_held_back_seconds",
    "How long it was held back, all in all.",
    registry=PROXY,
)
DEVICES_CUT = Counter(
    "echo_ingest_devices_cut",
    "Devices that were disconnected because an unfinished message held memory that was short.",
    registry=PROXY,
)
