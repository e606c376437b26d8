"""Sessions at the broker in the name of those who post: the broker checks who may do what.

A session stays for a while after its last message, since each log-in costs the broker the hash of
a password. It is found by name and password, so nobody gets that of another. The broker ends it
when a node is disabled or gets another password; then the next message logs in anew.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator

from litestar.exceptions import ServiceUnavailableException

from echo_ingest.mqtt import ConnectionLost, SessionOptions
from echo_ingest.pipeline.confirmed_publish import ReceiptSession
from echo_ingest.settings import Endpoint, Settings, parse_endpoint
from echo_ingest.settings.endpoint import local_host
from echo_ingest.web.posting.incoming import Account
from echo_ingest.web.problems import peers_log

SESSIONS_MAX = 200
LOGINS_AT_ONCE, LOGINS_WAITING_MAX = 8, 100
LOGIN_SECONDS_MAX = 10.0
SILENT = f"there was no answer within {LOGIN_SECONDS_MAX:g} s"
IDLE_SECONDS = 60.0
LOOK_SECONDS = 1.0
RECEIPT_SECONDS_MAX = 20.0
RESEND_SECONDS = 2.0
"""Receipts may be lost, and network servers do not wait longer than 5 to 10 s for an answer."""


class BrokerLogin:
    """One session, which many messages of an account share."""

    def __init__(self, options: SessionOptions) -> None:
        self.session = ReceiptSession(
            options,
            "+",
            RECEIPT_SECONDS_MAX,
            resend_seconds=RESEND_SECONDS,
            on_disconnected=self._end_unless_needed,
            log=_QUIET,
        )
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened.add_done_callback(lambda opened: opened.cancelled() or opened.exception())
        self.ending = asyncio.Event()
        self.messages = 0
        """How many are under way."""
        self.idle_since = time.monotonic()

    def _end_unless_needed(self) -> None:
        """End it with its connection, unless messages wait for the next one.

        Where an account may have one connection, the device itself may have taken it over: each
        would throw the other out, again and again.
        """
        if not self.messages:
            self.ending.set()

    @property
    def is_usable(self) -> bool:
        """Return whether a further message may use it."""
        return not self.ending.is_set() and (not self.opened.done() or self.session.is_connected)

    @property
    def is_wanted(self) -> bool:
        """Return whether it is to stay."""
        if self.messages:
            return True
        is_recent = time.monotonic() - self.idle_since < IDLE_SECONDS
        return self.is_usable and is_recent


class NodeSessions:
    """The sessions of all accounts that post."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = Endpoint("mqtt", local_host(settings.bind), settings.mqtt_port)
        if settings.endpoint is not None:
            self._endpoint = parse_endpoint(settings.endpoint)
        self._tls_ca_file = settings.tls_ca_file
        self._logins: dict[bytes, BrokerLogin] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(LOGINS_AT_ONCE)

    def knows(self, account: Account) -> bool:
        """Return whether this name and this password are logged in right now."""
        login = self._logins.get(_key(account))
        return login is not None and login.opened.done() and login.is_usable

    @contextlib.asynccontextmanager
    async def logged_in(self, account: Account) -> AsyncIterator[ReceiptSession]:
        """Yield a session of this account.

        Raises `LoginRefused` where name and password are wrong, and `ConnectionLost` where there is
        no connection.
        """
        key = _key(account)
        login = self._logins.get(key)
        if login is None or not login.is_usable:
            login = self._begin(key, account)
        login.messages += 1
        try:
            try:
                async with asyncio.timeout(LOGIN_SECONDS_MAX):
                    await asyncio.shield(login.opened)
            except TimeoutError:
                raise ConnectionLost(SILENT) from None
            yield login.session
        finally:
            login.messages -= 1
            login.idle_since = time.monotonic()

    def _begin(self, key: bytes, account: Account) -> BrokerLogin:
        if sum(not each.opened.done() for each in self._logins.values()) >= LOGINS_WAITING_MAX:
            raise ServiceUnavailableException(
                f"{LOGINS_WAITING_MAX} accounts log in already; try again in a moment",
                headers={"Retry-After": "5"},
            )
        options = SessionOptions(
            endpoint=self._endpoint,
            client_id=f"echo-ingest-http-{secrets.token_hex(8)}",
            login=lambda: (account.user, account.password),
            tls_ca_file=self._tls_ca_file,
        )
        login = BrokerLogin(options)
        self._logins[key] = login
        task = asyncio.create_task(self._keep(key, login))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return login

    async def _keep(self, key: bytes, login: BrokerLogin) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with self._turns, asyncio.timeout(LOGIN_SECONDS_MAX):
                    await stack.enter_async_context(login.session.connected())
                self._make_room()
                login.opened.set_result(None)
                while login.is_wanted:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await login.ending.wait()
        except TimeoutError:
            login.opened.set_exception(ConnectionLost(SILENT))
        except (ConnectionLost, ServiceUnavailableException) as error:
            login.opened.set_exception(error)
        finally:
            login.opened.cancel()
            if self._logins.get(key) is login:
                del self._logins[key]

    def _make_room(self) -> None:
        """End the session that has been idle for longest, if one more would be too many.

        Only a log-in that has succeeded takes a place: strangers throw nobody out.
        """
        opened = {key: each for key, each in self._logins.items() if each.opened.done()}
        if len(opened) < SESSIONS_MAX:
            return
        idle = [(each.idle_since, key) for key, each in opened.items() if not each.messages]
        if not idle:
            raise ServiceUnavailableException(
                f"{SESSIONS_MAX} accounts post messages already; try again in a moment",
                headers={"Retry-After": "5"},
            )
        self._logins.pop(min(idle)[1]).ending.set()


def _key(account: Account) -> bytes:
    return hashlib.sha256(f"{account.user}\0{account.password}".encode()).digest()


class _QuietLog:
    """The log of a session: those who post cause its lines, and the answer tells them why."""

    def info(self, event: str, **fields: object) -> None:
        """Leave it out: devices come and go."""

    warning = info

    def error(self, event: str, **fields: object) -> None:
        """Log it, unless there were too many."""
        peers_log.error(f"posting: {event}", **fields)


_QUIET = _QuietLog()
