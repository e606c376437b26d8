"""The broker's folder in the data folder: created, filled, and updated when nodes change."""

import contextlib
import os
import pwd
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from echo_ingest.broker.access_rules import access_rules
from echo_ingest.broker.configuration import (
    ACCESS_FILE,
    CONFIGURATION_FILE,
    HASH_ROUNDS,
    PASSWORD_FILE,
    PUBLISHER,
    SERVICE,
    SUBSCRIBER,
    Credentials,
    configuration,
    hashed_accounts,
    node_lines,
    password_line,
)
from echo_ingest.broker.local_login import SERVICE_FILE, broker_folder
from echo_ingest.broker.node_accounts import GENERATED_HASH_ROUNDS, SALT_BYTES, NodeAccount
from echo_ingest.broker.program import (
    PLUGINS,
    BrokerError,
    Version,
    find_plugin,
    needs_plugins,
)
from echo_ingest.process.files import atomic_write, make_private, why_unwritable
from echo_ingest.settings import Settings, load_or_create_secret
from echo_ingest.settings.secrets import SECRET_BYTES

SYSTEM_USER = "mosquitto"
CERTIFICATE_SECRET_BYTES = 32
FORMER_FILES = ("tls-cert.pem", "tls-key.pem", "tls-client-ca.pem")
"""Copies that versions before the proxy made of certificates and of their key."""

log = structlog.get_logger("broker")


class Accounts(Struct, frozen=True):
    """The accounts that may connect, except those of nodes."""

    service: Credentials
    publisher: Credentials | None
    """None where it does not exist, or where only a hash of its password is known here."""
    subscriber: Credentials | None
    generated: tuple[Credentials, ...]
    """The accounts whose passwords were generated just now."""
    lines: str
    """All accounts, as lines of the password file."""
    certificate_secret: bytes
    """From which the passwords of nodes with certificates are derived; a new one at each start."""


