"""An MQTT 5 session on asyncio: durable, QoS 1, acknowledged by us and not by a library."""

from echo_ingest.mqtt.inbox import Batch
from echo_ingest.mqtt.options import SessionOptions
from echo_ingest.mqtt.reasons import ConnectionLost, PublishRefused
from echo_ingest.mqtt.session import Session

__all__ = ["Batch", "ConnectionLost", "PublishRefused", "Session", "SessionOptions"]
