"""Which sinks there are: the one place that knows all of them.

A sink is a package beside this file, a setting that configures it, and an entry in `SPECS`. Its
library is loaded by its factory alone, so that one that is not configured costs nothing.
"""

from collections.abc import Callable

from msgspec import Struct

from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink
from echo_ingest.sinks.clips import CLIP_STORE


class SinkSpec(Struct, frozen=True, kw_only=True):
    """A sink, as all others know it."""

    name: str
    """What the journal, metrics and the command line call it; it never changes."""
    title: str
    """What people call it, such as at the beginning of a line."""
    setting: str
    """The field of `Settings` that configures it, where that is not None."""
    factory: Callable[[Settings], Sink]
    """Make the sink; called only where `setting` is set."""
    advice: str
    """What a person can do about records that it refused."""
    twin: str | None = None
    """The name of another sink that may lead to the same database: with both, every record could
    be there twice."""


def _objects(settings: Settings) -> Sink:
    from echo_ingest.sinks.objects import Objects

    assert settings.objects_url is not None
    return Objects(settings.objects_url)


def _echo_api(settings: Settings) -> Sink:
    from echo_ingest.sinks.echo_api import EchoApi

    assert settings.api_url is not None
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return EchoApi(settings.api_url, key, settings.api_schema, settings.api_bulk)


def _postgres(settings: Settings) -> Sink:
    from echo_ingest.sinks.postgres import Postgres

    assert settings.postgres_url is not None
    return Postgres(settings.postgres_url.get_secret_value())


def _mongodb(settings: Settings) -> Sink:
    from echo_ingest.sinks.mongodb import MongoDb

    assert settings.mongodb_url is not None
    return MongoDb(settings.mongodb_url.get_secret_value(), settings.api_schema)


SPECS: tuple[SinkSpec, ...] = (
    SinkSpec(
        name=CLIP_STORE,
        title="Audio storage",
        setting="objects_url",
        factory=_objects,
        advice="The audio storage does not take this clip under its name. Look at its rules "
        "(retention, locks, sizes), and then try these again.",
    ),
    SinkSpec(
        name="echo_api",
        title="Echo API",
        setting="api_url",
        factory=_echo_api,
        advice="The Echo API has rules of its own and says which one. Where the device is at "
        "fault, correct it there: what was refused stays as it is. Where the API has changed its "
        "rules since, try these again.",
    ),
    SinkSpec(
        name="postgres",
        title="PostgreSQL",
        setting="postgres_url",
        factory=_postgres,
        advice="A rule of your database says no: a constraint or a trigger that was added there, "
        "or a value that it cannot hold. Correct the rule, and then try these again.",
    ),
    SinkSpec(
        name="mongodb",
        title="MongoDB",
        setting="mongodb_url",
        factory=_mongodb,
        advice="A rule of your database says no: a validator or an index that was added there, or "
        "a document that is too large. Correct the rule, and then try these again.",
        twin="echo_api",
    ),
)
"""In the order of delivery: the one that keeps clips for the others comes first."""


def spec_of(name: str) -> SinkSpec | None:
    """Return the entry of a sink; None if there is no such sink, as in an older journal."""
    return next((spec for spec in SPECS if spec.name == name), None)


def title_of(name: str) -> str:
    """Return what people call a sink; an unknown name is its own title."""
    spec = spec_of(name)
    return name if spec is None else spec.title


def configured(settings: Settings) -> list[SinkSpec]:
    """Return the entries of the sinks that are configured, in the order of delivery."""
    return [spec for spec in SPECS if getattr(settings, spec.setting) is not None]


def sink_names(settings: Settings) -> list[str]:
    """Return the names of the sinks that are configured, in the order of delivery."""
    return [spec.name for spec in configured(settings)]


def sinks_of(settings: Settings) -> list[Sink]:
    """Make the sinks that are configured, in the order of delivery."""
    return [spec.factory(settings) for spec in configured(settings)]
