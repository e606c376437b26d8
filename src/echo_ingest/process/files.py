"""How a file is replaced: a reader finds the old content or the new, and never a part of either.

And why a file cannot be written, in words that say what to do about it.
"""

import errno
import os
import stat
from pathlib import Path

NEIGHBOUR_SUFFIX = ".new"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""What systems answer that know no file without a name."""


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


def make_private(folder: Path) -> bool:
    """Let nobody but its owner enter a folder; return whether others could until now.

    Who can open a file in it can hold a lock on it, too, and so keep us out. Raises
    `PermissionError` if the folder is not ours. On a file system without modes nothing changes.
    """
    if not stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return False
    folder.chmod(0o700)
    return True


def why_unwritable(path: Path, number: int | None) -> str | None:
    """Return in words why `path` could not be written, by the `errno` that the system gave.

    None if it is nothing that concerns the whole disk.
    """
    match number:
        case errno.ENOSPC:
            if _has_no_inode(path):
                return (
                    f"the disk that holds {path} has no inode left, so no further file can be made "
                    "on it, although bytes are free: remove files that nobody needs"
                )
            return f"the disk that holds {path} is full: make room"
        case errno.EDQUOT:
            return f"this user's share (quota) of the disk that holds {path} is used up: make room"
        case errno.EROFS:
            return (
                f"the disk that holds {path} is read-only: the system makes it so when it finds an "
                "error on it, and then the system's log (dmesg) says more. Stop the service, check "
                "the disk (fsck), and mount it for writing again"
            )
    return None


def obstacle_in(folder: Path) -> int:
    """Return the `errno` that keeps a file from being made in `folder`; 0 if nothing does.

    The file that is tried has no name, so nobody sees it.
    """
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError as error:
        return 0 if error.errno in UNSUPPORTED else error.errno or 0
    return 0


def _has_no_inode(path: Path) -> bool:
    """Return whether bytes are free and inodes are not; Btrfs, for one, counts no inodes."""
    status = os.statvfs(next(each for each in (path, *path.absolute().parents) if each.exists()))
    return status.f_files > 0 and status.f_favail == 0 and status.f_bavail > 0
