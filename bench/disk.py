"""How fast the disk takes sequential synced writes: the measure for clips."""

import os
import tempfile
import time
from pathlib import Path


def synced_bytes_per_second(chunk_bytes: int, chunks: int, within: Path | None = None) -> float:
    """Append chunks to a file, each synced before the next; return the rate."""
    chunk = os.urandom(chunk_bytes)
    with tempfile.NamedTemporaryFile(dir=within) as file:
        began = time.perf_counter()
        for _ in range(chunks):
            os.write(file.fileno(), chunk)
            os.fdatasync(file.fileno())
        return chunk_bytes * chunks / (time.perf_counter() - began)
