"""Messages and tables of programs that recognise animals, each with its truth."""

from datetime import datetime
from random import Random

from msgspec import structs

from tests.fuzz import true_times
from tests.fuzz.form_truths import (
    FormTruth,
    Letter,
    as_json,
    ends_before_receipt,
    fraction,
    later,
    local_or_zoned,
    named,
    place,
    shifted,
    zoned_moment,
)
from tests.fuzz.truths import Draft, WhenTruth

OFFSETS_SECONDS = (0.0, 0.25, 1.25, 3.0, 6.0, 57.0, 1_800.5, 3_597.0)
SPAN_SECONDS = 3_700
ZONES = ("Australia/Melbourne", "Europe/Berlin", "America/Lima", "UTC", "Asia/Kathmandu")
OFF_SCALE = frozenset({"confidence_off_scale"})


def _id(rng: Random) -> str:
    return f"{rng.getrandbits(64):016x}"


def _call_end(when: WhenTruth, seconds: float) -> dict[str, object]:
    return {} if when.moment is None else {"ends_at": later(when.moment, seconds)}


def birdnet_go(draft: Draft) -> Letter:
    """Write a detection of BirdNET-Go; now and then with a percentage, which must be refused."""
    rng = draft.rng
    text, when = zoned_moment(draft)
    assert when.moment is not None
    written, fields = named(draft)
    confidence = fraction(draft)
    latitude, longitude, where = place(draft)
    number, station = rng.randrange(1, 100_000), rng.choice(("Ferny-Creek", "BirdNET-Go"))
    document: dict[str, object] = {
        "SourceNode": station,
        "Date": "2020-01-01",
        "Time": "00:00:00",
        "BeginTime": text,
        "ScientificName": written,
        "CommonName": "Superb Lyrebird",
        "Confidence": confidence,
        "Latitude": latitude,
        "Longitude": longitude,
        "ClipName": "2026/10/m.m4a",
        "Model": {"Name": "BirdNET", "Version": "2.4"},
    }
    fields |= {"common_name": "Superb Lyrebird", "clip_reference": "2026/10/m.m4a"}
    fields |= {"confidence": confidence, "model": "BirdNET 2.4"}
    if draft.chance(0.8):  # versions before 2026 have neither
        document |= {"detectionId": number, "sourceId": "rtsp_1"}
        fields |= {"message_id": f"{station}-{number}-{text}", "sensor_id": f"{station}/rtsp_1"}
    if draft.chance(0.5):
        document["EndTime"] = "0001-01-01T00:00:00Z"
    else:
        lasts = rng.choice((3, 15, 0))
        document["EndTime"] = f"{later(when.moment, lasts):%Y-%m-%dT%H:%M:%S.%fZ}"
        fields |= _call_end(when, lasts)
    truth = FormTruth(kind="detection", when=when, place=where, values=fields)
    letter = Letter("birdnet-go-detection", "birdnet", as_json(draft, document), [truth])
    if draft.chance(0.05):
        draft.label("a percentage for a fraction")
        document["Confidence"] = rng.choice((87, 63.64, 1.01, -0.5))
        return letter._replace(payload=as_json(draft, document), truths=[], refusal=OFF_SCALE)
    return letter


def birdnet_go_local_time(draft: Draft) -> Letter:
    """Write a detection whose time is local, in a zone that the message may name."""
    document: dict[str, object] = {}
    if draft.chance(0.4):
        zone = document["timezone"] = draft.rng.choice(ZONES)
        there = Draft(draft.rng, structs.replace(draft.site, zone=zone), draft.received_at, None)
        local, when = true_times.local_second(there)
        draft.label("its zone is named")
    else:
        local, when = true_times.local_second(draft)
    written, fields = named(draft)
    confidence = fraction(draft)
    latitude, longitude, where = place(draft)
    document |= {
        "Date": f"{local:%Y-%m-%d}",
        "Time": f"{local:%H:%M:%S}",
        "ScientificName": written,
        "CommonName": "Frog",
        "Confidence": confidence,
        "Latitude": latitude,
        "Longitude": longitude,
        "sourceId": "rtsp_9",
        "modelName": "BirdNET",
        "modelVersion": "2.4",
    }
    fields |= {"confidence": confidence, "common_name": "Frog", "sensor_id": "rtsp_9"}
    fields["model"] = "BirdNET 2.4"
    truth = FormTruth(kind="detection", when=when, place=where, values=fields)
    return Letter("birdnet-go-local-time", "birdnet", as_json(draft, document), [truth])


