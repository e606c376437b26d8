"""A server whose certificate is not accepted: each part that connects names what helps."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import Endpoint
from echo_ingest.sinks import Cause, Sink, Unavailable
from echo_ingest.sinks.echo_api import EchoApi
from echo_ingest.sinks.mongodb import MongoDb
from echo_ingest.sinks.objects import Objects

YEAR = timedelta(days=365)


@asynccontextmanager
async def server(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """Listen with `certificate`, and say nothing; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def state_of(port: int, ca_file: Path | None, scheme: str = "mqtts") -> str:
    """Return why a session does not connect there."""
    session = Session(
        SessionOptions(
            endpoint=Endpoint(scheme, "127.0.0.1", port, ""),  # type: ignore[arg-type]
            client_id="me",
            tls_ca_file=ca_file,
        )
    )
    before = session.state
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(15):
            while session.state == before:
                await asyncio.sleep(0.02)
        return session.state
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
async def test_a_broker_of_an_authority_that_is_not_known_names_the_setting(scheme: str) -> None:
    async with server(trustme.CA().issue_cert("127.0.0.1")) as port:
        state = await state_of(port, None, scheme)
        assert "certificate verify failed: unable to get local issuer certificate" in state
        assert "set IOT_TLS_CA_FILE" in state


async def test_a_certificate_that_no_authority_could_help_does_not_name_one(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    now = datetime.now(UTC)
    for certificate, words in (
        (authority.issue_cert("127.0.0.1", not_after=now - YEAR), "renew it"),
        (authority.issue_cert("127.0.0.1", not_before=now + YEAR), "clock of this machine"),
        (authority.issue_cert("elsewhere.example.org"), "type the name for which"),
    ):
        async with server(certificate) as port:
            state = await state_of(port, ca_file)
            assert words in state
            assert "IOT_TLS_CA_FILE" not in state


async def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("no certificate")
    state = await state_of(1, ca_file)
    assert f"IOT_TLS_CA_FILE is {ca_file}, which cannot be used" in state


def echo_api(port: int) -> Sink:
    return EchoApi(f"https://127.0.0.1:{port}", None, schema="objects", bulk=True)


def mongodb(port: int) -> Sink:
    return MongoDb(
        f"mongodb://127.0.0.1:{port}/EchoNet?tls=true&serverSelectionTimeoutMS=2000", "objects"
    )


def bucket(_port: int) -> Sink:
    return Objects("s3://reserve")


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (echo_api, "the certificates that this system trusts"),
        (mongodb, "add tlsCAFile= to IOT_MONGODB_URL"),
        (bucket, "the certificates that this system trusts"),
    ],
)
async def test_a_sink_of_an_authority_that_is_not_known_says_what_helps(
    make: Callable[[int], Sink], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(trustme.CA().issue_cert("127.0.0.1")) as port:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_ENDPOINT_URL", f"https://127.0.0.1:{port}"),
        ):
            monkeypatch.setenv(name, value)
        sink = make(port)
        probing: Awaitable[None] = sink.probe()
        with pytest.raises(Unavailable) as raised:
            await probing
        await sink.close()
    assert "cannot be trusted (certificate verify failed: " in str(raised.value)
    assert remedy in str(raised.value)
    assert raised.value.cause == Cause.MISCONFIGURED
