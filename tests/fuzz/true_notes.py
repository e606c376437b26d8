"""What recorders write into their files and file names, as the makers of recorders write it."""

import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from msgspec import structs

from tests.fuzz import true_times, true_values
from tests.fuzz.true_files import File
from tests.fuzz.true_sounds import any_file, flac
from tests.fuzz.true_wavs import Chunk, riff, wav
from tests.fuzz.truths import Draft, PlaceTruth, WhenTruth, one_of

SERIALS = ("243B1F026488F56E", "24F3190361CC6E3D", "S4U01234", "0042")


class Notes(NamedTuple):
    """Chunks of a WAV, or comments of a FLAC, and what they say."""

    label: str
    chunks: tuple[Chunk, ...] = ()
    comments: tuple[str, ...] = ()
    when: WhenTruth | None = None
    """None: the notes say nothing of the time."""
    place: PlaceTruth | None = None
    serial: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    """Entries that must be kept as they are."""
    slowed: float = 1
    """How much slower than in the forest the sound plays (time expansion)."""


def file_with_notes(draft: Draft, *, with_time: bool) -> tuple[File, Notes]:
    """Return an audio file and what is written in it; `with_time`: when it was recorded, too."""
    makers = {_none: 6, _guano: 6, _audiomoth: 6, _wamd: 3, _bext: 2}
    if not with_time:
        makers = {_none: 8, _guano: 2, _wamd: 1}
    notes = draft.pick(makers)(draft, with_time=with_time)
    if notes.comments:
        file = flac(draft.rng, notes.comments)
    elif notes.chunks:
        file = wav(draft.rng, notes.chunks)
    else:
        file = any_file(draft.rng)
    if notes.metadata:
        file = file._replace(sound=structs.replace(file.sound, metadata=notes.metadata))
    if notes.slowed != 1:
        sound = file.sound
        file = file._replace(
            sound=structs.replace(
                sound,
                sample_rate_hz=round(sound.sample_rate_hz * notes.slowed),
                seconds=sound.seconds / notes.slowed,
            )
        )
    draft.label(file.label)
    draft.label(notes.label)
    return file, notes


def _none(draft: Draft, *, with_time: bool) -> Notes:
    del draft, with_time
    return Notes("no notes")


def _guano(draft: Draft, *, with_time: bool) -> Notes:
    rng = draft.rng
    lines = ["GUANO|Version: 1.0", "Make: Echo", "Species Manual ID: Río"]
    when, place, slowed = None, None, 1.0
    if with_time:
        written = true_times.note(draft)
        when = written.when
        lines.append(f"Timestamp: {written.value}")
        draft.label(f"GUANO, {written.label}")
    serial = rng.choice((None, *SERIALS))
    if serial:
        lines.append(f"Serial: {serial}")
    if draft.chance(0.6):
        place, found = _guano_place(draft)
        lines += found
    if draft.chance(0.15):
        slowed = rng.choice((10.0, 8.0, 1.0, 20.0))
        lines.append(f"TE: {rng.choice((f'{slowed:g}', f'{slowed:.1f}'))}")
        if draft.chance(0.2):
            slowed, lines[-1] = 1, f"TE: {rng.choice(('0', '-10', 'no', ''))}"
        draft.label("GUANO, TE")
    if draft.chance(0.3):
        rng.shuffle(lines)
    text = rng.choice(("\n", "\n", "\r\n")).join(lines) + rng.choice(("", "\n", "\0"))
    encoding = rng.choice(("utf-8", "utf-8", "latin-1"))
    chunk = Chunk(b"guan", text.encode(encoding))
    kept = (("Species Manual ID", "Río"), ("Make", "Echo"))
    return Notes(f"GUANO, {encoding}", (chunk,), (), when, place, serial, kept, slowed)


def _guano_place(draft: Draft) -> tuple[PlaceTruth | None, list[str]]:
    rng = draft.rng
    if draft.chance(0.2):
        return None, [f"Loc Position: {one_of(rng, '0 0', '0.0 0.0', '-1 -1', '0.005 -0.003')}"]
    latitude, longitude = true_values.coordinates(draft)
    texts = [f"{float(latitude):.6f}", f"{float(longitude):.6f}"]
    latitude, longitude = map(float, texts)
    style = rng.choice(("points", "points", "commas", "comma between"))
    if style == "commas":
        texts = [text.replace(".", ",") for text in texts]
    lines = [f"Loc Position: {(', ' if style == 'comma between' else ' ').join(texts)}"]
    high = accuracy = None
    if draft.chance(0.5):
        high = rng.choice((228.6, 0.0, 12.0, -3.5))
        lines.append(f"Loc Elevation: {high:g}")
    if draft.chance(0.5):
        accuracy = rng.choice((20.0, 3.5, 0.0))
        lines.append(f"Loc Accuracy: {accuracy:g}")
    draft.label(f"GUANO place, {style}")
    return PlaceTruth(latitude, longitude, high, accuracy), lines


