"""Forms of a site: where they lie, how they are followed, and who says what is wrong with them."""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from echo_ingest.decode.forms import Forms
from echo_ingest.process.files import atomic_write
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from echo_ingest.site_decoder import decoder_of, errors_of, follow_forms, forms_of
from tests.harness import Device, Harness, eventually

TOPIC = "iotingestion/pond"
POND = """
name = "pond"
[match]
has = ["heard", "score"]
[identity]
message_id = "number"
[[record]]
kind = "detection"
species = "heard"
confidence = { from = "score", scale = "percent" }
"""
AS_FRACTION = POND.replace('"percent"', '"fraction"')
LOG = 'name = "log"\nignore = true\n[match]\ntopic = "+/+/log"\npayload = "any"\n'


def settings_in(folder: Path) -> Settings:
    return Settings.model_validate({"data_dir": folder})


def heard(number: int, score: float = 1) -> bytes:
    return json.dumps({"number": number, "heard": "Crinia signifera", "score": score}).encode()


def test_the_forms_of_a_site_lie_in_its_data_folder(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    shipped = forms_of(settings)
    assert (shipped.own_count, len(shipped.forms)) == (0, 41)
    settings.forms_path.mkdir()
    (settings.forms_path / "pond.toml").write_text(POND)
    decoded = decoder_of(settings).decode(Message(TOPIC, heard(1), 1_795_000_000_000))
    assert isinstance(decoded, tuple) and decoded[0].form == "pond"


def test_a_file_that_is_wrong_or_unreadable_is_told_and_the_others_count(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.forms_path.mkdir()
    (settings.forms_path / "pond.toml").write_text(POND)
    (settings.forms_path / "wrong.toml").write_text(POND.replace("species", "spices"))
    (settings.forms_path / "away" / "form.toml").mkdir(parents=True)
    forms = forms_of(settings)
    assert forms.own_count == 1
    told = list(errors_of(forms))
    assert any("away/form.toml, line 1: the file cannot be read" in words for words in told)
    assert any("wrong.toml, line 9: " in words for words in told)


async def test_forms_follow_their_folder_and_survive_one_that_cannot_be_used(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    folder, forms = settings.forms_path, forms_of(settings)
    following = asyncio.create_task(follow_forms(folder, forms, poll_seconds=0.005))
    file = folder / "pond.toml"

    async def until(digest: str | None) -> None:
        async with asyncio.timeout(10):
            while True:
                found = forms.named("pond")
                if (None if found is None else found.digest) == digest:
                    return
                await asyncio.sleep(0.005)

    async def logged(logs: list[Any], words: str) -> None:
        async with asyncio.timeout(10):
            while not any(each["event"] == words for each in logs):
                await asyncio.sleep(0.005)

    with capture_logs() as logs:
        folder.mkdir()
        atomic_write(file, POND.encode())
        await until(digest_of(POND))
        atomic_write(file, b"name = ")
        await logged(logs, "forms not changed")
        assert forms.errors == {} and forms.named("pond") is not None
        (wrong,) = (each for each in logs if each["event"] == "a form cannot be used")
        assert "pond.toml, line 1: " in wrong["reason"]
        atomic_write(file, AS_FRACTION.encode())
        await until(digest_of(AS_FRACTION))
        file.unlink()
        await until(None)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def digest_of(text: str) -> str:
    (form,) = Forms.of_sources([("one.toml", text.encode())]).forms
    return form.digest


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


@pytest.mark.slow
def test_a_running_service_takes_a_new_form_and_keeps_what_an_older_one_made(
    harness: Harness,
) -> None:
    program = harness.up()
    device = Device(harness.mqtt_port)
    folder = harness.data_dir / "forms.d"
    folder.mkdir()

    numbers = itertools.count(1)

    def latest(score: float) -> float:
        """Publish one more, and return its confidence."""
        device.publish([(TOPIC, heard(next(numbers), score))])
        confidence: float = harness.records()[-1]["confidence"]
        return confidence

    def ignored() -> int:
        """Publish a line of a log, and return how many were ignored."""
        device.publish([(f"{TOPIC}/log", b"[I] wifi connected")])
        count: int = harness.ledger_now()["ignored"]
        return count

    device.publish([(TOPIC, heard(0)), (f"{TOPIC}/log", b"[I] wifi connected")])
    eventually(lambda: harness.ledger_now()["dead_letters"] == 2)
    for name, text in (("pond", POND), ("log", LOG)):
        atomic_write(folder / f"{name}.toml", text.encode())
    eventually(lambda: "forms changed" in harness.log("up"))
    replayed = harness.cli("dead-letters", "replay", "--all")
    assert "1 stored, 0 duplicates, 1 ignored, 0 rejected again" in replayed.stderr
    eventually(lambda: ignored() > 1)  # another process may lag
    assert re.search(rb'outcome="ignored"} [1-9]', harness.http_bytes("/metrics"))
    atomic_write(folder / "pond.toml", b"name = ")
    eventually(lambda: "forms not changed" in harness.log("up"))
    checked = harness.cli("check")
    assert checked.returncode == 1 and "pond.toml, line 1: " in checked.stdout
    assert "a form cannot be used: " in harness.cli("status").stderr
    assert latest(50) == 0.5
    atomic_write(folder / "pond.toml", AS_FRACTION.encode())
    eventually(lambda: latest(0.25) == 0.25)
    before = harness.records()
    assert [each["confidence"] for each in before][:2] == [0.01, 0.5]
    assert harness.stop(program) == 0
    program = harness.up()
    assert harness.records() == before
    assert "ignored" in harness.cli("status").stdout
    device.close()
    assert harness.stop(program) == 0
    harness.ledger()
