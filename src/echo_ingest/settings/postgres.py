"""Where a PostgreSQL database is, as people type it: with its password, so never to be shown."""

from urllib.parse import parse_qs, unquote, urlsplit

from echo_ingest.settings.endpoint import parse_endpoint

REMEDY = (
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
        raise ValueError(REMEDY) from None
    hosts = url.netloc.rpartition("@")[2]
    has_host = bool(hosts) or "host" in parse_qs(url.query)
    has_database = len(url.path) > 1 and "/" not in url.path[1:]
    is_one = url.scheme in ("postgresql", "postgres") and not url.fragment
    if not is_one or not has_host or not has_database:
        raise ValueError(REMEDY)
    try:
        for host in hosts.split(",") if hosts else ():
            parse_endpoint(host)
    except ValueError:
        raise ValueError(REMEDY) from None
    return text


def postgres_address(text: str) -> str:
    """What of such a URL may be shown: user@host:port/database."""
    url = urlsplit(text)
    login, _, hosts = url.netloc.rpartition("@")
    where = (hosts or ",".join(parse_qs(url.query)["host"])) + url.path
    user = unquote(login.partition(":")[0])
    return f"{user}@{where}" if user else where
