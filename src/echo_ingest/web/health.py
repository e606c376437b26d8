"""How the house is: health pages for load balancers, metrics for Prometheus, the ledger."""

from typing import Literal, Protocol

from litestar import HttpMethod, Response, get, route
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from echo_ingest.journal import Ledger
from echo_ingest.metrics import REGISTRY
from echo_ingest.sinks import SinkState

METHODS = [HttpMethod.GET, HttpMethod.HEAD]


class Conditions(Protocol):
    """What a process says of itself. Every call is cheap: it is made on the event loop.

    Each returns problems in plain words, by part; empty means fine. Whether a sink can
    be reached is none of them: its records wait in the journal, and a restart would not help it.
    """

    def live(self) -> dict[str, str]:
        """What only a restart of the process would mend."""
        ...

    def ready(self) -> dict[str, str]:
        """What keeps messages from being made durable."""
        ...

    def healthy(self) -> dict[str, str]:
        """What keeps a message sent to the broker from reaching us, besides."""
        ...


class Service(Conditions, Protocol):
    """A process that ingests says besides how much; as cheaply."""

    def ledger(self) -> Ledger:
        """The journal's figures."""
        ...

    def sink_states(self) -> dict[str, SinkState]:
        """What each sink does just now."""
        ...

    def sample(self) -> None:
        """Bring the gauges of `metrics` up to date."""
        ...


class Health(Struct, frozen=True, omit_defaults=True):
    """`ok`, or what is wrong, by part."""

    status: Literal["ok", "failing"]
    problems: dict[str, str] = {}


def health_pages(conditions: Conditions) -> list[HTTPRouteHandler]:
    """How it is: for whoever restarts it, waits for it, or sends devices to it."""

    @route("/livez", http_method=METHODS, sync_to_thread=False, tags=["health"])
    def live() -> Response[Health]:
        """Is the process alive? If not, it should be started again."""
        return _answer(conditions.live())

    @route("/readyz", http_method=METHODS, sync_to_thread=False, tags=["health"])
    def ready() -> Response[Health]:
        """Are messages made durable?"""
        return _answer(conditions.ready())

    @route(["/healthz", "/"], http_method=METHODS, sync_to_thread=False, tags=["health"])
    def healthy() -> Response[Health]:
        """Does a message sent to the broker reach us? For the load balancer."""
        return _answer(conditions.healthy())

    return [live, ready, healthy]


def metrics_page(service: Service) -> HTTPRouteHandler:
    """Figures that tell of no record and no node."""

    @get("/metrics", media_type=CONTENT_TYPE_LATEST, sync_to_thread=False, tags=["health"])
    def metrics() -> bytes:
        """For Prometheus, in its text format."""
        service.sample()
        return generate_latest(REGISTRY)

    return metrics


def figures_pages(service: Service) -> list[HTTPRouteHandler]:
    """The journal's figures, of which it has a copy in memory, and how the sinks are."""

    @get("/api/ledger", sync_to_thread=False, tags=["journal"])
    def ledger() -> Ledger:
        """The proof that nothing was dropped in silence."""
        return service.ledger()

    @get("/api/sinks", sync_to_thread=False, tags=["journal"])
    def sinks() -> dict[str, SinkState]:
        """What each sink does just now, and why not more."""
        return service.sink_states()

    return [ledger, sinks]


def _answer(problems: dict[str, str]) -> Response[Health]:
    if problems:
        return Response(Health("failing", problems), status_code=503)
    return Response(Health("ok"), status_code=200)
