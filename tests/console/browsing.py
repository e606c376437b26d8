"""The console over real HTTP, as a browser asks: cookies, forms, and where they come from."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from yarl import URL

from echo_ingest import web
from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.settings import Settings
from echo_ingest.web.console.sessions import LoginSessions
from tests.harness import OPERATOR_TOKEN, TOKENS, free_port
from tests.test_web import Fine, serving

FORM_TOKEN = LoginSessions(TOKENS).form_token()


class Browser:
    """One browser; what it shows is `text`."""

    def __init__(
        self, http: aiohttp.ClientSession, port: int, settings: Settings, journal: Journal
    ) -> None:
        self.http = http
        self.port = port
        self.settings = settings
        self.journal = journal
        self._follower = Follower(
            almanac_path(settings.data_dir), journal.path, Decoder(settings.payload_bytes_max)
        )
        self.catch_up()
        self.text = ""
        self.reply: aiohttp.ClientResponse

    def catch_up(self) -> None:
        """Have the almanac know all that the journal holds."""
        for _ in self._follower.round():
            pass

    async def get(self, path: str, **headers: str) -> int:
        """Show a page; return its status."""
        async with self.http.get(path, headers=_named(headers)) as self.reply:
            self.text = await self.reply.text()
            return self.reply.status

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> int:
        """Send a form as a page of the console would; return the status before any redirect."""
        given = {"Origin": str(self.http._base_url).rstrip("/"), **_named(headers)}
        async with self.http.post(
            path,
            data=fields,
            headers={name: value for name, value in given.items() if value},
            allow_redirects=False,
        ) as self.reply:
            self.text = await self.reply.text()
            return self.reply.status

    def close(self) -> None:
        self._follower.close()

    async def log_in(self, token: str = OPERATOR_TOKEN) -> None:
        """Log in, as an operator by default."""
        assert await self.post("/console/login", {"token": token}) == 303, self.text

    async def act(self, action: str, **fields: str) -> int:
        """Send an action's form with what the page has in it, and show where it leads."""
        status = await self.post(f"/console/actions/{action}", {"form_token": FORM_TOKEN, **fields})
        if status == 303:
            await self.get(self.reply.headers["Location"])
        return status


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextlib.asynccontextmanager
async def browsing(tmp_path: Path, **settings: object) -> AsyncIterator[Browser]:
    """Start a console in front of a journal, and a browser in front of that."""
    port = free_port()
    chosen = Settings.model_validate({"data_dir": tmp_path, **settings})
    journal = Journal(chosen.journal_path)
    app = web.create_app(Fine(journal), chosen, TOKENS)
    jar = aiohttp.CookieJar(unsafe=True)  # of an address, too
    async with (
        serving(app, port),
        aiohttp.ClientSession(URL(f"http://127.0.0.1:{port}"), cookie_jar=jar) as http,
    ):
        browser = Browser(http, port, chosen, journal)
        yield browser
        browser.close()
    journal.close()
