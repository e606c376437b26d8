"""The addresses of sinks and of map tiles, as people type them.

Database addresses contain a password and are never shown: `postgres_address` and
`mongodb_address` return the part that may be shown.
"""

import re
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from echo_ingest.settings.endpoint import is_host, parse_endpoint

# ---------------------------------------------------------------------- where audio is kept

Scheme = Literal["file", "s3", "gs", "az"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9._/-]*")
OBJECTS_REMEDY = (
    "type file:///folder, s3://bucket, gs://bucket or az://container; the last three may end with "
    "/prefix, made of letters, digits, dots, hyphens and underscores"
)
CREDENTIALS_REMEDY = (
    "leave out everything before @ and after ?, and set the credentials as docs/audio.md says: "
    "this address is shown and logged"
)


class ObjectsUrl(Struct, frozen=True):
    """A folder or bucket for audio."""

    scheme: Scheme
    bucket: str
    """The bucket of S3 or Google Cloud Storage, or the container of Azure; empty for a folder."""
    path: str
    """The folder, or the prefix of all objects' names; without trailing slashes."""


def parse_objects_url(text: str) -> ObjectsUrl:
    """Parse `file:///folder`, or `s3://`, `gs://`, `az://` bucket[/prefix].

    Raises `ValueError` with the remedy in its text.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(OBJECTS_REMEDY) from None
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError(CREDENTIALS_REMEDY)
    scheme = next((known for known in get_args(Scheme) if known == url.scheme), None)
    steps = url.path.split("/")
    if scheme is None or not text.isprintable() or " " in text or {".", ".."} & set(steps):
        raise ValueError(OBJECTS_REMEDY)
    path = url.path.rstrip("/")
    if scheme == "file":
        if url.netloc or not path or "\0" in unquote(path):
            raise ValueError("type file:/// (with three slashes) and the path of a folder")
        return ObjectsUrl(scheme, "", unquote(path))
    if not BUCKET.fullmatch(url.netloc) or not PREFIX.fullmatch(path) or "//" in path:
        raise ValueError(OBJECTS_REMEDY)
    return ObjectsUrl(scheme, url.netloc, path.lstrip("/"))


def check_objects_url(text: str) -> str:
    """Return `text` without trailing slashes if `parse_objects_url` accepts it."""
    parse_objects_url(text)
    return text.rstrip("/")


# ---------------------------------------------------------------------- PostgreSQL

POSTGRES_REMEDY = (
    "type postgresql://user:password@host[:port]/database; in the password, write every character "
    "but letters and digits as % and two hex digits"
)


def check_postgres_url(text: str) -> str:
    """Return `text` if it names a database; raise `ValueError` with the remedy in its text.

    Several hosts are separated by commas; with `?host=` and a folder of sockets there is none.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(POSTGRES_REMEDY) from None
    hosts = url.netloc.rpartition("@")[2]
    has_host = bool(hosts) or "host" in parse_qs(url.query)
    has_database = len(url.path) > 1 and "/" not in url.path[1:]
    is_postgres = url.scheme in ("postgresql", "postgres") and not url.fragment
    if not is_postgres or not has_host or not has_database:
        raise ValueError(POSTGRES_REMEDY)
    try:
        for host in hosts.split(",") if hosts else ():
            parse_endpoint(host)
    except ValueError:
        raise ValueError(POSTGRES_REMEDY) from None
    return text


def postgres_address(text: str) -> str:
    """Return the part of the URL that may be shown: user@host:port/database."""
    url = urlsplit(text)
    login, _, hosts = url.netloc.rpartition("@")
    address = (hosts or ",".join(parse_qs(url.query)["host"])) + url.path
    user = unquote(login.partition(":")[0])
    return f"{user}@{address}" if user else address


# ---------------------------------------------------------------------- MongoDB

MONGODB_REMEDY = (
    "type mongodb://user:password@host[:port]/database, or mongodb+srv:// for a cluster that is "
    "found by its name; in the password, write every character but letters and digits as % and two "
    "hex digits"
)
SRV_OPTIONS = re.compile(r"(?<=[?&])srv\w+=[^&]*&?", re.IGNORECASE)


def check_mongodb_url(text: str) -> str:
    """Return `text` if it names a database; raise `ValueError` with the remedy in its text."""
    from pymongo.errors import PyMongoError  # loaded only where such a URL is set
    from pymongo.uri_parser import parse_uri

    scheme, _, rest = text.partition("://")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise ValueError(MONGODB_REMEDY)
    # It is parsed as a plain address, because parsing mongodb+srv:// would ask the network.
    plain = f"mongodb://{SRV_OPTIONS.sub('', rest)}"
    address, _, options = plain.partition("?")
    try:
        parsed = parse_uri(address, warn=False)
    except (PyMongoError, ValueError):
        raise ValueError(MONGODB_REMEDY) from None
    if not parsed["database"] or parsed["collection"]:
        raise ValueError(MONGODB_REMEDY)
    try:
        parse_uri(plain, warn=False)
    except (PyMongoError, ValueError):
        names = ", ".join(sorted(option.partition("=")[0] for option in options.split("&")))
        raise ValueError(
            f"one of its options ({names}) is not an option of MongoDB, or its value is not valid: "
            "correct it, or leave it out"
        ) from None
    return text


def mongodb_address(text: str) -> str:
    """Return the part of the URL that may be shown: user@host:port/database."""
    login, _, where = text.partition("://")[2].partition("?")[0].rpartition("@")
    user = unquote(login.partition(":")[0])
    return f"{user}@{where}" if user else where


# ---------------------------------------------------------------------- map tiles

PLACEHOLDERS = ("{z}", "{x}", "{y}")
TILES_REMEDY = (
    "type an https address with {z}, {x} and {y} in its path, such as "
    "https://tiles.example.org/{z}/{x}/{y}.png; the host may begin with {s}, for one of a, b and c"
)


def check_tiles_url(text: str) -> str:
    """Return `text` if it is an address of map tiles; raise `ValueError` with the remedy.

    Every page of the console may load from this host, so the host must be nothing but a host.
    """
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(TILES_REMEDY) from None
    if "@" in url.netloc:
        raise ValueError("leave out user and password: they would be sent to every browser")
    plain = re.sub(r"^\{s\}\.", "", host or "")
    beyond_path = url.netloc + url.query + url.fragment
    has_placeholders = all(url.path.count(placeholder) == 1 for placeholder in PLACEHOLDERS)
    if url.scheme != "https" or not is_host(plain) or port == 0 or not has_placeholders:
        raise ValueError(TILES_REMEDY)
    if (
        not text.isprintable()
        or " " in text
        or any(placeholder in beyond_path for placeholder in PLACEHOLDERS)
    ):
        raise ValueError(TILES_REMEDY)
    return text
