"""The almanac: what it tells pages, and that it survives deletion, kills and a wrong journal."""

import base64
import contextlib
import functools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import apsw
import msgspec
import pytest

from echo_ingest.almanac import (
    Almanac,
    AlmanacUnready,
    CallFilter,
    Clock,
    Follower,
    NodeSummary,
    almanac_path,
    note_sample,
)
from echo_ingest.almanac.almanac_file import open_to_write
from echo_ingest.almanac.node_summaries import judged
from echo_ingest.almanac.observation import names_of, observe
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.almanac.samples import per_hour
from echo_ingest.almanac.uncoded_reasons import alike
from echo_ingest.decode import Decoder, NodeRules, Rules
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Journal, Ledger, SinkLedger
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.quality import TimeProblem
from echo_ingest.record import Clip, Detection, Health, Message, RecordId, Telemetry
from echo_ingest.simulator.sounds import CALLS, wav
from tests.harness import eventually
from tests.recount import HOUR_MS, PAYLOAD_BYTES_MAX, check
from tests.test_almanac_model import payload

NOON = datetime(2026, 9, 14, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
MINUTE_MS = 60_000


class Site:
    """A journal, and the almanac of it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.journal_path = almanac_path(folder), folder / "journal.db"
        self.nodes_path = folder / "nodes.jsonl"
        self.journal = Journal(self.journal_path)
        self.number = 0
        self.follower = self.new_follower()

    def new_follower(self) -> Follower:
        return Follower(self.path, self.journal_path, Decoder(PAYLOAD_BYTES_MAX), self.nodes_path)

    def hear(
        self,
        node: str,
        at_ms: int,
        content: dict[str, object] | bytes,
        *properties: tuple[str, str],
        waited_ms: int = 0,
    ) -> int:
        """Append a message; return the journal's newest offset."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        message = Message(f"iotingestion/{node}", body, at_ms + waited_ms, node, properties)
        self.journal.append([(message, Decoder(PAYLOAD_BYTES_MAX).identify(message))])
        return self.journal.ledger().stored

    def call(self, node: str, at_ms: int, species: str = "Ninox strenua", **more: object) -> int:
        self.number += 1
        fields = {"id": str(self.number), "sensor_id": node, "species": species, "confidence": 80}
        return self.hear(node, at_ms, {**fields, "timestamp": at_ms / 1000, **more})

    def hear_much(self, count: int) -> None:
        rng = Random(self.number)
        arrivals = []
        for _ in range(count):
            self.number += 1
            at_ms = NOON_MS + self.number * 60_000
            kind = rng.choice(("call", "call", "call", "health", "unsure"))
            body, properties = payload(kind, at_ms - rng.randrange(HOUR_MS), self.number)
            node = f"n{rng.randrange(9)}"
            message = Message(f"iotingestion/{node}", body, at_ms, node, properties)
            arrivals.append((message, Decoder(PAYLOAD_BYTES_MAX).identify(message)))
        self.journal.append(arrivals)

    def follow(self) -> Almanac:
        """Bring the almanac up to date, and open it."""
        for _ in self.follower.round():
            pass
        return Almanac(self.path)

    def check(self) -> None:
        self.follow().close()
        check(self.path, self.journal_path)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.follower.close()
    site.journal.close()


# ---------------------------------------------------------------------- answers


def steps(almanac: Almanac, ask: Callable[..., object], *asked: object) -> int:
    """Count the steps of SQLite's machine for an answer."""
    taken = 0

    def count() -> bool:
        nonlocal taken
        taken += 1
        return False

    almanac._db.set_progress_handler(count, 1)
    ask(*asked)
    almanac._db.set_progress_handler(None)
    return taken


def test_what_is_rare_costs_no_more_than_what_is_frequent(site: Site) -> None:
    """Nothing is looked at that is not shown, however long ago it was."""
    sound = base64.b64encode(wav(CALLS[0], 0.05, 8_000, Random(1))).decode()
    site.call("pond", NOON_MS - 90_000 * MINUTE_MS, "Ninox strenua", audioClip=sound)
    site.hear("pond", NOON_MS - 90_000 * MINUTE_MS, wav(CALLS[0], 0.1, 8_000, Random(1)))
    for ago in range(1_000):
        at_ms = NOON_MS - 60 * ago * MINUTE_MS
        site.call("pond", at_ms, "Litoria ewingii", audioClip=sound)
    common, rare = CallFilter(node="pond", species="Litoria ewingii"), "Ninox strenua"
    with contextlib.closing(site.follow()) as almanac:
        assert len(almanac.calls(CallFilter(species=rare))) == 1
        assert len(almanac.recordings(CallFilter())) == 1
        most = steps(almanac, almanac.calls, common)
        for wanted in (CallFilter(species=rare), CallFilter(species=rare, node="pond")):
            assert steps(almanac, almanac.calls, wanted) < most
        for wanted in (CallFilter(), CallFilter(node="pond")):
            assert steps(almanac, almanac.recordings, wanted) < most
        assert steps(almanac, almanac.nights, common, ZoneInfo("UTC"), 1) < most


def test_what_a_broken_node_sent_is_found_by_its_reason(site: Site) -> None:
    site.hear("broken", NOON_MS, b"21.4 degrees")
    site.call("broken", NOON_MS)
    for number in range(1_000):
        site.hear("broken", NOON_MS, b'{"lat": 999', waited_ms=number)
    with contextlib.closing(site.follow()) as almanac:
        (common, rare) = sorted(almanac.refused("broken"), key=lambda group: -group.count)
        assert (common.count, rare.count) == (1_000, 1)
        few = functools.partial(almanac.refused_ones, node="broken", ones_max=50)
        assert steps(almanac, few, rare) < common.count
        assert steps(almanac, few, common) < common.count


def test_the_best_call_of_a_node_is_that_of_its_nights(site: Site) -> None:
    offsets = [
        site.call("pond", NOON_MS + minute * MINUTE_MS, confidence=confidence)
        for minute, confidence in enumerate((81, 89, 85, 82))
    ]
    site.call("creek", NOON_MS, confidence=95)
    with contextlib.closing(site.follow()) as almanac:
        (night,) = almanac.nights(CallFilter(node="pond"), ZoneInfo("UTC"))
        (species,) = night.species
        assert (species.calls, species.best_confidence) == (4, 0.89)
        assert species.best_record == RecordId(offsets[1])


def test_a_node_says_how_it_is(site: Site) -> None:
    clip = wav(
        CALLS[0],
        0.1,
        8_000,
        Random(1),
        "GUANO|Version: 1.0\nFirmware Version: 1.9.2\nTemperature Int: 21.5",
    )
    site.hear("a", NOON_MS, {"sensorId": "a", "batteryPct": 71.5, "disk": 40, "cpu": 12.5})
    clip_offset = site.hear("a", NOON_MS + 1_000, clip)
    site.hear("a", NOON_MS + 2_000, b"rubbish")
    site.call("a", NOON_MS + 3_000, gps_data={"lat": -38.5, "lon": 143.5}, gps_uncertainty=9)
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node("a", NOON_MS + 4_000, NOON_MS)
        health = almanac.health("a", NOON_MS, NOON_MS + HOUR_MS)
    assert node is not None and node.place is not None and node.battery_percent is not None
    assert (node.place.latitude, node.place.uncertainty_metres) == (-38.5, 9)
    assert (node.battery_percent.value, node.battery_percent.at_ms) == (71.5, NOON_MS)
    assert node.temperature_celsius is not None and node.temperature_celsius.value == 21.5
    assert node.firmware == "1.9.2"
    assert node.last_clip == RecordId(clip_offset)
    assert (node.messages_today, node.calls_today, node.dead_letters_last_day) == (3, 1, 1)
    assert node.calls_last_hour == 1
    assert (node.first_heard_at_ms, node.last_heard_at_ms) == (NOON_MS, NOON_MS + 3_000)
    assert [each.mean for each in health.cpu_percent] == [12.5]
    assert [each.hour_ms for each in health.temperature_celsius] == [NOON_MS]


def test_records_of_the_last_hour_are_counted_by_receipt(site: Site) -> None:
    now_ms = time.time_ns() // 1_000_000
    for minutes in (0, 5, 50, 75):
        fields = {"sensorId": "a", "timestamp": now_ms - 3 * HOUR_MS, "cpu": minutes}
        site.hear("a", now_ms - minutes * MINUTE_MS, fields)
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node("a", now_ms, now_ms)
    assert node is not None and node.messages_last_hour == 3


def test_an_older_message_that_waited_changes_nothing_newer(site: Site) -> None:
    site.hear("a", NOON_MS, {"sensorId": "a", "timestamp": NOON_MS, "batteryPct": 60})
    late = {"sensorId": "a", "timestamp": NOON_MS - 5 * HOUR_MS, "batteryPct": 90}
    site.hear("a", NOON_MS + 1_000, late)
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node("a", NOON_MS, NOON_MS)
        hours = almanac.calendar("a", NOON_MS - 6 * HOUR_MS, NOON_MS + HOUR_MS)
        battery = almanac.health("a", NOON_MS - 6 * HOUR_MS, NOON_MS + HOUR_MS).battery_percent
    assert node is not None and node.battery_percent is not None
    assert node.battery_percent.value == 60
    assert [(hour.received, hour.observed) for hour in hours] == [(0, 1), (2, 1)]
    assert hours[1].most_delay_seconds == 5 * 3600 + 1
    assert [(each.hour_ms, each.mean) for each in battery] == [
        (NOON_MS - 5 * HOUR_MS, 90),
        (NOON_MS, 60),
    ]


@pytest.mark.parametrize(
    ("delays_seconds", "verdict", "least"),
    [
        ((0.5, 3600), "right", 0.5),
        ((-40, 900), "ahead", -40),
        ((700, 900), "late or behind", 700),
    ],
)
def test_a_clock_is_judged_by_the_message_that_waited_least(
    site: Site, delays_seconds: tuple[float, ...], verdict: str, least: float
) -> None:
    for seconds in delays_seconds:
        stamp = NOON_MS / 1000 - seconds
        site.hear("a", NOON_MS, {"sensorId": "a", "timestamp": stamp, "cpu": 1})
    site.hear("a", NOON_MS, {"sensorId": "a", "cpu": 2})
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node("a", NOON_MS, NOON_MS)
    assert node is not None and node.clock is not None
    assert (node.clock.verdict, node.clock.least_delay_seconds) == (verdict, least)


def test_nodes_are_found_ordered_and_counted(site: Site) -> None:
    site.nodes_path.write_text(
        '{"name":"new","made_at":"2026-09-14T05:45:12Z","hash":null}\n'
        '{"name":"off","made_at":"2026-09-14T05:45:12Z","hash":null,"disabled":true}\n'
    )
    for number, minutes in enumerate((0, 30, 90, 60 * 30)):
        at_ms = NOON_MS - minutes * MINUTE_MS
        fields = {"sensorId": "s", "batteryPct": [50, 20, 90, 10][number], "timestamp": at_ms}
        site.hear(f"Ridge-{number}", at_ms, fields)
    site.hear("off", NOON_MS - 2 * HOUR_MS, {"sensorId": "s", "cpu": 1})
    with contextlib.closing(site.follow()) as almanac:

        def names(**asked: object) -> list[str]:
            return [node.name for node in almanac.nodes(NOON_MS, NOON_MS, **asked).nodes]  # type: ignore[arg-type]

        assert names() == ["Ridge-0", "Ridge-1", "Ridge-2", "Ridge-3", "new", "off"]
        assert names(text="ridge-2") == ["Ridge-2"]
        assert names(order="battery")[:4] == ["Ridge-3", "Ridge-1", "Ridge-0", "Ridge-2"]
        assert names(order="battery", descending=True)[0] == "Ridge-2"
        assert names(order="last_heard", descending=True, nodes_max=2, skip=1) == [
            "Ridge-1",
            "Ridge-2",
        ]
        assert names(which="silent", order="last_heard") == ["Ridge-3", "Ridge-2"]
        assert names(which="never") == ["new"]
        assert names(which="hour") == ["Ridge-0", "Ridge-1"]
        accounts = {each.name: each.account for each in almanac.nodes(NOON_MS, NOON_MS).nodes}
        counts = almanac.count_nodes(NOON_MS)
    assert accounts["new"] == "enabled" and accounts["off"] == "disabled"
    assert accounts["Ridge-0"] is None
    assert (counts.known, counts.never) == (5, 1)
    assert (counts.heard_last_hour, counts.heard_last_day) == (2, 3)
    assert [(each.name, each.since_ms) for each in counts.silent] == [
        ("Ridge-2", NOON_MS - 90 * MINUTE_MS),
        ("Ridge-3", NOON_MS - 30 * HOUR_MS),
    ]
    site.nodes_path.unlink()
    with contextlib.closing(site.follow()) as almanac:
        assert almanac.node("new", NOON_MS, NOON_MS) is None


def test_a_call_has_the_recording_that_was_under_way_and_no_other(site: Site) -> None:
    clip = wav(CALLS[0], 2.0, 2_000, Random(1))
    began = ("recorded_at", NOON.isoformat())
    recording = site.hear("a", NOON_MS + 5_000, clip, began, ("id", "r"))
    site.hear("b", NOON_MS + 5_000, clip, ("id", "without a time of its own"))
    within, after, of_b = (
        site.call(node, NOON_MS + ms) for node, ms in (("a", 1_500), ("a", 2_000), ("b", 1_500))
    )
    unclear = site.hear("a", NOON_MS + 1_000, {"sensor_id": "s", "species": "x", "confidence": 1})
    with contextlib.closing(site.follow()) as almanac:
        clips = {
            each.record.offset: each.clip_record and each.clip_record.offset
            for each in almanac.calls(CallFilter())
        }
    assert clips == {within: recording, after: None, of_b: None, unclear: None}


def test_a_night_is_from_noon_to_noon_where_it_is_asked_for(site: Site) -> None:
    adelaide = ZoneInfo("Australia/Adelaide")  # UTC+9:30: noon there is 02:30 in UTC
    evening = datetime(2026, 9, 14, 22, tzinfo=adelaide)
    for hours in (0, 5, 13.4, 14.1):
        site.call("a", int((evening + timedelta(hours=hours)).timestamp() * 1000))
    with contextlib.closing(site.follow()) as almanac:
        nights = almanac.nights(CallFilter(), adelaide)
        in_utc = almanac.nights(CallFilter(), ZoneInfo("UTC"))
        further = almanac.nights(CallFilter(until_ms=nights[0].since_ms), adelaide)
    # 11:24 and 12:06 are 01:54 and 02:36 in UTC: noon lies in the middle of an hour.
    assert [(str(each.evening), each.species[0].calls) for each in nights] == [
        ("2026-09-15", 1),
        ("2026-09-14", 3),
    ]
    assert nights[0].since_ms == int((evening + timedelta(hours=14)).timestamp() * 1000)
    assert [(str(each.evening), each.species[0].calls) for each in in_utc] == [("2026-09-14", 4)]
    assert further == nights[1:]


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_copy_of_what_is_parked_that_is_cut_short_is_made_again(site: Site, steps: int) -> None:
    site.journal.add_sink("api")
    offset = site.call("a", NOON_MS)
    site.check()  # nothing is parked
    site.journal.settle("api", [offset], {offset: Refused("no")})
    site.journal.request_replay("api", [offset])
    with contextlib.closing(site.follower.round()) as following:
        for _ in range(steps):
            next(following, None)
    site.journal.settle("api", [offset], {})
    site.check()  # nothing is parked, as before


def test_reasons_that_differ_in_numbers_are_one(site: Site) -> None:
    site.journal.add_sink("api")
    offsets = [site.call("a", NOON_MS + n) for n in range(3)]
    words = {offset: Refused(f'422: species "x{offset}" is not known') for offset in offsets}
    site.journal.settle("api", [entry.offset for entry in site.journal.read("api", 9)], words)
    for n in range(4):
        site.hear("b", NOON_MS + n, b"node%d temp 2%d.4" % (n, n))
    site.journal.request_replay("api", offsets[:1])
    with contextlib.closing(site.follow()) as almanac:
        dead_letters, parked = almanac.refused()
        assert (
            dead_letters.sink,
            dead_letters.count,
            dead_letters.nodes,
            dead_letters.example,
        ) == (None, 4, 1, 4)
        assert (parked.sink, parked.count, parked.replay_requested) == ("api", 3, 1)
        assert parked.reason == "422: species … is not known"
        assert almanac.refused_ones(parked, ones_max=2) == [offsets[2], offsets[1]]
        assert almanac.refused(node="b") == [dead_letters]


def test_reasons_with_a_code_are_grouped_by_it_and_by_the_field(site: Site) -> None:
    for number in range(3):
        top5 = [{"label": "x", "confidence": 1}] * number + [{"label": "x", "confidence": 101}]
        site.call("a", NOON_MS + number, top5=top5)
    site.call("a", NOON_MS, confidence=120)
    site.call("b", NOON_MS, confidence=-3)
    site.call("b", NOON_MS, sampleRate=-3)
    with contextlib.closing(site.follow()) as almanac:
        groups = [(each.key, each.count, each.nodes) for each in almanac.refused()]
        titles = {each.reason for each in almanac.refused()}
    out_of_range = "confidence_out_of_range"
    assert groups == [
        (ReasonKey(code=out_of_range, field="top5[…].confidence"), 3, 1),
        (ReasonKey(code=out_of_range, field="confidence"), 2, 2),
        (ReasonKey(code="impossible_value", field="sampleRate"), 1, 1),
    ]
    assert "confidence: The confidence is out of range." in titles


def test_samples_tell_when_the_service_was_there_and_how_long_room_lasts(site: Site) -> None:
    def sample(minute: int, received: int, room_bytes: int) -> None:
        sinks = {"api": SinkLedger(received - 7, 3, 4, 0, 1.5, None)}
        ledger = Ledger(received, received, 0, 0, 0, sinks)
        gauges = ServiceGauges(
            journal_bytes=1_000,
            disk_free_bytes=10**12,
            room_bytes=room_bytes,
            broker_dropped=2,
        )
        note_sample(site.path, NOON_MS + minute * MINUTE_MS, ledger, gauges)

    site.follow().close()
    with contextlib.closing(Almanac(site.path)) as almanac:
        assert almanac.room(NOON_MS).days is None
    for hour in range(8):
        for minute in (0, 30, 59):
            # Somebody moves a large file away in the fifth hour; it fills by 1 GB a day.
            freed = 10**12 if hour >= 5 else 0
            at = hour * 60 + minute
            sample(at, 100 * at + 7, 50 * 10**9 + freed - at * 10**9 // 1_440)
    sample(0, 9_999, 0)  # the same minute again counts once
    note_sample(site.path, NOON_MS + 31 * MINUTE_MS, None, None)
    with contextlib.closing(Almanac(site.path)) as almanac:
        minutes = almanac.samples(NOON_MS, NOON_MS + HOUR_MS)
        halves = almanac.samples(NOON_MS, NOON_MS + 2 * HOUR_MS, 60)
        listening = almanac.listening(NOON_MS, NOON_MS + HOUR_MS)
        room = almanac.room(NOON_MS + 8 * HOUR_MS)
    assert [each.answered for each in minutes] == [True, True, False, True]
    assert (minutes[1].received, minutes[1].broker_dropped) == (3_007, 2)
    assert minutes[1].sinks["api"].backlog == 4
    assert minutes[2].received is None and minutes[2].sinks == {}
    assert [each.at_ms for each in halves] == [NOON_MS + m * MINUTE_MS for m in (59, 119)]
    assert (listening[0].answered_share, listening[0].minutes) == (0.75, 4)
    assert room.filling_bytes_per_day == pytest.approx(10**9, rel=0.01)
    assert room.days == pytest.approx(1050 - 479 / 1440, rel=0.01)


def test_samples_of_eight_days_are_kept_however_the_clock_leaps(site: Site) -> None:
    def sample(minute: int, room_bytes: int) -> None:
        sinks = {"api": SinkLedger(0, 0, 0, 0, 0.0, None)}
        gauges = ServiceGauges(journal_bytes=1, disk_free_bytes=2, room_bytes=room_bytes)
        ledger = Ledger(minute, minute, 0, 0, 0, sinks)
        note_sample(site.path, NOON_MS + minute * MINUTE_MS, ledger, gauges)

    site.follow().close()
    for hour in range(10):
        sample(60 * hour, 10**12 - hour * 10**9)
    with contextlib.closing(Almanac(site.path)) as almanac:
        before = almanac.samples(0, 2**44), almanac.room(NOON_MS + 10 * HOUR_MS)
    sample(10 * 525_600, 77)  # the host's clock is ahead by ten years
    sample(-60 * 1_440, 55)  # and then behind by 60 days
    with contextlib.closing(Almanac(site.path)) as almanac:
        since_ms = NOON_MS - HOUR_MS
        kept = almanac.samples(since_ms, NOON_MS + 10 * HOUR_MS)
        assert (kept, almanac.room(NOON_MS + 10 * HOUR_MS)) == before
        assert len(almanac.listening(0, 2**44)) == 12
    with contextlib.closing(open_to_write(site.path)) as db:
        first = NOON_MS // MINUTE_MS + 600
        db.execute(
            "WITH RECURSIVE later(minute) AS (SELECT ?1 UNION ALL SELECT minute + 1 FROM later"
            " WHERE minute < ?1 + 8 * 24 * 60) INSERT INTO sample (minute, answered)"
            " SELECT minute, 1 FROM later",
            (first,),
        )
    sample(20_000, 1)
    with contextlib.closing(Almanac(site.path)) as almanac:
        kept = almanac.samples(0, 2**44)
        assert len(kept) == 8 * 24 * 60 and kept[0].at_ms > first * MINUTE_MS


def node_now(site: Site, name: str) -> NodeSummary:
    """Return a node as it is seen now."""
    now_ms = time.time_ns() // 1_000_000
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node(name, now_ms, now_ms - now_ms % (24 * HOUR_MS))
    assert node is not None
    return node


def report(site: Site, at_ms: int, received_at_ms: int, battery: int) -> None:
    """Have the node `a` send its battery and its place, by its own clock."""
    site.number += 1
    fields: dict[str, object] = {
        "id": f"r{site.number}",
        "sensorId": "a",
        "batteryPct": battery,
        "timestamp": at_ms / 1000,
        "microphoneLLA": [-37.0, 140 + battery / 100, 10],
    }
    site.hear("a", at_ms, fields, waited_ms=received_at_ms - at_ms)


LEAP_MS = 10 * 365 * 24 * HOUR_MS
BACK_MS = 60 * 24 * HOUR_MS


@pytest.mark.parametrize("clock", ["the device's", "the host's"])
@pytest.mark.parametrize("steps", [100, 1])
def test_the_latest_of_a_node_survives_a_leap_of_the_clock(
    site: Site, clock: str, steps: int
) -> None:
    """With one step, the almanac follows each message by the clock that the host has then."""
    start_ms = time.time_ns() // 1_000_000 - HOUR_MS
    leaps = [0, 0, LEAP_MS, LEAP_MS, 0, -BACK_MS, -BACK_MS, 0]
    now_ms = [start_ms]
    site.follower = Follower(
        site.path, site.journal_path, Decoder(PAYLOAD_BYTES_MAX), None, lambda: now_ms[0]
    )
    expected = 0
    for number, leap_ms in enumerate(leaps):
        true_ms = start_ms + number * MINUTE_MS
        now_ms[0] = true_ms + leap_ms
        observed_ms = true_ms if clock == "the device's" and leap_ms >= 0 else now_ms[0]
        report(site, observed_ms, now_ms[0], 10 + number)
        if number % steps == 0 or number == len(leaps) - 1:
            site.follow().close()
        if leap_ms == 0:
            expected = true_ms
            node = node_now(site, "a") if steps == 1 else None
            if node is not None:
                assert node.battery_percent is not None and node.place is not None
                assert node.last_heard_at_ms == expected
                assert node.battery_percent.value == 10 + number
                assert (node.battery_percent.at_ms, node.place.at_ms) == (expected, expected)
    node = node_now(site, "a")
    assert node.battery_percent is not None and node.place is not None
    assert (node.last_heard_at_ms, node.battery_percent.value) == (expected, 17)
    assert node.place.longitude == pytest.approx(140.17)


def test_a_node_that_was_last_heard_before_a_leap_of_the_clock_is_not_dated_by_it(
    site: Site,
) -> None:
    start_ms = time.time_ns() // 1_000_000 - HOUR_MS
    for leap_ms in (0, LEAP_MS, -BACK_MS):
        report(site, start_ms + leap_ms, start_ms + leap_ms, 50)
    now_ms = start_ms - BACK_MS
    site.follower = Follower(
        site.path, site.journal_path, Decoder(PAYLOAD_BYTES_MAX), None, lambda: now_ms
    )
    site.follow().close()  # the clock is still behind
    with contextlib.closing(Almanac(site.path)) as almanac:
        node = almanac.node("a", now_ms, now_ms)
        assert node is not None and node.last_heard_at_ms == now_ms
    now_ms = start_ms + MINUTE_MS
    for _ in site.follower._mirror.last_heard(now_ms):
        pass
    with contextlib.closing(Almanac(site.path)) as almanac:
        node = almanac.node("a", now_ms, now_ms)
        assert node is not None and node.last_heard_at_ms == start_ms
        counts = almanac.count_nodes(now_ms)
        assert (counts.known, counts.heard_last_hour) == (1, 1)


def test_what_was_received_by_a_clock_that_was_ahead_is_not_of_today(site: Site) -> None:
    for at_ms in (NOON_MS, NOON_MS + LEAP_MS):
        site.call("a", at_ms)
        site.hear("a", at_ms + 1_000, b"rubbish")
    with contextlib.closing(site.follow()) as almanac:
        node = almanac.node("a", NOON_MS + MINUTE_MS, NOON_MS)
        assert node is not None
        assert (node.messages_today, node.calls_today, node.dead_letters_last_day) == (1, 1, 1)


def test_an_hour_of_a_wrong_clock_does_not_end_the_hourly_history(site: Site) -> None:
    start_ms = time.time_ns() // 1_000_000 - 5 * HOUR_MS
    for leap_ms in (0, LEAP_MS, 0):
        report(site, start_ms + leap_ms, start_ms + leap_ms, 50)
    site.follow().close()
    site.journal.trim(start_ms + MINUTE_MS)  # the record of the wrong clock is now the oldest
    with contextlib.closing(site.follow()) as almanac:
        assert [hour.received for hour in almanac.calendar("a", 0, start_ms + HOUR_MS)] == [2]


# ---------------------------------------------------------------------- clocks


def clock_of(site: Site, *delays_seconds: float, apart_minutes: int = 7) -> Clock | None:
    """Let a node send a call every few minutes, received that long after its own time."""
    first_ms = time.time_ns() // 1_000_000 - len(delays_seconds) * apart_minutes * MINUTE_MS
    for number, delay in enumerate(delays_seconds):
        received_ms = first_ms + number * apart_minutes * MINUTE_MS
        site.number += 1
        fields: dict[str, object] = {"id": f"c{site.number}", "sensor_id": "s", "species": "x"}
        when = datetime.fromtimestamp(received_ms / 1000 - delay, UTC).isoformat()
        fields |= {"confidence": 80, "timestamp": when}
        site.hear("a", received_ms, fields)
    return node_now(site, "a").clock


@pytest.mark.parametrize("offset_seconds", [-540.0, -5.0, 0.0, 900.0, 11 * 3_600.0, 86_400.0 * 75])
def test_a_clock_that_is_off_by_a_constant_is_known_by_all_its_messages(
    site: Site, offset_seconds: float
) -> None:
    rng = Random(int(offset_seconds))
    delays = [offset_seconds + rng.uniform(0.2, 30) for _ in range(40)]
    clock = clock_of(site, *delays)
    assert clock is not None and clock.constant_over == 40
    assert clock.ahead_seconds == pytest.approx(-min(delays), abs=0.01)


def test_a_clock_that_runs_away_or_whose_messages_waited_is_not_off_by_a_constant(
    site: Site,
) -> None:
    drifting = clock_of(site, *(600.0 + 100 * number for number in range(40)))
    assert drifting is not None and drifting.constant_over == 0


def test_messages_that_waited_do_not_hide_a_constant(site: Site) -> None:
    delays = [7_200.0] * 9 + [90_000.0, 80_000.0] + [7_200.0] * 20
    clock = clock_of(site, *delays)
    assert clock is not None and 11 <= clock.constant_over <= 29
    assert clock.ahead_seconds == pytest.approx(-7_200, abs=0.01)


def test_an_hour_in_which_messages_waited_is_passed_over() -> None:
    live, waited = (7_200_000, 7_210_000), (7_200_000, 90_000_000)
    assert judged([(3, 8, *live), (2, 8, *waited), (1, 8, *live)]).constant_over == 16
    assert judged([(3, 8, *waited), (2, 8, *live), (1, 8, *live)]).constant_over == 16
    assert judged([(3, 8, *live), (2, 8, 0, 10), (1, 8, *live)]).constant_over == 0
    assert judged([(3, 12, *live), (2, 8, 0, 10), (1, 8, *live)]).constant_over == 12


def test_a_clock_that_was_set_is_judged_by_what_it_has_said_since(site: Site) -> None:
    clock = clock_of(site, *[39_600.0] * 30, *[1.0] * 30)
    assert clock is not None and clock.verdict == "right"
    assert 15 <= clock.constant_over <= 30


def test_a_few_messages_tell_of_no_constant(site: Site) -> None:
    clock = clock_of(site, *[39_600.0] * 9)
    assert clock is not None and (clock.constant_over, clock.verdict) == (0, "late or behind")


def test_a_recording_is_late_only_from_its_end_on(site: Site) -> None:
    sound = wav(CALLS[0], 30.0, 2_000, Random(1))
    first_ms = time.time_ns() // 1_000_000 - HOUR_MS
    for number in range(12):
        at_ms = first_ms + number * MINUTE_MS
        when = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
        site.hear("a", at_ms, sound, ("recorded_at", when), ("id", f"{number}"), waited_ms=31_000)
    clock = node_now(site, "a").clock
    assert clock is not None and clock.ahead_seconds == -1
    assert (clock.verdict, clock.constant_over) == ("right", 12)


NOT_BELIEVED = [
    (TimeProblem.AFTER_RECEIPT, "2026-11-29T12:00:00+00:00", True),
    (TimeProblem.AFTER_RECEIPT, "2037-11-29T10:00:00+11:00", True),
    (TimeProblem.BEFORE_FIRST_DAY, "2011-03-01T00:00:00Z", True),
    (TimeProblem.GPS_WEEK_ROLLOVER, "2007-04-15T11:00:00Z", True),
    (TimeProblem.AFTER_RECEIPT, "2026-11-29T22:00:00", False),
    (TimeProblem.AFTER_RECEIPT, "no time at all", False),
    (TimeProblem.CLOCK_NOT_SET, "2000-01-01T00:01:00Z", False),
    (TimeProblem.OTHER_START, "849265200", False),
    (TimeProblem.ZONE_UNKNOWN, "2026-11-29T22:00:00", False),
    (None, None, False),
]
RECEIVED_AT = datetime(2026, 11, 29, 11, tzinfo=UTC)
RECEIVED_MS = int(RECEIVED_AT.timestamp() * 1000)


def delay_of(words: str | None, rules: Rules, **fields: object) -> int | None:
    """Return what a record tells of the clock with which its device wrote `words`."""
    given = {"observed_at": RECEIVED_AT, "time_source": "received", **fields}
    record = Telemetry(
        form="status",
        message_id=None,
        node="a",
        sensor_id=None,
        device_time=words,
        health=Health(),
        **given,  # type: ignore[arg-type]
    )
    return observe(record, RECEIVED_MS, rules).delay_ms


@pytest.mark.parametrize(("problem", "words", "tells"), NOT_BELIEVED)
def test_what_a_device_wrote_and_nobody_believed_still_tells_of_its_clock(
    problem: TimeProblem | None, words: str | None, tells: bool
) -> None:
    delay_ms = delay_of(words, Rules(), time_problem=problem)
    if tells and words is not None:
        written = datetime.fromisoformat(words)
        assert delay_ms == RECEIVED_MS - int(written.timestamp() * 1000)
    else:
        assert delay_ms is None


def test_a_time_without_a_zone_is_measured_where_the_zone_is_known() -> None:
    rules = Rules(zone=ZoneInfo("Australia/Melbourne"))
    problem = TimeProblem.AFTER_RECEIPT
    assert delay_of("2026-11-29T23:00:00", rules, time_problem=problem) == -3_600_000


def test_a_time_that_was_corrected_is_measured_as_the_device_wrote_it() -> None:
    rules = Rules(nodes={"a": NodeRules(clock_ahead_seconds=39_600)})
    delay_ms = delay_of(
        "2026-11-29T21:59:58Z",
        rules,
        time_problem=TimeProblem.CORRECTED,
        time_source="device",
        observed_at=RECEIVED_AT - timedelta(seconds=2),
    )
    assert delay_ms == 2_000 - 39_600_000


# ---------------------------------------------------------------------- confidence, and no animals


@pytest.mark.parametrize(
    ("confidences", "flagged"),
    [
        ([0.86] * 10, True),
        ([0.001, 1] * 5, True),
        ([0.86] * 9, False),
        ([0.86] * 10 + [1.2], False),
        ([80.0] * 20, False),
    ],
)
def test_a_node_that_only_ever_sends_fractions_is_known(
    site: Site, confidences: list[float], flagged: bool
) -> None:
    for number, confidence in enumerate(confidences):
        site.call("a", NOON_MS + number, confidence=confidence)
        site.call("well", NOON_MS + number, confidence=63.64)
    assert node_now(site, "a").sends_fractions == flagged
    with contextlib.closing(site.follow()) as almanac:
        senders = [(each.name, each.detections) for each in almanac.fraction_senders()]
    assert senders == ([("a", len(confidences))] if flagged else [])


def test_what_is_no_animal_is_no_call(site: Site) -> None:
    """It is kept as a clip, and counts as a record of its node."""
    record = Detection(
        form="edge-prediction",
        message_id=None,
        node="a",
        sensor_id=None,
        observed_at=NOON,
        time_source="device",
        species="Engine",
        observation_type="vehicle",
        confidence=0.9,
        clip=Clip(
            container="wav",
            size_bytes=1,
            sha256="0",
            sample_rate_hz=8_000,
            channels=1,
            duration_seconds=2.0,
        ),
    )
    seen = observe(record, NOON_MS, Rules())
    assert seen.call is None and seen.confidence == 0.9
    assert seen.clip is not None and seen.clip.is_named
    animal = observe(msgspec.structs.replace(record, observation_type="animal"), NOON_MS, Rules())
    assert animal.call is not None and animal.call.species == "Engine"


NO_ANIMALS = ("nocall", "noise", "Noise", "Engine", "ENGINE", "Human vocal", "human vocal", "Gun")


def test_labels_that_are_no_animals_are_in_no_list_of_species_and_in_no_night(site: Site) -> None:
    sound = base64.b64encode(wav(CALLS[0], 1.0, 8_000, Random(1))).decode()
    for number, label in enumerate(NO_ANIMALS):
        site.call("a", NOON_MS + number * MINUTE_MS, label, audioClip=sound)
    frog = site.call("a", NOON_MS + HOUR_MS, "Litoria ewingii")
    site.check()
    with contextlib.closing(Almanac(site.path)) as almanac:
        assert [each.record.offset for each in almanac.calls(CallFilter())] == [frog]
        assert [each.species for each in almanac.species()] == ["Litoria ewingii"]
        (night,) = almanac.nights(CallFilter(), ZoneInfo("UTC"))
        assert [(each.species, each.calls) for each in night.species] == [("Litoria ewingii", 1)]
        assert sum(hour.calls for hour in almanac.calendar("a", 0, 2**44)) == 1
        assert sum(hour.received for hour in almanac.calendar("a", 0, 2**44)) == 9
        assert almanac.recordings(CallFilter()) == []
        assert almanac.neighbours(RecordId(1)) == (None, None)
        node = almanac.node("a", NOON_MS, NOON_MS)
        assert node is not None and node.last_clip == RecordId(len(NO_ANIMALS))


def test_the_journal_is_read_again_by_other_rules_and_samples_are_kept(site: Site) -> None:
    site.hear_much(30)
    site.follow().close()
    gauges = ServiceGauges(journal_bytes=1, disk_free_bytes=2, room_bytes=3)
    note_sample(site.path, NOON_MS, Ledger(0, 0, 0, 0, 0, {}), gauges)
    rules: dict[str, NodeRules] = {}
    decoder = Decoder(PAYLOAD_BYTES_MAX, Rules(nodes=rules))
    site.follower = Follower(site.path, site.journal_path, decoder, site.nodes_path)

    def times_now() -> dict[int, int]:
        with contextlib.closing(site.follow()) as almanac:
            assert len(almanac.samples(0, 2**44)) == 1
            return {each.record.offset: each.observed_at_ms for each in almanac.calls(CallFilter())}

    site.call("n1", NOON_MS)
    before, offset = times_now(), site.journal.ledger().stored
    rules["n1"] = NodeRules(clock_ahead_seconds=60)
    after = times_now()
    assert after.keys() == before.keys() and after[offset] == before[offset] - 60_000
    del rules["n1"]
    assert times_now() == before


def test_what_an_hour_takes_is_known_after_six_whatever_a_person_does_meanwhile() -> None:
    assert per_hour({hour: 5 for hour in range(6)}) is None
    assert per_hour({hour: 5 * hour for hour in range(7)}) == 5
    assert per_hour({hour: -5 * hour for hour in (0, 1, 2, 5, 9, 10, 14)}) == -5
    by_night = {hour: sum(7 for h in range(hour) if h % 24 < 8) for hour in range(24 * 8)}
    assert per_hour(by_night) == pytest.approx(7 / 3, rel=0.1)
    removed = {hour: room + 10**6 * (hour > 50) for hour, room in by_night.items()}
    assert per_hour(removed) == pytest.approx(7 / 3, rel=0.1)


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("Turdus merula", ("Turdus merula", None)),
        ("Turdus merula_Eurasian Blackbird", ("Turdus merula", "Eurasian Blackbird")),
        ("Canis lupus dingo_Dingo", ("Canis lupus dingo", "Dingo")),
        ("Litoria_ewingii", ("Litoria_ewingii", None)),
        ("some_thing", ("some_thing", None)),
    ],
)
def test_a_label_of_birdnet_is_two_names(label: str, names: tuple[str, str | None]) -> None:
    assert names_of(label) == names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('broken JSON at byte 1,204, near "x": y"', 'broken JSON at byte 7, near "abc"'),
        ("species: the id 'a-1' was used before", "species: the id 'b-2' was used before"),
        (
            "binary data that starts with the bytes 89 50 4e 47",
            "binary data that starts with the bytes 00 ff 4e 01",
        ),
        ("confidence: 120 is out of range", "confidence: 101.5 is out of range"),
    ],
)
def test_alike_is_what_differs_in_numbers_ids_and_quotes(one: str, other: str) -> None:
    assert alike(one) == alike(other) != one
    assert alike("no MP3 here") == "no MP3 here"