def birdnet_pi(draft: Draft) -> Letter:
    """Write a detection of BirdNET-Pi 2."""
    text, when = local_or_zoned(draft)
    written, fields = named(draft)
    confidence, number = fraction(draft), _id(draft.rng)
    latitude, longitude, where = place(draft)
    document: dict[str, object] = {
        "timestamp": text,
        "species": written,
        "confidence": confidence,
        "location": {"latitude": latitude, "longitude": longitude},
        "analysis": {"week": 37},
        "detection_id": number,
    }
    fields |= {"confidence": confidence, "message_id": number}
    truth = FormTruth(kind="detection", when=when, place=where, values=fields)
    return Letter("birdnet-pi-detection", "birdnet/detections", as_json(draft, document), [truth])


def birdnet_pi_line(draft: Draft) -> Letter:
    """Write lines of BirdNET-Pi's file."""
    lines, truths = [], []
    for _ in range(draft.rng.choice((1, 1, 2, 5))):
        local, when = true_times.local_second(draft)
        written, fields = named(draft)
        confidence = round(fraction(draft), 6)
        latitude, longitude, where = place(draft)
        if where is None:
            latitude = longitude = -1
        parts = (f"{local:%Y-%m-%d}", f"{local:%H:%M:%S}", written, "Frog", f"{confidence:.6f}")
        lines.append(";".join((*parts, f"{latitude}", f"{longitude}", "0.7", "37", "1.25", "0.0")))
        fields |= {"confidence": confidence, "common_name": "Frog", "model": "BirdNET"}
        truths.append(FormTruth(kind="detection", when=when, place=where, values=fields))
    payload = draft.rng.choice(("\n", "\r\n")).join(lines).encode()
    return Letter("birdnet-pi-line", "birdnet-pi/lines", payload, truths)


def acoupi(draft: Draft) -> Letter:
    """Write what acoupi found in one recording."""
    rng = draft.rng
    text, begins = local_or_zoned(draft, SPAN_SECONDS)
    latitude, longitude, where = place(draft)
    detections: list[dict[str, object]] = []
    truths = []
    for _ in range(rng.choice((1, 2, 3, 12))):
        written, fields = named(draft)
        confidence, number = fraction(draft), _id(rng)
        species = {"tag": {"key": "species", "value": written}, "confidence_score": confidence}
        event = {"tag": {"key": "event", "value": "Social"}, "confidence_score": 0.99}
        detection: dict[str, object] = {"id": number, "location": None, "detection_score": 0.5}
        detections.append(detection)
        if draft.chance(0.2):  # no species, no record
            detection["tags"] = [event]
            continue
        detection["tags"] = rng.choice(([species], [species, event], [event, species]))
        when = begins
        fields |= {"confidence": confidence, "message_id": number, "model": "BatDetect2"}
        fields |= {"sensor_id": "creek-2", "sample_rate_hz": 256_000, "clip_reference": "/a.wav"}
        if draft.chance(0.6):
            first, low = rng.choice(OFFSETS_SECONDS), rng.choice((0.0, 39_800.0))
            corners = [first, low, first + 0.5, low + 18_400]
            detection["location"] = {"type": "BoundingBox", "coordinates": corners}
            when = shifted(begins, first)
            fields |= {"low_hz": low, "high_hz": low + 18_400, **_call_end(when, 0.5)}
        truths.append(FormTruth(kind="detection", when=when, place=where, values=fields))
    document: dict[str, object] = {
        "id": _id(rng),
        "name_model": "BatDetect2",
        "recording": {
            "created_on": text,
            "samplerate": 256_000,
            "deployment": {"name": "creek-2", "latitude": latitude, "longitude": longitude},
            "path": "/a.wav",
        },
        "detections": detections,
    }
    return Letter("acoupi-detection", "acoupi/detection", as_json(draft, document), truths)


def _recording(draft: Draft) -> tuple[str, WhenTruth]:
    """Return the name of a file that tells when it begins."""
    while True:
        local, when = true_times.local_second(draft)
        if ends_before_receipt(draft, when, SPAN_SECONDS):
            return _file_name(draft.rng, local), when


