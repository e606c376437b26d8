"""What a store's errors mean: pure.

`obstore` gives a class, and one text with the answer's status and body, then its own insides after
`Debug source:`. The text may hold an address with a signature in it, so it is never passed on.
"""

import re

from echo_ingest.settings.urls import Scheme
from echo_ingest.sinks import Unavailable

WORDS_CHARACTERS_MAX = 200

STATUS = re.compile(r"[^\n]* status code: (\d{3})[^:\n]*: ?(.*?)(?:\n\nDebug|\Z)", re.DOTALL)
CODE = re.compile(r"<Code>([^<]{1,100})|\"(?:code|reason)\": ?\"([^\"]{1,100})\"")
MESSAGE = re.compile(r"<Message>([^<]{1,300})|\"message\": ?\"([^\"]{1,300})\"")
HOST = re.compile(r"Error performing \w+ https?://(?:[^/\s@]*@)?([^/\s?]+)")
CAUSE = re.compile(r"(?:message|error): \"([^\"]{1,300})\"|(IncompleteMessage|Timeout)")
CAUSES = {"IncompleteMessage": "it closed the connection", "Timeout": "no answer in time"}
ASKING_FOR_CREDENTIALS = re.compile(r"token request|169\.254\.\d+\.\d+|metadata\.google")

EXPIRED = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "TokenRefreshRequired")
TOO_LARGE = ("EntityTooLarge", "RequestBodyTooLarge")
CREDENTIALS: dict[Scheme, str] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or give this machine a role",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class TooLarge(Exception):
    """The store takes no object of this size; the text is its answer."""


def trouble(error: Exception, scheme: Scheme, url: str) -> Unavailable | TooLarge:
    """What to raise for an error of a call to the store at `url`."""
    text = str(error)
    line = text.partition("\n")[0]
    if ASKING_FOR_CREDENTIALS.search(line):
        return Unavailable(f"no credentials for {url}: {CREDENTIALS[scheme]}")
    if answered := STATUS.match(text):
        return _answer(answered[1], answered[2], scheme, url)
    if "HTTP error" in line:
        cause = _first(CAUSE, text)
        return Unavailable(
            f"no answer from {_first(HOST, line)} ({CAUSES.get(cause, cause) or 'it broke off'}): "
            f"does it run, and is it where IOT_OBJECTS_URL={url} should lead?"
        )
    if "panicked" in line:
        return Unavailable(f"{url} cannot be asked: is AWS_ENDPOINT_URL an address, https://host?")
    if "redirect" in line:
        return Unavailable(f"{url} is in another region: set AWS_REGION to it")
    if "Header missing" in line:
        return Unavailable(
            f"what answers for {url} is no object store: is it the log-in page of a network?"
        )
    reason = _one_line(line.partition("error: ")[2] or line)
    return Unavailable(f"{url} cannot be used ({reason}): {CREDENTIALS[scheme]}")


def _answer(status: str, body: str, scheme: Scheme, url: str) -> Unavailable | TooLarge:
    code = _first(CODE, body)
    words = _one_line(" ".join(part for part in (code, _first(MESSAGE, body)) if part))
    said = f"the object store answered {status}" + (f" ({words})" if words else "")
    if status == "413" or code in TOO_LARGE:
        return TooLarge(said)
    if status in ("401", "403") or code in EXPIRED:
        return Unavailable(f"{said}: have its credentials write to {url}, or {CREDENTIALS[scheme]}")
    if status == "404":
        return Unavailable(f"{said}: create {url}, or set IOT_OBJECTS_URL to another")
    if status[0] == "3":
        return Unavailable(f"{said}, a redirect: set AWS_REGION to the region of {url}")
    return Unavailable(said)


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= WORDS_CHARACTERS_MAX else f"{line[: WORDS_CHARACTERS_MAX - 1]}…"


def _first(pattern: re.Pattern[str], text: str) -> str:
    """The first group that was found; "" if there is none."""
    found = pattern.search(text)
    return next((group for group in found.groups() if group), "") if found else ""
