"""Where the probes of a run have come: into the journal, and from there to each sink.

Asked of the journal itself, or of the read API. A sink has settled every offset up to its cursor;
what it refused of them is parked, and it has the rest. The cursor is not shown anywhere, but is at
least the newest offset less the backlog. What moves is read in the order in which that errs towards
"not there yet": newest offset, ledger, parked.
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
    """The read API did not answer; the message says how."""


class SinkFound(Struct):
    """How far a sink is."""

    cursor: int
    """Every offset up to here is delivered or parked; there may be more."""
    parked: dict[int, str]
    """Offset → the sink's own words."""


class RunResults(Struct):
    """What there is of a run."""

    offsets: dict[str, list[int]]
    """Probe id → where it is in the journal. What is damaged there is not counted."""
    sinks: dict[str, SinkFound]


def in_journal(path: Path, node: str, after: int) -> RunResults:
    """Look into the journal at `path`, at records behind offset `after`."""
    with closing(JournalReader(path)) as archive:
        offsets: dict[str, list[int]] = {}
        last = after
        while page := archive.after(Selection(node=node), last):
            last = page[-1].offset
            for entry in page:
                if not entry.damaged and (name := message_id(entry.message)) is not None:
                    offsets.setdefault(name, []).append(entry.offset)
        newest, ledger = archive.last_offset(), archive.ledger()
        parked = list(archive.parked(node=node, after=after))
    return RunResults(
        offsets,
        {
            name: SinkFound(
                newest - sink.backlog, {p.offset: p.reason for p in parked if p.sink == name}
            )
            for name, sink in ledger.sinks.items()
        },
    )


# ---------------------------------------------------------------------- over HTTP


class _RecordFields(Struct):
    message_id: str | None = None


class _RecordItem(Struct):
    offset: int
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
    """Where it is, and what it asks for."""

    url: str
    token: str


def over_http(api: ReadApi, node: str, since: datetime) -> RunResults:
    """Ask it for records observed since then; raises `NotAnswered`."""
    offsets: dict[str, list[int]] = {}
    before: int | None = None
    while True:
        page = _get(
            api, "records", _RecordsReply,
            node=node, since=since.isoformat(), before=before, limit=PAGE,
        )  # fmt: skip
        for stored in page.records:
            if stored.record is not None and stored.record.message_id is not None:
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
            name: SinkFound(
                (newest[0].offset if newest else 0) - sink.backlog,
                _parked(api, name, node, after),
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
    """GET a page of the read API."""
    url, parts = api.url, urlsplit(api.url)
    headers = {"Authorization": f"Bearer {api.token}"}
    given = urlencode({key: value for key, value in query.items() if value is not None})
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(make(parts.netloc, timeout=HTTP_TIMEOUT_SECONDS)) as connection:
            connection.request("GET", f"{parts.path}/api/{name}?{given}", headers=headers)
            reply = connection.getresponse()
            body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotAnswered(f"{url} does not answer ({error})") from error
    if reply.status == http.HTTPStatus.UNAUTHORIZED:
        raise NotAnswered(
            f"{url} wants another token: set IOT_HTTP_TOKEN to the one of that service, which is "
            "kept in secrets/http in its data folder"
        )
    if reply.status != http.HTTPStatus.OK:
        raise NotAnswered(f"{url}/api/{name} answers with {reply.status}: {body[:200]!r}")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise NotAnswered(f"{url}/api/{name} is not the read API of echo-ingest") from error
