"""The other side of every sink."""

from tests.sinks.backend import Backend
from tests.sinks.backends.echo_api import EchoApiBackend
from tests.sinks.backends.mongodb import MongoDbBackend
from tests.sinks.backends.objects import FolderBackend, S3Backend
from tests.sinks.backends.postgres import PostgresBackend

BACKENDS: tuple[type[Backend], ...] = (
    EchoApiBackend,
    FolderBackend,
    S3Backend,
    MongoDbBackend,
    PostgresBackend,
)
