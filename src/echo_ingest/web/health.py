"""How the service is: health pages for load balancers, metrics for Prometheus, the ledger."""

from collections.abc import Awaitable
from typing import Literal, Protocol

from litestar import HttpMethod, Response, get, route
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST

from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import Ledger
from echo_ingest.sinks import SinkState

METHODS = [HttpMethod.GET, HttpMethod.HEAD]


class Conditions(Protocol):
    """How a process is; it is asked anew for each request.

    Each method raises `NoAnswer` if the process does not answer, and returns problems as plain
    sentences, by part; empty means that all is well. An unreachable sink is no problem here: its
    records wait in the journal, and a restart would not help.
    """

    async def live(self) -> dict[str, str]:
        """Return the problems that only a restart of the process would mend."""
        ...

    async def ready(self) -> dict[str, str]:
        """Return what keeps messages from being stored durably."""
        ...

    async def healthy(self) -> dict[str, str]:
        """Return what else keeps a message from reaching us through the broker."""
        ...

    async def endpoints(self) -> dict[str, str]:
        """Return what is wrong with each broker of `IOT_ENDPOINTS`, which is nobody else's."""
        ...


class Service(Conditions, Protocol):
    """An ingest process, which also reports figures."""

    async def ledger(self) -> Ledger:
        """Return the journal's figures."""
        ...

    async def sink_states(self) -> dict[str, SinkState]:
        """Return what each sink does just now."""
        ...

    async def gauges(self) -> ServiceGauges:
        """Return the figures of journal, disk and broker."""
        ...

    async def metrics(self) -> str:
        """Return all metrics in the text format of Prometheus."""
        ...


class HealthReport(Struct, frozen=True, omit_defaults=True):
    """`ok`; or the problems, by part, and those of brokers elsewhere, by endpoint."""

    status: Literal["ok", "degraded", "failing"]
    """`degraded` means that only endpoints of `IOT_ENDPOINTS` have problems."""
    problems: dict[str, str] = {}
    endpoints: dict[str, str] = {}


def health_pages(conditions: Conditions) -> list[HTTPRouteHandler]:
    """Return the pages for those who restart the service, wait for it, or send devices to it."""

    @route("/livez", http_method=METHODS, tags=["health"])
    async def live() -> Response[HealthReport]:
        """Tell whether the process is alive; if it is not, restart it."""
        return await _answer(conditions.live(), {})

    @route("/readyz", http_method=METHODS, tags=["health"])
    async def ready() -> Response[HealthReport]:
        """Tell whether messages are stored durably."""
        return await _answer(conditions.ready(), await _endpoints(conditions))

    @route(["/healthz", "/"], http_method=METHODS, tags=["health"])
    async def healthy() -> Response[HealthReport]:
        """Tell the load balancer whether messages reach us through the broker."""
        return await _answer(conditions.healthy(), await _endpoints(conditions))

    return [live, ready, healthy]


def metrics_page(service: Service) -> HTTPRouteHandler:
    """Return the page of metrics, which reveal no record and no node."""

    @get("/metrics", media_type=CONTENT_TYPE_LATEST, tags=["health"])
    async def metrics() -> str:
        """Return all metrics in the text format of Prometheus."""
        return await service.metrics()

    return metrics


def figures_pages(service: Service) -> list[HTTPRouteHandler]:
    """Return the pages of the journal's figures, which are kept in memory, and of the sinks."""

    @get("/api/ledger", tags=["journal"])
    async def ledger() -> Ledger:
        """Show the message ledger: every message is accounted for."""
        return await service.ledger()

    @get("/api/sinks", tags=["journal"])
    async def sinks() -> dict[str, SinkState]:
        """Show what each sink does just now, and why it does not do more."""
        return await service.sink_states()

    return [ledger, sinks]


async def _endpoints(conditions: Conditions) -> dict[str, str]:
    try:
        return await conditions.endpoints()
    except NoAnswer:
        return {}  # the other question says so


async def _answer(
    question: Awaitable[dict[str, str]], endpoints: dict[str, str]
) -> Response[HealthReport]:
    try:
        problems = await question
    except NoAnswer as error:
        problems = {"service": str(error)}
    if problems:
        return Response(HealthReport("failing", problems, endpoints), status_code=503)
    return Response(HealthReport("degraded" if endpoints else "ok", {}, endpoints), status_code=200)
