"""Azure's blob storage as Azurite speaks it, as a process on a port of its own."""

import base64
import contextlib
import hashlib
import hmac
import socket
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path

from obstore.store import AzureStore

from tests.harness import free_port
from tests.server import Server

CONTAINER = "reserve"
ACCOUNT = "devstoreaccount1"  # of every Azurite, and its key is no secret
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azure:
    """One container; `program` is an `azurite-blob`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._port = free_port()
        self._endpoint = f"http://127.0.0.1:{self._port}/{ACCOUNT}"
        self._server = Server(
            [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(self._port),
             "--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
            self._is_listening,
            log=folder / "azurite.log",
        )  # fmt: skip

    def start(self) -> None:
        self._server.start()
        now, path = formatdate(usegmt=True), f"/{ACCOUNT}/{CONTAINER}"
        headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
        signed = "\n".join(
            ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items()),
             f"/{ACCOUNT}{path}", "restype:container"]
        )  # fmt: skip
        digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port, timeout=5)) as connection:
            connection.request("PUT", f"{path}?restype=container", headers=headers)
            assert connection.getresponse().status == 201

    def close(self) -> None:
        self._server.stop()

    def environment(self) -> dict[str, str]:
        """Return the URL that leads to it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": self._endpoint,
        }

    def store(self) -> AzureStore:
        return AzureStore(
            CONTAINER,
            account_name=ACCOUNT,
            account_key=KEY,
            endpoint=self._endpoint,
            client_options={"allow_http": True},
        )

    def _is_listening(self) -> bool:
        socket.create_connection(("127.0.0.1", self._port), 1).close()
        return True
