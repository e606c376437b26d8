"""Secrets: each is set, or else generated once and kept in the data folder."""

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from pydantic import SecretStr

from echo_ingest.process.files import atomic_write
from echo_ingest.process.folder_lock import locked

FOLDER = "secrets"
SECRET_BYTES = 18


class Tokens(Struct, frozen=True):
    """The tokens that HTTP asks for."""

    reader: str
    """Allows reading: the read API, and the console where it is not open."""
    operator: str
    """Allows making changes in the console, and everything that `reader` allows."""

    def __repr__(self) -> str:
        return "Tokens(…)"


def load_or_create_secret(
    data_dir: Path,
    name: str,
    configured: SecretStr | None = None,
    *,
    make: Callable[[], str | None] = lambda: None,
) -> tuple[str, bool]:
    """Return the configured secret, else the one in `secrets/<name>`, which is created if missing.

    It is what `make` returns, or else random. Return also whether it was created just now: then
    people have to learn where it is.
    """
    if configured is not None:
        return configured.get_secret_value(), False
    path = secret_path(data_dir, name)
    if (stored := read_secret(data_dir, name)) is not None:
        return stored, False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with locked(path.parent):  # broker and ingestion may start together
        if (stored := read_secret(data_dir, name)) is not None:
            return stored, False
        secret = make() or secrets.token_urlsafe(SECRET_BYTES)
        atomic_write(path, f"{secret}\n".encode())
    return secret, True


def secret_path(data_dir: Path, name: str) -> Path:
    """Return the file of a secret that is generated."""
    return data_dir / FOLDER / name


def read_secret(data_dir: Path, name: str) -> str | None:
    """Return the secret in `secrets/<name>`, or None if the file is missing or empty."""
    with contextlib.suppress(FileNotFoundError):
        return secret_path(data_dir, name).read_text().strip() or None
    return None
