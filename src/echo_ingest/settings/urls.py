"""Where audio is to be kept, as people type it."""

import re
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from msgspec import Struct

Scheme = Literal["file", "s3", "gs", "az"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9._/-]*")
REMEDY = (
    "type file:///folder, s3://bucket, gs://bucket or az://container, the last three with /prefix "
    "if you like: of letters, digits, dots, hyphens and underscores"
)
CREDENTIALS_REMEDY = (
    "leave out what stands before @ or after ?, and give credentials as docs/audio.md says: "
    "an address is shown and logged"
)


class ObjectsUrl(Struct, frozen=True):
    """A place for audio."""

    scheme: Scheme
    bucket: str
    """Of S3 or Google Cloud Storage, or the container of Azure; empty for a folder."""
    path: str
    """The folder, or what the names of all objects begin with; without slashes at its end."""


def parse_objects_url(text: str) -> ObjectsUrl:
    """`file:///folder`, or `s3://`, `gs://`, `az://` bucket[/prefix].

    Raises `ValueError` with the remedy in its text.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(REMEDY) from None
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError(CREDENTIALS_REMEDY)
    scheme = next((known for known in get_args(Scheme) if known == url.scheme), None)
    steps = url.path.split("/")
    if scheme is None or not text.isprintable() or " " in text or {".", ".."} & set(steps):
        raise ValueError(REMEDY)
    path = url.path.rstrip("/")
    if scheme == "file":
        if url.netloc or not path or "\0" in unquote(path):
            raise ValueError("type file:/// with three slashes, and the path of a folder")
        return ObjectsUrl(scheme, "", unquote(path))
    if not BUCKET.fullmatch(url.netloc) or not PREFIX.fullmatch(path) or "//" in path:
        raise ValueError(REMEDY)
    return ObjectsUrl(scheme, url.netloc, path.lstrip("/"))


def check_objects_url(text: str) -> str:
    """`text` without slashes at its end, if `parse_objects_url` takes it."""
    parse_objects_url(text)
    return text.rstrip("/")
