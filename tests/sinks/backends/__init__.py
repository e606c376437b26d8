"""Every sink there is, with its store."""

from tests.sinks.backend import Backend
from tests.sinks.backends.echo_api import EchoApiBackend

BACKENDS: tuple[type[Backend], ...] = (EchoApiBackend,)
