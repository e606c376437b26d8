"""Attacks over HTTP."""

import asyncio
import html
import re
import socket
import zoneinfo

from tests.siege.attackers import Attacker

HALF_SENT = 1_600
STREAMS = 400
SLOW_READERS = 120
PAGES = 150
LINK = re.compile(rb'href="(/console[^"#]*)')
PAGES_OF_CONSOLE = (
    "/console", "/console/nodes", "/console/calls", "/console/refused", "/console/login",
    "/console/calls?page=99999999999999999999", "/console/calls?species=%F0%9F%90%B8%00",
    "/console/node?name=%ff", "/console/nodes/%2e%2e%2f", "/console/calls/-1",
)  # fmt: skip


def get(path: str, *lines: str, host: str = "localhost") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


async def half_requests(attacker: Attacker) -> None:
    """Hold 1,600 requests without their end; begin each anew that the server ends."""
    beginning = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "

    async def hold_one(_number: int) -> str:
        reader, writer = await attacker.http_connection()
        try:
            writer.write(beginning)
            answer = await reader.read(100)
        finally:
            writer.transport.abort()
        return answer[9:12].decode() if answer else "closed"

    await attacker.keep(HALF_SENT, hold_one)


async def slow_readers(attacker: Attacker) -> None:
    """Ask for what is large, payloads too, with a reader's token, and read nothing of it."""
    token = f"Authorization: Bearer {attacker.target.reader_token}"
    paths = ("/api/records?limit=500", "/api/dead-letters?limit=500", "/console/calls", "/metrics",
             "/console", "/api/nodes", "/console/nodes", "/api/openapi.json")  # fmt: skip
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []

    async def ask(number: int) -> str:
        some = attacker.rng.randrange(1, 100)
        path = (
            f"/api/records/{some}/payload",
            f"/api/dead-letters/{some}/payload",
            f"/console/calls/{some}/clip",
            paths[number // 4 % len(paths)],
        )[number % 4]
        slow = socket.socket()
        sockets.append(slow)
        slow.setblocking(False)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.bind((attacker.address, 0))
        await loop.sock_connect(slow, ("127.0.0.1", attacker.target.http_port))
        await loop.sock_sendall(slow, get(path, token))
        return "asked"

    await attacker.each(SLOW_READERS, 4, ask)
    await attacker.until_over()
    for slow in sockets:
        slow.close()


async def live_streams(attacker: Attacker) -> None:
    """Follow live pages in as many time zones as there are."""
    zones = sorted(zoneinfo.available_timezones())
    pages = ("overview", "nodes", "refused")
    offset = attacker.rng.randrange(len(zones))

    async def follow(number: int) -> None:
        zone = zones[(offset + number) % len(zones)]
        reader, writer = await attacker.http_connection()
        answer = b""
        try:
            async with asyncio.timeout(attacker.seconds_left):
                writer.write(get(f"/console/live?of={pages[number % 3]}&zone={zone}"))
                answer = await reader.read(4_096)
                while await reader.read(65_536):
                    pass
        except TimeoutError:
            attacker.note(f"{answer[9:12].decode() or 'no answer'}, held")
        else:
            attacker.note(f"{answer[9:12].decode()}, closed")
        finally:
            writer.transport.abort()

    attacker.answers.attempts += STREAMS
    await asyncio.gather(*(attacker.never_mind(follow(number)) for number in range(STREAMS)))


async def raw_http(attacker: Attacker) -> None:
    """Send requests that are ambiguous, malformed, or aimed past the root."""
    long = "a" * 15_000
    post = "POST /console/login HTTP/1.1\r\nHost: localhost\r\n"
    odd = (
        f"{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"{post}Content-Length: 4\r\nContent-Length: 5\r\n\r\naaaaa",
        f"{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        f"{post}Content-Length: -1\r\n\r\n",
        f"{post}Content-Length: 99999999999999999999999\r\n\r\n",
        "GET /livez HTTP/1.1\nHost: localhost\n\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        "GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /console/nodes/{long} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /{long * 5} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"{long} / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/calls?species=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/nodes/%ff%fe%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/static/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/static/%2e%2e%2f%2e%2e%2fpage.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/calls/%D9%A1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/calls/99999999999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console/live?of=overview&zone=../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n"
        f"Last-Event-ID: x-{'9' * 5_000}\r\n\r\n",
        "GET /console/live?of=nothing&zone=UTC HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /console HTTP/1.1\r\nHost: localhost\r\nCookie: zone=../../etc/passwd; "
        f"echo-ingest={'x' * 8_000}\r\n\r\n",
        "GET /console HTTP/1.1\r\nHost: localhost\r\nCookie: zone=%00\r\n\r\n",
        "GET http://elsewhere.example/console HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "DELETE /api/records/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /console HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        "Range: bytes=0-,0-,0-\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 5_000 + "\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        "\r\n" * 10_000,
    )

    async def send_one(number: int) -> str:
        sent = odd[number % len(odd)].encode("latin-1")
        return await _status_within(attacker, sent)

    await attacker.each(3 * len(odd), 3, send_one)


async def odd_hosts(attacker: Attacker) -> None:
    """Name hosts that are none, on every page."""
    hosts = ("x:y", "[x", "a:b:c", "localhost:abc", "localhost:99999", "", "evil.test", "[::1",
             "127.0.0.1.evil", "localhost\x00", "a" * 8_000, "<b>", "%00", "::")  # fmt: skip
    paths = ("/console", "/console/nodes", "/nope", "/api/nope", "/metrics", "/console/live",
             "/console/static/x", "/console/calls/1", "/healthz")  # fmt: skip

    async def ask(number: int) -> str:
        host = hosts[number % len(hosts)]
        sent = get(paths[number % len(paths)], "Connection: close", host=host)
        return await _status_within(attacker, sent)

    await attacker.each(300, 3, ask)


async def wrong_tokens(attacker: Attacker) -> None:
    """Guess tokens, of the read API and of the console."""

    async def guess(number: int) -> str:
        if number % 2:
            body = f"token=guess-{number}"
            sent = (
                "POST /console/login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        else:
            token = f"Authorization: Bearer guess-{number}{'x' * 3_000}"
            sent = get("/api/records", token, "Connection: close")
        return (await attacker.http(sent))[0]

    await attacker.each(200, 3, guess)


async def crawl(attacker: Attacker) -> None:
    """Follow every link of the console."""
    waiting, seen = list(PAGES_OF_CONSOLE), set(PAGES_OF_CONSOLE)

    async def visit(_number: int) -> str | None:
        if not waiting:
            return None
        path = waiting.pop(attacker.rng.randrange(len(waiting)))
        status, body = await attacker.http(get(path, "Connection: close"))
        found = {html.unescape(each.decode(errors="replace")) for each in LINK.findall(body)}
        new = {each for each in found - seen if each.isascii() and " " not in each}
        seen.update(new)
        waiting.extend(sorted(new))
        return status

    await attacker.each(PAGES, 3, visit)


async def big_forms(attacker: Attacker) -> None:
    """Send forms that are too large, have too many fields, or never end."""
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
    paths = (
        "/console/login",
        "/console/actions/replay",
        "/console/actions/add-node",
        "/api/records",
    )
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
             "application/json")  # fmt: skip
    bodies = (
        b"token=" + b"x" * 10_000_000,
        b"&".join(b"f%d=x" % n for n in range(200_000)),
        b"--x\r\nContent-Disposition: form-data; name=x\r\n\r\n" * 50_000,
        b"token=",
    )

    async def send_one(number: int) -> str:
        body = bodies[number % len(bodies)]
        length = max(len(body), 1_000)  # the last one never comes
        path, kind = paths[number % len(paths)], kinds[number % len(kinds)]
        reader, writer = await attacker.http_connection()
        try:
            writer.write(head.format(path, kind, length).encode())
            for start in range(0, len(body), 262_144):
                writer.write(body[start : start + 262_144])
                await writer.drain()
            answer = await reader.read(100)
        finally:
            writer.transport.abort()
        return answer[9:12].decode() if answer else "closed"

    await attacker.each(48, 6, send_one)


async def _status_within(attacker: Attacker, sent: bytes) -> str:
    """Return the status; the server may wait for the rest of such a request."""
    try:
        async with asyncio.timeout(3):
            return (await attacker.http(sent, read_bytes_max=1))[0]
    except TimeoutError:
        return "no answer in 3 s"
