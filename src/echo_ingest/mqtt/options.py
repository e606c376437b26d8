"""What a session is told when it is made."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from echo_ingest.settings import Endpoint, LocalEndpoint


class SessionOptions(Struct, frozen=True, kw_only=True):
    """Which broker, as whom, to what."""

    endpoint: Endpoint | LocalEndpoint
    client_id: str
    login: Callable[[], tuple[str, str] | None] = lambda: None
    """User name and password, asked for at each connection: a broker beside us may change them."""
    tls_ca_file: Path | None = None
    topic_filters: tuple[str, ...] = ()
    """Subscribed at QoS 1."""
    echo_topic: str | None = None
    """Subscribed at QoS 0; what comes on it goes to `on_echo` and is not a message."""
    session_expiry_seconds: int = 0
    """How long the broker keeps our session while we are away; 0: not at all."""
