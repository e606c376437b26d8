"""The stream of changes: the same news for all tabs, within a second or two, and never too much."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from echo_ingest import web
from echo_ingest.journal import Journal
from echo_ingest.settings import Settings
from echo_ingest.web.console import live_updates as live_module
from echo_ingest.web.console import sessions
from echo_ingest.web.console.auth import COOKIE, Viewer
from echo_ingest.web.console.live_updates import LiveUpdates
from tests.harness import TOKENS, free_port
from tests.test_web import Fine, serving

LINE_BYTES_MAX = 4_000_000


class Site:
    """A page of two parts, one of which a test changes, and the HTTP side in front of it."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self.word = "quiet"
        self.rendered: list[str] = []
        self.takes_seconds = 0.0
        self.problem: Exception | None = None
        self.live = LiveUpdates(file)
        self.live.offer("pond", self.parts)
        self._file = file

    async def parts(self, zone: ZoneInfo, _: Viewer) -> dict[str, str]:
        self.rendered.append(zone.key)
        if self.problem is not None:
            raise self.problem
        await asyncio.sleep(self.takes_seconds)
        return {"still": "<p>\nwater</p>", "word": f"<p>{self.word} in {zone.key}</p>"}

    def say(self, word: str) -> None:
        self.word = word
        self._file.write_text(word)


