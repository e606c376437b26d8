"""The web process, as the ingest process sees it: it gets our listening socket and answers there.

It is a process of its own, so that no request over HTTP holds up the line, and no fault there
breaks it. Because we hold the socket, clients that connect while it restarts wait and are not
refused.
"""

import errno
import socket

from echo_ingest.ipc import Answers, WebBootstrap, answer
from echo_ingest.process.log import log_level
from echo_ingest.service.supervisor import ChildProcess
from echo_ingest.settings import Settings, Tokens

STOP_SECONDS_MAX = 6.0
PAUSE_SECONDS_MAX = 5.0  # a health check waits for so long at most


def web_child(
    settings: Settings, tokens: Tokens, listener: socket.socket, lock: int, answers: Answers
) -> ChildProcess:
    """Describe the web process, which answers at `listener` with `answers`."""
    return ChildProcess(
        name="web",
        module="echo_ingest.web",
        lock=lock,
        hand=lambda line: WebBootstrap(settings, tokens, listener.fileno(), line, log_level()),
        speak=lambda ours: answer(ours, answers),
        stop_seconds_max=STOP_SECONDS_MAX,
        pause_seconds_max=PAUSE_SECONDS_MAX,
        passed=(listener.fileno(),),
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise `OSError` with the remedy if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "set IOT_HTTP_PORT to a free port, or stop what listens there"
        if error.errno != errno.EADDRINUSE:
            remedy = (
                "set IOT_BIND to an address of this machine, and IOT_HTTP_PORT to a port that "
                "this user may use"
            )
        raise OSError(
            f"HTTP cannot listen on {host} port {port} ({error.strerror}); {remedy}"
        ) from error
    # A reply is two writes; without this option the second waits for the client's delayed
    # acknowledgement. asyncio sets it only on sockets that it has made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
