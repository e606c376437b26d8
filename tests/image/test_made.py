"""What the image is made of."""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from typing import Any

import pytest

from tests.image.engine import LAB, ROOT, docker

UNWANTED = (
    *("/usr/bin/gcc", "/usr/bin/cc", "/usr/bin/pip*", "/root/.cache"),
    *("/usr/bin/node", "/usr/bin/npm", "/root/.npm"),
    *("/build", "/tools", "/mosquitto", "/docker-entrypoint.sh", "/mosquitto-no-auth.conf"),
)


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(
        docker("image", "inspect", "--format", "{{json .Config}}", image).stdout
    )
    return parsed


def inside(image: str, *words: str) -> str:
    return docker(
        "run", "--rm", "--network", "none", "--entrypoint", words[0], image, *words[1:]
    ).stdout


def test_it_says_what_it_is(config: dict[str, Any]) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["title"] == "iot-ingestion-mqtt"
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["description"] == project["description"]
    assert re.fullmatch("([0-9a-f]{40})?", labels["revision"])


def test_all_that_is_in_it_is_listed(image: str, config: dict[str, Any]) -> None:
    labels = config["Labels"]
    document = json.loads(inside(image, "cat", labels["echo-ingest.sbom"]))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    purls = [each["purl"] for each in document["components"]]
    assert purls == sorted(set(purls))
    kinds = Counter(purl.partition(":")[2].partition("/")[0] for purl in purls)
    assert kinds["apk"] > 20
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    left_out = {"setuptools", "faker", "polyfactory"}
    assert {f"pypi/{name}" for name in locked if name not in left_out} <= {
        purl.removeprefix("pkg:").partition("@")[0] for purl in purls
    } | {"pypi/colorama", "pypi/tzdata"}
    assert any(purl.startswith("pkg:npm/leaflet@") for purl in purls)
    assert "python3" in labels["echo-ingest.packages"]
    assert len(labels["echo-ingest.packages"].split()) == kinds["apk"]


def test_it_has_one_volume_and_a_user_that_is_not_root(config: dict[str, Any]) -> None:
    assert config["Volumes"] == {"/data": {}}
    assert config["User"] == "1883:1883"
    assert set(config["ExposedPorts"]) == {"80/tcp", "1883/tcp", "9001/tcp"}
    assert "/healthz" in " ".join(config["Healthcheck"]["Test"])


def test_it_has_no_compiler_no_installer_no_tests_and_no_open_broker(image: str) -> None:
    looked = inside(image, "sh", "-c", f"ls -d {' '.join(UNWANTED)} 2>/dev/null || true")
    assert looked == ""
    looked = inside(image, "find", "/opt", "-name", "tests", "-o", "-name", "pip")
    assert looked == ""
    assert inside(image, "ls", "/opt/echo-ingest/bin/echo-ingest", "/sbin/tini")


def test_pymongo_is_compiled(image: str) -> None:
    """Without its C part it works, slowly: nobody would notice."""
    assert inside(image, "python", "-c", "import pymongo; print(pymongo.has_c())").strip() == "True"


def test_the_console_is_built(image: str) -> None:
    program = (
        "from echo_ingest.web.console.assets import read_bundle\n"
        "bundle = read_bundle()\n"
        "assert {bundle.names[name] for name in ('console.js', 'clip.css')} <= {*bundle.files}\n"
    )
    inside(image, "python", "-c", program)


def test_every_module_is_there(image: str) -> None:
    program = (
        "import pkgutil, importlib, echo_ingest\n"
        "for each in pkgutil.walk_packages(echo_ingest.__path__, 'echo_ingest.'):\n"
        "    each.name.endswith('__main__') or importlib.import_module(each.name)\n"
    )
    inside(image, "python", "-c", program)


@pytest.mark.usefixtures("image")
def test_all_that_is_locked_has_a_wheel_for_alpine_but_what_is_compiled() -> None:
    if not LAB.exists():
        pytest.skip("needs ../shared/tools/image-lab, which asks the package index")
    (compiled,) = re.findall(r"--no-binary (\S+)", (ROOT / "Dockerfile").read_text())
    locks = [ROOT / "requirements.lock", ROOT / "deploy" / "image" / "build.lock"]
    done = subprocess.run(
        [sys.executable, LAB, "wheels", *locks], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    lacking = re.findall(r"^no wheel for .*: ([\w-]+)==", done.stdout, re.MULTILINE)
    assert set(lacking) == {compiled}, done.stdout
