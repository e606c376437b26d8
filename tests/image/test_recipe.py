"""What can be told of the image before it is built."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from echo_ingest.broker.configuration import hashed_accounts
from tests.image.engine import ROOT
from tests.tools import tool

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def linted(dockerfile: str, folder: Path) -> str:
    (folder / "Dockerfile").write_text(dockerfile)
    return subprocess.run(
        [tool("hadolint"), folder / "Dockerfile"], capture_output=True, text=True, check=False
    ).stdout


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    assert linted(DOCKERFILE, tmp_path) == ""
    assert "DL3004" in linted(f"{DOCKERFILE}RUN sudo id\n", tmp_path)


def test_its_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^ARG IMAGE_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE) == [
        project["version"]
    ]


def test_the_context_is_what_the_build_copies_and_no_more() -> None:
    folders = ("deploy/image", "console")
    copied = {
        next((folder for folder in folders if source.startswith(f"{folder}/")), source)
        for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line[:1] != "#") == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied | {"Dockerfile"}


def test_what_a_build_is_given_is_hashed_and_what_it_is_not_given_is_left_out() -> None:
    given = {"pubuserpass": "frogs at dusk", "subuserpass": ""}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "image" / "accounts.py"],
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert hashed_accounts(done.stdout) == {"echopub": done.stdout}
    assert "frogs" not in done.stdout + done.stderr
    assert "WARNING: passwords were set as build arguments (pubuserpass)" in done.stderr


def test_everything_that_compose_runs_is_confined_and_limited() -> None:
    assert set(COMPOSE["services"]) == {"broker", "ingestion", "prometheus"}
    for service in COMPOSE["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert not service["image"].endswith(":latest")
        for port in service["ports"]:
            assert port.startswith(("127.0.0.1:", "${LISTEN:-127.0.0.1}:"))


def test_compose_has_its_passwords_from_files() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"secrets/{name}"}
    for service in COMPOSE["services"].values():
        for setting, value in service.get("environment", {}).items():
            assert "PASSWORD" not in setting or value.startswith("/run/secrets/")
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
