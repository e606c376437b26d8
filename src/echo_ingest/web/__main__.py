"""`python -m echo_ingest.web`: the web process, as `service/door.py` starts it; nobody types it.

Whatever becomes of its parent, it ends too: its standard input closes then, and a thread waits for
that, however busy the rest is.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator

import structlog

from echo_ingest import web
from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.intercom import Handed, Intercom
from echo_ingest.log import configure_log
from echo_ingest.settings import Settings

NICENESS = 5
"""Where both want the processor, the line has it."""

log = structlog.get_logger("web")


def main() -> None:
    """Answer until told to stop, or until the parent is gone."""
    handed: Handed = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICENESS)
    configure_log(handed.log_level)
    asyncio.run(_serve(handed))


async def _serve(handed: Handed) -> None:
    intercom = await Intercom.at(socket.socket(fileno=handed.line))
    app = web.create_app(intercom, handed.settings, handed.tokens)
    started, stop = asyncio.Event(), threading.Event()
    async with asyncio.TaskGroup() as tasks, _set_in_the_end(stop):
        asking = tasks.create_task(intercom.run())
        if handed.settings.console_access != "off":
            tasks.create_task(asyncio.to_thread(_follower(handed.settings).run, stop))
        listener = socket.socket(fileno=handed.listener)
        serving = tasks.create_task(web.serve(app, listener, started))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        await started.wait()
        log.info("web process answers")
        await asyncio.wait((serving,))
        asking.cancel()


def _follower(settings: Settings) -> Follower:
    return Follower(
        almanac_path(settings.data_dir),
        settings.journal_path,
        settings.payload_bytes_max,
        settings.nodes_path,
    )


@contextlib.asynccontextmanager
async def _set_in_the_end(stop: threading.Event) -> AsyncIterator[None]:
    """A thread ends for no task that is cancelled."""
    try:
        yield
    finally:
        stop.set()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    main()
