"""A clip is shown with its frequencies and its time, plays, and is the file that was sent."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, expect

from echo_ingest.simulator.sounds import CALLS, SpeciesSound, wav
from tests.browser.forest import PREFIX, Forest
from tests.browser.tab import ZONE, tab
from tests.harness import eventually

SAMPLE_RATE_HZ = 16_000
SECONDS = 2.0

LOUDEST_HZ = """() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap((e) =>
    e instanceof HTMLCanvasElement ? [e] : e.shadowRoot ? all(e.shadowRoot) : []);
  const canvas = all(document.querySelector('.clip-spectrum')).find((e) => e.height > 100);
  if (!canvas) return null;
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  const ground = [data[0], data[1], data[2]];
  let [loudest, most] = [0, 0];
  for (let y = 0; y < height; y++) {
    let sum = 0;
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) sum += Math.abs(data[at + c] - ground[c]);
    }
    if (sum > most) [loudest, most] = [y, sum];
  }
  return most ? (1 - (loudest + 0.5) / height) : null;
}"""


def publish_clip(forest: Forest, call: SpeciesSound) -> tuple[int, bytes]:
    """Publish a clip of `call` from a node; return the offset of its record, and its bytes."""
    clip = wav(call, SECONDS, SAMPLE_RATE_HZ, Random(call.species))
    digest = hashlib.sha256(clip).hexdigest()
    forest.hear("creek-03", call.species, audioClip=base64.b64encode(clip).decode())

    def newest() -> int | None:
        (record,) = forest.harness.http("/api/records?node=creek-03&kind=detection&limit=1")[1][
            "records"
        ]
        is_it = record["record"].get("clip", {}).get("sha256") == digest
        return record["offset"] if is_it else None

    return eventually(newest) or 0, clip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("call", [CALLS[1], CALLS[5]], ids=lambda call: call.species)
def test_a_spectrogram_has_the_call_where_it_is(
    browser: Browser, forest: Forest, call: SpeciesSound, dark: bool
) -> None:
    offset, _ = publish_clip(forest, call)
    with tab(browser, forest.origin, dark=dark) as one:
        one.open(f"/console/calls/{offset}")
        share: Any = one.page.wait_for_function(LOUDEST_HZ).json_value()
        hertz = share * SAMPLE_RATE_HZ / 2
        low, high = sorted((call.start_hz, call.end_hz))
        assert low - 150 < hertz < high + 150
        expect(one.page.locator(".clip-unit")).to_have_text("kHz")


def test_a_call_is_marked_where_it_is_in_a_recording(browser: Browser, forest: Forest) -> None:
    began_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    guano = f"GUANO|Version: 1.0\nTimestamp: {began_at.isoformat()}"
    clip = wav(CALLS[1], 20.0, 8_000, Random(2), guano)
    forest.device().publish([(f"{PREFIX}/swamp-02/recording", clip)])
    forest.hear("swamp-02", CALLS[1].species, timestamp=began_at.timestamp() + 5)
    path = "/console/calls?node=swamp-02"
    eventually(lambda: "♪" in forest.harness.http_bytes(path).decode())
    with tab(browser, forest.origin) as one:
        one.open(path)
        one.page.locator("#list a i").first.click()
        mark = one.page.locator(".clip-mark.is-this")
        expect(mark).to_have_text(CALLS[1].species)
        whole, marked = (one.page.locator(".clip-view").bounding_box(), mark.bounding_box())
        assert whole is not None and marked is not None
        assert (marked["x"] - whole["x"]) / whole["width"] == pytest.approx(5 / 20, abs=0.01)
        local = began_at.astimezone(ZoneInfo(ZONE))
        expect(one.page.locator(".clip-times span").first).to_contain_text(f"{local:%H:%M:%S %Z}")


def test_a_clip_plays_and_can_be_downloaded(
    browser: Browser, forest: Forest, tmp_path: Path
) -> None:
    offset, clip = publish_clip(forest, CALLS[0])
    with tab(browser, forest.origin) as one:
        one.open(f"/console/calls/{offset}")
        one.page.get_by_role("slider").press(" ")
        one.page.wait_for_function("() => document.querySelector('audio').currentTime > 0.2")
        with one.page.expect_download() as downloading:
            one.page.get_by_role("link", name="Download", exact=True).click()
        downloading.value.save_as(tmp_path / "clip.wav")
        assert (tmp_path / "clip.wav").read_bytes() == clip
