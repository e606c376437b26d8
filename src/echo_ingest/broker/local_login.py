"""How programs of ours come into our own broker: where, as whom, and under which name."""

from pathlib import Path

import msgspec

from echo_ingest.broker.configuration import SOCKET_FILE, Credentials
from echo_ingest.settings import Endpoint, LocalEndpoint, Settings, load_or_create_secret

SERVICE_FILE = "service.json"


def broker_folder(data_dir: Path) -> Path:
    """The folder that mosquitto runs in."""
    return data_dir / "broker"


def own_endpoint(data_dir: Path) -> LocalEndpoint:
    """Where programs on this machine reach the broker of `data_dir`, whoever crowds its ports."""
    return LocalEndpoint(broker_folder(data_dir) / SOCKET_FILE)


def service_credentials(data_dir: Path) -> Credentials | None:
    """Our account at the broker that was last started with `data_dir`, if any was.

    Its password changes at each start of the broker.
    """
    try:
        return msgspec.json.decode(
            (broker_folder(data_dir) / SERVICE_FILE).read_bytes(), type=Credentials
        )
    except FileNotFoundError:
        return None


def own_login(data_dir: Path) -> tuple[str, str] | None:
    """The same, as user and password."""
    own = service_credentials(data_dir)
    return (own.user, own.password) if own is not None else None


def login(settings: Settings) -> tuple[str, str] | None:
    """As whom to connect: what is set, else the account that a broker beside us gave us."""
    if settings.endpoint is None and settings.login is None:
        return own_login(settings.data_dir)
    return settings.login


def session_name(settings: Settings, endpoint: Endpoint | LocalEndpoint) -> str:
    """The client id of the session that devices' messages wait in.

    Whoever has an account and knows a session's name can take it over, or have it forgotten with
    all that waits in it. So at our own broker nobody can guess ours; it lasts as long as the data
    folder, and so do the queues. Elsewhere it is the operator's, and outlasts this folder.
    """
    if isinstance(endpoint, Endpoint):
        return settings.client_id
    return f"{settings.client_id}-{load_or_create_secret(settings.data_dir, 'session')[0]}"
