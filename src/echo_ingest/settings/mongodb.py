"""Where a MongoDB database is, as people type it: with its password, so never to be shown."""

import re
from urllib.parse import unquote

REMEDY = (
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
        raise ValueError(REMEDY)
    # With the scheme of a plain address, so that nobody asks the network what the name stands for.
    plain = f"mongodb://{OF_SRV.sub('', rest)}"
    address, _, options = plain.partition("?")
    try:
        parsed = parse_uri(address, warn=False)
    except (PyMongoError, ValueError):
        raise ValueError(REMEDY) from None
    if not parsed["database"] or parsed["collection"]:
        raise ValueError(REMEDY)
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
