"""Secrets that are generated where none is given, and kept in the data folder."""

import contextlib
import os
import secrets
from pathlib import Path

from msgspec import Struct
from pydantic import SecretStr

FOLDER = "secrets"
SECRET_BYTES = 18


class Tokens(Struct, frozen=True):
    """What HTTP asks for."""

    reader: str
    """Of whoever may read: the read API, and the console where it is not open."""
    operator: str
    """Of whoever may act in the console, too."""

    def __repr__(self) -> str:
        return "Tokens(…)"


def kept_secret(data_dir: Path, name: str, given: SecretStr | None = None) -> tuple[str, bool]:
    """The secret that is given, else the one in `secrets/<name>`, which is made if it is not there.

    Also whether it was made just now: then it is to be shown, this once.
    """
    if given is not None:
        return given.get_secret_value(), False
    path = data_dir / FOLDER / name
    if (kept := read_secret(data_dir, name)) is not None:
        return kept, False
    secret = secrets.token_urlsafe(SECRET_BYTES)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, f"{secret}\n")
    return secret, True


def read_secret(data_dir: Path, name: str) -> str | None:
    """The secret in `secrets/<name>`; None if there is none, or nothing in it."""
    with contextlib.suppress(FileNotFoundError):
        return (data_dir / FOLDER / name).read_text().strip() or None
    return None


def write_private(path: Path, text: str, owner: os.stat_result | None = None) -> None:
    """Replace `path` at once by a regular file for its owner's eyes, on disk when this returns.

    Written by root, it is given to `owner`.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too
    finally:
        os.close(folder)
