"""The clips of an export: files with the original bytes, named by node, time and content."""

from hashlib import sha256
from pathlib import Path

from echo_ingest.process.files import atomic_write
from echo_ingest.record import AnyRecord, Clip
from echo_ingest.sinks.clips import safe_name

FOLDER = "audio"
HASH_DIGITS = 16


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
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / path, audio, mode=0o666)  # the umask applies
    return path


def _holds(path: Path, clip: Clip) -> bool:
    return sha256(path.read_bytes()).hexdigest() == clip.sha256
