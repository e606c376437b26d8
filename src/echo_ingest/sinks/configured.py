"""Which sinks are wanted, by the settings; libraries of those that are not are never loaded."""

from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink


def sink_names(settings: Settings) -> list[str]:
    """Of the sinks that are configured, in their order; without a library of any."""
    wanted = {
        "objects": settings.objects_url,
        "echo_api": settings.api_url,
        "postgres": settings.postgres_url,
        "mongodb": settings.mongodb_url,
    }
    return [name for name, url in wanted.items() if url is not None]


def sinks_of(settings: Settings) -> list[Sink]:
    """The sinks that are configured, the one that keeps audio first."""
    sinks: list[Sink] = []
    if settings.objects_url is not None:
        from echo_ingest.sinks.objects import Objects

        sinks.append(Objects(settings.objects_url))
    if settings.api_url is not None:
        from echo_ingest.sinks.echo_api import EchoApi

        key = settings.api_key.get_secret_value() if settings.api_key else None
        sinks.append(EchoApi(settings.api_url, key, settings.api_schema, settings.api_bulk))
    if settings.postgres_url is not None:
        from echo_ingest.sinks.postgres import Postgres

        sinks.append(Postgres(settings.postgres_url.get_secret_value()))
    if settings.mongodb_url is not None:
        from echo_ingest.sinks.mongodb import MongoDb

        sinks.append(MongoDb(settings.mongodb_url.get_secret_value(), settings.api_schema))
    return sinks
