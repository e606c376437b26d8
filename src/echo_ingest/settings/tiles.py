"""Where map tiles come from, as people type it."""

import re
from urllib.parse import urlsplit

from echo_ingest.settings.endpoint import is_host

PLACES = ("{z}", "{x}", "{y}")
REMEDY = (
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
        raise ValueError(REMEDY) from None
    if "@" in url.netloc:
        raise ValueError("leave out user and password: every browser would be told them")
    plain = re.sub(r"^\{s\}\.", "", host or "")
    beyond_path = url.netloc + url.query + url.fragment
    has_places = all(url.path.count(place) == 1 for place in PLACES)
    if url.scheme != "https" or not is_host(plain) or port == 0 or not has_places:
        raise ValueError(REMEDY)
    if not text.isprintable() or " " in text or any(place in beyond_path for place in PLACES):
        raise ValueError(REMEDY)
    return text