def _audiomoth(draft: Draft, *, with_time: bool) -> Notes:
    """Write the comment of one of the versions of AudioMoth's firmware."""
    assert with_time
    rng = draft.rng
    written = true_times.moment_or_wrong_clock(draft)
    moment = datetime.fromisoformat(str(written.value)).replace(tzinfo=UTC)
    serial = rng.choice(SERIALS[:2])
    version, minutes = rng.choice(
        (
            ("1.0", 0),
            ("1.0.1", 0),
            ("1.1", 600),
            ("1.2", -180),
            ("1.4", 330),
            ("1.8", 345),
            ("1.8", 0),
        )
    )
    zone = ""
    if minutes:
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''}"
    local = moment + timedelta(minutes=minutes)
    fraction = f".{rng.randrange(1000):03}" if version == "1.8" and draft.chance(0.3) else ""
    when = written.when
    if fraction and when.moment is not None:  # what is shown to the millisecond may be read so
        when = structs.replace(when, tolerance=timedelta(seconds=1))
    zone = "" if version == "1.0" else f" (UTC{zone})"
    comment = (
        f"Recorded at {local:%H:%M:%S}{fraction} {local:%d/%m/%Y}{zone} by AudioMoth {serial} "
    )
    comment += rng.choice(
        (
            "at gain setting 2 while battery state was 3.6V",
            "at medium gain while battery was 4.2V and temperature was 21.5C.",
            "at medium gain while battery was less than 2.5V.",
        )
    )
    draft.label(f"AudioMoth {version}, {written.label}")
    if draft.chance(0.25):
        comments = (f"COMMENT={comment}", f"ARTIST=AudioMoth {serial}")
        return Notes("AudioMoth in FLAC", (), comments, when, serial=serial)
    padded = rng.choice((0, 384))
    text = comment.encode().ljust(padded, b"\0")
    # Some firmware left the pad byte of an odd length out.
    body = b"INFO" + riff(b"ICMT", text, padded=bool(padded) or draft.chance(0.7))
    if version != "1.0":
        body += riff(b"IART", f"AudioMoth {serial}".encode().ljust(32, b"\0"))
    kept = (("ICMT", comment.strip()),)
    return Notes("AudioMoth", (Chunk(b"LIST", body),), (), when, None, serial, kept)


def _wamd(draft: Draft, *, with_time: bool) -> Notes:
    """Write the chunk of Wildlife Acoustics: number, size and text of each entry."""
    rng = draft.rng
    serial = rng.choice(("S4U01234", "SMM00077"))
    entries = [(0, b"\1\0"), (1, rng.choice((b"SM4BAT-FS", b"SMMINI2"))), (2, serial.encode())]
    entries.append((3, b"2.2.1"))
    when, place = None, None
    if with_time and draft.chance(0.7):
        moment = true_times.believed_moment(draft) + timedelta(
            seconds=draft.site.clock_ahead_seconds
        )
        moment = moment.replace(microsecond=0)
        minutes = rng.choice((600, 0, -300, 570))
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}"
        text = f"{moment + timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S}{zone}"
        entries.append((5, text.encode()))
        when = true_times.true_when(draft, moment)
    elif with_time:
        local, when = true_times.local_second(draft)
        entries.append((5, f"{local:%Y-%m-%d %H:%M:%S}".encode()))
    if draft.chance(0.6):
        latitude, longitude = (round(float(each), 5) for each in true_values.coordinates(draft))
        south, west = "S" if latitude < 0 else "N", "W" if longitude < 0 else "E"
        high = rng.choice((None, 112.0))
        text = f"WGS84,{abs(latitude):.5f},{south},{abs(longitude):.5f},{west}"
        if rng.random() < 0.2:
            text = f"WGS84,{latitude:.5f},{longitude:.5f}"
        entries.append((6, f"{text}{'' if high is None else f',{high:g}'}".encode()))
        place = PlaceTruth(latitude, longitude, high)
    body = b"".join(struct.pack("<HI", kind, len(text)) + text for kind, text in entries)
    return Notes("wamd", (Chunk(b"wamd", body),), (), when, place, serial)


def _bext(draft: Draft, *, with_time: bool) -> Notes:
    """Write the chunk of Broadcast Wave: date and time of a local clock."""
    assert with_time
    local, when = true_times.local_second(draft)
    mark = draft.rng.choice("--:_")
    body = b"A recording".ljust(256, b"\0") + b"Echo".ljust(32, b"\0") + bytes(32)
    body += f"{local:%Y{mark}%m{mark}%d%H:%M:%S}".encode() + bytes(8 + 2 + 64 + 190)
    return Notes("bext", (Chunk(b"bext", body),), (), when)


def file_name(draft: Draft) -> tuple[str, WhenTruth]:
    """Return the name of a file as recorders write it, and when it says that it was recorded."""
    local, when = true_times.local_second(draft)
    style = draft.rng.choice(
        (
            *("{:%Y%m%d_%H%M%S}.WAV", "{:%Y%m%d_%H%M%S}.WAV", "S4U01234_{:%Y%m%d_%H%M%S}.wav"),
            *("{:%Y%m%d_%H%M%S}T.WAV", "ridge-07_{:%Y%m%d_%H%M%S}_000.wav"),
            *("{:%Y-%m-%d_%H-%M-%S}.flac", "SMM00077_0+1_{:%Y%m%d_%H%M%S}.wav"),
        )
    )
    draft.label(f"file name {style.split('{')[0] or style[-6:]}")
    return style.format(local), when
