"""Passwords given to a build: they let in who knows them, and are nowhere to be found."""

import base64
import gzip
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from tests.harness import Device, eventually
from tests.image.conftest import Start
from tests.image.container import Container, detections
from tests.image.engine import ROOT, build_options, docker

NO_PASSWORDS = {"IOT_PUB_PASSWORD": "", "IOT_SUB_PASSWORD": ""}


class Built(Struct, frozen=True):
    """An image that was built with passwords, and what the build said."""

    tag: str
    words: dict[str, str]
    output: str


@pytest.fixture(scope="module")
def build(image: str) -> Iterator[Callable[..., Built]]:
    """Build images with a command as people type it, and remove them."""
    tags = []

    def build(words: dict[str, str], *options: str) -> Built:
        tags.append(f"{image}:{secrets.token_hex(4)}")
        done = docker(
            *("build", ".", "-t", tags[-1], *options),
            *("--progress", "plain", *build_options()),
            seconds=600,
            folder=ROOT,
        )
        return Built(tags[-1], words, done.stdout + done.stderr)

    yield build
    for tag in tags:
        docker("image", "rm", tag)


@pytest.fixture(scope="module")
def by_argument(build: Callable[..., Built]) -> Built:
    """Build the image as users of the earlier image type it."""
    words = {name: secrets.token_urlsafe(12) for name in ("pubuserpass", "subuserpass")}
    options = [w for name, word in words.items() for w in ("--build-arg", f"{name}={word}")]
    return build(words, *options)


@pytest.fixture(scope="module")
def by_secret(build: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the image with secrets in files, and with one argument that must not count."""
    folder = tmp_path_factory.mktemp("secrets")
    words = {name: secrets.token_urlsafe(12) for name in ("pubuserpass", "subuserpass")}
    options = ["--no-cache-filter", "accounts", "--build-arg", "pubuserpass=of-the-argument"]
    for name, word in words.items():
        (folder / name).write_text(f"{word}\n")
        options += ["--secret", f"id={name},src={folder / name}"]
    return build(words, *options)


def test_arguments_let_in_who_knows_them_and_the_build_names_better_ways(
    by_argument: Built, container: Start
) -> None:
    harness = container(of=by_argument.tag, **NO_PASSWORDS)
    harness.begin()
    assert lets_in(harness, "echopub", by_argument.words["pubuserpass"])
    assert lets_in(harness, "echosub", by_argument.words["subuserpass"])
    assert not lets_in(harness, "echopub", by_argument.words["subuserpass"])
    for better in ("WARNING", "--secret id=pubuserpass", "IOT_PUB_PASSWORD_FILE"):
        assert better in by_argument.output


def test_secrets_count_more_than_arguments_and_make_no_warning_of_their_own(
    by_secret: Built, container: Start
) -> None:
    harness = container(of=by_secret.tag, **NO_PASSWORDS)
    harness.begin()
    assert lets_in(harness, "echopub", by_secret.words["pubuserpass"])
    assert not lets_in(harness, "echopub", "of-the-argument")
    assert "build arguments (pubuserpass)" in by_secret.output


def test_what_is_given_when_it_runs_counts_more(by_argument: Built, container: Start) -> None:
    harness = container(of=by_argument.tag, **NO_PASSWORDS | {"IOT_PUB_PASSWORD": "of-the-run"})
    harness.begin()
    assert lets_in(harness, "echopub", "of-the-run")
    assert not lets_in(harness, "echopub", by_argument.words["pubuserpass"])
    assert lets_in(harness, "echosub", by_argument.words["subuserpass"])


@pytest.mark.parametrize("how", ["by_argument", "by_secret"])
def test_the_words_are_nowhere_in_the_image(
    request: pytest.FixtureRequest, tmp_path: Path, how: str
) -> None:
    built: Built = request.getfixturevalue(how)
    texts = [
        docker("history", "--no-trunc", built.tag).stdout,
        docker("image", "inspect", built.tag).stdout,
    ]
    tarball = tmp_path / "image.tar"
    docker("save", "-o", str(tarball), built.tag)
    words = [*built.words.values(), "of-the-argument"]
    assert not [word for word in words if any(word in text for text in texts)]
    assert words_in(tarball, words) == set()
    # That the hashes are found, and what the history does say, shows that this looks.
    assert words_in(tarball, ["echopub:$7$"]) == {"echopub:$7$"}
    assert "HEALTHCHECK" in texts[0]


def lets_in(harness: Container, user: str, password: str) -> bool:
    device = Device(harness.mqtt_port, user, password)
    device.close()
    return not device.refused


def words_in(tarball: Path, words: list[str]) -> set[str]:
    """Return which words are in an image: in any file of any layer, also as base64."""
    needles = {word: (word.encode(), base64.b64encode(word.encode())[:-4]) for word in words}
    hits = set()
    with tarfile.open(tarball) as parts:
        for part in parts:
            file = parts.extractfile(part) if part.isfile() else None
            if file is None:
                continue
            content = file.read()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            hits |= {w for w, forms in needles.items() if any(form in content for form in forms)}
    return hits


# ---------------------------------------------------------------------- moving over


def test_it_runs_as_the_earlier_deployment_ran_it(by_argument: Built, container: Start) -> None:
    """Its image, ports, paths and environment; nothing else was set there."""
    sub_password = by_argument.words["subuserpass"]
    harness = container(
        of=by_argument.tag,
        options=(),
        **NO_PASSWORDS,
        IOT_ENDPOINT="localhost",
        IOT_TOPIC="iotingestion",
        IOT_USER="echosub",
        IOT_PASSWORD=sub_password,
    )
    harness.begin()
    assert harness.http("/")[0] == 200  # where its load balancer looks
    reader = Device(harness.ws_port, "echosub", sub_password, websocket=True)
    reader.subscribe("iotingestion")
    device = Device(harness.ws_port, password=by_argument.words["pubuserpass"], websocket=True)
    ((_, payload),) = detections("moved", 1)
    device.publish([("iotingestion", payload)])
    assert reader.received_topics(2) == ["iotingestion"]
    eventually(lambda: [record["message_id"] for record in harness.records()] == ["moved-0"])
    harness.ledger()
    checked = harness.cli("check").stdout
    assert "\u2717" not in checked, checked
    reader.close()
    device.close()
