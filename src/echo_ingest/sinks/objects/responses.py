"""What the errors of object storage mean: pure.

`obstore` gives a class, and one text with the status and body of the answer, then its internals
after `Debug source:`. That text may hold an address with a signature in it, so it is not passed on.
"""

import re

from echo_ingest.settings import certificates
from echo_ingest.settings.certificates import why_untrusted
from echo_ingest.settings.urls import Scheme
from echo_ingest.sinks import Cause, Unavailable
from echo_ingest.sinks.plain_text import one_line

MESSAGE_CHARACTERS_MAX = 200

STATUS = re.compile(r"[^\n]* status code: (\d{3})[^:\n]*: ?(.*?)(?:\n\nDebug|\Z)", re.DOTALL)
CODE = re.compile(r"<Code>([^<]{1,100})|\"(?:code|reason)\": ?\"([^\"]{1,100})\"")
MESSAGE = re.compile(r"<Message>([^<]{1,300})|\"message\": ?\"([^\"]{1,300})\"")
HOST = re.compile(r"Error performing \w+ https?://(?:[^/\s@]*@)?([^/\s?]+)")
CAUSE = re.compile(r"(?:message|error): \"([^\"]{1,300})\"|(IncompleteMessage|Timeout)")
CAUSES = {"IncompleteMessage": "it closed the connection", "Timeout": "no answer in time"}
ASKING_FOR_CREDENTIALS = re.compile(r"token request|169\.254\.\d+\.\d+|metadata\.google")

EXPIRED = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "TokenRefreshRequired")
TOO_LARGE = ("EntityTooLarge", "RequestBodyTooLarge")
TOO_OFTEN = ("SlowDown", "ServerBusy", "rateLimitExceeded")
CREDENTIALS: dict[Scheme, str] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or give this machine a role",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class TooLarge(Exception):
    """The storage takes no object of this size; the text is its answer."""

    def __init__(self, reason: str, http_status: int) -> None:
        super().__init__(reason)
        self.http_status = http_status


def failure(error: Exception, scheme: Scheme, url: str) -> Unavailable | TooLarge:
    """Return what to raise for an error of a call to the storage at `url`."""
    text = str(error)
    line = text.partition("\n")[0]
    if untrusted := why_untrusted(text, certificates.SYSTEM):
        return Unavailable(
            f"{_first(HOST, line)} cannot be trusted ({untrusted})", cause=Cause.MISCONFIGURED
        )
    if ASKING_FOR_CREDENTIALS.search(line):
        return Unavailable(
            f"there are no credentials for {url}: {CREDENTIALS[scheme]}", cause=Cause.CREDENTIALS
        )
    if answered := STATUS.match(text):
        return _answer(int(answered[1]), answered[2], scheme, url)
    if "HTTP error" in line:
        cause = _first(CAUSE, text)
        return Unavailable(
            f"no answer from {_first(HOST, line)} ({CAUSES.get(cause, cause) or 'it broke off'}): "
            f"does it run, and is it where IOT_OBJECTS_URL={url} should lead?",
            cause=Cause.NO_ANSWER if cause == "Timeout" else Cause.UNREACHABLE,
        )
    if "panicked" in line:
        return Unavailable(
            f"{url} cannot be asked: is AWS_ENDPOINT_URL an address, https://host?",
            cause=Cause.MISCONFIGURED,
        )
    if "redirect" in line:
        return Unavailable(
            f"{url} is in another region: set AWS_REGION to it", cause=Cause.MISCONFIGURED
        )
    if "Header missing" in line:
        return Unavailable(
            f"what answers for {url} is no object storage: is it the log-in page of a network?",
            cause=Cause.MISCONFIGURED,
        )
    reason = one_line(line.partition("error: ")[2] or line, MESSAGE_CHARACTERS_MAX)
    return Unavailable(
        f"{url} cannot be used ({reason}): {CREDENTIALS[scheme]}", cause=Cause.CREDENTIALS
    )


def _answer(status: int, body: str, scheme: Scheme, url: str) -> Unavailable | TooLarge:
    code = _first(CODE, body)
    message = one_line(f"{code} {_first(MESSAGE, body)}", MESSAGE_CHARACTERS_MAX)
    answer = f"the object storage answered {status}" + (f" ({message})" if message else "")
    if status == 413 or code in TOO_LARGE:
        return TooLarge(answer, status)
    if status in (401, 403) or code in EXPIRED:
        cause = Cause.CREDENTIALS
        remedy = f": let its credentials write to {url}, or {CREDENTIALS[scheme]}"
    elif status == 404:
        cause = Cause.MISCONFIGURED
        remedy = f": create {url}, or set IOT_OBJECTS_URL to another"
    elif 300 <= status < 400:
        cause = Cause.MISCONFIGURED
        remedy = f", a redirect: set AWS_REGION to the region of {url}"
    else:
        cause = Cause.ANSWERS_ERRORS
        if status == 429 or code in TOO_OFTEN:
            cause = Cause.OVERLOADED
        remedy = ": the service tries again by itself"
    return Unavailable(answer + remedy, cause=cause, http_status=status)


def _first(pattern: re.Pattern[str], text: str) -> str:
    """Return the first group that matches; "" if none does."""
    match = pattern.search(text)
    return next((group for group in match.groups() if group), "") if match else ""