class Stream:
    """One tab's, as its browser reads it."""

    def __init__(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self.source = source
        self.sink = sink
        self.last_id = ""

    async def next(self) -> dict[str, Any]:
        """Return the next part."""
        event: dict[str, str] = {}
        async with asyncio.timeout(10):
            while True:
                line = await self.source.readline()
                if line in (b"", b"0\r\n"):  # the last chunk has no bytes
                    raise EOFError
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                if name == "id":
                    self.last_id = value
                if name:
                    event[name] = value
                elif event.get("event") == "part":
                    part: dict[str, Any] = json.loads(event["data"])
                    return part
                elif event.get("event"):
                    event = {}

    async def parts(self, count: int = 2) -> dict[str, str]:
        return {part["name"]: part["html"] for part in [await self.next() for _ in range(count)]}


@contextlib.asynccontextmanager
async def tab(
    site: Site,
    query: str = "of=pond&zone=UTC",
    headers: str = "",
    address: str = "127.0.0.1",
) -> AsyncIterator[Stream]:
    source, sink = await asyncio.open_connection(
        "127.0.0.1", site.port, limit=LINE_BYTES_MAX, local_addr=(address, 0)
    )
    sink.write(f"GET /console/live?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    stream = Stream(source, sink)
    yield stream
    sink.close()


async def status(stream: Stream) -> int:
    return int((await stream.source.readline()).split()[1])


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(free_port(), tmp_path / "changes")
    journal = Journal(tmp_path / "journal.db")
    app = web.create_app(Fine(journal), Settings(data_dir=tmp_path), TOKENS, site.live)
    running = asyncio.create_task(site.live.run())
    async with serving(app, site.port):
        yield site
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    journal.close()


async def test_a_tab_gets_all_parts_first_and_then_only_those_that_changed(site: Site) -> None:
    async with tab(site) as one, tab(site) as other:
        for stream in (one, other):
            assert await stream.parts() == {
                "still": "<p>\nwater</p>",
                "word": "<p>quiet in UTC</p>",
            }
        began = asyncio.get_running_loop().time()
        site.say("frogs")
        for stream in (one, other):
            assert await stream.parts(1) == {"word": "<p>frogs in UTC</p>"}
        assert asyncio.get_running_loop().time() - began < 2
    assert len(site.rendered) == 2, "once for both"


async def test_each_zone_has_its_own_and_one_that_is_none_is_utc(site: Site) -> None:
    async with (
        tab(site, "of=pond&zone=Australia/Hobart") as far,
        tab(site, "of=pond&zone=../../etc/passwd") as stranger,
    ):
        assert (await far.parts())["word"] == "<p>quiet in Australia/Hobart</p>"
        assert (await stranger.parts())["word"] == "<p>quiet in UTC</p>"


@pytest.mark.slow
async def test_one_that_comes_back_gets_what_it_has_missed(site: Site) -> None:
    async with tab(site) as kept:
        await kept.parts()
        async with tab(site) as one:
            await one.parts()
        site.say("frogs")
        await kept.next()
        async with tab(site, headers=f"Last-Event-ID: {one.last_id}\r\n") as again:
            assert await again.next() == {"name": "word", "html": "<p>frogs in UTC</p>"}
        async with tab(site, headers="Last-Event-ID: another-1\r\n") as stranger:
            assert len(await stranger.parts()) == 2


async def test_nobody_looking_costs_nothing(site: Site) -> None:
    async with tab(site) as one:
        await one.parts()
    while site.live.tabs:
        await asyncio.sleep(0.01)
    renderings = len(site.rendered)
    site.say("frogs")
    await asyncio.sleep(2 * live_module.LOOK_SECONDS)
    assert len(site.rendered) == renderings


@pytest.mark.slow
async def test_a_slow_tab_skips_and_holds_up_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(live_module, "LOOK_SECONDS", 0.01)
    news = [f"{number} " + "frogs" * 200_000 for number in range(40)]
    async with tab(site) as fast, tab(site) as slow:
        await fast.parts()
        for word in news:
            site.say(word)
            assert await fast.parts(1) == {"word": f"<p>{word} in UTC</p>"}
        got = [(await slow.next())["html"].split()[0].removeprefix("<p>")]
        while got[-1] != "39":
            got.append((await slow.next())["html"].split()[0].removeprefix("<p>"))
        assert len(got) < len(news) - 10


@pytest.mark.slow
async def test_what_fails_ends_its_tabs_and_no_others_and_they_may_come_again(
    site: Site,
) -> None:
    async def fine(zone: ZoneInfo, _: Viewer) -> dict[str, str]:
        return {"fine": "yes"}

    site.live.offer("meadow", fine)
    async with tab(site) as one, tab(site, "of=meadow") as other:
        await one.parts()
        await other.parts(1)
        site.problem = RuntimeError("a bug")
        site.say("anything")
        with pytest.raises(EOFError):
            await one.next()
        site.problem = None
        async with tab(site) as again:
            assert len(await again.parts()) == 2
        assert site.live.tabs >= 1 and not other.source.at_eof()


async def test_beyond_the_most_tabs_one_is_told_so_until_another_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "TABS_MAX", 2)
    async with tab(site) as one, tab(site) as other:
        await one.parts()
        await other.parts()
        async with tab(site) as third:
            assert await status(third) == 503
            assert b"\r\nretry-after: 60\r\n" in await third.source.readuntil(b"\r\n\r\n")
    while site.live.tabs:
        await asyncio.sleep(0.01)
    async with tab(site) as again:
        assert await status(again) == 200


async def test_one_address_cannot_have_all_tabs_and_zones(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "TABS_OF_ADDRESS_MAX", 3)
    monkeypatch.setattr(live_module, "WATCHED_OF_ADDRESS_MAX", 2)
    monkeypatch.setattr(live_module, "WATCHED_MAX", 3)
    async with contextlib.AsyncExitStack() as open_ones:

        async def opened(zone: str, address: str) -> int:
            stream = tab(site, f"of=pond&zone={zone}", address=address)
            return await status(await open_ones.enter_async_context(stream))

        assert await opened("UTC", "127.0.0.1") == 200
        assert await opened("Asia/Tokyo", "127.0.0.1") == 200
        assert await opened("Europe/Oslo", "127.0.0.1") == 503, "a third zone"
        assert await opened("UTC", "127.0.0.1") == 200
        assert await opened("UTC", "127.0.0.1") == 503, "a fourth tab"
        assert await opened("Europe/Oslo", "127.0.0.2") == 200
        assert await opened("Europe/Rome", "127.0.0.2") == 503, "more zones than there may be"
        assert await opened("UTC", "127.0.0.2") == 200, "what others watch already"


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [True, False])
async def test_many_zones_of_one_person_do_not_slow_down_those_of_others(
    site: Site, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    monkeypatch.setattr(live_module, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(live_module, "STALE_SECONDS", 0.1)
    site.takes_seconds = 0.02
    zones = [f"Etc/GMT{hours:+}" for hours in range(-14, 13)]
    ours = "of=pond&zone=Australia/Hobart"
    async with contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        if earlier:
            await enter(tab(site, ours, address="127.0.0.2"))
        for zone in zones:
            await enter(tab(site, f"of=pond&zone={zone.replace('+', '%2B')}"))
        if not earlier:
            await enter(tab(site, ours, address="127.0.0.2"))
            await enter(tab(site, ours, address="127.0.0.3"))
        async with asyncio.timeout(20):
            while set(site.rendered) < {*zones, "Australia/Hobart"}:
                await asyncio.sleep(0.01)
            site.rendered.clear()
            while site.rendered.count("Etc/GMT+12") < 3:
                await asyncio.sleep(0.01)
    at = [index for index, zone in enumerate(site.rendered) if zone == "Australia/Hobart"]
    assert max(later - sooner for sooner, later in pairwise(at)) <= 8
    counts = [site.rendered.count(zone) for zone in zones]
    assert min(counts) >= 2, "the others have their turn as well"


async def test_a_number_of_no_event_that_is_very_long_is_no_error(site: Site) -> None:
    async with tab(site) as one:
        await one.parts()
    epoch = one.last_id.partition("-")[0]
    async with tab(site, headers=f"Last-Event-ID: {epoch}-{'9' * 5_000}\r\n") as again:
        assert len(await again.parts()) == 2


async def test_what_is_no_topic_is_not_found(site: Site) -> None:
    async with tab(site, "of=sea") as one:
        assert await status(one) == 404


async def test_a_tab_hears_a_beat_while_nothing_happens(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "HEARTBEAT_SECONDS", 0.1)
    async with tab(site) as one:
        async with asyncio.timeout(5):
            await one.source.readuntil(b"event: beat\ndata: {}\n\n")


async def test_what_is_rendered_for_an_operator_goes_to_operators_alone(site: Site) -> None:
    async def parts(_: ZoneInfo, viewer: Viewer) -> dict[str, str]:
        return {"form": viewer.form_token if viewer.may_act else "nothing to press"}

    site.live.offer("forms", parts)
    log_ins = sessions.LoginSessions(TOKENS)
    as_operator = f"Cookie: {COOKIE}={log_ins.begin('operator')}\r\n"
    async with tab(site, "of=forms&zone=UTC", as_operator) as operator:
        assert await operator.parts(1) == {"form": log_ins.form_token()}
        as_reader = f"Cookie: {COOKIE}={log_ins.begin('reader')}\r\n"
        for headers in (as_reader, ""):
            async with tab(site, "of=forms&zone=UTC", headers) as other:
                assert await other.parts(1) == {"form": "nothing to press"}


@pytest.mark.slow
async def test_what_a_tab_is_told_ends_with_its_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sessions.SESSION_SECONDS, "reader", 2)
    site = Site(free_port(), tmp_path / "changes")
    journal = Journal(tmp_path / "journal.db")
    app = web.create_app(
        Fine(journal), Settings(data_dir=tmp_path, console="token"), TOKENS, site.live
    )
    running = asyncio.create_task(site.live.run())
    cookie = sessions.LoginSessions(TOKENS).begin("reader")
    async with serving(app, site.port):
        async with tab(site) as stranger:
            assert await status(stranger) in (303, 401)
        async with tab(site, headers=f"Cookie: {COOKIE}={cookie}\r\n") as one:
            assert len(await one.parts()) == 2
            with pytest.raises(EOFError):
                await one.next()
        running.cancel()
    journal.close()
