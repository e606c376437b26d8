"""The proxy as its real process, before a real mosquitto that listens at a socket file alone."""

import functools
import json
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from echo_ingest.broker import Credentials
from echo_ingest.broker.configuration import password_line
from echo_ingest.proxy.bootstrap import DeviceListener, ProxyBootstrap, ProxyReport, TlsFiles
from tests.harness import Device, eventually

ACCOUNT = Credentials("echopub", "publisher-for-tests")
CERTIFICATE_SECRET = b"secret of certificates"
PAYLOAD_BYTES_MAX = 48 * 1024 * 1024


class ProxySite:
    """A mosquitto, and a proxy with up to four ports."""

    def __init__(
        self,
        folder: Path,
        mosquitto: Path,
        *,
        connections_max: int = 1_000,
        tls: TlsFiles | None = None,
        accounts: tuple[Credentials, ...] = (ACCOUNT,),
        broker_bytes_max: int = 1 << 40,
        reserved_client_ids: tuple[str, ...] = ("echo-ingest-secret",),
        files_max: int | None = None,
    ) -> None:
        self.socket = folder / "devices"
        self.log_path = folder / "proxy.log"
        self._begin = 0
        self._folder, self._program = folder, mosquitto
        (folder / "passwords").write_text(
            "".join(password_line(account, bytes(12), 1) for account in accounts)
        )
        (folder / "mosquitto.conf").write_text(
            f"user root\nlistener 0 {self.socket}\nallow_anonymous false\n"
            f"password_file {folder}/passwords\nmax_queued_messages 0\nmax_inflight_messages 0\n"
            f"max_packet_size {PAYLOAD_BYTES_MAX + 65_536}\nset_tcp_nodelay true\nsys_interval 1\n"
        )
        self.start_broker()
        listening = [socket.socket() for _ in range(4 if tls else 2)]
        for each in listening:
            each.bind(("127.0.0.1", 0))
        self.ports = [each.getsockname()[1] for each in listening]
        self.mqtt_port, self.ws_port = self.ports[:2]
        self.tls_port, self.wss_port = self.ports[-2:]
        self._line, theirs = socket.socketpair()
        bootstrap = ProxyBootstrap(
            listeners=tuple(
                DeviceListener(
                    each.fileno(),
                    port,
                    "websockets" if index in (1, 3) else "mqtt",
                    tls if index in (2, 3) else None,
                )
                for index, (each, port) in enumerate(zip(listening, self.ports, strict=True))
            ),
            broker=self.socket,
            broker_pid=self.broker.pid,
            broker_bytes_max=broker_bytes_max,
            copied_bytes_max=sys.maxsize,
            own_socket=self.socket,
            own_login=(ACCOUNT.user, ACCOUNT.password),
            connections_max=connections_max,
            payload_bytes_max=PAYLOAD_BYTES_MAX,
            reserved_client_ids=reserved_client_ids,
            topic_filters=("a/#", "b/#", "good/#", "iotingestion/#"),
            nodes=folder / "nodes.jsonl",
            certificate_secret=CERTIFICATE_SECRET,
            line=theirs.fileno(),
            log_level=10,
        )
        with self.log_path.open("w") as log:
            self.proxy = subprocess.Popen(
                [sys.executable, "-m", "echo_ingest.proxy"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                preexec_fn=None
                if files_max is None
                else functools.partial(
                    resource.setrlimit, resource.RLIMIT_NOFILE, (files_max, files_max)
                ),
                pass_fds=[theirs.fileno(), *(each.fileno() for each in listening)],
            )
        theirs.close()
        for each in listening:
            each.close()
        assert self.proxy.stdin is not None
        pickle.dump(bootstrap, self.proxy.stdin)
        self.proxy.stdin.flush()
        self.reports: list[ProxyReport] = []
        self._reading = threading.Thread(target=self._read_reports, daemon=True)
        self._reading.start()
        eventually(lambda: "proxy listens" in self.log())

    def start_broker(self) -> None:
        self.broker = subprocess.Popen(
            [self._program, "-c", self._folder / "mosquitto.conf"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._broker_listens)

    def _broker_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
        return True

    def stop_broker(self) -> None:
        self.broker.send_signal(signal.SIGCONT)
        self.broker.terminate()
        self.broker.wait(20)

    def _read_reports(self) -> None:
        with self._line.makefile("rb") as lines:
            for line in lines:
                self.reports.append(msgspec.json.decode(line, type=ProxyReport))

    def log(self) -> str:
        """Return what the proxy has logged since `begin`."""
        return self.log_path.read_text()[self._begin :]

    def begin(self) -> None:
        """Forget what was logged, for the next test."""
        self._begin = len(self.log_path.read_text())

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of one kind."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def metric(self, name: str) -> float:
        """Return a value of the newest report; `name` has its labels."""
        lines = self.reports[-1].metrics.splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        return float(value)

    def device(self, *, websocket: bool = False, client_id: str = "") -> Device:
        port = self.ws_port if websocket else self.mqtt_port
        return Device(port, ACCOUNT.user, ACCOUNT.password, websocket=websocket,
                      client_id=client_id)  # fmt: skip

    def leave_alone(self) -> None:
        """Close our end of the line, as a parent that was killed."""
        self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.proxy.poll() is None:
            self.proxy.terminate()
            try:
                self.proxy.wait(20)
            finally:
                self.proxy.kill()
        assert self.proxy.stdin is not None
        self.proxy.stdin.close()
        self._reading.join(20)
        self._line.close()
        self.stop_broker()


def memory_mb(pid: int) -> float:
    """Return what a process holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def most_memory_mb(pid: int, seconds: float) -> float:
    """Look at a process for a while; return the most that it held in memory."""
    most, deadline, pause = 0.0, time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        most = max(most, memory_mb(pid))
        pause.wait(0.05)
    return most


def cpu_seconds(pid: int) -> float:
    """Return how long a process has used a core."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