def _file_name(rng: Random, local: datetime) -> str:
    folder = rng.choice(("", "/recordings/", "site 2/"))
    return f"{folder}{rng.choice(('S4A08123_', 'CREEK_', ''))}{local:%Y%m%d_%H%M%S}.wav"


def birdnet_analyzer(draft: Draft) -> Letter:
    """Write a table of BirdNET-Analyzer as CSV."""
    rows, truths = ["Start (s),End (s),Scientific name,Common name,Confidence,File"], []
    for _ in range(draft.rng.choice((1, 2, 20))):
        file, begins = _recording(draft)
        written, fields = named(draft)
        confidence = round(fraction(draft), 4)
        first = draft.rng.choice(OFFSETS_SECONDS)
        cells = (f"{first}", f"{first + 3}", f'"{written}"', "Frog", f"{confidence:.4f}", file)
        rows.append(",".join(cells))
        when = shifted(begins, first)
        fields |= {"confidence": confidence, "common_name": "Frog", "model": "BirdNET"}
        fields |= {"clip_reference": file, **_call_end(when, 3)}
        truths.append(FormTruth(kind="detection", when=when, values=fields))
    payload = (draft.rng.choice(("\n", "\r\n")).join(rows) + "\n").encode()
    return Letter("birdnet-analyzer-csv", "results/creek", payload, truths)


def birdnet_selections(draft: Draft) -> Letter:
    """Write a table of BirdNET-Analyzer for Raven: its Begin Time counts over all files."""
    head = (
        *("Selection", "View", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)"),
        *("High Freq (Hz)", "Common Name", "Scientific Name", "Confidence", "Begin Path"),
        "File Offset (s)",
    )
    rows, truths = ["\t".join(head)], []
    for number in range(1, draft.rng.choice((2, 3, 20))):
        file, begins = _recording(draft)
        written, fields = named(draft)
        confidence = round(fraction(draft), 4)
        first = draft.rng.choice(OFFSETS_SECONDS)
        total = f"{first + 3_600 * number}"
        cells = (f"{number}", "Spectrogram 1", total, total, "150", "15000", "Frog", written)
        rows.append("\t".join((*cells, f"{confidence:.4f}", file, f"{first}")))
        fields |= {"confidence": confidence, "common_name": "Frog", "model": "BirdNET"}
        fields |= {"clip_reference": file, "low_hz": 150.0, "high_hz": 15_000.0}
        truths.append(FormTruth(kind="detection", when=shifted(begins, first), values=fields))
    payload = ("\n".join(rows) + "\n").encode()
    return Letter("birdnet-analyzer-selections", "results/creek", payload, truths)


def batdetect2(draft: Draft) -> Letter:
    """Write the annotations of BatDetect2."""
    file, begins = _recording(draft)
    annotations, truths = [], []
    for _ in range(draft.rng.choice((1, 2, 40))):
        written, fields = named(draft)
        confidence, first = fraction(draft), draft.rng.choice(OFFSETS_SECONDS)
        annotations.append(
            {
                "class": written,
                "class_prob": confidence,
                "det_prob": 0.99,
                "start_time": first,
                "end_time": first + 0.0037,
                "low_freq": 41_016,
                "high_freq": 78_125,
            }
        )
        when = shifted(begins, first)
        fields |= {"confidence": confidence, "model": "BatDetect2", "clip_reference": file}
        fields |= {"low_hz": 41_016.0, "high_hz": 78_125.0, **_call_end(when, 0.0037)}
        truths.append(FormTruth(kind="detection", when=when, values=fields))
    document: dict[str, object] = {
        "annotation": annotations,
        "class_name": "x",
        "duration": 1.0,
        "id": file,
        "time_exp": draft.rng.choice((1, 1.0)),
    }
    return Letter("batdetect2", "bats/creek", as_json(draft, document), truths)


MAKERS = {
    birdnet_go: 4,
    birdnet_go_local_time: 3,
    birdnet_pi: 3,
    birdnet_pi_line: 2,
    acoupi: 4,
    birdnet_analyzer: 3,
    birdnet_selections: 2,
    batdetect2: 2,
}
