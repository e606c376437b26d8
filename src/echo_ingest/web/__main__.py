"""The web process: `python -m echo_ingest.web`; `service/web_process.py` starts it.

Whatever becomes of its parent, it ends too: its standard input closes then, and a thread waits for
that, however busy the rest is.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from echo_ingest import web
from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.decode import Decoder
from echo_ingest.ipc import IngestClient, WebBootstrap
from echo_ingest.process.child import begin
from echo_ingest.process.log import configure_log
from echo_ingest.web.console.live_updates import LiveUpdates
from echo_ingest.web.sampling import sample_each_minute

NICENESS = 10
"""Where both want the processor, the line has it."""
OOM_SCORE = 500
"""Where memory is short, the kernel ends this process and neither the line nor the broker."""
FILES_BESIDE_CONNECTIONS = 200

log = structlog.get_logger("web")


def main() -> None:
    """Answer until told to stop, or until the parent is gone."""
    handed: WebBootstrap = begin(NICENESS, OOM_SCORE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _allow_files()
    configure_log(handed.log_level)
    asyncio.run(_serve(handed))


async def _serve(handed: WebBootstrap) -> None:
    settings, almanac = handed.settings, almanac_path(handed.settings.data_dir)
    intercom = await IngestClient.at(socket.socket(fileno=handed.line))
    live = LiveUpdates(_changes_of(settings.journal_path), _changes_of(almanac))
    app = web.create_app(intercom, settings, handed.tokens, live)
    started, ending = asyncio.Event(), threading.Event()
    async with asyncio.TaskGroup() as tasks, _set_in_the_end(ending):
        beside = [tasks.create_task(intercom.run())]
        telling = tasks.create_task(live.run())
        if settings.console_access != "off":
            follower = Follower(
                almanac,
                settings.journal_path,
                Decoder(settings.payload_bytes_max),
                settings.nodes_path,
            )
            tasks.create_task(asyncio.to_thread(follower.run, ending))
            beside.append(tasks.create_task(sample_each_minute(intercom, almanac)))
        listener = socket.socket(fileno=handed.listener)
        serving = tasks.create_task(web.serve(app, listener, started))

        def stop() -> None:
            telling.cancel()  # first: a stream that does not end would be waited for
            serving.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        await started.wait()
        log.info("web process answers")
        await asyncio.wait((serving,))
        for task in beside:
            task.cancel()


@contextlib.asynccontextmanager
async def _set_in_the_end(stop: threading.Event) -> AsyncIterator[None]:
    """A thread ends for no task that is cancelled."""
    try:
        yield
    finally:
        stop.set()


def _changes_of(database: Path) -> Path:
    """Where SQLite writes each change first."""
    return database.with_name(f"{database.name}-wal")


def _allow_files() -> None:
    """Each connection is a file; often no more than 1,024 are allowed unless one asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = web.CONNECTIONS_MAX + FILES_BESIDE_CONNECTIONS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    main()
