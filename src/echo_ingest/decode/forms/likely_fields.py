"""What the keys of a payload are likely to mean, for the first draft of a form.

Names are compared in small letters without other signs: `Sci-Name` is `sciname`. The first names of
a field are the surer ones.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from echo_ingest.decode import times
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.values import decimal

SCIENTIFIC = re.compile(r"[A-Z][a-z]+ [a-z]{3,}(?: [a-z]+)?")
LATIN = re.compile(r"[A-Z][a-z]+(?: [a-z]+(?:a|ae|i|is|ns|or|um|us|x)){1,2}")
"""So many scientific names end that the name of the field need not say it."""
CLIP_OPENINGS = ("UklGR", "ZkxhQ", "T2dnU", "SUQz")
"""WAV, FLAC, Ogg and MP3 in base64."""
CLIP_CHARACTERS_MIN = 64
TIME_FORMATS = tuple(
    f"{day} {clock}"
    for day in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y")
    for clock in ("%H:%M:%S", "%H:%M")
)
"""How else devices write times; the first that fits is taken."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "species": (
        *("scientificname", "sciname", "speciesscientific", "latinname", "latin", "binomial"),
        *("species", "speciesname", "taxon", "sp", "label", "class", "classname", "prediction"),
    ),
    "common_name": ("commonname", "comname", "vernacularname", "englishname", "common"),
    "confidence": (
        *("confidence", "score", "probability", "prob", "conf", "confidencescore", "certainty"),
        *("detprob", "classprob", "likelihood"),
    ),
    "observed_at": (
        *("observedat", "detectedat", "recordedat", "timestamp", "datetime", "time", "begintime"),
        *("starttime", "createdon", "createdat", "timestamputc", "ts", "utc", "when", "heardat"),
        *("started", "startedat", "start", "begin", "date", "epoch", "t"),
        *("senton", "sentat", "receivedat"),
    ),
    "offset_seconds": (
        *("offset", "offsetseconds", "starts", "startsec", "startseconds", "begintimes"),
        *("startoffset", "starttime", "start", "begin", "at"),
    ),
    "end_offset_seconds": (
        *("ends", "endsec", "endseconds", "endtimes", "endoffset", "endtime", "end"),
    ),
    "duration_seconds": ("durationseconds", "duration", "durations", "dur", "lengthseconds"),
    "low_hz": ("lowhz", "lowfreq", "lowfreqhz", "minfreq", "freqmin", "fmin", "lowfrequency"),
    "high_hz": ("highhz", "highfreq", "highfreqhz", "maxfreq", "freqmax", "fmax", "highfrequency"),
    "latitude": ("latitude", "lat", "gpslat"),
    "longitude": ("longitude", "lon", "lng", "long", "gpslon", "gpslng"),
    "altitude_metres": ("altitude", "alt", "elevation"),
    "node": (
        *(
            "node",
            "nodeid",
            "nodename",
            "station",
            "stationid",
            "device",
            "deviceid",
            "devid",
            "dev",
        ),
        *(
            "devicename",
            "deveui",
            "recorder",
            "recorderid",
            "hostname",
            "host",
            "box",
            "site",
            "dev",
        ),
    ),
    "sensor_id": ("sensor", "sensorid", "serial", "serialnumber", "mac", "mic", "microphone"),
    "message_id": ("id", "uuid", "guid", "messageid", "msgid", "eventid", "detectionid"),
    "model": ("model", "modelname", "classifier", "algorithm", "namemodel", "modelversion"),
    "clip": ("clip", "audio", "audioclip", "audiofile", "wav", "recording", "data"),
    "clip_reference": ("clipname", "filename", "file", "audiopath", "path", "clipurl", "audiourl"),
    "status": ("status", "state"),
    "battery_percent": (
        *("batterypercent", "batterypct", "batterylevel", "battery", "batt", "batpct", "bat"),
    ),
    "temperature_celsius": ("temperaturecelsius", "temperature", "temp", "tempc"),
    "cpu_percent": ("cpupercent", "cpu", "cpuload", "cpuusage"),
    "memory_percent": ("memorypercent", "memory", "mem", "ram", "memoryusage"),
    "disk_percent": ("diskpercent", "disk", "diskusage"),
    "uptime_seconds": ("uptimeseconds", "uptime", "uptimes"),
}
"""Field of a form → what devices call it."""
MEASURED: Mapping[str, tuple[str, ...]] = {
    "battery_volts": (
        "batteryvolts",
        "batteryvoltage",
        "vbat",
        "battv",
        "batv",
        "vbatt",
        "voltage",
        "volts",
    ),
    "battery_millivolts": ("batterymv", "vbatmv", "battmv"),
    "humidity_percent": ("humiditypercent", "humidity", "hum", "rh", "relativehumidity"),
    "pressure_hpa": ("pressurehpa", "pressure", "barometer", "airpressure"),
    "illuminance_lux": ("lux", "illuminance", "light"),
    "sound_level_db": ("soundleveldb", "soundlevel", "spl", "laeq", "leq", "db", "dba"),
    "signal_dbm": ("rssi", "signaldbm", "signal", "rssidbm"),
    "soil_moisture_percent": ("soilmoisture", "moisture"),
    "wind_speed_metres_per_second": ("windspeed", "windms"),
}
"""Name of a measurement, with its unit at the end → what devices call it."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "species": ("species", "scientific"),
    "confidence": ("confidence", "probability", "score"),
    "observed_at": ("timestamp",),
    "latitude": ("latitude",),
    "longitude": ("longitude",),
}
"""What within a longer name says the same, though less surely."""
FOR_ANYTHING = ("name", "value", "result", "animal", "bird", "bat", "frog", "top", "best", "what")
"""Names under which a scientific name may stand too."""
ZONES = ("timezone", "tz", "zone", "tzname")
HEALTH = (
    *("status", "battery_percent", "temperature_celsius", "cpu_percent", "memory_percent"),
    *("disk_percent", "uptime_seconds"),
)


def plain(key: str) -> str:
    """Return a key in small letters, without other signs."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def number_of(value: object) -> float | None:
    """Return what can be read as a number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else None
    return decimal(value, is_degrees=False) if isinstance(value, str) and len(value) < 64 else None


def time_of(value: object) -> times.TimeReading | None:
    """Return what can be read as a time of a year that makes sense."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        reading = times.read(value, "time")
    except DecodeError:
        return None
    return reading if 2_000 <= reading.moment.year < 2_100 else None


