"""The Echo API as a sink: which record goes to which call, and what each answer means for it.

The API cannot tell a repeat: a POST repeated after a lost reply makes a second event. So one
`write` is one such call, and a crash repeats at most that one; only a detection whose clip is too
large for an event takes two (upload, then event), and a message of several records at least one for
each that does not fit into the same bulk call. `project_echo` has what is sent, `replies` what
answers mean, and docs/echo-api.md describes both to people.

- A measurement needs no call, nor does a detection whose label names no animal: the API has no
  place for them.
- A 2xx that is no web page: taken. Of many events, all but those that the answer names.
- 401, 403, 404, 405: the key or the address is wrong, so the API is unavailable. But where it takes
  an event from us, it only does not offer us this call: the record is refused.
- 3xx, 408, 425, 429, 5xx, no answer, half an answer: the API is unavailable.
- 500 for one record `FAILURES_MAX` times in a row, while `probe` finds nothing wrong: refused.
- Any other 4xx: refused, in the API's own words.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from itertools import takewhile
from urllib.parse import quote

import aiohttp
import structlog
from msgspec import Struct
from msgspec.structs import replace

from echo_ingest import __version__
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    Movement,
    Recording,
    Telemetry,
    record_key,
)
from echo_ingest.settings import certificates
from echo_ingest.settings.certificates import why_untrusted
from echo_ingest.sinks import (
    Cause,
    Delivery,
    Refusal,
    Unavailable,
    Written,
    clips,
    project_echo,
    which_record,
)
from echo_ingest.sinks.echo_api import replies
from echo_ingest.sinks.echo_api.replies import Reply
from echo_ingest.sinks.project_echo import EventRefused, Schema

EVENT, BULK, MOVEMENT, UPLOAD = (
    "/engine/event",
    "/detections/bulk",
    "/sim/movement",
    "/api/audio/upload",
)
BULK_EVENTS_MAX = 100
REPLY_BYTES_MAX = 65_536
BULK_REPLY_BYTES_MAX = 1_048_576
"""For each event that it did not take, the answer repeats what is wrong with each field."""
BYTES_PER_SECOND_MIN = 50_000
"""The slowest uplink for which the time limit of a large body is made."""
KEEP_ALIVE_SECONDS = 4.0
"""uvicorn, under the API, closes idle connections after 5: a POST into that would be lost."""

FAILURES_MAX = 8
"""How many times one record may get a 500 before it is refused, at first; see `_fail`."""
FAILURES_LIMIT = 1024

KEY_REMEDY = "set IOT_API_KEY to a key that this API knows"
URL_REMEDY = "set IOT_API_URL to the address of the Echo API, without the path of a call"
NOT_OFFERED = "this API takes events from us, but does not offer us this call"
WAITS = "the service tries again by itself"
# Older versions of Starlette give the hidden 404 no text; a fault of the database always has some.
HIDDEN_404 = re.compile(r"\b404\b|Error updating node connection:$")

log = structlog.get_logger("echo_api")


class HeadOfLine:
    """The message at the head of the line, and what has been tried for it so far."""

    def __init__(self, key: bytes = b"", form: str | None = None) -> None:
        self.key = key
        self.form = form
        """By which form its records were made: those of another form are others."""
        self.past = 0
        """How many of its records have been taken, or refused."""
        self.refusals: list[Refusal] = []
        self._begin_record()

    def _begin_record(self) -> None:
        self.failures = 0
        self.heartbeat_settled = False
        self.audio: str | None = None
        """The id of the record's clip, once that is uploaded; an event may name it by this."""

    def pass_record(self) -> None:
        """Go on with the next record."""
        self.past += 1
        self._begin_record()


class PendingRecord(Struct, frozen=True, gc=False):
    """A record on its way, with its message."""

    delivery: Delivery
    index: int

    @property
    def record(self) -> AnyRecord:
        """Return the record itself."""
        return self.delivery.records[self.index]

    @property
    def key(self) -> bytes:
        """Return the key by which a repeat could be told."""
        return record_key(self.delivery.key, self.index)

    @property
    def which(self) -> str:
        """Return the words that name it in a refusal."""
        return which_record(self.index, len(self.delivery.records))


