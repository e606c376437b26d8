"""Who may look at the console and who may act, over real HTTP: each refusal, each attack."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from echo_ingest.broker.node_accounts import read_nodes
from echo_ingest.settings import Tokens
from echo_ingest.web.console.sessions import SESSION_SECONDS, LoginSessions
from echo_ingest.web.same_origin import own_page
from tests.console.browsing import FORM_TOKEN, Browser, browsing
from tests.harness import HTTP_TOKEN, OPERATOR_TOKEN, TOKENS

PAGES = ("/console", "/console/nodes", "/console/calls", "/console/refused", "/console/unclaimed")
LIVE = "/console/live?of=overview&zone=UTC"
ACTIONS = (
    "replay",
    "stop-replay",
    "pause",
    "resume",
    "add-node",
    "disable-node",
    "enable-node",
    "take-topic",
    "discard-topic",
)
GUESSES_MAX = 20
"""As docs/access.md says."""


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path, console="token") as browser:
        yield browser


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        yield browser


# ---------------------------------------------------------------------- who may look


async def test_a_closed_console_shows_nothing_but_the_log_in(closed: Browser) -> None:
    for path in (*PAGES, "/console/nothing", "/console/calls/1"):
        async with closed.http.get(path, allow_redirects=False) as reply:
            assert reply.status == 303, path
            assert reply.headers["Location"].startswith("/console/login?next=%2Fconsole")
        assert await closed.get(path, Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin") == 401
    async with asyncio.timeout(10):  # a stream that is shown has no end
        assert await closed.get(LIVE, Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin") == 401
    assert await closed.get("/console/login") == 200
    assert 'type="password"' in closed.text
    assert closed.reply.headers["Cache-Control"] == "no-store"
    assert (await closed.get("/healthz"), await closed.get("/api/ledger")) == (200, 401)


async def test_an_open_console_shows_all_and_asks_before_it_acts(opened: Browser) -> None:
    for path in PAGES:
        assert await opened.get(path) == 200
        assert "Log in" in opened.text
        assert "form_token" not in opened.text


async def test_a_console_that_is_off_is_not_there(tmp_path: Path) -> None:
    async with browsing(tmp_path, console="off") as browser:
        assert await browser.get("/console") == 404


@pytest.mark.parametrize(("token", "role"), [(HTTP_TOKEN, "reader"), (OPERATOR_TOKEN, "operator")])
async def test_each_token_opens_what_is_its_own(closed: Browser, token: str, role: str) -> None:
    fields = {"token": f" {token}\n", "next": "/console/calls?species=Litoria"}
    assert await closed.post("/console/login", fields) == 303
    assert closed.reply.headers["Location"] == "/console/calls?species=Litoria"
    cookie = closed.reply.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/console", "Max-Age="):
        assert attribute in cookie
    assert "Secure" not in cookie
    for path in PAGES:
        assert await closed.get(path) == 200
        assert role in closed.text
    assert await closed.post("/console/logout", {}) == 303
    assert await closed.get("/console/nodes", Sec_Fetch_Mode="cors") == 401


async def test_what_is_neither_token_opens_nothing_and_is_not_said_back(closed: Browser) -> None:
    for token in ("", "guess", OPERATOR_TOKEN[:-1], f"{HTTP_TOKEN}x", "é" * 30, "<script>"):
        assert await closed.post("/console/login", {"token": token}) == 401
        assert "token is wrong" in closed.text
        assert not token or token not in closed.text
        assert "Set-Cookie" not in closed.reply.headers


async def test_who_guesses_at_the_log_in_has_to_wait_there_and_at_the_api(closed: Browser) -> None:
    for _ in range(GUESSES_MAX):
        assert await closed.post("/console/login", {"token": "guess"}) == 401
    assert await closed.post("/console/login", {"token": OPERATOR_TOKEN}) == 429
    assert 1 <= int(closed.reply.headers["Retry-After"]) <= 3
    assert "Set-Cookie" not in closed.reply.headers
    right = {"Authorization": f"Bearer {HTTP_TOKEN}"}
    assert await closed.get("/api/ledger", **right) == 429


# ---------------------------------------------------------------------- over which way


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "iot.example.org"}, 403),
        ({"Host": "192.168.1.20:8080"}, 403),
        ({"Host": "iot.example.org", "X-Forwarded-Proto": "http"}, 403),
        ({"Host": "iot.example.org", "X-Forwarded-Proto": "https"}, 303),
        ({"Host": "localhost:8080"}, 303),
        ({"Host": "[::1]:8080"}, 303),
    ],
)
async def test_a_token_is_never_taken_in_plain_text_from_elsewhere(
    closed: Browser, headers: dict[str, str], status: int
) -> None:
    sent = {**headers, "Origin": f"https://{headers['Host']}"}
    assert await closed.post("/console/login", {"token": OPERATOR_TOKEN}, **sent) == status
    if status == 403:
        assert "ssh -L" in closed.text and "Set-Cookie" not in closed.reply.headers
        assert await closed.get("/console/login", **headers) == 200
        assert "ssh -L" in closed.text and 'type="password"' not in closed.text


async def test_over_tls_the_cookie_goes_over_tls_alone_and_no_other_site_can_put_it(
    closed: Browser,
) -> None:
    by_tls = {"Host": "iot.example.org", "X-Forwarded-Proto": "https"}
    fields = {"token": OPERATOR_TOKEN}
    await closed.post("/console/login", fields, **by_tls, Origin="https://iot.example.org")
    cookie = closed.reply.headers["Set-Cookie"]
    assert cookie.startswith("__Host-echo-ingest=")
    assert "Secure" in cookie and "Path=/;" in cookie and "Domain" not in cookie
    value = cookie.partition(";")[0].partition("=")[2]
    of_a_subdomain = {**by_tls, "Cookie": f"echo-ingest={value}", "Sec-Fetch-Mode": "cors"}
    assert await closed.get("/console/nodes", **of_a_subdomain) == 401
    ours = {**by_tls, "Cookie": f"__Host-echo-ingest={value}"}
    assert await closed.get("/console/nodes", **ours) == 200


async def test_what_is_said_after_an_action_goes_the_way_of_the_session(closed: Browser) -> None:
    closed.journal.add_sink("postgres")
    by_tls = {"Host": "iot.example.org", "X-Forwarded-Proto": "https"}
    origin = "https://iot.example.org"
    await closed.post("/console/login", {"token": OPERATOR_TOKEN}, **by_tls, Origin=origin)
    session = closed.reply.headers["Set-Cookie"].partition(";")[0]
    form = {"form_token": FORM_TOKEN, "sink": "postgres"}
    sent = {**by_tls, "Origin": origin, "Cookie": session}
    assert await closed.post("/console/actions/pause", form, **sent) == 303
    cookie = closed.reply.headers["Set-Cookie"]
    assert cookie.startswith("told=") and "Secure" in cookie
    shown = {**by_tls, "Cookie": f"{session}; {cookie.partition(';')[0]}"}
    assert await closed.get("/console", **shown) == 200
    assert "PostgreSQL is paused" in closed.text
    assert 'told=""' in closed.reply.headers["Set-Cookie"]
    assert "Secure" in closed.reply.headers["Set-Cookie"]
    await closed.log_in()
    await closed.post("/console/actions/pause", form)
    assert "Secure" not in closed.reply.headers["Set-Cookie"]


async def test_an_open_console_on_this_machine_is_under_no_name_of_a_stranger(
    opened: Browser,
) -> None:
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8080",
        "[::1",
        "",
    ):
        for path in (*PAGES, "/console/login", "/console/static/console.js", LIVE):
            async with asyncio.timeout(10):  # a stream that is shown has no end
                assert await opened.get(path, Host=host) in (400, 403), host
            assert "IOT_CONSOLE=token" in opened.text or opened.reply.status == 400
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"):
        assert await opened.get("/console", Host=host) == 200


# ---------------------------------------------------------------------- other sites' pages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": ""},
    ],
)
async def test_another_sites_page_can_neither_act_nor_log_in_nor_out(
    opened: Browser, headers: dict[str, str]
) -> None:
    await opened.log_in()
    form = {"form_token": FORM_TOKEN, "node": "ridge-07"}
    for path, fields in [
        ("/console/login", {"token": HTTP_TOKEN}),
        ("/console/logout", {}),
        ("/console/actions/add-node", form),
    ]:
        assert await opened.post(path, fields, **headers) == 403, path
        assert "another site" in opened.text
    await opened.get("/console")
    assert "operator" in opened.text


async def test_who_follows_a_link_from_elsewhere_is_logged_in_all_the_same(
    closed: Browser,
) -> None:
    """The browser keeps the cookie back then; a page of ours has it load once more."""
    by_link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert await closed.get("/console/calls?node=ridge-07", **by_link) == 200
    assert 'content="0;url=/console/calls?node=ridge-07"' in closed.text
    again = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    await closed.get("/console/calls?node=ridge-07", **again)
    assert closed.reply.url.path == "/console/login"


@pytest.mark.parametrize(
    "address",
    [
        *("https://evil.example", "//evil.example", "/\\evil.example", "/console\\..\\..", ""),
        *(
            "/console//evil.example",
            "/consolevil",
            "/console/../api",
            "/console/x\r\nSet-Cookie: a=b",
        ),
        *("javascript:alert(1)", "/console/login?next=/console", "/console/actions/add-node"),
    ],
)
async def test_the_log_in_leads_to_pages_of_the_console_alone(
    closed: Browser, address: str
) -> None:
    assert own_page(address) == "/console"
    assert await closed.post("/console/login", {"token": HTTP_TOKEN, "next": address}) == 303
    assert closed.reply.headers["Location"] == "/console"
    assert closed.reply.headers.getall("Set-Cookie")[0].startswith("echo-ingest=")


# ---------------------------------------------------------------------- sessions


def test_a_session_is_of_its_token_and_its_time_and_cannot_be_made_up() -> None:
    seconds = [1_789_365_000.0]
    sessions = LoginSessions(TOKENS, lambda: seconds[0])
    for role, lasts in SESSION_SECONDS.items():
        cookie = sessions.begin(role)
        assert cookie != sessions.begin(role)
        session = sessions.read(cookie)
        assert session is not None and (session.role, session.ends_at) == (
            role,
            int(seconds[0]) + lasts,
        )
        _, end, nonce, signature = cookie.split(".")
        for made_up in (
            "",
            cookie[:-1],
            f"{cookie}0",
            f"{role}.{int(end) + 1}.{nonce}.{signature}",
            f"{role}.{end}.{nonce[::-1]}.{signature}",
            f"{'operator' if role == 'reader' else 'reader'}.{end}.{nonce}.{signature}",
            f"{role}.{end}.{nonce}.{'0' * 64}",
            f"{role}.{'9' * 400}.{nonce}.{signature}",
            cookie.replace(role, "root"),
        ):
            assert sessions.read(made_up) is None, made_up
        seconds[0] += lasts - 1
        assert sessions.read(cookie) is not None
        seconds[0] += 1
        assert sessions.read(cookie) is None
        seconds[0] -= lasts


def test_a_token_that_is_changed_ends_the_sessions_begun_with_it_and_no_others() -> None:
    before = LoginSessions(TOKENS)
    after = LoginSessions(Tokens(HTTP_TOKEN, "another-token-of-the-operator"))
    assert after.read(before.begin("operator")) is None
    assert after.read(before.begin("reader")) is not None
    assert after.form_token() != before.form_token()


async def test_a_session_is_begun_anew_at_each_log_in(closed: Browser) -> None:
    await closed.log_in()
    planted = closed.reply.cookies["echo-ingest"].value
    closed.http.cookie_jar.clear()
    sent = {"Cookie": f"echo-ingest={planted}x", "Origin": f"http://127.0.0.1:{closed.port}"}
    async with closed.http.post(
        "/console/login", data={"token": HTTP_TOKEN}, headers=sent, allow_redirects=False
    ) as reply:
        assert reply.cookies["echo-ingest"].value[:20] != planted[:20]
        assert reply.cookies["echo-ingest"].value.startswith("reader.")


# ---------------------------------------------------------------------- forms


@pytest.mark.parametrize("token", [None, "", FORM_TOKEN[:-1], f"{FORM_TOKEN}0", "é", "0" * 64])
async def test_no_form_acts_without_the_token_that_the_page_has_in_it(
    closed: Browser, token: str | None
) -> None:
    closed.journal.add_sink("postgres")
    await closed.log_in()
    fields = {"node": "ridge-07", "sink": "postgres", "kind": "parked", "offset": "1"}
    for action in ACTIONS:
        form = fields if token is None else {**fields, "form_token": token}
        assert await closed.post(f"/console/actions/{action}", form) == 403, action
        assert "does not belong to your log-in" in closed.text, action
    assert read_nodes(closed.settings.nodes_path) == ()
    assert not closed.journal.is_paused("postgres")


async def test_a_reader_cannot_act_with_any_form(closed: Browser) -> None:
    closed.journal.add_sink("postgres")
    await closed.log_in(HTTP_TOKEN)
    fields = {"form_token": FORM_TOKEN, "node": "ridge-07", "sink": "postgres"}
    for action in ACTIONS:
        sent = {"Sec-Fetch-Mode": "cors"}
        assert await closed.post(f"/console/actions/{action}", fields, **sent) == 401, action
    assert read_nodes(closed.settings.nodes_path) == ()
    assert not closed.journal.is_paused("postgres")


async def test_a_form_that_is_too_large_late_or_none_is_refused_in_words(
    opened: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, origin = "/console/login", {"Origin": f"http://127.0.0.1:{opened.port}"}
    for body, kind, status in [
        (b"token=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b'{"token": "x"}', "application/json", 415),
        (b"token=a&token=b", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(30)), "application/x-www-form-urlencoded", 400),
        (b"token=%ff", "application/x-www-form-urlencoded", 400),
        (b"token=\xff", "application/x-www-form-urlencoded", 400),
    ]:
        headers = {**origin, "Content-Type": kind}
        async with opened.http.post(url, data=body, headers=headers) as reply:
            assert reply.status == status, body[:40]
            assert "<h1>" in await reply.text()
    monkeypatch.setattr("echo_ingest.web.form_body.BODY_SECONDS_MAX", 0.1)

    source, sink = await asyncio.open_connection("127.0.0.1", opened.port)
    sink.write(
        b"POST /console/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
    )
    async with asyncio.timeout(10):
        assert (await source.readline()).startswith(b"HTTP/1.1 408")
    sink.close()