def make_folder(data_dir: Path) -> Path:
    """Create the folder that mosquitto runs in, and the data folder if it is missing."""
    folder = broker_folder(data_dir)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_private(data_dir)
        folder.mkdir(mode=0o700, exist_ok=True)
    except PermissionError:
        raise BrokerError(unwritable_remedy(data_dir)) from None
    except OSError as error:
        if (why := why_unwritable(folder, error.errno)) is not None:
            raise BrokerError(why) from error
        raise BrokerError(
            f"{folder} cannot be created ({error.strerror}): set IOT_DATA_DIR to another folder"
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise BrokerError(unwritable_remedy(data_dir))
    return folder


def keep_private(data_dir: Path) -> None:
    """Make sure that only the owner of the data folder can enter it; raise `BrokerError` if not."""
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    try:
        if make_private(data_dir):
            log.warning(
                "data folder closed to other users",
                folder=str(data_dir),
                was=f"{mode:04o}",
                meaning="they could read what is in it, and hold its locks",
            )
    except PermissionError:
        raise BrokerError(
            f"other users can enter {data_dir} (mode {mode:04o}), where they could read everything "
            "and hold its locks, and it is not ours to close: type "
            f"`sudo chmod 700 {data_dir}` and `sudo chown -R {os.geteuid()} {data_dir}`, "
            "or set IOT_DATA_DIR to a new folder in it"
        ) from None


def unwritable_remedy(data_dir: Path) -> str:
    """Return what to do about a data folder that cannot be written."""
    user = os.geteuid()
    return (
        f"{data_dir} cannot be written by user {user}, perhaps because it ran as root before: "
        f"type `sudo chown -R {user} {data_dir}`, or set IOT_DATA_DIR to another folder"
    )


def prepare(
    settings: Settings,
    program: Path,
    version: Version,
    nodes: Iterable[NodeAccount],
) -> Accounts:
    """Write all files that mosquitto reads, private to its owner; generate what is missing."""
    folder = broker_folder(settings.data_dir)
    accounts = _accounts(settings)
    system_user = _system_user(version)
    if system_user is not None:
        os.chown(folder, system_user.pw_uid, system_user.pw_gid)
    plugins = (
        {name: find_plugin(program, name) for name in PLUGINS} if needs_plugins(version) else {}
    )
    user = system_user.pw_name if system_user is not None else None
    write_access(settings, accounts, nodes)
    for name in FORMER_FILES:
        (folder / name).unlink(missing_ok=True)
    _replace(folder / CONFIGURATION_FILE, configuration(version, settings, plugins, user))
    _replace(folder / SERVICE_FILE, msgspec.json.encode(accounts.service).decode())
    if system_user is not None:
        for path in folder.iterdir():
            os.chown(path, system_user.pw_uid, system_user.pw_gid)
    return accounts


def write_access(settings: Settings, accounts: Accounts, nodes: Iterable[NodeAccount]) -> None:
    """Write passwords and rules: who may connect, and what each may do."""
    folder, nodes = broker_folder(settings.data_dir), tuple(nodes)
    _replace(folder / ACCESS_FILE, access_rules(settings, nodes))
    by_certificate = settings.tls_client_ca_file is not None
    secret = accounts.certificate_secret if by_certificate else None
    _replace(folder / PASSWORD_FILE, accounts.lines + node_lines(nodes, secret))


def _system_user(version: Version) -> pwd.struct_passwd | None:
    """Return the user that mosquitto changes to when we are root; None where we are not.

    It starts inside its folder and opens its files by relative names, so the data folder and the
    folders above can stay closed to it. SQLite makes names absolute again and would need access
    from the top: so mosquitto 2.1 stays root where we are root. The image does not run as root.
    """
    if os.geteuid() != 0:
        return None
    if not needs_plugins(version):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
    return pwd.getpwuid(0)


def _accounts(settings: Settings) -> Accounts:
    configured = {PUBLISHER: settings.pub_password} if settings.echopub else {}
    configured[SUBSCRIBER] = settings.sub_password
    known: dict[str, Credentials] = {}
    hashed: list[str] = []
    generated: list[Credentials] = []
    if settings.accounts_file is not None:
        known = {
            user: Credentials(user, password.get_secret_value())
            for user, password in configured.items()
            if password is not None
        }
        hashed = _hashed(settings.accounts_file, configured.keys() - known.keys())
    else:
        for user, secret in configured.items():
            password_text, is_new = load_or_create_secret(settings.data_dir, user, secret)
            known[user] = Credentials(user, password_text)
            if is_new:
                generated.append(known[user])
    configured[SERVICE] = service_secret = settings.service_password
    service = Credentials(
        SERVICE,
        service_secret.get_secret_value()
        if service_secret
        else secrets.token_urlsafe(SECRET_BYTES),
    )
    lines = [
        password_line(
            account,
            secrets.token_bytes(SALT_BYTES),
            HASH_ROUNDS if configured.get(account.user) else GENERATED_HASH_ROUNDS,
        )
        for account in (service, *known.values())
    ]
    return Accounts(
        service,
        known.get(PUBLISHER),
        known.get(SUBSCRIBER),
        tuple(generated),
        "".join((*lines, *hashed)),
        secrets.token_bytes(CERTIFICATE_SECRET_BYTES),
    )


def _hashed(path: Path, users: Iterable[str]) -> list[str]:
    """Return the lines of a file of hashes for `users`, each of which must have one."""
    try:
        lines = hashed_accounts(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokerError(f"IOT_ACCOUNTS_FILE is {path}: {error}") from error
    missing = sorted(set(users) - lines.keys())
    if missing:
        settings = {PUBLISHER: "IOT_PUB_PASSWORD_FILE", SUBSCRIBER: "IOT_SUB_PASSWORD_FILE"}
        raise BrokerError(
            f"{' and '.join(missing)}: no password is set, and {path} (IOT_ACCOUNTS_FILE) has no "
            f"hash; set {' and '.join(settings[user] for user in missing)} to the path of a "
            "file with the password in it"
        )
    return [lines[user] for user in sorted(users)]


def _replace(path: Path, text: str) -> None:
    """Replace `path` by a file that only its folder's owner can read: mosquitto 2.1 insists."""
    atomic_write(path, text.encode(), owner=path.parent.stat())