def time_format_of(value: object) -> str | None:
    """Return in which of the other ways a time is written."""
    if not isinstance(value, str) or len(value) > times.WORDS_CHARACTERS_MAX:
        return None
    for form in TIME_FORMATS:
        try:
            datetime.strptime(value.strip(), form)
        except ValueError:
            continue
        return form
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable() and len(value) <= 256


def _is_name(value: object) -> bool:
    return _is_text(value) and time_of(value) is None and number_of(value) is None


def _is_id(value: object) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole or (_is_text(value) and time_of(value) is None)


def _between(least: float, most: float) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        number = number_of(value)
        return number is not None and least <= number <= most

    return fits


def _is_time(value: object) -> bool:
    return time_of(value) is not None or time_format_of(value) is not None


def _is_clip(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) >= CLIP_CHARACTERS_MIN
        and value.startswith(CLIP_OPENINGS)
    )


FITS: Mapping[str, Callable[[object], bool]] = {
    "species": _is_name,
    "common_name": _is_name,
    "confidence": _between(0, 255),
    "observed_at": _is_time,
    "offset_seconds": _between(0, 86_400),
    "end_offset_seconds": _between(0, 86_400),
    "duration_seconds": _between(0, 86_400),
    "low_hz": _between(0, 500_000),
    "high_hz": _between(0, 500_000),
    "latitude": _between(-90, 90),
    "longitude": _between(-180, 180),
    "altitude_metres": _between(-500, 9_000),
    "node": _is_id,
    "sensor_id": _is_id,
    "message_id": _is_id,
    "model": _is_text,
    "clip": _is_clip,
    "clip_reference": _is_name,
    "status": _is_name,
    "battery_percent": _between(0, 101),
    "temperature_celsius": _between(-60, 90),
    "cpu_percent": _between(0, 100),
    "memory_percent": _between(0, 100),
    "disk_percent": _between(0, 100),
    "uptime_seconds": _between(0, 315_576_000),
}
"""What a value must look like to be that of the field."""


def likelihood(field: str, keys: Sequence[str], values: list[object]) -> float:
    """Return how likely the value at these keys is that of a field: 0 where it is not."""
    names = NAMES.get(field) or MEASURED[field]
    known = [value for value in values if value is not None and value != ""]
    fits = FITS.get(field, _between(-1e6, 1e6))
    if not known or not all(map(fits, known)):
        return 0
    name = plain(keys[-1])
    points = 0.0
    for each in (name, plain("".join(keys[-2:]))):
        if each in names:
            points = max(points, 2 - names.index(each) / len(names))
    if not points and any(part in name for part in PARTS.get(field, ())):
        points = 0.5
    if field == "species":
        texts = [str(value).strip() for value in known]
        if all(map(SCIENTIFIC.fullmatch, texts)):
            points += 1.5 if points or name in FOR_ANYTHING else 0
        if not points and all(map(LATIN.fullmatch, texts)):
            points = 0.4
    if field == "observed_at" and points and all(map(_names_zone, known)):
        points += 1
    return points


def _names_zone(value: object) -> bool:
    reading = time_of(value)
    return isinstance(value, str) and reading is not None and reading.moment.tzinfo is not None
