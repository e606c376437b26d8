"""The Echo API with its traps, as a real HTTP server: `python -m tests.replica --port 8000`.

Made after the API's own source, versions of 2023 to September 2026, and what was measured of it.
It keeps what it takes in memory and shows it at `GET /_received`; with `--log FILE` it is written
there instead, a JSON line each before it is answered, and outlives being killed. Its traps:

- It cannot tell a repeat: the same event sent twice is two events.
- It takes nearly anything: dates as epoch seconds, numbers as text, latitude 999, fields that it
  does not know. An uncertainty of 15.7 m becomes 15.
- NaN is taken, stored, and answered with 500.
- The arrays form refuses nulls, and a confidence of exactly 0 or 100.
- The bulk call says 201 even if it took only some, or none, and stores elsewhere than events go.
- A heartbeat of an unknown node gets a 500 with the 404 in its words.
- 120 requests a minute; 1 MiB of JSON; 30 MiB of WAV, MP3 or FLAC.

`POST /_set` with some `Options` as JSON changes its mind at run time.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Literal

import msgspec
from aiohttp import BodyPartReader, web

Json = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON_BYTES_MAX = 1_048_576
UPLOAD_BYTES_MAX = 30 * 1_048_576
BULK_EVENTS_MAX = 100
EXTENSIONS = {".wav", ".mp3", ".flac"}
CONTENT_TYPES = {"audio/wav", "audio/x-wav", "audio/mpeg", "audio/flac", "audio/x-flac"}


class Options(msgspec.Struct):
    """How this API is and what ails it; all of it can be changed while it runs."""

    schema: Literal["objects", "arrays"] = "objects"
    errors: Literal["envelope", "detail"] = "envelope"
    """How it words errors: since September 2026, or as FastAPI does by itself."""
    key: str | None = None
    """The key that events must come with, if it is set."""
    key_header: Literal["x-api-key", "x-engine-api-key"] = "x-engine-api-key"
    nodes: list[str] = []
    """Registered nodes; no other may send heartbeats."""
    requests_per_minute: int | None = None
    """How many requests are allowed in a minute; the real API allows 120."""
    missing: list[str] = []
    """Calls that this version does not have, such as `/detections/bulk`."""
    locked: list[str] = []
    """Calls that need a login, by the beginning of their path."""
    db_connected: bool = True

    trouble: Literal["", "hang", "reset", "truncate", "lie", "page", "move", "flood"] | int = ""
    """What happens to calls: `hang`, `reset` and `truncate` store, and then never answer, break
    the connection, or break it half-way through the answer; `lie` says of a bulk that half of it
    was not there; `page` answers with HTML, `move` with a redirect, `flood` with a 422 that never
    ends, a number with that status, all without storing."""
    trouble_times: int = 1_000_000
    """For how many calls the trouble lasts."""
    retry_after: str = ""
    """What a trouble with a status says in `Retry-After`."""
    refuse_species: str = ""
    """Gets a 422."""
    fail_species: str = ""
    """Gets a 500, each time, and is not stored."""


class Received(msgspec.Struct):
    """One thing that was stored."""

    call: str
    idempotency_key: str | None
    user_agent: str | None
    document: Json
    collection: str


class Invalid(Exception):
    """What pydantic says of a body."""

    def __init__(self, errors: list[Json]) -> None:
        super().__init__(errors)
        self.errors = errors


class Replica:
    """One Echo API on 127.0.0.1; stopped and started again, it keeps its port and what it has."""

    def __init__(self, log: Path | None = None, **options: Any) -> None:
        """`log` gets all that is stored, which is then not kept in memory."""
        self.options = Options(**options)
        self._log = None if log is None else _continued(log)
        self.received: list[Received] = []
        self.requests: list[str] = []
        """Method and path of every call made, whatever came of it."""
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._times: deque[float] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def documents(self, collection: str) -> list[Json]:
        """Return what one collection holds, oldest first."""
        return [each.document for each in self.received if each.collection == collection]

    async def start(self, port: int = 0) -> None:
        """Listen on `port`, else where it listened before, else on a free one."""
        app = web.Application(middlewares=[self._surround], client_max_size=64 * 1_048_576)
        app.add_routes(
            [
                web.get("/_received", self._show),
                web.post("/_set", self._set),
                web.get("/", self._root),
                web.get("/health", self._health),
                web.post("/engine/event", self._event),
                web.post("/detections/bulk", self._bulk),
                web.post("/sim/movement", self._movement),
                web.post("/api/audio/upload", self._upload),
                web.put("/iot/nodes/{node_id}/heartbeat", self._heartbeat),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # ------------------------------------------------------------------ around every call

    @web.middleware
    async def _surround(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        if request.path.startswith("/_"):
            return await handler(request)
        self.requests.append(f"{request.method} {request.path}")
        refusal = self._before(request)
        if refusal is not None:
            return refusal
        trouble = self._trouble() if request.method != "GET" else ""
        if trouble == "page":
            return web.Response(
                text="<html>Welcome to the Forest Lodge Wi-Fi", content_type="text/html"
            )
        if trouble == "move":
            return web.Response(status=307, headers={"Location": "https://elsewhere.example/"})
        if trouble == "flood":
            endless = web.StreamResponse(status=422)
            await endless.prepare(request)
            while True:  # until the other side hangs up
                await endless.write(b"x" * 4096)
        if isinstance(trouble, int):
            headers = {"Retry-After": self.options.retry_after} if self.options.retry_after else {}
            return self._error(trouble, "The service cannot answer now.", headers=headers)
        try:
            response = await handler(request)
        except Invalid as invalid:
            response = self._invalid(invalid.errors)
        except web.HTTPException as error:
            response = self._error(error.status, error.reason)
        return await self._after(request, response, trouble)

    def _before(self, request: web.Request) -> web.Response | None:
        options = self.options
        if options.requests_per_minute is not None and request.path != "/":
            now = time.monotonic()
            while self._times and self._times[0] <= now - 60:
                self._times.popleft()
            if len(self._times) >= options.requests_per_minute:
                wait_seconds = max(1, math.ceil(60 - (now - self._times[0])))
                return _json(
                    429,
                    {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": "Too many requests."}},
                    {"Retry-After": str(wait_seconds)},
                )
            self._times.append(now)
        is_upload = request.content_type == "multipart/form-data"
        limit = UPLOAD_BYTES_MAX + 2 * 1_048_576 if is_upload else JSON_BYTES_MAX
        if (request.content_length or 0) > limit:
            message = "Request body exceeds the allowed size."
            return _json(413, {"error": "Payload Too Large", "message": message})
        if any(request.path == path for path in options.missing):
            return self._error(404, "Not Found")
        if any(request.path.startswith(path) for path in options.locked):
            return self._error(403, "Not authenticated")
        wants_key = options.key is not None and request.path == "/engine/event"
        if wants_key and request.headers.get(options.key_header) != options.key:
            return self._error(401, "Invalid or missing Engine API key.")
        return None

    def _trouble(self) -> str | int:
        if self.options.trouble == "" or self.options.trouble_times < 1:
            return ""
        self.options.trouble_times -= 1
        return self.options.trouble

    async def _after(
        self, request: web.Request, response: web.StreamResponse, trouble: str | int
    ) -> web.StreamResponse:
        assert isinstance(response, web.Response)
        if trouble == "hang":
            await asyncio.Event().wait()
        if trouble == "reset" and request.transport is not None:
            request.transport.abort()
        if trouble == "truncate":
            body = response.body
            assert isinstance(body, bytes)
            half = web.StreamResponse(status=response.status)
            half.content_length = len(body)
            half.content_type = response.content_type
            await half.prepare(request)
            await half.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
            return half
        return response

    def _error(
        self, status: int, message: str, *, headers: dict[str, str] | None = None
    ) -> web.Response:
        if self.options.errors == "detail":
            return _json(status, {"detail": message}, headers)
        error = {"code": "REQUEST_FAILED", "message": message}
        return _json(status, {"status": "failed", "error": error}, headers)

    def _invalid(self, errors: list[Json]) -> web.Response:
        errors = [{**error, "loc": ["body", *error["loc"]]} for error in errors]
        if self.options.errors == "detail":
            return _json(422, {"detail": errors})
        message = "Request validation failed."
        error = {"code": "VALIDATION_ERROR", "message": message, "details": errors}
        return _json(422, {"status": "failed", "error": error})

    def _store(self, request: web.Request, collection: str, document: Json) -> str:
        headers = request.headers
        key, agent = headers.get("Idempotency-Key"), headers.get("User-Agent")
        received = Received(request.path, key, agent, document, collection)
        if self._log is None:
            self.received.append(received)
        else:
            os.write(self._log, msgspec.json.encode(received) + b"\n")
        return secrets.token_hex(12)

    # ------------------------------------------------------------------ the calls

    async def _event(self, request: web.Request) -> web.Response:
        document = self._valid_event(await _body(request), self.options.schema)
        if document["species"] == self.options.fail_species:
            return self._error(500, "An unexpected server error occurred.")
        event_id = self._store(request, "events", document)
        if self.options.schema == "objects" and not _has_nan(document):
            return _json(201, {"status": "success", "eventId": event_id})
        return self._echo(document)

    async def _bulk(self, request: web.Request) -> web.Response:
        events = await _body(request)
        if not isinstance(events, list):
            raise Invalid([_error([], "value is not a valid list")])
        if not events:
            return self._error(400, "Bulk detection payload cannot be empty")
        if len(events) > BULK_EVENTS_MAX:
            return self._error(413, "Bulk detection limit is 100 records")
        valid, errors = [], []
        for index, event in enumerate(events):
            try:
                valid.append(self._valid_event(event, "arrays"))
            except Invalid as invalid:
                errors.append({"index": index, "errors": invalid.errors})
        if any(document["species"] == self.options.fail_species for document in valid):
            return self._error(500, "An unexpected server error occurred.")
        ids = [self._store(request, "detections", document) for document in valid]
        if self.options.trouble == "lie":
            ids = ids[::2]
        reply = {"inserted": len(ids), "rejected": len(errors), "inserted_ids": ids}
        return _json(201, {"received": len(events), **reply, "errors": errors})

    async def _movement(self, request: web.Request) -> web.Response:
        fields = {"timestamp": _moment, "species": _text, "animalId": _text, "animalTrueLLA": _list}
        document = _read(await _body(request), fields)
        self._store(request, "movements", document)
        return self._echo(document)

    async def _heartbeat(self, request: web.Request) -> web.Response:
        node_id = request.match_info["node_id"]
        if node_id not in self.options.nodes:
            return self._error(500, "Error updating node connection: 404: Node not found")
        try:
            message = json.loads(await request.read()).get("message")
        except (ValueError, AttributeError):
            message = None
        self._store(request, "nodes", {"_id": node_id, "lastMessage": message})
        return _json(200, {"message": "Node connection status updated successfully"})

    async def _upload(self, request: web.Request) -> web.Response:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "file" and part.filename:
                break
        else:
            raise Invalid([_error(["file"], "field required")])
        content_type = part.headers.get("Content-Type", "")
        if PurePath(part.filename).suffix.lower() not in EXTENSIONS:
            return self._error(400, "Invalid audio format. Allowed: .wav, .mp3, .flac")
        if content_type not in CONTENT_TYPES:
            return self._error(400, f"Unsupported content-type: {content_type}")
        data = await part.read()
        if not data:
            return self._error(400, "Empty file")
        if len(data) > UPLOAD_BYTES_MAX:
            return self._error(413, "File too large (max 30MB)")
        document = {
            "original_filename": part.filename,
            "content_type": content_type,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        upload_id = self._store(request, "audio_uploads", document)
        reply = {"message": "Upload successful", "filename": part.filename}
        if self.options.schema == "objects":
            reply["upload_id"] = upload_id
        return _json(200, reply)

    async def _root(self, request: web.Request) -> web.Response:
        return web.json_response("Welcome to echo api, move to /docs for more")

    async def _health(self, request: web.Request) -> web.Response:
        return _json(200, {"status": "ok", "db_connected": self.options.db_connected})

    # ------------------------------------------------------------------ for tests

    async def _show(self, request: web.Request) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(self.received), content_type="application/json"
        )

    async def _set(self, request: web.Request) -> web.Response:
        changed = {**msgspec.structs.asdict(self.options), **await request.json()}
        self.options = msgspec.convert(changed, Options)
        return _json(200, msgspec.structs.asdict(self.options))

    # ------------------------------------------------------------------ what it takes

    def _valid_event(self, event: object, schema: str) -> Json:
        place = _list if schema == "arrays" else _object
        fields: dict[str, Callable[[Any], Any]] = {
            "timestamp": _moment,
            "sensorId": _text,
            "species": _text,
            "microphoneLLA": place,
            "animalEstLLA": place,
            "animalTrueLLA": place,
            "animalLLAUncertainty": _int if schema == "arrays" else float,
            "audioClip": str,
            "confidence": _arrays_percent if schema == "arrays" else _percent,
            "sampleRate": _int,
        }
        nullable: tuple[str, ...] = ()
        if schema == "objects":
            fields["sourceType"] = _source_type
            nullable = ("animalEstLLA", "animalTrueLLA", "animalLLAUncertainty")
        document = _read(event, fields, nullable)
        if document["species"] == self.options.refuse_species:
            raise Invalid([_error(["species"], f"{document['species']} is not a known species")])
        return document

    def _echo(self, document: Json) -> web.Response:
        """Answer with what was stored, as the API does: it cannot write NaN, when all is done."""
        if _has_nan(document):
            return self._error(500, "An unexpected server error occurred.")
        return _json(201, {k: v for k, v in document.items() if k != "audioClip"})


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(content, status=status, headers=headers)


async def _body(request: web.Request) -> object:
    try:
        return json.loads(await request.read())  # takes NaN
    except ValueError:
        raise Invalid([_error([], "Expecting value")]) from None


def _error(path: list[str], text: str) -> Json:
    return {"loc": path, "msg": text, "type": "value_error"}


def _read(
    body: object, fields: Mapping[str, Callable[[Any], Any]], nullable: tuple[str, ...] = ()
) -> Json:
    """Read a body as pydantic 1 does: convert what it can, pass over what it does not know."""
    if not isinstance(body, dict):
        raise Invalid([_error([], "value is not a valid dict")])
    document: Json = {}
    errors = []
    for name, convert in fields.items():
        value = body.get(name)
        if name not in body and name not in nullable:
            errors.append(_error([name], "field required"))
        elif value is None and name in nullable:
            document[name] = None
        elif value is None:
            errors.append(_error([name], "none is not an allowed value"))
        else:
            try:
                document[name] = convert(value)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                errors.append(_error([name], str(error)))
    if errors:
        raise Invalid(errors)
    return document


def _text(value: object) -> str:
    if not isinstance(value, str | int | float) or value == "":
        raise ValueError("ensure this value has at least 1 characters")
    return str(value)


def _int(value: str | float) -> int:
    return int(value)  # 15.7 becomes 15


def _moment(value: str | float) -> str:
    try:
        seconds = float(value)
    except ValueError:
        moment = datetime.fromisoformat(str(value))
    else:
        moment = datetime.fromtimestamp(seconds / 1000 if seconds > 2e10 else seconds, UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _list(value: object) -> list[float]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("ensure this value has 3 items")
    return [float(number) for number in value]


def _object(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("value is not a valid dict")
    return {name: float(value[name]) for name in ("latitude", "longitude", "altitude")}


def _percent(value: str | float) -> float:
    number = float(value)
    if number < 0 or number > 100:  # NaN is neither
        raise ValueError("ensure this value is between 0 and 100")
    return number


def _arrays_percent(value: str | float) -> float:
    number = _percent(value)
    if number in (0, 100):
        raise ValueError("ensure this value is greater than 0 and less than 100")
    return number


def _source_type(value: object) -> str:
    if value not in ("real", "simulator"):
        raise ValueError("value is not a valid enumeration member; permitted: 'real', 'simulator'")
    return str(value)


def _has_nan(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def _continued(log: Path) -> int:
    """Open it to write behind what is there; a line that was cut off stays alone."""
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes and os.pread(descriptor, 1, size_bytes - 1) != b"\n":
        os.write(descriptor, b"\n")
    return descriptor


async def _serve(port: int, options: Json, log: Path | None) -> None:
    replica = Replica(log, **options)
    await replica.start(port)
    print(replica.url, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="The Echo API with its traps, for tests.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed")
    parser.add_argument("--set", default="{}", metavar="JSON", help='such as {"schema": "arrays"}')
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep what is stored in there")
    arguments = parser.parse_args()
    options = msgspec.convert(json.loads(arguments.set), Options)
    asyncio.run(_serve(arguments.port, msgspec.structs.asdict(options), arguments.log))


if __name__ == "__main__":
    main()
