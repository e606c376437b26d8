"""The broker's folder in the data folder, and the passwords beside it: made, written, read."""

import contextlib
import os
import pwd
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from echo_ingest.broker.configuration import (
    ACCESS_FILE,
    CONFIGURATION_FILE,
    PASSWORD_FILE,
    PLUGINS,
    PUBLISHER,
    SALT_BYTES,
    SERVICE,
    SUBSCRIBER,
    Credentials,
    access_rules,
    configuration,
    hashed_accounts,
    needs_plugins,
    password_line,
)
from echo_ingest.broker.program import BrokerError, Version, find_plugin
from echo_ingest.settings import Settings

PASSWORD_BYTES = 18
SERVICE_FILE = "service.json"
SYSTEM_USER = "mosquitto"


class Accounts(Struct, frozen=True):
    """Who may come in."""

    service: Credentials
    publisher: Credentials | None
    """None where no more than a hash of the password is known here."""
    subscriber: Credentials | None
    new: tuple[Credentials, ...]
    """Those whose passwords were generated just now."""
    hashed: tuple[str, ...]
    """Lines of the password file for those of whom a hash is known."""


def service_credentials(data_dir: Path) -> Credentials | None:
    """Our account at the broker that was last started with `data_dir`, if any was.

    Its password changes at each start of the broker.
    """
    try:
        return msgspec.json.decode(_service_file(data_dir).read_bytes(), type=Credentials)
    except FileNotFoundError:
        return None


def make_folder(data_dir: Path) -> Path:
    """The folder that mosquitto runs in, in a data folder that is made if it is not there."""
    folder = _folder(data_dir)
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


def prepare(settings: Settings, program: Path, version: Version) -> Accounts:
    """Write all that mosquitto reads, for its owner's eyes only; generate what is missing."""
    folder = _folder(settings.data_dir)
    accounts = _accounts(settings)
    system_user = _system_user(version)
    plugins = (
        {name: find_plugin(program, name) for name in PLUGINS} if needs_plugins(version) else {}
    )
    known = (accounts.service, accounts.publisher, accounts.subscriber)
    lines = [password_line(each, secrets.token_bytes(SALT_BYTES)) for each in known if each]
    _write(folder / PASSWORD_FILE, "".join((*lines, *accounts.hashed)))
    _write(folder / ACCESS_FILE, access_rules(settings.topic_filters))
    _write(
        folder / CONFIGURATION_FILE,
        configuration(version, settings, plugins, system_user.pw_name if system_user else None),
    )
    _write(_service_file(settings.data_dir), msgspec.json.encode(accounts.service).decode())
    if system_user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, system_user.pw_uid, system_user.pw_gid)
    return accounts


def _folder(data_dir: Path) -> Path:
    return data_dir / "broker"


def _service_file(data_dir: Path) -> Path:
    return _folder(data_dir) / SERVICE_FILE


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
    given = {PUBLISHER: settings.pub_password, SUBSCRIBER: settings.sub_password}
    known = {u: Credentials(u, p.get_secret_value()) for u, p in given.items() if p is not None}
    hashed: list[str] = []
    new: list[Credentials] = []
    if settings.accounts_file is not None:
        hashed = _hashed(settings.accounts_file, given.keys() - known.keys())
    else:
        for user in given.keys() - known.keys():
            known[user], is_new = _kept_account(settings.data_dir / "secrets" / user)
            if is_new:
                new.append(known[user])
    ours = settings.service_password
    service = ours.get_secret_value() if ours else secrets.token_urlsafe(PASSWORD_BYTES)
    return Accounts(
        Credentials(SERVICE, service),
        known.get(PUBLISHER),
        known.get(SUBSCRIBER),
        tuple(sorted(new, key=lambda account: account.user)),
        tuple(hashed),
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


def _kept_account(kept: Path) -> tuple[Credentials, bool]:
    """The account `kept` is named after, and whether its password was generated just now."""
    with contextlib.suppress(FileNotFoundError):
        if password := kept.read_text().strip():  # empty after a power cut at the wrong moment
            return Credentials(kept.name, password), False
    account = Credentials(kept.name, secrets.token_urlsafe(PASSWORD_BYTES))
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    _write(kept, f"{account.password}\n")
    return account, True


def _write(path: Path, text: str) -> None:
    """Replace `path` at once by a regular file for its owner's eyes: mosquitto 2.1 insists."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