class BulkEvent(Struct, frozen=True, gc=False):
    """A detection in a bulk call."""

    place: int
    """The place of its message in the batch."""
    pending: PendingRecord
    body: bytes


class BulkCall(Struct, gc=False):
    """The detections of one bulk call."""

    events: list[BulkEvent]
    whole: int
    """How many leading messages of the batch it completes; 0: it has a part of the first."""


class EchoApi:
    """The sink that takes records to one Echo API; satisfies `Sink`.

    `url` is without a slash at its end. `key` is sent under both header names that versions of the
    API read. `schema` is the form of its events; `bulk` lets several waiting detections go in one
    call, which the API keeps in another collection. `timeout_seconds` is for a small body; a large
    one gets longer.
    """

    name = "echo_api"
    batch_records_max = BULK_EVENTS_MAX
    is_idempotent = False

    def __init__(
        self,
        url: str,
        key: str | None,
        schema: Schema,
        bulk: bool,
        timeout_seconds: float = 30.0,
    ) -> None:
        self.address = url
        self._schema = schema
        self._timeout_seconds = timeout_seconds
        self._headers = {"User-Agent": f"echo-ingest/{__version__}"}
        if key is not None:
            self._headers |= {"x-api-key": key, "x-engine-api-key": key}
        self._session: aiohttp.ClientSession | None = None
        self._has_bulk = bulk
        self._singly_through = 0
        """Up to this offset, detections go one by one: in one call they were refused."""
        self._head = HeadOfLine()
        self._failures_max = FAILURES_MAX

    # ------------------------------------------------------------------ the Sink protocol

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle the first message, or the leading detections together; or raise `Unavailable`.

        What has been taken of a message is not repeated as long as nothing comes before it.
        """
        silent = sum(1 for _ in takewhile(_needs_no_call, batch))
        if silent:
            return Written(silent)
        delivery = batch[0]
        form = delivery.message.form
        if (self._head.key, self._head.form) != (delivery.key, form):
            self._head = HeadOfLine(delivery.key, form)
        while self._head.past < len(delivery.records):
            call = self._bulk_call(batch)
            if len(call.events) < 2:
                await self._write_one(PendingRecord(delivery, self._head.past))
            elif (refusals := await self._write_many(batch, call)) is None:
                continue
            elif call.whole:
                self._head = HeadOfLine()
                return Written(call.whole, refusals)
        refusals = _refusals_by_message(self._head.refusals, batch)
        self._head = HeadOfLine()
        return Written(1, refusals)

    async def probe(self) -> None:
        """Find out if the API is there, has its database, and lets us in; store nothing.

        Raises `Unavailable` with the remedy.
        """
        reply = await self._call("GET", "/health")  # older versions answer 404, which is enough
        if reply.status >= 500:
            raise _unavailable(reply, Cause.ANSWERS_ERRORS)
        if re.search(rb'"db_connected"\s*:\s*false', reply.body):
            raise Unavailable(
                "the Echo API has lost its database: check its MongoDB",
                cause=Cause.ANSWERS_ERRORS,
                http_status=reply.status,
            )
        await self._try_the_door()

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ------------------------------------------------------------------ which call

    async def _write_one(self, pending: PendingRecord) -> None:
        """Pass the record at the head of the line; raise `Unavailable` if that is not possible."""
        if not project_echo.needs_no_call(pending.record):
            try:
                await self._deliver(pending)
            except EventRefused as refused:
                self._head.refusals.append(refused.refusal(0, pending.which))
        self._head.pass_record()

    async def _deliver(self, pending: PendingRecord) -> None:
        match pending.record:
            case Detection() as detection:
                await self._deliver_event(pending, detection)
            case Recording() as recording:
                await self._deliver_recording(pending, recording)
            case Telemetry() as telemetry:
                await self._deliver_heartbeat(pending, telemetry)
            case Movement() as movement:
                body = project_echo.movement(movement)
                await self._judge(await self._call("POST", MOVEMENT, body, pending.key))

    async def _deliver_event(self, pending: PendingRecord, detection: Detection) -> None:
        body = project_echo.event_with_clip(
            pending.delivery, pending.index, detection, self._schema
        )
        if body is None:
            assert detection.clip is not None
            if self._head.audio is None:
                reply = await self._upload(pending, detection, detection.clip)
                self._head.audio = replies.upload_reference(reply.body)
            body = project_echo.event(detection, self._schema, self._head.audio)
        await self._judge(await self._call("POST", EVENT, body, pending.key), is_event=True)

    async def _deliver_recording(self, pending: PendingRecord, recording: Recording) -> None:
        has_heartbeat = recording.health is not None and project_echo.node_id(recording) is not None
        if has_heartbeat and not self._head.heartbeat_settled:
            try:
                await self._deliver_heartbeat(pending, recording)
            except EventRefused as refused:  # the audio is worth keeping without it
                offset = pending.delivery.offset
                log.warning("heartbeat refused", offset=offset, reason=str(refused))
            self._head.heartbeat_settled = True
        if pending.delivery.clip_place is None:  # else no call names the clip
            await self._upload(pending, recording, recording.clip)

    async def _deliver_heartbeat(
        self, pending: PendingRecord, record: Telemetry | Recording
    ) -> None:
        node = project_echo.require_node_id(record)
        if not node.strip("."):
            raise EventRefused(
                f"the record has no node id, since {node!r} cannot be part of an address: let the "
                "device publish below another name",
                ReasonCode.NODE_ID_MISSING,
            )
        path = f"/iot/nodes/{quote(node, safe='')}/heartbeat"
        reply = await self._call("PUT", path, project_echo.heartbeat(record), pending.key)
        unknown = f"register the node {node!r} at the Echo API, then replay"
        if reply.status == 500 and HIDDEN_404.search(replies.plain_words(reply.body)):
            raise EventRefused(f"{reply.text()}: {unknown}", ReasonCode.NODE_UNKNOWN_TO_SINK)
        await self._judge(reply, remedy_of_404=unknown, code_of_404=ReasonCode.NODE_UNKNOWN_TO_SINK)

    async def _upload(
        self, pending: PendingRecord, record: Detection | Recording, clip: Clip
    ) -> Reply:
        project_echo.check_upload(clip)
        assert clip.container != "ogg"
        delivery = pending.delivery
        form = aiohttp.FormData()
        form.add_field(
            "file",
            BytesIO(clips.audio_of(delivery.decoder, delivery.message, pending.index)),
            filename=project_echo.upload_name(record, clip),
            content_type=project_echo.CONTENT_TYPES[clip.container],
        )
        reply = await self._call("POST", UPLOAD, form, pending.key, body_bytes=clip.size_bytes)
        await self._judge(reply)
        return reply

    # ------------------------------------------------------------------ many detections at once

    def _bulk_call(self, batch: Sequence[Delivery]) -> BulkCall:
        """Return the call with the leading detections, as many as fit; it wants arrays.

        What needs no call may stand between them. Messages are not divided, unless the first does
        not fit into one call.
        """
        call = BulkCall([], 0)
        if not self._has_bulk:
            return call
        left_bytes = project_echo.JSON_BYTES_MAX - len("[")
        for place, delivery in enumerate(batch[:BULK_EVENTS_MAX]):
            if delivery.offset <= self._singly_through:
                break
            first = 0 if place else self._head.past
            events_max = BULK_EVENTS_MAX - len(call.events)
            events, is_whole = _leading_events(place, delivery, first, events_max, left_bytes)
            if not is_whole and place:
                break
            call.events += events
            if not is_whole:
                break
            if events:
                call.whole = place + 1
            left_bytes -= sum(len(each.body) + len(",") for each in events)
        return call

    async def _write_many(
        self, batch: Sequence[Delivery], call: BulkCall
    ) -> tuple[Refusal, ...] | None:
        """Make the call; return what it refuses of the messages that it completes.

        Of a part of the first message, what is refused is kept until the rest is past. Return None
        if the events are to go one by one.
        """
        events = call.events
        keys = b"".join(each.pending.key for each in events)
        reply = await self._call(
            "POST",
            BULK,
            b"[" + b",".join(each.body for each in events) + b"]",
            hashlib.blake2b(keys, digest_size=16).digest(),
            reply_bytes_max=BULK_REPLY_BYTES_MAX,
        )
        if reply.is_success:
            refusals = replies.bulk_refusals(reply.body, len(events))
            if refusals is None:
                # Some may be stored: a call that cannot be trusted is not repeated.
                self._has_bulk = False
                raise Unavailable(
                    f"the Echo API's bulk call answered {reply.status}, but not for each of "
                    f"{len(events)} events: from now on they go one by one, some perhaps twice",
                    cause=Cause.ANSWERS_ERRORS,
                    http_status=reply.status,
                )
            if len(refusals) < len(events):
                self._failures_max = FAILURES_MAX
                self._head.refusals += [
                    replace(
                        each,
                        index=events[each.index].place,
                        reason=events[each.index].pending.which + each.reason,
                    )
                    for each in refusals
                ]
                self._head.past = events[-1].pending.index + 1
                return _refusals_by_message(self._head.refusals, batch)
        elif reply.status in (401, 403, 404, 405):  # an event shows if it is only this call
            self._has_bulk = False
        elif reply.status != 500:
            _raise_for_the_world(reply)
        self._singly_through = batch[events[-1].place].offset
        if reply.status == 500:
            raise _unavailable(reply, Cause.ANSWERS_ERRORS)
        return None

    # ------------------------------------------------------------------ what an answer means

    async def _judge(
        self,
        reply: Reply,
        *,
        is_event: bool = False,
        remedy_of_404: str = NOT_OFFERED,
        code_of_404: ReasonCode = ReasonCode.NOT_SUPPORTED_BY_SINK,
    ) -> None:
        """Return if the reply means that the record was taken.

        Otherwise raise `EventRefused` or `Unavailable`.
        """
        if reply.is_success:
            self._failures_max = FAILURES_MAX
            return
        if reply.status in (401, 403, 404, 405) and not is_event:
            await self._try_the_door()
            if reply.status == 404:
                raise EventRefused(f"{reply.text()}: {remedy_of_404}", code_of_404)
            raise EventRefused(f"{reply.text()}: {NOT_OFFERED}", ReasonCode.NOT_SUPPORTED_BY_SINK)
        if reply.status == 500:
            await self._fail(reply)
        _raise_for_the_world(reply)
        raise EventRefused(reply.text(), field=replies.problem_field(reply.body))

    async def _fail(self, reply: Reply) -> None:
        """Count a 500; raise `EventRefused` when it must be this record's own.

        A 500 may be a failure of the API, or of the API on this one record; to wait without end for
        the second would block all records behind it. As long as nothing is taken in between, each
        further record needs twice as many: an outage of hours parks a handful of records.
        """
        self._head.failures += 1
        if self._head.failures >= self._failures_max:
            await self.probe()
            self._failures_max = min(2 * self._failures_max, FAILURES_LIMIT)
            raise EventRefused(
                f"{reply.text()}, {self._head.failures} times in a row, while nothing else is "
                "wrong with it: look into its log, then replay",
                ReasonCode.FAILS_AT_SINK,
            )
        raise _unavailable(reply, Cause.ANSWERS_ERRORS)

    async def _try_the_door(self) -> None:
        """Raise `Unavailable` if key or address are wrong: an empty event is never stored."""
        reply = await self._call("POST", EVENT, b"{}")
        if not reply.is_success:
            _raise_for_the_world(reply)

    # ------------------------------------------------------------------ HTTP

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | aiohttp.FormData | None = None,
        key: bytes | None = None,
        *,
        body_bytes: int = 0,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> Reply:
        """Make one call and read its answer, at most `reply_bytes_max` of it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = {} if key is None else {"Idempotency-Key": key.hex()}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
            body_bytes = len(body)
        total_seconds = self._timeout_seconds + body_bytes / BYTES_PER_SECOND_MIN
        try:
            async with self._session.request(
                method,
                self.address + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=total_seconds),
            ) as response:
                start = bytearray()
                async for chunk in response.content.iter_chunked(REPLY_BYTES_MAX):
                    start += chunk
                    if len(start) >= reply_bytes_max:
                        break
                return Reply(
                    response.status,
                    bytes(start[:reply_bytes_max]),
                    replies.retry_after_seconds(response.headers, datetime.now(UTC)),
                    response.headers.get("Location"),
                )
        except TimeoutError:
            raise Unavailable(
                f"no answer from the Echo API within {total_seconds:.0f} s: {WAITS}",
                cause=Cause.NO_ANSWER,
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            if untrusted := why_untrusted(error, certificates.SYSTEM):
                raise Unavailable(
                    f"the Echo API at {self.address} cannot be trusted ({untrusted})",
                    cause=Cause.MISCONFIGURED,
                ) from None
            raise Unavailable(
                f"no answer from the Echo API ({str(error) or type(error).__name__}): "
                f"is it running, and IOT_API_URL={self.address} its address?",
                cause=Cause.MISCONFIGURED
                if isinstance(error, aiohttp.ClientSSLError)
                else Cause.UNREACHABLE,
            ) from None


def _leading_events(
    place: int, delivery: Delivery, first: int, events_max: int, bytes_max: int
) -> tuple[list[BulkEvent], bool]:
    """Return the leading events of a message from record `first`, and whether these are all.

    `events_max` and `bytes_max` are what is left of the call.
    """
    events: list[BulkEvent] = []
    for index in range(first, len(delivery.records)):
        record = delivery.records[index]
        if project_echo.needs_no_call(record):
            continue
        if not isinstance(record, Detection) or len(events) == events_max:
            return events, False
        try:
            body = project_echo.event_with_clip(delivery, index, record, "arrays")
        except EventRefused:
            return events, False
        bytes_max -= len(body or b"") + len(",")
        if body is None or bytes_max < 0:
            return events, False
        events.append(BulkEvent(place, PendingRecord(delivery, index), body))
    return events, True


def _refusals_by_message(
    of_records: Iterable[Refusal], batch: Sequence[Delivery]
) -> tuple[Refusal, ...]:
    """Return one refusal for each message of which a record was refused."""
    by_message: dict[int, list[Refusal]] = {}
    for each in of_records:
        by_message.setdefault(each.index, []).append(each)
    refusals: list[Refusal] = []
    for place, (first, *others) in by_message.items():
        reason, taken = first.reason, len(batch[place].records) - 1 - len(others)
        if others:
            reason += f"; it refused {len(others):,} more of the message"
        if taken:
            reason += f"; it took {taken:,} of the message, and a replay sends these again"
        refusals.append(replace(first, reason=reason))
    return tuple(refusals)


def _needs_no_call(delivery: Delivery) -> bool:
    """Return whether no record of a message needs a call."""
    return all(map(project_echo.needs_no_call, delivery.records))


def _raise_for_the_world(reply: Reply) -> None:
    """Raise `Unavailable` for an answer that says nothing about the record."""
    match reply.status:
        case status if status < 300:
            problem = f" with a web page, as no Echo API does: {URL_REMEDY}"
            raise _unavailable(reply, Cause.MISCONFIGURED, problem)
        case status if status < 400:
            problem = f", a redirect to {reply.location}: {URL_REMEDY}"
            raise _unavailable(reply, Cause.MISCONFIGURED, problem)
        case 401 | 403:
            raise _unavailable(reply, Cause.CREDENTIALS, f": {KEY_REMEDY}")
        case 404 | 405:
            raise _unavailable(reply, Cause.MISCONFIGURED, f": {URL_REMEDY}")
        case 425 | 429:
            raise _unavailable(reply, Cause.OVERLOADED)
        case status if status == 408 or status >= 500:
            raise _unavailable(reply, Cause.ANSWERS_ERRORS)


def _unavailable(reply: Reply, cause: Cause, problem: str = f": {WAITS}") -> Unavailable:
    """Return what to raise for an answer; `problem` goes on where its text ends."""
    return Unavailable(
        f"{reply.text()}{problem}",
        cause=cause,
        http_status=reply.status,
        retry_after_seconds=reply.retry_after_seconds,
    )
