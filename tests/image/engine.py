"""The Docker engine that the image's tests use, and the image that the broker's part is made of.

An engine that runs already and has that image, or can pull it, is used as it is. Where no registry
is reached, `../shared/tools/image-lab` starts an engine of its own and makes a stand-in.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
LAB = ROOT.parent / "shared" / "tools" / "image-lab"
PULL_SECONDS_MAX = 300
MAKE_SECONDS_MAX = 1_800


class EngineMissing(Exception):
    """There is no engine with the broker's image; the text says what to do."""


class Origin(Struct, frozen=True):
    """What the image under test is made of."""

    name: str
    """With its digest, unless it is a stand-in, which has another."""
    is_stand_in: bool

    def __str__(self) -> str:
        return f"{self.name}(stand-in)" if self.is_stand_in else self.name


def docker(
    *words: str, seconds: float = 120, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the client; raise with what it said if it fails."""
    done = subprocess.run(
        ["docker", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"docker {shlex.join(words)} ended with {done.returncode}:\n{done.stderr}"
        )
    return done


def find_engine() -> Origin:
    """Point this process's environment at an engine that has the broker's image."""
    name = broker_image()
    tag = name.partition("@")[0]
    if _answers() and (_has(name) or _pulls(name)):
        return Origin(name, is_stand_in=False)
    if _answers() and _has(tag) and _is_stand_in(tag):
        return Origin(tag, is_stand_in=True)
    if not LAB.exists():
        raise EngineMissing(f"neither a Docker engine with {name}, nor a registry to pull it from")
    print(
        "no engine with that image: image-lab makes a stand-in, which may take minutes", flush=True
    )
    exports = subprocess.run(
        [LAB, "up"], stdout=subprocess.PIPE, text=True, timeout=MAKE_SECONDS_MAX, check=True
    ).stdout
    for name_of, value in re.findall(r"^export (\w+)=(.*)$", exports, re.MULTILINE):
        os.environ[name_of] = "".join(shlex.split(value)).replace("$PATH", os.environ["PATH"])
    return Origin(tag, is_stand_in=True)


def broker_image() -> str:
    """Return the image that Dockerfile names."""
    match = re.search(r"^ARG BROKER_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def build_options() -> list[str]:
    """Return what `docker build` needs here; nothing where registries can be reached.

    With image-lab: the network of the host, for want of a bridge, and the stand-in by its tag.
    """
    bridge = docker("network", "ls", "--filter", "driver=bridge", "--filter", "name=^bridge$", "-q")
    options = [] if bridge.stdout.strip() else ["--network", "host"]
    name = broker_image()
    tag = name.partition("@")[0]
    if not _has(name) and _has(tag):
        options += ["--build-arg", f"BROKER_IMAGE={tag}"]
    return options


def _answers() -> bool:
    try:
        docker("version", seconds=20)
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def _has(image: str) -> bool:
    return bool(docker("image", "ls", "-q", image).stdout.strip())


def _pulls(image: str) -> bool:
    print(f"pulling {image}", flush=True)
    try:
        docker("pull", image, seconds=PULL_SECONDS_MAX)
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def _is_stand_in(image: str) -> bool:
    label = '{{index .Config.Labels "image-lab.stand-in"}}'
    return bool(docker("image", "inspect", "--format", label, image).stdout.strip())
