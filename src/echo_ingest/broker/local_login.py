"""How our own programs log in to our broker: the address, the account and the client id."""

from pathlib import Path

import msgspec

from echo_ingest.broker.configuration import DEVICES_SOCKET_FILE, SOCKET_FILE, Credentials
from echo_ingest.settings import Endpoint, LocalEndpoint, Settings, load_or_create_secret

SERVICE_FILE = "service.json"


def broker_folder(data_dir: Path) -> Path:
    """Return the folder that mosquitto runs in."""
    return data_dir / "broker"


def own_endpoint(data_dir: Path) -> LocalEndpoint:
    """Return where programs on this machine reach the broker, however full its ports are."""
    return LocalEndpoint(broker_folder(data_dir) / SOCKET_FILE)


def devices_endpoint(data_dir: Path) -> LocalEndpoint:
    """Return where the proxy reaches the broker on behalf of devices."""
    return LocalEndpoint(broker_folder(data_dir) / DEVICES_SOCKET_FILE)


def service_credentials(data_dir: Path) -> Credentials | None:
    """Return our account at the broker that was last started with `data_dir`, if there was one.

    The password changes at each start of the broker.
    """
    try:
        return msgspec.json.decode(
            (broker_folder(data_dir) / SERVICE_FILE).read_bytes(), type=Credentials
        )
    except FileNotFoundError:
        return None


def own_login(data_dir: Path) -> tuple[str, str] | None:
    """Return our account at that broker as user and password."""
    account = service_credentials(data_dir)
    return (account.user, account.password) if account is not None else None


def login(settings: Settings) -> tuple[str, str] | None:
    """Return user and password: those that are set, else our account at the broker beside us."""
    if settings.endpoint is None and settings.login is None:
        return own_login(settings.data_dir)
    return settings.login


def session_name(settings: Settings, endpoint: Endpoint | LocalEndpoint) -> str:
    """Return the client id of the session in which devices' messages wait for us.

    A client with any account that knows the id of a session can take it over, or discard it with
    all messages that wait in it. So nobody can guess our id at our own broker; the id lasts as long
    as the data folder, and so do the queues. At another broker the operator chooses the id, and it
    outlasts this folder.
    """
    if isinstance(endpoint, Endpoint):
        return settings.client_id
    return f"{settings.client_id}-{load_or_create_secret(settings.data_dir, 'session')[0]}"
