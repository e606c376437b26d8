"""Finding mosquitto: its program, its version and its plugins."""

import os
import re
import shutil
import subprocess
from pathlib import Path

FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/bin")
LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
OLDEST = (2, 0, 0)
VERSION_TIMEOUT_SECONDS = 10.0

INSTALL = """\
  Debian, Ubuntu   sudo apt-get install mosquitto && sudo systemctl disable --now mosquitto
  Fedora           sudo dnf install mosquitto
  Alpine           sudo apk add mosquitto
  macOS            brew install mosquitto"""

GET_21 = (
    "Alpine 3.24 and Homebrew have 2.1; for Ubuntu it is in ppa:mosquitto-dev/mosquitto-ppa, for "
    "Debian among the packages of the mosquitto project; our image contains it. The newest that is "
    "installed is used, once no message waits in the older one: docs/operations.md, Mosquitto 2.1"
)
QUEUES_20, QUEUES_21 = "queues.db", "queues.sqlite"
PLUGINS = ("mosquitto_password_file", "mosquitto_acl_file", "mosquitto_persist_sqlite")

Version = tuple[int, int, int]


class BrokerError(Exception):
    """The broker cannot run; the text says why and what to type."""


class MosquittoMissing(BrokerError):
    """The broker program is not installed."""


def find_mosquitto(setting: Path | None, folder: Path | None = None) -> Path:
    """Find the broker program: the one that is set, else the newest that is installed.

    Where messages may wait in the queues that 2.0 left in `folder`, 2.0 is taken if it is there.
    Raises `BrokerError`: `MosquittoMissing` with what to type on each system if there is none, else
    what is wrong with the first.
    """
    if setting is not None:
        if shutil.which(setting.absolute()) is None:
            raise MosquittoMissing(
                f"IOT_MOSQUITTO is {setting}, which is not a program: type the path of one, or "
                "unset it to use the mosquitto that is installed"
            )
        return setting.absolute()
    usable: list[tuple[Version, Path]] = []
    problems: list[BrokerError] = []
    for program in _installed():
        try:
            program_version = version(program)
            if needs_plugins(program_version):
                for name in PLUGINS:
                    find_plugin(program, name)
        except BrokerError as error:
            problems.append(error)
        else:
            usable.append((program_version, program))
    if folder is not None and has_older_queues(folder):
        usable = [each for each in usable if not needs_plugins(each[0])] or usable
    if usable:
        return max(usable, key=lambda each: each[0])[1]
    if problems:
        raise problems[0]
    raise MosquittoMissing(f"mosquitto, the MQTT broker, is not installed: type\n{INSTALL}")


def _installed() -> list[Path]:
    """Return all programs that may be mosquitto, each once, in the order in which they are found.

    A second version beside the system's is often called `mosquitto-2.1`.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, (*os.get_exec_path(), *FOLDERS)):  # often not on the PATH of users
        for program in (folder / "mosquitto", *sorted(folder.glob("mosquitto-[0-9]*"))):
            if shutil.which(program.absolute()) is not None:
                found.setdefault(program.resolve(), program.absolute())
    return list(found.values())


def needs_plugins(version: Version) -> bool:
    """Return whether passwords, access rules and durable queues are plugins: from 2.1 on."""
    return version >= (2, 1, 0)


def has_older_queues(folder: Path) -> bool:
    """Return whether 2.0 was the last to keep its queues in `folder`; 2.1 does not read them."""
    return (folder / QUEUES_20).exists() and not (folder / QUEUES_21).exists()


def remark(version: Version, folder: Path) -> str | None:
    """Return what people should know of this version, with what to do; None if there is nothing."""
    if needs_plugins(version):
        if not has_older_queues(folder):
            return None
        return (
            f"messages may wait in {folder / QUEUES_20}, the queues of mosquitto 2.0, which 2.1 "
            "cannot read: to get them, start the service once with IOT_MOSQUITTO set to a 2.0"
        )
    return (
        "it saves the messages that wait in it once a minute, and if it is killed or the power "
        "fails, those that it has acknowledged since are lost; with 2.1 those of the last moment "
        f"at most. {GET_21}"
    )


def version(program: Path) -> Version:
    """Ask the program for its version; raise `BrokerError` if it gives none or is too old."""
    try:
        usage = subprocess.run(
            [program, "-h"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"{program} does not run ({error}): type\n{INSTALL}") from error
    match = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", usage)
    if match is None:
        raise BrokerError(
            f"{program} does not say which version of mosquitto it is: set IOT_MOSQUITTO"
        )
    major, minor, patch = map(int, match.groups())
    if (major, minor, patch) < OLDEST:
        raise BrokerError(f"{program} is mosquitto {major}.{minor}.{patch}: 2.0 or later is needed")
    return major, minor, patch


def find_plugin(program: Path, name: str) -> Path:
    """Find the plugin that came with `program`; raise `BrokerError` if it is missing."""
    installed_in = program.resolve().parent.parent
    for folder in (installed_in / "lib", installed_in / "lib64", *map(Path, LIBRARY_FOLDERS)):
        for path in (folder / f"{name}.so", *sorted(folder.glob(f"*/{name}.so"))):
            if path.is_file():
                return path
    raise BrokerError(
        f"mosquitto 2.1 needs its plugins, and {name}.so is not below "
        f"{installed_in}/lib: install mosquitto with its plugins, or set IOT_MOSQUITTO to a "
        "program that has them in ../lib"
    )
