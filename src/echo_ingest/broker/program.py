"""Finding mosquitto: its program, its version and its plugins."""

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

Version = tuple[int, int, int]


class BrokerError(Exception):
    """The broker cannot run; the text says why and what to type."""


class MosquittoMissing(BrokerError):
    """The broker program is not installed."""


def find_mosquitto(setting: Path | None) -> Path:
    """Find the broker program: the one that is set, else on PATH, else where systems install it.

    Raises `MosquittoMissing` with what to type on each system.
    """
    if setting is not None:
        if shutil.which(setting.absolute()) is None:
            raise MosquittoMissing(
                f"IOT_MOSQUITTO is {setting}, which is not a program: type the path of one, or "
                "unset it to use the mosquitto that is installed"
            )
        return setting.absolute()
    program = shutil.which("mosquitto")
    for folder in FOLDERS:  # often not on the PATH of users other than root
        program = program or shutil.which("mosquitto", path=folder)
    if program is None:
        raise MosquittoMissing(f"mosquitto, the MQTT broker, is not installed: type\n{INSTALL}")
    return Path(program).absolute()


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
