"""How the house is: health pages for load balancers, metrics for Prometheus, the ledger."""

from collections.abc import Awaitable
from typing import Literal, Protocol

from litestar import HttpMethod, Response, get, route
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST

from echo_ingest.ipc import NoAnswer, ServiceGauges
from echo_ingest.journal import Ledger
from echo_ingest.sinks import SinkState

METHODS = [HttpMethod.GET, HttpMethod.HEAD]


class Conditions(Protocol):
    """What the house says of itself; asked anew for each request.

    Each raises `NoAnswer` where nobody answers, and returns problems in plain words, by part; empty
    means fine. Whether a sink can be reached is none of them: its records wait in the journal, and
    a restart would not help it.
    """

    async def live(self) -> dict[str, str]:
        """What only a restart of the process would mend."""
        ...

    async def ready(self) -> dict[str, str]:
        """What keeps messages from being made durable."""
        ...

    async def healthy(self) -> dict[str, str]:
        """What keeps a message sent to the broker from reaching us, besides."""
        ...


class Service(Conditions, Protocol):
    """A process that ingests says besides how much."""

    async def ledger(self) -> Ledger:
        """The journal's figures."""
        ...

    async def sink_states(self) -> dict[str, SinkState]:
        """What each sink does just now."""
        ...

    async def gauges(self) -> ServiceGauges:
        """Return the figures of journal, disk and broker."""
        ...

    async def metrics(self) -> str:
        """For Prometheus, in its text format."""
        ...


class HealthReport(Struct, frozen=True, omit_defaults=True):
    """`ok`, or what is wrong, by part."""

    status: Literal["ok", "failing"]
    problems: dict[str, str] = {}


def health_pages(conditions: Conditions) -> list[HTTPRouteHandler]:
    """How it is: for whoever restarts it, waits for it, or sends devices to it."""

    @route("/livez", http_method=METHODS, tags=["health"])
    async def live() -> Response[HealthReport]:
        """Is the process alive? If not, it should be started again."""
        return await _answer(conditions.live())

    @route("/readyz", http_method=METHODS, tags=["health"])
    async def ready() -> Response[HealthReport]:
        """Are messages made durable?"""
        return await _answer(conditions.ready())

    @route(["/healthz", "/"], http_method=METHODS, tags=["health"])
    async def healthy() -> Response[HealthReport]:
        """Does a message sent to the broker reach us? For the load balancer."""
        return await _answer(conditions.healthy())

    return [live, ready, healthy]


def metrics_page(service: Service) -> HTTPRouteHandler:
    """Figures that tell of no record and no node."""

    @get("/metrics", media_type=CONTENT_TYPE_LATEST, tags=["health"])
    async def metrics() -> str:
        """For Prometheus, in its text format."""
        return await service.metrics()

    return metrics


def figures_pages(service: Service) -> list[HTTPRouteHandler]:
    """The journal's figures, of which it has a copy in memory, and how the sinks are."""

    @get("/api/ledger", tags=["journal"])
    async def ledger() -> Ledger:
        """The proof that nothing was dropped in silence."""
        return await service.ledger()

    @get("/api/sinks", tags=["journal"])
    async def sinks() -> dict[str, SinkState]:
        """What each sink does just now, and why not more."""
        return await service.sink_states()

    return [ledger, sinks]


async def _answer(asked: Awaitable[dict[str, str]]) -> Response[HealthReport]:
    try:
        problems = await asked
    except NoAnswer as error:
        problems = {"service": str(error)}
    if problems:
        return Response(HealthReport("failing", problems), status_code=503)
    return Response(HealthReport("ok"), status_code=200)
