"""The clips of an export: files with the original bytes, named by node, time and content."""

import os
from hashlib import sha256
from pathlib import Path

from echo_ingest.record import AnyRecord, Clip
from echo_ingest.sinks.clips import safe_name

FOLDER = "audio"
HASH_DIGITS = 16
UNFINISHED = ".part"


def path_of(record: AnyRecord, clip: Clip, hash_digits: int = HASH_DIGITS) -> str:
    """Return the path of a clip below the export's folder, such as
    `audio/ridge-07/2026-09-14/ridge-07_20260914T054512Z_b2701482a813294b.wav`.

    No name that a device gives itself leads out of that folder.
    """
    node = safe_name(record.node or record.sensor_id or "unnamed", distinct=False)
    at = record.observed_at
    name = f"{node}_{at:%Y%m%dT%H%M%SZ}_{clip.sha256[:hash_digits]}.{clip.container}"
    return f"{FOLDER}/{node}/{at:%Y-%m-%d}/{name}"


def write(folder: Path, record: AnyRecord, clip: Clip, audio: bytes) -> str:
    """Write a clip below `folder` unless it is already there; return its path in it.

    A file gets its name only when it is complete and on disk.
    """
    path = path_of(record, clip)
    if (folder / path).exists() and not _holds(folder / path, clip):
        path = path_of(record, clip, len(clip.sha256))
    if not (folder / path).exists():
        _put(folder / path, audio)
    return path


def _holds(path: Path, clip: Clip) -> bool:
    return sha256(path.read_bytes()).hexdigest() == clip.sha256


def _put(path: Path, audio: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + UNFINISHED)
    with unfinished.open("wb") as file:
        file.write(audio)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
