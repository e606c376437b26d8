"""Clips as files: the original bytes, under names that tell node, time and content."""

import re
from hashlib import sha256
from pathlib import Path

from echo_ingest.process.files import atomic_write
from echo_ingest.record import AnyRecord, Clip

FOLDER = "audio"
HASH_DIGITS = 16
NODE_CHARACTERS_MAX = 64
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def path_of(record: AnyRecord, clip: Clip, hash_digits: int = HASH_DIGITS) -> str:
    """Where below the export's folder a clip goes, such as
    `audio/ridge-07/2026-09-14/ridge-07_20260914T054512Z_b2701482a813294b.wav`.

    Nothing that a device says of itself leads out of that folder.
    """
    said = record.node or record.sensor_id or ""
    node = NOT_IN_A_NAME.sub("_", said)[:NODE_CHARACTERS_MAX] or "unnamed"
    at = record.observed_at
    name = f"{node}_{at:%Y%m%dT%H%M%SZ}_{clip.sha256[:hash_digits]}.{clip.container}"
    return f"{FOLDER}/{node}/{at:%Y-%m-%d}/{name}"


def write(folder: Path, record: AnyRecord, clip: Clip, audio: bytes) -> str:
    """Write a clip below `folder`, unless it is there already; return its path there.

    A file has its name only when it is whole and on disk.
    """
    path = path_of(record, clip)
    if (folder / path).exists() and not _holds(folder / path, clip):
        path = path_of(record, clip, len(clip.sha256))
    if not (folder / path).exists():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / path, audio, mode=0o666)  # as the umask of whoever exports allows
    return path


def _holds(path: Path, clip: Clip) -> bool:
    return sha256(path.read_bytes()).hexdigest() == clip.sha256
