"""Another host than the service's, on this machine: what it is asked, and what it answers."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trustme


class Elsewhere:
    """Answers every request in the same way."""

    def __init__(self, port: int, scheme: str) -> None:
        self.host = f"127.0.0.1:{port}"
        self.origin = f"{scheme}://{self.host}"
        self.asked: list[tuple[str, str | None]] = []
        """Each path, and the page it was asked for, as far as the browser told."""


@contextmanager
def elsewhere(media_type: str, body: bytes, *, by_tls: bool = False) -> Iterator[Elsewhere]:
    """Run such a host while it is needed, with a certificate that nobody trusts."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers["Referer"]))
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    if by_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Elsewhere(server.server_address[1], "https" if by_tls else "http")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
