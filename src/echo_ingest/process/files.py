"""How a file is replaced: a reader finds the old content or the new, and never a part of either."""

import os
from pathlib import Path

NEIGHBOUR_SUFFIX = ".new"


def atomic_write(
    path: Path, content: bytes, *, mode: int = 0o600, owner: os.stat_result | None = None
) -> None:
    """Replace `path` by a regular file with this content; when this returns, it is on disk.

    The content goes to a neighbour, `<name>.new`, which is flushed and renamed; then the folder is
    flushed, because the new name is kept there. A symbolic link at `path` is replaced, and not what
    it points to. The umask applies to `mode`. Written by root, the file is given to `owner`.

    Limits: the folder must exist, its file system must be able to rename in one step, the name may
    have 251 bytes, and there is one writer for each path at a time. Raises `OSError`: then the old
    file is as it was, and no neighbour is left behind. (Only if the last step fails, the flush of
    the folder, the new content is there, but a power cut could still bring back the old one.) A
    process that is killed may leave its neighbour behind; the next write removes it.
    """
    neighbour = path.with_name(path.name + NEIGHBOUR_SUFFIX)
    neighbour.unlink(missing_ok=True)
    try:
        descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
