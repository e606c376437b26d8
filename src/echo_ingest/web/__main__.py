"""The web process: `python -m echo_ingest.web`; `service/web_process.py` starts it.

It ends with its parent, however that ends: its standard input closes then, and a thread waits for
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
from echo_ingest.ipc import IngestClient, WebBootstrap
from echo_ingest.process.child import begin
from echo_ingest.process.log import configure_log
from echo_ingest.site_decoder import decoder_of, follow_site
from echo_ingest.web.console.live_updates import LiveUpdates
from echo_ingest.web.sampling import sample_each_minute

NICENESS = 10
"""Where both want the processor, the ingest process gets it."""
OOM_SCORE = 500
"""Where memory is short, the kernel ends this process, not ingestion or the broker."""

log = structlog.get_logger("web")


def main() -> None:
    """Answer until asked to stop, or until the parent is gone."""
    bootstrap: WebBootstrap = begin(NICENESS, OOM_SCORE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _allow_files()
    configure_log(bootstrap.log_level)
    asyncio.run(_serve(bootstrap))


async def _serve(bootstrap: WebBootstrap) -> None:
    settings, almanac = bootstrap.settings, almanac_path(bootstrap.settings.data_dir)
    client = await IngestClient.at(socket.socket(fileno=bootstrap.line))
    live = LiveUpdates(_changes_of(settings.journal_path), _changes_of(almanac))
    decoder = decoder_of(settings)
    app = web.create_app(client, settings, bootstrap.tokens, live, decoder)
    started, ending = asyncio.Event(), threading.Event()
    async with asyncio.TaskGroup() as tasks, _set_in_the_end(ending):
        until_stopped = [
            tasks.create_task(client.run()),
            tasks.create_task(follow_site(settings, decoder)),
        ]
        updating = tasks.create_task(live.run())
        if settings.console_access != "off":
            follower = Follower(
                almanac,
                settings.journal_path,
                decoder,
                settings.nodes_path,
            )
            tasks.create_task(asyncio.to_thread(follower.run, ending))
            until_stopped.append(tasks.create_task(sample_each_minute(client, almanac)))
        listener = socket.socket(fileno=bootstrap.listener)
        serving = tasks.create_task(web.serve(app, listener, started))

        def stop() -> None:
            updating.cancel()  # first: the server would wait for a stream that does not end
            serving.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        await started.wait()
        log.info("web process answers")
        await asyncio.wait((serving,))
        for task in until_stopped:
            task.cancel()


@contextlib.asynccontextmanager
async def _set_in_the_end(stop: threading.Event) -> AsyncIterator[None]:
    """Set `stop` at the end: a thread does not end because a task is cancelled."""
    try:
        yield
    finally:
        stop.set()


def _changes_of(database: Path) -> Path:
    """Return the file to which SQLite writes each change first."""
    return database.with_name(f"{database.name}-wal")


def _allow_files() -> None:
    """Raise the limit of open files: each connection is one, and often only 1,024 are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = web.LIMITS.files + web.FILES_BESIDE_CONNECTIONS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    main()
