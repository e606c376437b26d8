"""`migrate`: the tables of a PostgreSQL database, by a role that may make them."""

import asyncio
import logging

import typer

from echo_ingest.cli.options import log_from, settings_of
from echo_ingest.cli.output import fail, out, say
from echo_ingest.sinks import Unavailable


def migrate(context: typer.Context) -> None:
    """Bring the tables in [b]IOT_POSTGRES_URL[/] up to date.

    The service does it by itself, if its role may. This is for a role that it does not have.
    """
    settings = settings_of(context)
    if settings.postgres_url is None:
        fail("IOT_POSTGRES_URL is not set: type the database, and a role that may make tables", 2)
    log_from(logging.CRITICAL)  # what was applied is the result
    from echo_ingest.sinks.postgres import Postgres  # heavy: see cli/__init__.py

    sink = Postgres(settings.postgres_url.get_secret_value())
    say(f"{sink.address}: this may take a while where there are many rows")
    try:
        applied = asyncio.run(sink.migrate())
    except Unavailable as error:
        fail(f"{sink.address}: {error}")
    for file in applied:
        out.print(f"applied {file}")
    if not applied:
        say("there was nothing to do")
