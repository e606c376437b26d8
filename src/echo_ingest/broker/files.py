"""The broker's folder in the data folder: made, written, and written anew when nodes change."""

import contextlib
import os
import pwd
import secrets
import ssl
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from echo_ingest.broker.configuration import (
    ACCESS_FILE,
    CERTIFICATE_FILE,
    CLIENT_CA_FILE,
    CONFIGURATION_FILE,
    HASH_ROUNDS,
    KEY_FILE,
    PASSWORD_FILE,
    PLUGINS,
    PUBLISHER,
    SERVICE,
    SUBSCRIBER,
    Credentials,
    access_rules,
    configuration,
    hashed_accounts,
    needs_plugins,
    node_lines,
    password_line,
)
from echo_ingest.broker.local_login import SERVICE_FILE, broker_folder
from echo_ingest.broker.nodes import GENERATED_HASH_ROUNDS, SALT_BYTES, NodeAccount
from echo_ingest.broker.program import BrokerError, Version, find_plugin
from echo_ingest.settings import Settings, load_or_create_secret
from echo_ingest.settings.secrets import SECRET_BYTES, write_private

SYSTEM_USER = "mosquitto"


class Accounts(Struct, frozen=True):
    """Who may come in, but for nodes."""

    service: Credentials
    publisher: Credentials | None
    """None where there is none, or where no more than a hash of its password is known here."""
    subscriber: Credentials | None
    new: tuple[Credentials, ...]
    """Those whose passwords were generated just now."""
    lines: str
    """All of them, as lines of the password file."""


def make_folder(data_dir: Path) -> Path:
    """The folder that mosquitto runs in, in a data folder that is made if it is not there."""
    folder = broker_folder(data_dir)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except PermissionError:
        raise BrokerError(not_ours(data_dir)) from None
    except OSError as error:
        raise BrokerError(
            f"{folder} cannot be made ({error.strerror}): set IOT_DATA_DIR to a folder of yours"
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise BrokerError(not_ours(data_dir))
    return folder


def not_ours(data_dir: Path) -> str:
    """What to do about a data folder that cannot be written."""
    user = os.geteuid()
    return (
        f"{data_dir} cannot be written by user {user}, as when this was run as root before: "
        f"type `sudo chown -R {user} {data_dir}`, or set IOT_DATA_DIR to another folder"
    )


def prepare(
    settings: Settings,
    program: Path,
    version: Version,
    connections_max: int,
    nodes: Iterable[NodeAccount],
) -> Accounts:
    """Write all that mosquitto reads, for its owner's eyes only; generate what is missing."""
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
    write_certificates(settings)
    _write(
        folder / CONFIGURATION_FILE,
        configuration(version, settings, plugins, user, connections_max),
    )
    _write(folder / SERVICE_FILE, msgspec.json.encode(accounts.service).decode())
    if system_user is not None:
        for path in folder.iterdir():
            os.chown(path, system_user.pw_uid, system_user.pw_gid)
    return accounts


def write_access(settings: Settings, accounts: Accounts, nodes: Iterable[NodeAccount]) -> None:
    """Write passwords and rules: who may come in, and what they may do there."""
    folder, nodes = broker_folder(settings.data_dir), tuple(nodes)
    _write(folder / ACCESS_FILE, access_rules(settings, nodes))
    _write(folder / PASSWORD_FILE, accounts.lines + node_lines(nodes))


def write_certificates(settings: Settings) -> bool:
    """Copy the certificates that are set, if they have changed; False if they have not.

    They are copied because mosquitto 2.1 reads no secrets through symbolic links, as Kubernetes
    mounts them. Raises `BrokerError` for what it could not use.
    """
    given = {
        CERTIFICATE_FILE: settings.tls_cert_file,
        KEY_FILE: settings.tls_key_file,
        CLIENT_CA_FILE: settings.tls_client_ca_file,
    }
    folder = broker_folder(settings.data_dir)
    try:
        texts = {name: path.read_text() for name, path in given.items() if path is not None}
        if not texts:
            return False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert settings.tls_cert_file is not None
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password="")
        if CLIENT_CA_FILE in texts:
            context.load_verify_locations(cadata=texts[CLIENT_CA_FILE])
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise BrokerError(
            "the certificates of IOT_TLS_CERT_FILE, IOT_TLS_KEY_FILE and IOT_TLS_CLIENT_CA_FILE "
            f"cannot be used ({why}): each must be a PEM file, the key without a passphrase and "
            "that of the certificate"
        ) from error
    changed = {}
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            changed[path] = text
    for path, text in changed.items():
        _write(path, text)
    return bool(changed)


def _system_user(version: Version) -> pwd.struct_passwd | None:
    """Whom mosquitto changes to when we are root; None where we are not.

    It starts inside its folder and opens its files by their bare names, so the data folder, and
    what it lies in, can stay closed to it. SQLite makes names absolute again and would have to
    get through from the top: mosquitto 2.1 stays root where we are. The image is not.
    """
    if os.geteuid() != 0:
        return None
    if not needs_plugins(version):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
    return pwd.getpwuid(0)


def _accounts(settings: Settings) -> Accounts:
    given = {PUBLISHER: settings.pub_password} if settings.echopub else {}
    given[SUBSCRIBER] = settings.sub_password
    known: dict[str, Credentials] = {}
    hashed: list[str] = []
    new: list[Credentials] = []
    if settings.accounts_file is not None:
        known = {u: Credentials(u, p.get_secret_value()) for u, p in given.items() if p is not None}
        hashed = _hashed(settings.accounts_file, given.keys() - known.keys())
    else:
        for user, given_password in given.items():
            password, is_new = load_or_create_secret(settings.data_dir, user, given_password)
            known[user] = Credentials(user, password)
            if is_new:
                new.append(known[user])
    given[SERVICE] = ours = settings.service_password
    service = Credentials(
        SERVICE, ours.get_secret_value() if ours else secrets.token_urlsafe(SECRET_BYTES)
    )
    lines = [
        password_line(
            account,
            secrets.token_bytes(SALT_BYTES),
            HASH_ROUNDS if given.get(account.user) else GENERATED_HASH_ROUNDS,
        )
        for account in (service, *known.values())
    ]
    return Accounts(
        service, known.get(PUBLISHER), known.get(SUBSCRIBER), tuple(new), "".join((*lines, *hashed))
    )


def _hashed(path: Path, users: Iterable[str]) -> list[str]:
    """The lines of a file with hashes for `users`, each of whom must have one."""
    try:
        lines = hashed_accounts(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokerError(f"IOT_ACCOUNTS_FILE is {path}: {error}") from error
    missing = sorted(set(users) - lines.keys())
    if missing:
        settings = {PUBLISHER: "IOT_PUB_PASSWORD_FILE", SUBSCRIBER: "IOT_SUB_PASSWORD_FILE"}
        raise BrokerError(
            f"{' and '.join(missing)}: no password is given, and {path} (IOT_ACCOUNTS_FILE) has no "
            f"hash of one; set {' and '.join(settings[user] for user in missing)} to the path of a "
            "file with the password in it"
        )
    return [lines[user] for user in sorted(users)]


def _write(path: Path, text: str) -> None:
    """Replace `path` by a file for the eyes of its folder's owner: mosquitto 2.1 insists."""
    write_private(path, text, path.parent.stat())
