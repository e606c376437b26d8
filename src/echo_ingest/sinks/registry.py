"""Which sinks are wanted, by the settings; libraries of those that are not are never loaded."""

from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink

TITLES = {
    "objects": "Audio storage",
    "echo_api": "Echo API",
    "postgres": "PostgreSQL",
    "mongodb": "MongoDB",
}


def title_of(name: str) -> str:
    """Return what people call the sink `name`; an unknown name is its own title."""
    return TITLES.get(name, name)


def sink_names(settings: Settings) -> list[str]:
    """Of the sinks that are configured, the one that keeps audio first; loads no library of any."""
    wanted = {
        "objects": settings.objects_url,
        "echo_api": settings.api_url,
        "postgres": settings.postgres_url,
        "mongodb": settings.mongodb_url,
    }
    return [name for name, url in wanted.items() if url is not None]


def sinks_of(settings: Settings) -> list[Sink]:
    """The sinks that are configured, in the order of `sink_names`."""
    return [_sink(name, settings) for name in sink_names(settings)]


def _sink(name: str, settings: Settings) -> Sink:
    match name:
        case "objects":
            from echo_ingest.sinks.objects import Objects

            assert settings.objects_url is not None
            return Objects(settings.objects_url)
        case "echo_api":
            from echo_ingest.sinks.echo_api import EchoApi

            assert settings.api_url is not None
            key = settings.api_key.get_secret_value() if settings.api_key else None
            return EchoApi(settings.api_url, key, settings.api_schema, settings.api_bulk)
        case "postgres":
            from echo_ingest.sinks.postgres import Postgres

            assert settings.postgres_url is not None
            return Postgres(settings.postgres_url.get_secret_value())
        case _:
            from echo_ingest.sinks.mongodb import MongoDb

            assert settings.mongodb_url is not None
            return MongoDb(settings.mongodb_url.get_secret_value(), settings.api_schema)