# ---------------------------------------------------------------------- accidents


def test_it_may_be_deleted_damaged_and_of_another_version(site: Site) -> None:
    site.hear_much(50)
    site.check()
    site.path.unlink()
    with pytest.raises(AlmanacUnready):
        Almanac(site.path)
    site.hear_much(1)
    site.check()
    site.follower.close()
    site.path.write_bytes(b"no database, but longer than an empty file" * 100)
    site.check()
    almanac = site.follow()
    almanac.close()
    site.follower.close()
    damaged = bytearray(site.path.read_bytes())
    damaged[4096:] = bytes(len(damaged) - 4096)
    site.path.write_bytes(damaged)
    site.follower = site.new_follower()
    site.hear_much(20)
    site.check()


def test_another_journal_begins_it_anew(site: Site, tmp_path: Path) -> None:
    site.hear_much(40)
    backup = tmp_path / "backup.db"
    site.journal.close()
    shutil.copy(site.journal_path, backup)
    site.journal = Journal(site.journal_path)
    site.hear_much(40)
    site.check()
    # A backup that was written over the file is the same file, with less in it.
    site.journal.close()
    site.journal_path.write_bytes(backup.read_bytes())
    site.journal = Journal(site.journal_path)
    site.check()
    site.number = 1_000
    site.hear_much(60)
    site.check()
    site.journal.close()
    salvage(site.journal_path, "for a test")
    site.journal = Journal(site.journal_path)
    site.check()


