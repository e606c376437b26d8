"""Whatever a request is made of, the answer is in words: never a 500, never a line in the log."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from echo_ingest import web
from echo_ingest.decode import Decoder
from echo_ingest.journal.cursors import Refused
from echo_ingest.process.log import LINES_MAX, LibraryLines
from echo_ingest.record import Message
from echo_ingest.web.console.auth import COOKIE, COOKIE_BY_TLS
from echo_ingest.web.console.rendering import PageRenderer
from echo_ingest.web.console.sessions import LoginSessions
from echo_ingest.web.problems import peers_log
from echo_ingest.web.same_origin import is_host
from tests.console.browsing import FORM_TOKEN, Browser, browsing
from tests.harness import HTTP_TOKEN, TOKENS
from tests.test_web import RECEIVED_AT_MS, SINK, Fine, detection, tone

REQUESTS = 700
AT_ONCE = 20
SECONDS_MAX = 2.0
"""A request that is not complete is waited for; then the client gives up, as clients do."""

HOSTS = [
    *(
        "127.0.0.1:8080",
        "[::1]:8080",
        "[::1]",
        "a_b.c",
        "",
        "localhost:",
        "::1",
        "x:y",
        "[x",
        "[::1",
    ),
    *("localhost:abc", "x]", "[v1.x]", "a:b:c", "localhost:99999", "a b", "localhost:-1", "a/b"),
    *(
        "localhost:٣",
        "http://localhost",
        "user@localhost",
        "a?b",
        "a#b",
        "a\\b",
        "%zz",
        "\x7f",
        "...",
    ),
    *("ä.example", "<script>", "localhost:8080,evil", "[::ffff:1.2.3.4]", "[fe80::1%25eth0]:8080"),
    *("x" * 5_000, "1" * 300, "localhost:" + "9" * 4_000, "٣.٣"),
]
METHODS = [
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "GETT",
    "!",
]
VALUES = [
    *(
        "0",
        "-1",
        "9" * 15,
        "9" * 18,
        "9" * 30,
        "1" * 4_301,
        "1e3",
        "1.5",
        "+1",
        " 1",
        "٣",
        "NaN",
        "inf",
    ),
    *(
        "true",
        "null",
        "ridge-07",
        "echo_api",
        "UTC",
        "Australia/Hobart",
        "../../etc/passwd",
        "/etc",
        "",
    ),
    *(
        ".",
        "..",
        "/",
        "//evil.example",
        "\\",
        "\0",
        "\x1b[2J",
        "\u202e",
        "\ud7ff",
        "🐸",
        "ä",
        "%zz",
    ),
    *(
        "<script>",
        "'\"",
        "{{7*7}}",
        "a" * 3_000,
        "2026-09-14",
        "2026-09-14T00:00:00Z",
        "0001-01-01",
    ),
    *("9999-12-31", "9999-12-30", "10000-01-01", "0000-00-00", "9999-12-31T23:59:59-14:00"),
    *(
        "0001-01-01T00:00:00+14:00",
        "-0001-01-01",
        "0001-01-02",
        "2026-W01-1",
        "20260914",
        "1970-01-01",
    ),
]
ESCAPES = [
    "%",
    "%f",
    "%ff%fe",
    "%00",
    "%0a",
    "%2e%2e%2f",
    "%c0%af",
    "%ed%a0%80",
    "+",
    ";",
    "a",
    "1",
]
RIGHT = {
    "offset": ["1", "2", "3", "4"],
    "number": ["1", "2"],
    "name": ["ridge-07", "creek"],
    "node": ["ridge-07"],
    "sink": ["echo_api"],
    "rest": ["a/b"],
}
PARAMETERS = {
    "/api/records": ("node", "kind", "since", "until", "before", "limit"),
    "/api/dead-letters": ("node", "reason", "after", "limit"),
    "/api/parked": ("sink", "node", "after", "limit"),
    "/api/nodes": ("node", "since"),
    "/ingest/{node:str}": ("topic", "event", "id", "file_name", "latitude"),
    "/console/calls": ("show", "species", "node", "confidence", "from", "to", "before", "zone"),
    "/console/nodes": ("q", "which", "order", "down", "page"),
    "/console/node": ("name", "until"),
    "/console/nodes/{name:str}": ("until",),
    "/console/refused": ("node",),
    "/console/refused/group": ("sink", "node", "code", "field", "reason", "before"),
    "/console/live": ("of", "zone"),
    "/console/login": ("next",),
}
FIELDS = ("node", "sink", "next", "back", "number", "code", "field", "reason", "url", "token", "x")
TARGETS = [
    *("*", "http://x:y/console", "http://[x/console", "//[x/", "//x:y/console", "/console//", "/?"),
    *("/console/../console", "/console/%2e%2e", "/#", "/console?a#b", "/console;a=b", "/console?="),
    *(
        "/console/static/../../etc/passwd",
        "/" + "a" * 9_000,
        "/console/" + "%41" * 3_000,
        "[",
        "/[",
    ),
]
ODD = {"host": 2, "method": 1, "path": 3, "query": 5, "headers": 4, "body": 3}
"""How often each part of a request is odd, compared with the others."""
FORM = "application/x-www-form-urlencoded"
SESSIONS = LoginSessions(TOKENS)
OPERATOR, READER = SESSIONS.begin("operator"), SESSIONS.begin("reader")


def paths_of(browser: Browser) -> list[str]:
    """Return the paths of all routes, with `{name:type}` for what may differ."""
    app = web.create_app(Fine(browser.journal), browser.settings, TOKENS)
    return sorted({route.path for route in app.routes})


class Fuzzer:
    """Makes requests that would be right, but for a part or two."""

    def __init__(self, seed: int, paths: list[str]) -> None:
        self.rng = Random(seed)
        self.paths = paths

    def value(self) -> str:
        """Return an odd value as it stands in an address or a form."""
        if self.rng.random() < 0.2:
            return "".join(self.rng.choices(ESCAPES, k=self.rng.randint(1, 5)))
        return quote(self.rng.choice(VALUES), safe=self.rng.choice(("", "/.+:")))

    def part(self, part: str, odd: bool) -> str:
        """Return a part of a path; `{name:type}` stands for a value."""
        if not part.startswith("{"):
            return part
        return (
            self.value() if odd else self.rng.choice(RIGHT.get(part[1:].partition(":")[0], ["a"]))
        )

    def query(self, path: str, odd: bool) -> str:
        names = [name for name in PARAMETERS.get(path, ()) if self.rng.random() < 0.5]
        if odd:
            names += self.rng.choices([*FIELDS, "", "a[]", "__class__"], k=2)
        return "&".join(f"{name}={self.value()}" for name in names)

    def headers(self) -> dict[str, str]:
        """Return a few odd headers."""
        value = self.rng.choice(VALUES)
        some: dict[str, list[str]] = {
            "Accept": ["text/html", "q=x", ";;;", "a/b;q=zz", ",", "*", "text/*;q=" + "9" * 99],
            "Accept-Encoding": ["gzip", "gzip;q=0", "\xff", "identity"],
            "Accept-Language": ["en", "x" * 900, ";q="],
            "Cookie": [
                *(
                    f"{name}={each}"
                    for name in (COOKIE, COOKIE_BY_TLS)
                    for each in (OPERATOR, value)
                ),
                *(
                    f"zone={quote(value)}",
                    f"zone={value}",
                    "=",
                    ";;;",
                    "a",
                    "told=",
                    f"told={value}",
                ),
                *("zone=%00", 'zone="\\377"', "zone=" + "../" * 900, "zone=America/", "zone=Etc"),
                f"{COOKIE}=operator.{'9' * 12}.{'a' * 16}.{'0' * 64}; zone=Europe/\xe4",
            ],
            "Authorization": [f"Bearer {HTTP_TOKEN}", "Bearer", "Bearer \xff", "Basic :", ""],
            "Range": [
                "bytes=0-",
                "bytes=5-2",
                "bytes=-1",
                "bytes=" + "9" * 18 + "-",
                "bytes=",
                "x",
            ],
            "Origin": ["http://localhost", "null", "http://[x", "https://x:y", value],
            "Referer": ["http://[x", value],
            "Sec-Fetch-Site": ["same-origin", "none", "cross-site", value],
            "Sec-Fetch-Mode": ["navigate", "cors", value],
            "Sec-Fetch-Dest": ["audio", "document", value],
            "X-Forwarded-Proto": ["https", "http", ",", value],
            "X-Forwarded-Host": ["[x"],
            "X-Forwarded-For": ["[x"],
            "Last-Event-ID": ["a-1", "-", "x-" + "9" * 5_000, value],
            "If-None-Match": ["*", '"x'],
            "Content-Type": [FORM, "multipart/form-data", "application/json", "a;b=c;;", ";"],
            "Expect": ["100-continue", "x"],
            "Upgrade": ["websocket", "h2c"],
            "Connection": ["Upgrade", "keep-alive", "\xff"],
            "Transfer-Encoding": ["chunked", "gzip", "chunked, chunked"],
            "HX-Request": ["true"],
        }
        chosen = self.rng.sample(sorted(some), self.rng.randint(1, 4))
        return {name: self.rng.choice(some[name]) for name in chosen}

    def body(self, odd: bool) -> bytes:
        names = self.rng.sample(FIELDS, self.rng.randint(0, 4))
        fields = [f"{name}={self.value()}" for name in names]
        whole = "&".join([f"form_token={FORM_TOKEN}", *fields]).encode()
        strange = [b"", b"\xff\xfe", b"a" * 17_000, b"&" * 900, b"=&=", b"%", whole + b"&" + whole]
        return self.rng.choice(strange) if odd else whole

    def request(self) -> bytes:
        """Return a whole request, with one part odd, or two."""
        odd = set(self.rng.choices(list(ODD), list(ODD.values()), k=self.rng.choice((1, 1, 2))))
        path = self.rng.choice(self.paths)
        target = "/".join(self.part(part, "path" in odd) for part in path.split("/"))
        if query := self.query(path, "query" in odd):
            target += f"?{query}"
        if "path" in odd and self.rng.random() < 0.3:
            target = self.rng.choice(TARGETS)
        method = "POST" if "/actions/" in path or path == "/console/logout" else "GET"
        if path == "/console/login":
            method = self.rng.choice(("GET", "POST"))
        if path.startswith("/ingest/"):
            method = "POST"
        if "method" in odd:
            method = self.rng.choice(METHODS)
        body = self.body("body" in odd) if method == "POST" else b""
        headers = {
            "Host": self.rng.choice(HOSTS) if "host" in odd else "localhost",
            "Authorization": "Basic YTpi" if "/ingest/" in path else f"Bearer {HTTP_TOKEN}",
            "Cookie": f"{COOKIE}={self.rng.choice((OPERATOR, OPERATOR, READER))}",
            "Content-Type": FORM,
            "Content-Length": str(len(body) + (5 if self.rng.random() < 0.02 else 0)),
        }
        if "headers" in odd:
            headers |= self.headers()
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body


async def ask(port: int, request: bytes, number: int) -> tuple[int, bytes]:
    """Send a request from an address of its own; return the status, 0 if there is no answer."""
    address = f"127.{1 + number // 250 % 250}.{number % 250}.1"
    source, sink = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    head = b""
    with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        sink.write(request)
        async with asyncio.timeout(SECONDS_MAX):
            head = await source.readuntil(b"\r\n\r\n")
            head += await source.read(4_000)
    sink.close()
    return int(head.split()[1]) if head else 0, head


def fill(browser: Browser) -> None:
    """Store something of every kind."""
    journal = browser.journal
    clip = Message("iotingestion/ridge-07/recording", tone(), RECEIVED_AT_MS, "ridge-07")
    bad = Message("iotingestion/creek", b'{"sensor_id": 3, "species": []}', RECEIVED_AT_MS, "creek")
    decoder = Decoder(1_000_000)
    messages = [detection(1), detection(2), clip, bad, Message("t", b"{", RECEIVED_AT_MS)]
    journal.append([(message, decoder.identify(message)) for message in messages])
    journal.add_sink(SINK)
    journal.settle(SINK, [1], {1: Refused("unknown species")})
    browser.catch_up()


async def answers(browser: Browser, requests: list[bytes]) -> list[tuple[int, bytes]]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[int, bytes]:
        async with turns:
            return await ask(browser.port, requests[number], number)

    return await asyncio.gather(*map(one, range(len(requests))))


@contextlib.contextmanager
def lines_logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """Yield what is logged by us, and by libraries: errors alone, and what libraries say."""
    handler = LibraryLines()
    lines: list[MutableMapping[str, Any]] = []
    peers_log._limits.clear()
    logging.getLogger().addHandler(handler)
    try:
        with capture_logs() as log:
            yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        lines += [line for line in log if line["log_level"] == "error" or "library" in line]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("console", ["open", "token"])
async def test_no_request_is_answered_with_a_500_or_a_line_in_the_log(
    tmp_path: Path, console: str, seed: int
) -> None:
    with lines_logged() as log:
        async with browsing(tmp_path, console=console) as browser:
            fill(browser)
            fuzzer = Fuzzer(seed, paths_of(browser))
            requests = [fuzzer.request() for _ in range(REQUESTS)]
            got = await answers(browser, requests)
    for request, (status, text) in zip(requests, got, strict=True):
        has_no_broker = status == 503 and b" /ingest/" in request[:20]
        assert status < 500 or has_no_broker, (request, text)
        assert b"Traceback" not in text
    assert log == []
    assert {200, 303, 400, 401, 403, 404, 405} <= {status for status, _ in got}


async def test_a_host_that_is_none_is_refused_in_words_and_the_log_says_nothing(
    tmp_path: Path,
) -> None:
    with lines_logged() as log:
        async with browsing(tmp_path) as browser:
            wrong = [host for host in HOSTS if not is_host(host)]
            paths = ("/console", "/console/nope", "/nope", "/api/records", "/healthz")
            requests = [
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                for host in wrong
                for path in paths
            ]
            for request, (status, text) in zip(
                requests, await answers(browser, requests), strict=True
            ):
                assert status == 400, request
                assert b"Host must be a host name" in text or b"Invalid HTTP request" in text
                if b"Invalid HTTP" not in text:
                    assert (b"<h1>This request is not valid</h1>" in text) == (
                        b"console" in request
                    )
    assert len(wrong) > 20
    assert log == []


async def test_a_mistake_in_a_page_of_errors_is_still_a_page_in_words_and_a_few_lines_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("a bug")

    with lines_logged() as log:
        async with browsing(tmp_path) as browser:
            monkeypatch.setattr(PageRenderer, "page", broken)
            for _ in range(50):
                assert await browser.get("/console/nope") == 500
            assert browser.reply.content_type == "text/html"
            assert "<h1>Something went wrong</h1>" in browser.text
            assert browser.reply.headers["Cache-Control"] == "no-store"
    assert 1 <= len(log) <= 2 * LINES_MAX
    assert "a bug" in str(log[0])
