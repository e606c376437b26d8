"""An MQTT session on asyncio: durable, at QoS 1, and acknowledged by us rather than a library."""

from echo_ingest.mqtt.connection_errors import (
    ConnectionLost,
    LoginRefused,
    OptionNames,
    PublishDenied,
    PublishRefused,
)
from echo_ingest.mqtt.inbox import Batch, HeldMessages
from echo_ingest.mqtt.session import Session, SessionOptions

__all__ = [
    "Batch",
    "ConnectionLost",
    "HeldMessages",
    "LoginRefused",
    "OptionNames",
    "PublishDenied",
    "PublishRefused",
    "Session",
    "SessionOptions",
]