def test_it_keeps_up_in_a_thread_and_waits_for_a_journal(tmp_path: Path) -> None:
    path, journal_path = tmp_path / "almanac.db", tmp_path / "journal.db"
    stop = threading.Event()
    thread = threading.Thread(
        target=Follower(path, journal_path, Decoder(PAYLOAD_BYTES_MAX)).run, args=(stop,)
    )
    thread.start()
    try:
        site = Site(tmp_path)

        def node_summary(name: str) -> NodeSummary | None:
            with contextlib.suppress(AlmanacUnready), contextlib.closing(Almanac(path)) as almanac:
                return almanac.node(name, NOON_MS, NOON_MS)
            return None

        for name in ("a", "b"):
            site.call(name, NOON_MS)
            eventually(functools.partial(node_summary, name))
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    site.journal.close()


@pytest.mark.parametrize("writer", ["follower", "sampling", "journal"])
def test_who_waits_to_write_lets_all_others_go_on(site: Site, writer: str) -> None:
    """The writer, in another thread, goes on too: else both would wait until one gives up."""
    site.call("a", NOON_MS)
    site.follow().close()
    site.nodes_path.write_text("")
    writers: dict[str, tuple[Path, Callable[[], object]]] = {
        "follower": (site.path, lambda: list(site.follower.round())),
        "sampling": (site.path, lambda: note_sample(site.path, NOON_MS, None, None)),
        "journal": (site.journal_path, lambda: site.call("b", NOON_MS)),
    }
    path, write = writers[writer]
    with contextlib.closing(apsw.Connection(str(path))) as other, ThreadPoolExecutor(1) as threads:
        other.execute("BEGIN IMMEDIATE")
        waiting = threads.submit(write)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        other.execute("COMMIT")
        waiting.result(timeout=20)


FOLLOW = """
import sys
from pathlib import Path
from echo_ingest.almanac import Follower, follower
from echo_ingest.decode import Decoder
follower.WRITE_RECORDS = 200
for step in Follower(Path(sys.argv[1]), Path(sys.argv[2]), Decoder(1_000_000)).round():
    print(".", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(site: Site) -> None:
    rng = Random(4)
    for _ in range(6):
        site.hear_much(1_000)
        with subprocess.Popen(
            [sys.executable, "-c", FOLLOW, site.path, site.journal_path], stdout=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            for _ in range(rng.randrange(1, 80)):
                program.stdout.readline()
            program.send_signal(signal.SIGKILL)
    with contextlib.closing(Almanac(site.path)) as almanac:
        reached = almanac.progress().offset
    assert 0 < reached < site.journal.ledger().stored
    site.check()
