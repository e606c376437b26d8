"""When it happened: every way in which devices say it, and which of them is believed."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.decode import Decoder, NodeRules, Rules
from echo_ingest.decode.times import TimeReading, place_in_time
from echo_ingest.quality import TimeProblem
from echo_ingest.record import AnyRecord, Identity, Message, Rejected, Telemetry
from tests.decode.messages import BYTES_MAX, DECODER, chunk, message, reason, record, wav
from tests.several_records import only

AT = datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC)
RECEIVED = datetime(2026, 9, 14, 5, 45, 12, 500_000, tzinfo=UTC)
LATER = datetime(2027, 1, 31, 12, tzinfo=UTC)
EARLY = Rules(first_day=date(1975, 1, 1))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("Australia/Melbourne", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe")


def status(timestamp: object) -> dict[str, object]:
    return {"sensorId": "s", "status": "online", "timestamp": timestamp}


def arrived(timestamp: object, received_at: datetime = LATER, node: str = "n1") -> Message:
    sent = message(status(timestamp), node=node)
    received_at_ms = round(received_at.timestamp() * 1000)
    return Message(sent.topic, sent.payload, received_at_ms, node=node)


def decoded(timestamp: object, rules: Rules | None = None, at: datetime = LATER) -> AnyRecord:
    result = only(Decoder(BYTES_MAX, rules or Rules()).decode(arrived(timestamp, at)))
    assert not isinstance(result, Rejected), (timestamp, result)
    return result


def assert_believed(
    timestamp: object, meant: datetime, rules: Rules | None = None, at: datetime = LATER
) -> None:
    result = decoded(timestamp, rules, at)
    assert (result.observed_at, result.time_source) == (meant, "device"), timestamp
    assert (result.time_problem, result.device_time) == (None, None)
    assert result.observed_at.tzinfo is UTC


def assert_not_believed(
    timestamp: object, problem: TimeProblem, rules: Rules | None = None, at: datetime = LATER
) -> None:
    result = decoded(timestamp, rules, at)
    assert (result.observed_at, result.time_source) == (at, "received"), timestamp
    assert (result.time_problem, result.device_time) == (problem, str(timestamp).strip())


def moments(number: int, seed: int = 1) -> Iterator[datetime]:
    """Yield moments since 2018, with microseconds."""
    rng = Random(seed)
    first = int(datetime(2018, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    last = int(LATER.timestamp()) * 1_000_000
    for _ in range(number):
        yield EPOCH + timedelta(microseconds=rng.randrange(first, last))


# ---------------------------------------------------------------------- how a time is written


@pytest.mark.parametrize(
    ("timestamp", "meant"),
    [
        ("2026-09-14T05:45:12Z", AT),
        ("2026-09-14T05:45:12z", AT),
        ("2026-09-14t05:45:12z", AT),
        ("2026-09-14 05:45:12Z", AT),
        (" 2026-09-14T05:45:12Z\n", AT),
        ("2026-09-14T15:45:12+10:00", AT),
        ("2026-09-14T15:45:12+1000", AT),
        ("2026-09-14 15:45:12 +10:00", AT),
        ("2026-09-14 05:45:12 UTC", AT),
        ("2026-09-14 05:45:12 gmt", AT),
        ("20260914T054512Z", AT),
        ("20260914_054512Z", AT),
        ("20260914_154512+1000", AT),
        ("2026-W38-1T05:45:12Z", AT),
        ("2026W381T054512Z", AT),
        ("2026-09-14T05:45:12.000001Z", AT.replace(microsecond=1)),
        ("2026-09-14T05:45:12,25Z", AT.replace(microsecond=250_000)),
        ("2026-09-14T05:45:12.899243333Z", AT.replace(microsecond=899_243)),
        ("2026-09-14T05:45Z", AT.replace(second=0)),
        (1_789_364_712, AT),
        (1_789_364_712.25, AT.replace(microsecond=250_000)),
        (1_789_364_712_250, AT.replace(microsecond=250_000)),
        ("1789364712", AT),
        ("+1789364712", AT),
        ("0001789364712", AT),
        ("1789364712.", AT),
        ("1789364712.000", AT),
        ("1789364712.25", AT.replace(microsecond=250_000)),
        ("1789364712250", AT.replace(microsecond=250_000)),
        ("2026-11-27T11:31:60.000Z", datetime(2026, 11, 27, 11, 32, tzinfo=UTC)),
        ("2026-11-26T24:00:00Z", datetime(2026, 11, 27, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_however_it_is_written(timestamp: object, meant: datetime) -> None:
    assert_believed(timestamp, meant)


def test_iso_8601_is_read_in_all_its_spellings() -> None:
    rng = Random(2)
    for number, moment in enumerate(moments(400)):
        offset = timezone(timedelta(minutes=rng.choice([0, 330, 570, 600, 660, -210, 840, -720])))
        local = moment.astimezone(offset)
        zone = f"{local:%z}" if number % 2 else local.isoformat()[-6:]
        day = rng.choice([f"{local:%Y-%m-%d}", f"{local:%Y%m%d}"])
        clock = f"{local:%H:%M:%S}" if "-" in day else f"{local:%H%M%S}"
        if "-" not in day:
            zone = zone.replace(":", "")
        sign = rng.choice([".", ","])
        assert_believed(f"{day}T{clock}{sign}{local.microsecond:06}{zone}", moment)


def test_a_number_is_read_in_each_unit_to_the_microsecond() -> None:
    for moment in moments(400, seed=3):
        micros = (moment - EPOCH) // timedelta(microseconds=1)
        second = moment.replace(microsecond=0)
        millisecond = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        nanos = micros * 1000 + 999
        for written, meant in (
            (micros // 1_000_000, second),
            (micros // 1000, millisecond),
            (micros, moment),
            (nanos, moment),
        ):
            assert_believed(written, meant)
            assert_believed(str(written), meant)
            assert_believed(f" {written}.0 ", meant)
        assert_believed(micros / 1_000_000, moment)
        assert_believed(f"{micros // 1_000_000}.{moment.microsecond:06}", moment)
        assert_believed(micros / 1000, moment)
        assert_believed(float(micros), moment)
        nearest = decoded(float(nanos)).observed_at
        assert abs(nearest - moment) <= timedelta(microseconds=1)


def test_the_second_60_and_the_hour_24_are_the_next_minute_and_the_next_day() -> None:
    for moment in moments(200, seed=4):
        minute = moment.replace(second=0, microsecond=0)
        following = minute + timedelta(minutes=1)
        assert_believed(f"{minute:%Y-%m-%dT%H:%M}:60Z", following)
        assert_believed(f"{minute:%Y%m%dT%H%M}60Z", following)
        half = following + timedelta(seconds=0.5)
        assert_believed(f"{minute:%Y-%m-%d %H:%M}:60.500Z", half)
        midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC) + timedelta(days=1)
        for clock in ("24:00", "24:00:00", "24:00:00.000"):
            assert_believed(f"{moment:%Y-%m-%d}T{clock}Z", midnight)
            assert_believed(f"{moment:%Y-%m-%d}T{clock}+02:00", midnight - timedelta(hours=2))


@pytest.mark.parametrize(
    "form",
    ["%Y%m%d_%H%M%S", "%Y%m%d-%H%M%S", "%Y-%m-%d_%H-%M-%S", "%Y-%m-%d-%H-%M-%S", "%Y%m%d %H%M%S"],
)
def test_the_signs_of_file_names_make_a_local_time(form: str) -> None:
    for moment in moments(100, seed=5):
        second = moment.replace(microsecond=0)
        assert_believed(second.strftime(form), second, Rules(zone=ZoneInfo("UTC")))
    assert_believed("20261127_0545", datetime(2026, 11, 27, 5, 45, tzinfo=UTC), IN_UTC)
    assert_not_believed("20261127_0545", TimeProblem.ZONE_UNKNOWN)


IN_UTC = Rules(zone=ZoneInfo("UTC"))


@pytest.mark.parametrize(
    "timestamp",
    [
        "yesterday",
        "",
        " ",
        "2026-09-14",
        "2026-W38-1",
        "14/09/2026 05:45",
        "09/14/2026 05:45:12 PM",
        "2026-02-30T00:00:00",
        "2026-09-14T25:00:00Z",
        "2026-09-14T24:00:01Z",
        "2026-09-14T24:30Z",
        "2026-09-14T05:60:12Z",
        "2026-09-14T05:45:61Z",
        "2026-09-14T05:45:12 AEST",
        "2026-09-14T05:45:12+99:00",
        "2026-09-14T05:45:12+10:99",
        "20260914T054512-0960",
        "20260914-0500",
        "0001-01-01T00:00:00+10:00",
        "9999-12-31T23:59:59-10:00",
        "9999-12-31T24:00Z",
        "9999-12-31T23:59:60Z",
        "1_789_364_712",
        "20261127_05_45",
        "1.789e9",
        "0x6AA6",
        "nan",
        "inf",
        "-",
        "9" * 80,
        "²",
        "١٧٨٩٣٦٤٧١٢",
        "２０２６-09-14T05:45:12Z",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(timestamp: str) -> None:
    assert "send one like 2026-09-14T05:45:12Z" in reason(status(timestamp))


@pytest.mark.parametrize(
    "timestamp",
    [-(10**11), -(10**15), 10**20, "9" * 30, 10**30, 10**400, -(10**400), 1e300, -1e300],
)
def test_a_number_that_no_unit_makes_a_date_is_refused(timestamp: object) -> None:
    assert "is not a time between the years 1 and 9999" in reason(status(timestamp))


def test_a_date_without_separators_is_refused_in_words() -> None:
    for moment in moments(150, seed=6):
        for form, shown in (
            ("%Y%m%d", "YYYYMMDD"),
            ("%Y%m%d%H%M", "YYYYMMDDHHMM"),
            ("%Y%m%d%H%M%S", "YYYYMMDDHHMMSS"),
            ("%Y%m%d%H%M%S123", "YYYYMMDDHHMMSSmmm"),
        ):
            digits = moment.strftime(form)
            for written in (int(digits), digits, f" {digits}\t", f"{digits}.0", f"{digits}.000"):
                words = reason(status(written))
                assert f"looks like a date without separators ({shown})" in words
                assert f"send {moment:%Y-%m-%d}T" in words
            if len(digits) < 16:
                assert "without separators" in reason(status(float(digits)))
    assert "send 2026-11-27T05:45:00Z or seconds" in reason(status(202611270545))
    for edge in (19700101, 21051231, 202611272400, 20261127240000, 20261127235960):
        assert "looks like a date without separators" in reason(status(edge))


@pytest.mark.parametrize(
    "number",
    [19691231, 21060101, 20261301, 20260230, 20260100, 2026091, 202609141, 202609142560],
)
def test_a_number_that_is_no_date_is_a_count(number: int) -> None:
    assert "without separators" not in str(decoded(number))


# ---------------------------------------------------------------------- what is believed


def test_without_a_time_the_receipt_counts_and_nothing_is_wrong() -> None:
    for fields in (status(None), {"sensorId": "s", "status": "online"}):
        result = record(Telemetry, message(fields))
        assert (result.observed_at, result.time_source) == (RECEIVED, "received")
        assert (result.time_problem, result.device_time) == (None, None)


@pytest.mark.parametrize(
    "timestamp",
    [
        *(0, 17.5, "0", -5, -0.0, 31_535_999, 46_353.24, "46353.24", 5_000_000),
        *("1970-01-01T00:03:20", "1970-01-01T00:00:00+10:00", "1969-12-31 23:59", "1970-12-31T12Z"),
        *("1904-01-01T00:00:00Z", "1900-01-01T00:00:00", "1601-01-01T00:00:00Z", -2_208_988_800),
        *("0001-01-01T00:00:00", "0001-01-01T00:00:00-10:00"),
    ],
)
def test_a_time_up_to_1970_is_that_of_a_clock_that_was_never_set(timestamp: object) -> None:
    assert_not_believed(timestamp, TimeProblem.CLOCK_NOT_SET)
    early = Rules(zone=ZoneInfo("Australia/Melbourne"), first_day=date(1, 1, 1))
    assert_not_believed(timestamp, TimeProblem.CLOCK_NOT_SET, early)


STARTS = [datetime(*day, tzinfo=UTC) for day in ((1980, 1, 1), (1980, 1, 6), (2000, 1, 1))]
STARTS.append(datetime(2010, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("start", STARTS)
def test_a_day_from_where_clocks_start_is_not_believed(start: datetime) -> None:
    for minutes in range(0, 24 * 60, 37):
        moment = start + timedelta(minutes=minutes)
        second = int(moment.timestamp())
        for written in (f"{moment:%FT%TZ}", second, second * 1000):
            assert_not_believed(written, TimeProblem.CLOCK_NOT_SET)
            assert_not_believed(written, TimeProblem.CLOCK_NOT_SET, EARLY)
        for zone in ("+10:00", "-09:00"):  # the clock on the device says it, wherever that is
            assert_not_believed(f"{moment:%FT%T}{zone}", TimeProblem.CLOCK_NOT_SET, EARLY)
        assert_not_believed(f"{moment:%FT%T}", TimeProblem.CLOCK_NOT_SET, EARLY)
    for outside in (start - timedelta(seconds=1), start + timedelta(days=1)):
        assert_not_believed(f"{outside:%FT%TZ}", TimeProblem.BEFORE_FIRST_DAY)
        assert_believed(f"{outside:%FT%TZ}", outside, EARLY)


def test_nothing_is_believed_before_the_first_day() -> None:
    for first_day in (date(2015, 1, 1), date(2009, 7, 1), date(2024, 2, 29)):
        rules = Rules(first_day=first_day)
        midnight = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC)
        assert_believed(f"{midnight:%FT%TZ}", midnight, rules)
        for hours in range(1, 200):
            before = midnight - timedelta(hours=hours, seconds=-1)
            assert_not_believed(f"{before:%FT%TZ}", TimeProblem.BEFORE_FIRST_DAY, rules)


def test_nothing_is_believed_after_receipt_but_for_a_tolerance() -> None:
    rng = Random(7)
    for received_at in moments(200, seed=8):
        received_at = received_at.replace(microsecond=0)
        last = received_at + timedelta(minutes=10)
        result = decoded(f"{last:%FT%TZ}", at=received_at)
        assert (result.observed_at, result.time_problem) == (last, None)
        beyond = last + timedelta(seconds=rng.choice([1, 60, 3_600, 40_000, 10**8]))
        for written in (f"{beyond:%FT%TZ}", int(beyond.timestamp())):
            assert_not_believed(written, TimeProblem.AFTER_RECEIPT, at=received_at)


@pytest.mark.parametrize(
    "timestamp",
    [
        *("2036-02-07T06:28:16Z", 2_085_996_714, "2056-11-28T21:46:55Z", "2038-01-19T03:14:07Z"),
        *("2106-02-07T06:28:15Z", 4_294_967_295, "9999-12-31T23:59:59Z", "2999-01-01T00:00:00"),
        *("9999-12-31T23:59:59", 99_999_999_999, 99_999_999_999_999, 5e9, "99999999999999999"),
        "2027-02-02T09:00:00",
    ],
)
def test_a_clock_in_the_future_is_wrong_in_every_zone(timestamp: object) -> None:
    assert_not_believed(timestamp, TimeProblem.AFTER_RECEIPT)
    for zone in ZONES:
        assert_not_believed(timestamp, TimeProblem.AFTER_RECEIPT, Rules(zone=ZoneInfo(zone)))


def test_seconds_since_other_epochs_are_not_taken_for_times() -> None:
    for moment in moments(200, seed=9):
        since_2000 = int((moment - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds())
        result = decoded(since_2000, at=moment)
        assert (result.observed_at, result.time_source) == (
            moment.replace(microsecond=result.observed_at.microsecond),
            "received",
        )
        starts = moment.strftime("%m%d") == "0101" and moment.year in (2030, 2040)
        problem = TimeProblem.CLOCK_NOT_SET if starts else TimeProblem.OTHER_START
        assert result.time_problem == problem
        since_1900 = int((moment - datetime(1900, 1, 1, tzinfo=UTC)).total_seconds())
        assert decoded(since_1900, at=moment).time_problem == TimeProblem.OTHER_START
        for day in (1, 6):
            for waited in (0, 3_600, 86_000):
                since_1980 = int((moment - datetime(1980, 1, day, tzinfo=UTC)).total_seconds())
                for unit in (1, 1000):
                    count = (since_1980 - waited) * unit
                    for written in (count, str(count)):
                        assert decoded(written, at=moment).time_source == "received"
        for start in (1900, 2000):
            count = int((moment - datetime(start, 1, 1, tzinfo=UTC)).total_seconds())
            waited, long_waited = count - 30 * 86_400 + 60, count - 31 * 86_400
            recent = decoded(waited, at=moment).time_problem
            assert recent in (TimeProblem.OTHER_START, TimeProblem.CLOCK_NOT_SET)
            later = decoded(long_waited, at=moment).time_problem
            assert later not in (None, TimeProblem.OTHER_START)
        ten_years_ago = moment - timedelta(days=3_652)
        assert_believed(f"{ten_years_ago:%FT%T.%fZ}", ten_years_ago, EARLY, moment)


def test_time_since_the_start_of_a_device_is_not_taken_for_a_date() -> None:
    rng = Random(10)
    for _ in range(300):
        seconds = rng.randrange(1, 365 * 86_400)
        if len(str(seconds)) != 8:
            assert_not_believed(seconds, TimeProblem.CLOCK_NOT_SET)
        hours = rng.uniform(0, 16 * 24)
        for per_hour in (3_600_000, 3_600_000_000):
            written = int(hours * per_hour)
            if len(str(written)) not in (8, 12):
                assert decoded(written).time_source == "received", written


def test_a_gps_receiver_that_lost_1024_weeks_is_known() -> None:
    rng = Random(11)
    for received_at in moments(200, seed=12):
        received_at = received_at.replace(microsecond=0)
        lost = received_at - timedelta(weeks=1024)
        for seconds in (0, 86_400, -86_400, rng.randrange(-86_400, 86_400)):
            written = f"{lost + timedelta(seconds=seconds):%FT%TZ}"
            if written.startswith(("2000-01-01", "2010-01-01")):
                continue
            for rules in (Rules(), EARLY):
                assert_not_believed(written, TimeProblem.GPS_WEEK_ROLLOVER, rules, received_at)
        outside = lost + timedelta(seconds=rng.choice([-86_401, 86_401, 10**6]))
        if outside.strftime("%m%d") != "0101":
            result = decoded(f"{outside:%FT%TZ}", EARLY, received_at)
            assert (result.observed_at, result.time_source) == (outside, "device")


def test_a_host_whose_own_clock_was_not_set_judges_no_time_as_too_late() -> None:
    unset = datetime(2000, 1, 1, 0, 5, tzinfo=UTC)
    result = decoded("2026-09-14T05:45:12Z", at=unset)
    assert (result.observed_at, result.time_source, result.time_problem) == (AT, "device", None)
    assert_not_believed("2000-01-01T00:00:05Z", TimeProblem.CLOCK_NOT_SET, at=unset)
    assert_not_believed("2007-01-01T00:00:05Z", TimeProblem.BEFORE_FIRST_DAY, at=unset)


def test_the_shortcut_judges_as_the_rules_do() -> None:
    one_by_one = Rules(first_day=date(2015, 1, 2))  # for such a day there is no shortcut
    rng = Random(17)
    for moment in moments(500, seed=18):
        ages = (0, 600, 601, -1, 86_400, 9 * 365 * 86_400 + 1, rng.randrange(-10_000, 10**9))
        for age in ages:
            shown = moment - timedelta(seconds=age)
            if shown.year >= 2016:
                for written in (f"{shown:%FT%T.%fZ}", int(shown.timestamp())):
                    assert decoded(written, at=moment) == decoded(written, one_by_one, moment)


# ---------------------------------------------------------------------- without a zone


def test_a_time_without_a_zone_is_never_taken_for_utc() -> None:
    for moment in moments(200, seed=13):
        for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y%m%dT%H%M%S", "%Y%m%d_%H%M%S"):
            if moment > LATER - timedelta(days=2):
                continue
            assert_not_believed(moment.strftime(form), TimeProblem.ZONE_UNKNOWN)


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_without_a_zone_is_in_that_of_the_site(zone: str) -> None:
    rules = Rules(zone=ZoneInfo(zone))
    for moment in moments(200, seed=14):
        second = moment.replace(microsecond=0)
        local = second.astimezone(rules.zone)
        if local.fold == 0:
            assert_believed(f"{local:%Y-%m-%d %H:%M:%S}", second, rules)
            assert_believed(f"{local:%Y%m%d_%H%M%S}", second, rules)
        assert_believed(f"{second:%FT%TZ}", second, rules)  # the zone that a device names counts
        assert_believed(int(second.timestamp()), second, rules)


@pytest.mark.parametrize("zone", ZONES)
def test_both_changes_of_summer_time_have_one_rule(zone: str) -> None:
    rules = Rules(zone=ZoneInfo(zone))
    changes = changes_of(ZoneInfo(zone), 2026)
    assert len(changes) == 2
    for change in changes:
        before = (change - timedelta(seconds=1)).astimezone(rules.zone).utcoffset()
        after = change.astimezone(rules.zone).utcoffset()
        assert before is not None and after is not None
        turned = after - before
        first = change + min(before, after)  # of the hour that is shown twice or left out
        for minutes in range(-180, 240):
            wall = (first + timedelta(minutes=minutes)).replace(tzinfo=None)
            in_the_change = timedelta(0) <= timedelta(minutes=minutes) < abs(turned)
            offset = before if in_the_change or minutes < 0 else after
            assert_believed(f"{wall:%FT%T}", (wall - offset).replace(tzinfo=UTC), rules)


def changes_of(zone: ZoneInfo, year: int) -> list[datetime]:
    """Return the moments of a year at which the offset of a zone changes."""
    minutes = (datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(17_520))
    found, last = [], None
    for moment in minutes:
        offset = moment.astimezone(zone).utcoffset()
        if last is not None and offset != last:
            found.append(moment)
        last = offset
    return found


def test_a_time_of_any_zone_is_before_the_first_day_only_if_it_is_in_every_zone() -> None:
    for hours in range(48):
        shown = datetime(2014, 12, 30, 20) + timedelta(hours=hours)
        in_the_west = shown + timedelta(hours=12)
        early = in_the_west < datetime(2015, 1, 1)
        problem = TimeProblem.BEFORE_FIRST_DAY if early else TimeProblem.ZONE_UNKNOWN
        assert_not_believed(f"{shown:%FT%T}", problem)
        shown = LATER.replace(tzinfo=None) + timedelta(hours=hours, minutes=5)
        too_late = hours > 14
        problem = TimeProblem.AFTER_RECEIPT if too_late else TimeProblem.ZONE_UNKNOWN
        assert_not_believed(f"{shown:%FT%T}", problem)


def test_properties_and_files_go_by_the_same_rule() -> None:
    melbourne = Rules(zone=ZoneInfo("Australia/Melbourne"))
    guano = chunk(b"guan", b"GUANO|Version: 1.0\nTimestamp: 20260914_154512")
    by_property = message(wav(), (("recorded_at", "2026-09-14 15:45:12"),))
    by_file = message(wav(guano))
    for sent in (by_property, by_file):
        placed = only(Decoder(BYTES_MAX, melbourne).decode(sent))
        assert not isinstance(placed, Rejected)
        assert (placed.observed_at, placed.time_source) == (AT, "device")
        unknown = only(DECODER.decode(sent))
        assert not isinstance(unknown, Rejected)
        assert (unknown.observed_at, unknown.time_problem) == (RECEIVED, TimeProblem.ZONE_UNKNOWN)
        assert unknown.device_time in ("2026-09-14 15:45:12", "20260914_154512")


def test_the_first_time_that_is_believed_counts() -> None:
    comment = b"Recorded at 05:45:12 14/09/2026 (UTC) by AudioMoth 24A04F085FDF1234"
    notes = chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment))
    for unbelieved in ("1970-01-01T00:00:07Z", "2036-02-07T06:28:16Z", "2026-09-14 15:45:12"):
        result = only(DECODER.decode(message(wav(notes), (("recorded_at", unbelieved),))))
        assert not isinstance(result, Rejected)
        assert (result.observed_at, result.time_problem) == (AT, None)
        result = only(DECODER.decode(message(wav(), (("recorded_at", unbelieved),))))
        assert not isinstance(result, Rejected)
        assert (result.observed_at, result.device_time) == (RECEIVED, unbelieved)


def test_where_no_time_is_believed_the_first_says_why_in_its_own_words() -> None:
    unset = TimeReading(datetime(2000, 1, 1, tzinfo=UTC), " \x1b[31m" + "x" * 100)
    future = TimeReading(datetime(2036, 2, 7, tzinfo=UTC), "2036")
    for first, second in ((unset, future), (future, unset)):
        placed = place_in_time((first, second), arrived(None), Rules())
        assert (placed["observed_at"], placed["time_source"]) == (LATER, "received")
        words = "2036" if first is future else "·[31m" + "x" * 59
        problem = TimeProblem.AFTER_RECEIPT if first is future else TimeProblem.CLOCK_NOT_SET
        assert (placed["time_problem"], placed["device_time"]) == (problem, words)


# ---------------------------------------------------------------------- a clock that is off


@pytest.mark.parametrize("ahead", [3_600, -36_000, 0.5, 10**9, -(10**8)])
def test_a_clock_that_is_known_to_be_off_is_corrected_and_says_so(ahead: float) -> None:
    rules = Rules(
        zone=ZoneInfo("Europe/Berlin"), nodes={"n1": NodeRules(clock_ahead_seconds=ahead)}
    )
    for moment in moments(100, seed=15):
        shown = moment + timedelta(seconds=ahead)
        for written in (
            f"{shown:%FT%T.%fZ}",
            (shown - EPOCH) // timedelta(microseconds=1),
        ):
            if isinstance(written, int) and len(str(written)) < 15:
                continue
            result = decoded(written, rules)
            assert (result.observed_at, result.time_source) == (moment, "device")
            assert result.time_problem == TimeProblem.CORRECTED
            assert result.device_time == str(written)
    other = only(Decoder(BYTES_MAX, rules).decode(arrived("2026-09-14T05:45:12Z", node="n2")))
    assert not isinstance(other, Rejected)
    assert (other.observed_at, other.time_problem) == (AT, None)


def test_a_corrected_time_is_still_held_against_the_limits() -> None:
    rules = Rules(nodes={"n1": NodeRules(clock_ahead_seconds=3_600)})
    assert_not_believed("2036-02-07T06:28:16Z", TimeProblem.AFTER_RECEIPT, rules)
    assert_not_believed("2015-01-01T00:30:00Z", TimeProblem.BEFORE_FIRST_DAY, rules)
    assert_not_believed("2026-09-14T05:45:12", TimeProblem.ZONE_UNKNOWN, rules)
    assert_not_believed("0001-01-01T00:00:00", TimeProblem.CLOCK_NOT_SET, rules)
    far = Rules(nodes={"n1": NodeRules(clock_ahead_seconds=-1e15)})
    assert_not_believed("2026-09-14T05:45:12Z", TimeProblem.AFTER_RECEIPT, far)


# ---------------------------------------------------------------------- which message it is


def test_which_message_it_is_depends_on_nothing_but_the_message() -> None:
    sites = (
        Rules(),
        Rules(zone=ZoneInfo("Australia/Melbourne"), first_day=date(1990, 1, 1)),
        Rules(nodes={"n1": NodeRules(clock_ahead_seconds=-7_200)}),
    )
    for moment in moments(100, seed=16):
        second = int(moment.timestamp())
        for written in (f"{moment:%FT%TZ}", f"{moment:%FT%T}", second, second * 1000, str(second)):
            identities = {
                Decoder(BYTES_MAX, rules).identify(arrived(written, at))
                for rules in sites
                for at in (LATER, moment, datetime(2000, 1, 1, tzinfo=UTC))
            }
            assert identities == {Identity("telemetry", second, None, "s")}


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (None, 0),
        (0, 0),
        (-5, 0),
        ("1970-12-31T23:59:59Z", 0),
        ("1971-01-01T05:00:00+10:00", 0),
        ("1971-01-01T00:00:00", 31_536_000),
        ("2000-01-01T00:00:05Z", 946_684_805),
        ("2036-02-07T06:28:16Z", 2_085_978_496),
        ("2106-02-07T06:28:15Z", 2**32 - 1),
        ("9999-12-31T23:59:59Z", 2**32 - 1),
        (99_999_999_999, 2**32 - 1),
        ("0001-01-01T00:00:00", 0),
    ],
)
def test_the_second_that_was_written_identifies_a_message_believed_or_not(
    timestamp: object, seconds: int
) -> None:
    identity = DECODER.identify(message(status(timestamp)))
    assert identity == Identity("telemetry", seconds, None, "s")
    assert identity.is_certain == (seconds > 0)
