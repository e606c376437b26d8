"""A mosquitto that is not ours: without accounts, and configured as a test says."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import trustme

from echo_ingest.settings.endpoint import Scheme
from tests.harness import eventually, free_port


class PlainBroker:
    """A mosquitto without accounts, over TCP, TLS and WebSockets."""

    def __init__(self, program: Path, folder: Path, *lines: str) -> None:
        """Configure it, with `lines` besides what lets everybody in and drops nothing.

        Those that are about a port count for the one that speaks MQTT over TCP.
        """
        self._program, self.folder = program, folder
        self.ports: dict[Scheme, int] = {
            "mqtt": free_port(),
            "mqtts": free_port(),
            "ws": free_port(),
            "wss": free_port(),
        }
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        tls = f"certfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
        self._common = [
            "allow_anonymous true",
            "max_queued_messages 0",
            "queue_qos0_messages true",
            f"user {os.environ.get('USER', 'root')}",
        ]
        self._listeners = []
        for scheme, port in self.ports.items():
            self._listeners.append(f"listener {port} 127.0.0.1")
            if scheme.startswith("ws"):
                self._listeners.append("protocol websockets")
            if scheme.endswith("s") and scheme != "ws":
                self._listeners.append(tls)
        self.configure(*lines)
        self.process: subprocess.Popen[bytes]

    def configure(self, *lines: str) -> None:
        """Have these `lines` count at the next start, in place of those before."""
        given = {line.split()[0] for line in lines}
        unlimited = {"max_inflight_messages": "0", "max_packet_size": "268435455"}
        defaults = [f"{name} {value}" for name, value in unlimited.items() if name not in given]
        first, *others = self._listeners
        text = "\n".join([*self._common, *defaults, first, *lines, *others])
        (self.folder / "plain.conf").write_text(text)

    def start(self) -> None:
        with (self.folder / "plain.log").open("ab") as output:
            self.process = subprocess.Popen(
                [self._program, "-c", self.folder / "plain.conf"], stdout=output, stderr=output
            )
        for port in self.ports.values():
            eventually(lambda port=port: _listens(port))  # type: ignore[misc]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    return True
