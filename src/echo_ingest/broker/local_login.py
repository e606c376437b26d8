"""How our own programs log in to our broker: the address and the account."""

from pathlib import Path

import msgspec

from echo_ingest.broker.configuration import DEVICES_SOCKET_FILE, SOCKET_FILE, Credentials
from echo_ingest.settings import LocalEndpoint, Settings

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
