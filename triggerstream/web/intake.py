"""HTTP intake: events in, answered once they are durable. For this machine only: it has no accounts.

Browsers can reach 127.0.0.1 too. Requests from pages of other origins are refused by their ``Origin``, and
requests after DNS rebinding by their ``Host``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from triggerstream.core.errors import ClockError, DecodeError, LogError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.printable import shorten
from triggerstream.engine.operations.submit import event_record, trigger_record
from triggerstream.engine.ports import Log
from triggerstream.web.answers import RefusedError, body_of, json
from triggerstream.web.loopback import is_loopback
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.events import TRACE_HEADER, check_structured, is_structured
from triggerstream.wire.json import as_object, loads
from triggerstream.wire.records import NewRecord

LIST_EVENTS = 1_000
"""Events in one request. They become durable together, and hold back others for as long as that takes."""
LIST_BYTES = 16 * 1024 * 1024
_BINARY_PREFIX = "ce-"
_BATCH = "application/cloudevents-batch+json"
"""Content type of a list of events."""
_ESCAPED = re.compile(r"\\(.)")


def add_intake(app: web.Application, log: Log) -> None:
    """Let ``app`` append to ``log``; its ``client_max_size`` is ``LIST_BYTES``."""
    intake_ = _Intake(log)
    for method, path, handler in (
        ("GET", "/healthz", intake_.health),
        ("POST", "/v1/events", intake_.events),
        ("POST", "/v1/sessions/{session:[^/]+}/triggers/{trigger:[^/]+}", intake_.trigger),
    ):
        app.router.add_route(method, path, _alone(handler))


def _alone(handler: Handler) -> Handler:
    """``handler`` with this module's middlewares, in any application."""

    async def checked(request: web.Request) -> web.StreamResponse:
        return await _this_machine_only(request, handler)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _answer_in_json(request, checked)

    return answer


class _Intake:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def health(self, _request: web.Request) -> web.Response:
        return json({"status": "ok"})

    async def events(self, request: web.Request) -> web.Response:
        """One event, or a list of which all become durable or none."""
        structured = _is_structured(request)
        text = await body_of(request, most=LIST_BYTES)
        if "ce-type" in request.headers and not structured:
            events: list[Json] = [_binary_event(request, text)]
        else:
            body = _loads(text)
            events = body if isinstance(body, list) else [body]
        if not events:
            raise RefusedError(400, "an empty list: send one event or more")
        if len(events) > LIST_EVENTS:
            raise RefusedError(413, f"{len(events):,} events: send at most {LIST_EVENTS:,} in a list")
        records: list[NewRecord] = []
        errors: list[JsonObject] = []
        for index, event in enumerate(events):
            try:
                records.append(event_record(as_object(event, "")))
            except DecodeError as exc:
                errors.append({"index": index, "reason": str(exc).removeprefix(": ")})
        if errors:
            raise RefusedError(422, f"{len(errors)} of {len(events)} events refused, none accepted", errors)
        await self._log.append(records)
        return json({"accepted": len(records)}, status=202)

    async def trigger(self, request: web.Request) -> web.Response:
        """One trigger, the body its data; ``id``, ``source``, ``time`` by query or ``ce-`` header."""
        unknown = sorted(set(request.query) - {"id", "source", "time"})
        if unknown:
            raise RefusedError(400, f"query parameter `{unknown[0]}`: only id, source and time are known")
        if _is_structured(request):
            raise RefusedError(415, "the body is a trigger's data: send a whole event to /v1/events")
        for name, part in (("type", "trigger"), ("session", "session")):
            _check_same(request, name, part)
        body = await body_of(request, most=LIST_BYTES)
        data = _loads(body) if body.strip() else None
        if data is not None and not isinstance(data, dict):
            raise RefusedError(422, "the body must be the trigger's data: a JSON object, or nothing")
        try:
            record = trigger_record(
                request.match_info["session"],
                request.match_info["trigger"],
                data,
                id=_attribute(request, "id"),
                source=_attribute(request, "source"),
                time=_attribute(request, "time"),
            )
        except DecodeError as exc:
            raise RefusedError(422, str(exc)) from exc
        await self._log.append([record])
        return json({"accepted": 1}, status=202)


def _attribute(request: web.Request, name: str) -> str | None:
    header = request.headers.get(f"{_BINARY_PREFIX}{name}")
    return request.query.get(name) or (None if header is None else _header_text(header, name)) or None


def _check_same(request: web.Request, name: str, part: str) -> None:
    """Refuse an attribute that contradicts the path, which names the trigger and its session."""
    header, named = request.headers.get(f"{_BINARY_PREFIX}{name}"), request.match_info[part]
    given = None if header is None else _header_text(header, name)
    if given and given != named:
        raise RefusedError(
            422,
            f"header ce-{name}: must equal the {part} of the path, `{shorten(named)}`, or be left out, "
            f"is `{shorten(given)}`",
        )


def _is_structured(request: web.Request) -> bool:
    """True if the body is a whole CloudEvent, whatever headers stand beside it."""
    content_type = request.headers.get("Content-Type", "")
    if not is_structured(content_type):
        return False
    try:
        if request.content_type != _BATCH:
            check_structured(content_type)
    except DecodeError as exc:
        raise RefusedError(415, str(exc)) from exc
    return True


def _binary_event(request: web.Request, body: bytes) -> JsonObject:
    """The event of a request in binary content mode: attributes in ``ce-`` headers, the body its data."""
    event: JsonObject = {}
    for header, text in request.headers.items():
        if header.lower().startswith(_BINARY_PREFIX):
            name = header.lower().removeprefix(_BINARY_PREFIX)
            event[name] = _header_text(text, name)
    if TRACE_HEADER in request.headers:
        event.setdefault(TRACE_HEADER, request.headers[TRACE_HEADER])
    if body.strip():
        event["data"] = _loads(body)
    return event


def _header_text(text: str, name: str) -> str:
    """The value of a ``ce-`` header, which the CloudEvents binding quotes and percent-encodes."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _ESCAPED.sub(r"\1", text[1:-1])
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as exc:
        raise RefusedError(422, f"header ce-{name}: must be percent-encoded UTF-8") from exc


def _loads(body: bytes) -> Json:
    try:
        return loads(body)
    except DecodeError as exc:
        raise RefusedError(400, str(exc)) from exc


@web.middleware
async def _answer_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer all errors as ``{"error": …}``."""
    try:
        return await handler(request)
    except RefusedError as exc:
        answer: JsonObject = {"error": str(exc)}
        if exc.errors:
            answer["errors"] = list(exc.errors)
        return json(answer, status=exc.status)
    except ClockError as exc:
        return json({"error": str(exc)}, status=503)
    except LogError as exc:
        return json({"error": f"not known to be durable, send it again: {exc}"}, status=503)
    except web.HTTPRequestEntityTooLarge:
        says = f"more than {LIST_BYTES:,} bytes; an event has at most {EVENT_BYTES:,}"
        return json({"error": says}, status=413)
    except web.HTTPException as exc:
        response = json({"error": f"{request.method} {request.path}: {exc.reason}"}, status=exc.status)
        if "Allow" in exc.headers:
            response.headers["Allow"] = exc.headers["Allow"]
        return response


@web.middleware
async def _this_machine_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    origin = request.headers.get("Origin")
    if not is_loopback(f"//{request.host}") or (origin is not None and not is_loopback(origin)):
        raise RefusedError(403, "only for programs of this machine: ask for 127.0.0.1 or localhost")
    return await handler(request)
