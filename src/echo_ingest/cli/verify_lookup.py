"""Where the probes of `verify` are: in the journal, and from there in each sink.

The journal itself is read, or the read API is asked. A sink has settled every offset up to its
cursor: it has all of these records but those that it refused, which are parked. Nothing shows the
cursor itself, but it is at least the newest offset minus the backlog. While these change, they are
read in the order in which an error means "not there yet": newest offset, ledger, parked.
"""

import http.client
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from echo_ingest.decode import message_id
from echo_ingest.journal import Ledger
from echo_ingest.journal.reader import JournalReader, Selection

HTTP_TIMEOUT_SECONDS = 15.0
PAGE = 500

T = TypeVar("T")


class NotAnswered(Exception):
    """The read API did not give a usable answer; the message says what happened."""


class SinkProgress(Struct):
    """How far a sink is."""

    cursor: int
    """Every offset up to here is delivered or parked, and perhaps some after it."""
    parked: dict[int, str]
    """Offset → why the sink refused the record."""


class RunResults(Struct):
    """Where the probes of a run are."""

    offsets: dict[str, list[int]]
    """Probe id → its offsets in the journal. Damaged records are not counted."""
    sinks: dict[str, SinkProgress]


def in_journal(path: Path, node: str, after: int) -> RunResults:
    """Look in the journal at `path`, at the records after the offset `after`."""
    with closing(JournalReader(path)) as reader:
        offsets: dict[str, list[int]] = {}
        last = after
        while page := reader.after(Selection(node=node), last):
            last = page[-1].offset
            for entry in page:
                probe_id = None if entry.damaged else message_id(entry.message)
                if probe_id is not None:
                    offsets.setdefault(probe_id, []).append(entry.offset)
        newest, ledger = reader.last_offset(), reader.ledger()
        parked = list(reader.parked(node=node, after=after))
    return RunResults(
        offsets,
        {
            name: SinkProgress(
                cursor=newest - sink.backlog,
                parked={each.offset: each.reason for each in parked if each.sink == name},
            )
            for name, sink in ledger.sinks.items()
        },
    )


# ---------------------------------------------------------------------- over HTTP


class _RecordFields(Struct):
    message_id: str | None = None


class _RecordItem(Struct):
    offset: int
    index: int
    record: _RecordFields | None


class _RecordsReply(Struct):
    records: list[_RecordItem]
    next: int | None


class _ParkedItem(Struct):
    offset: int
    reason: str


class _ParkedReply(Struct):
    parked: list[_ParkedItem]


class ReadApi(Struct, frozen=True):
    """The address of a read API, and the token for it."""

    url: str
    token: str


def over_http(api: ReadApi, node: str, since: datetime) -> RunResults:
    """Ask a read API for the records observed since then; raise `NotAnswered`."""
    offsets: dict[str, list[int]] = {}
    before: int | None = None
    while True:
        page = _get(
            api, "records", _RecordsReply,
            node=node, since=since.isoformat(), before=before, limit=PAGE,
        )  # fmt: skip
        for stored in page.records:
            if (
                stored.index == 0
                and stored.record is not None
                and stored.record.message_id is not None
            ):
                offsets.setdefault(stored.record.message_id, []).append(stored.offset)
        before = page.next
        if before is None:
            break
    newest = _get(api, "records", _RecordsReply, limit=1).records
    ledger = _get(api, "ledger", Ledger)
    after = min((each[0] for each in offsets.values()), default=1) - 1
    return RunResults(
        offsets,
        {
            name: SinkProgress(
                cursor=(newest[0].offset if newest else 0) - sink.backlog,
                parked=_parked(api, name, node, after),
            )
            for name, sink in ledger.sinks.items()
        },
    )


def _parked(api: ReadApi, sink: str, node: str, after: int) -> dict[int, str]:
    parked: dict[int, str] = {}
    while page := _get(
        api, "parked", _ParkedReply, sink=sink, node=node, after=after, limit=PAGE
    ).parked:
        parked |= {each.offset: each.reason for each in page}
        after = page[-1].offset
    return parked


def _get(api: ReadApi, name: str, kind: type[T], **query: str | int | None) -> T:
    """GET `/api/<name>` and decode the answer."""
    url, parts = api.url, urlsplit(api.url)
    headers = {"Authorization": f"Bearer {api.token}"}
    parameters = urlencode({key: value for key, value in query.items() if value is not None})
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(connect(parts.netloc, timeout=HTTP_TIMEOUT_SECONDS)) as connection:
            connection.request("GET", f"{parts.path}/api/{name}?{parameters}", headers=headers)
            reply = connection.getresponse()
            body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotAnswered(f"{url} does not answer ({error})") from error
    if reply.status == http.HTTPStatus.UNAUTHORIZED:
        raise NotAnswered(
            f"{url} does not accept the token: set IOT_HTTP_TOKEN to the token of that service, "
            "which is in secrets/http in its data folder"
        )
    if reply.status != http.HTTPStatus.OK:
        raise NotAnswered(f"{url}/api/{name} answered with {reply.status}: {body[:200]!r}")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise NotAnswered(f"{url}/api/{name} is not the read API of echo-ingest") from error
