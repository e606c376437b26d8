"""`up`, `run`, `broker` and `demo`: everything they do is in `service`."""

from typing import Literal

from echo_ingest import service
from echo_ingest.cli.demo import demonstrate
from echo_ingest.cli.screen import fail
from echo_ingest.settings import Settings


def serve(command: Literal["up", "run", "broker", "demo"], settings: Settings) -> int:
    """Run until told to stop; return the exit code."""
    try:
        match command:
            case "up":
                return service.run_up(settings)
            case "run":
                return service.run_ingest(settings)
            case "broker":
                return service.run_broker(settings)
            case "demo":
                return service.run_up(settings, demonstrate)
    except service.Stopped as error:
        fail(str(error))
