"""The addresses of sinks and of map tiles, as people type them.

Those of databases carry a password and are never shown: `postgres_address` and `mongodb_address`
give what may be.
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
            raise ValueError("type file:/// with three slashes, and the path of a folder")
        return ObjectsUrl(scheme, "", unquote(path))
    if not BUCKET.fullmatch(url.netloc) or not PREFIX.fullmatch(path) or "//" in path:
        raise ValueError(OBJECTS_REMEDY)
    return ObjectsUrl(scheme, url.netloc, path.lstrip("/"))


def check_objects_url(text: str) -> str:
    """`text` without slashes at its end, if `parse_objects_url` takes it."""
    parse_objects_url(text)
    return text.rstrip("/")


# ---------------------------------------------------------------------- PostgreSQL

POSTGRES_REMEDY = (
    "type postgresql://user:password@host[:port]/database; in the password, write all but letters "
    "and digits as % and two hex digits"
)


def check_postgres_url(text: str) -> str:
    """`text` itself, if it names a database; raises `ValueError` with the remedy in its text.

    Several hosts stand with commas between; none at all, where `?host=` names a folder of sockets.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(POSTGRES_REMEDY) from None
    hosts = url.netloc.rpartition("@")[2]
    has_host = bool(hosts) or "host" in parse_qs(url.query)
    has_database = len(url.path) > 1 and "/" not in url.path[1:]
    is_one = url.scheme in ("postgresql", "postgres") and not url.fragment
    if not is_one or not has_host or not has_database:
        raise ValueError(POSTGRES_REMEDY)
    try:
        for host in hosts.split(",") if hosts else ():
            parse_endpoint(host)
    except ValueError:
        raise ValueError(POSTGRES_REMEDY) from None
    return text


def postgres_address(text: str) -> str:
    """What of such a URL may be shown: user@host:port/database."""
    url = urlsplit(text)
    login, _, hosts = url.netloc.rpartition("@")
    where = (hosts or ",".join(parse_qs(url.query)["host"])) + url.path
    user = unquote(login.partition(":")[0])
    return f"{user}@{where}" if user else where


# ---------------------------------------------------------------------- MongoDB

MONGODB_REMEDY = (
    "type mongodb://user:password@host[:port]/database, or mongodb+srv:// for a cluster that is "
    "found by its name; in the password, write all but letters and digits as % and two hex digits"
)
OF_SRV = re.compile(r"(?<=[?&])srv\w+=[^&]*&?", re.IGNORECASE)


def check_mongodb_url(text: str) -> str:
    """`text` itself, if it names a database; raises `ValueError` with the remedy in its text."""
    from pymongo.errors import PyMongoError  # its library need not load without such a URL
    from pymongo.uri_parser import parse_uri

    scheme, _, rest = text.partition("://")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise ValueError(MONGODB_REMEDY)
    # With the scheme of a plain address, so that nobody asks the network what the name stands for.
    plain = f"mongodb://{OF_SRV.sub('', rest)}"
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
            f"one of its options ({names}) is none of MongoDB's, or has a value that is none: "
            "correct it, or leave it out"
        ) from None
    return text


def mongodb_address(text: str) -> str:
    """What of such a URL may be shown: user@host:port/database."""
    login, _, where = text.partition("://")[2].partition("?")[0].rpartition("@")
    user = unquote(login.partition(":")[0])
    return f"{user}@{where}" if user else where


# ---------------------------------------------------------------------- map tiles

PLACES = ("{z}", "{x}", "{y}")
TILES_REMEDY = (
    "type an https address with {z}, {x} and {y} in its path, such as "
    "https://tiles.example.org/{z}/{x}/{y}.png; {s} may begin the host, for one of a, b and c"
)


def check_tiles_url(text: str) -> str:
    """`text` itself, if tiles can be had there; raises `ValueError` with the remedy in its text.

    The host is allowed to every page of the console, so nothing but a host may stand there.
    """
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(TILES_REMEDY) from None
    if "@" in url.netloc:
        raise ValueError("leave out user and password: every browser would be told them")
    plain = re.sub(r"^\{s\}\.", "", host or "")
    beyond_path = url.netloc + url.query + url.fragment
    has_places = all(url.path.count(place) == 1 for place in PLACES)
    if url.scheme != "https" or not is_host(plain) or port == 0 or not has_places:
        raise ValueError(TILES_REMEDY)
    if not text.isprintable() or " " in text or any(place in beyond_path for place in PLACES):
        raise ValueError(TILES_REMEDY)
    return text
