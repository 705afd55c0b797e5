"""Pages and JSON API of an engine: its sessions, and orders for instances."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct, structs

from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.events import Order, Resend
from triggerstream.core.ids import InstanceId, JsonObject, SessionId, TaskName, split_instance_id
from triggerstream.core.state import Status
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.operations.orders import (
    AddressedOrder,
    Answer,
    Target,
    address,
    named_order,
)
from triggerstream.engine.ports import Log
from triggerstream.engine.queries.answers import DeadLettersPage, Overview, ShownConfiguration
from triggerstream.engine.queries.inspector import (
    Inspector,
    Query,
    give_order,
    target_shown,
)
from triggerstream.engine.queries.past import MOMENT_FORMS, Moment, format_moment, parse_moment
from triggerstream.present.words import event_number
from triggerstream.web import answers, render
from triggerstream.web.access import CALLER, Access
from triggerstream.web.answers import RefusedError
from triggerstream.web.filters import filter_of
from triggerstream.web.graph import Drawing, draw_file
from triggerstream.web.intake import LIST_BYTES, add_intake
from triggerstream.web.login_page import LoginPage
from triggerstream.web.peerkey import ANSWER_HEADER
from triggerstream.web.peers import HERE
from triggerstream.wire.answers import to_json
from triggerstream.wire.json import as_object, loads, optional_integer, text_of

MOST_ROWS = 200
_SESSION = "sessions/{session:[^/]+}"
"""Route for a session's page. The regular expression is given because aiohttp's default excludes braces."""
_ROWS = 50
_REASON = 1_000


def site(
    here: Inspector,
    everywhere: Inspector,
    access: Access,
    *,
    log: Log | None = None,
    configurations: ConfigurationCache | None = None,
) -> web.Application:
    """The web application; with ``log``, it also accepts triggers.

    ``here`` answers for this process, ``everywhere`` for all workers. ``configurations``: parsed tasks
    files, which are not parsed again to be drawn.
    """
    guard = _Guard(access)
    app = web.Application(
        client_max_size=answers.FORM_BYTES if log is None else LIST_BYTES,
        middlewares=[answers.with_headers, guard.prove, answers.with_errors, guard.check],
    )
    site_ = _Site(here, everywhere, access, configurations or ConfigurationCache())
    for path, answer, name in (
        ("", site_.overview, "overview"),
        ("sessions", site_.sessions, "sessions"),
        (_SESSION, site_.session, "session"),
        ("failures", site_.failures, "failures"),
        ("deadletters", site_.dead_letters, "deadletters"),
        ("configuration", site_.configuration, "configuration"),
    ):
        app.router.add_get(f"/{path}", site_.as_page(name, answer))
        app.router.add_get(f"/v1/{path or 'overview'}", _as_json(answer))
    app.router.add_post(f"/{_SESSION}/orders", site_.order_form)
    app.router.add_post(f"/v1/{_SESSION}/orders", site_.order)
    app.router.add_get("/v1/logouts", site_.logouts)
    login_page = LoginPage(access)
    app.router.add_get("/login", login_page.page)
    app.router.add_post("/login", login_page.enter)
    app.router.add_post("/logout", login_page.leave)
    for name, content_type in _STATIC.items():
        app.router.add_get(f"/static/{name}", _static(name, content_type))
    if log is not None:
        add_intake(app, log)
    return app


_STATIC = {"style.css": "text/css", "icon.svg": "image/svg+xml"}


def _static(name: str, content_type: str) -> Handler:
    body = files("triggerstream.web").joinpath("static", name).read_bytes()

    async def answer(_request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "max-age=300"}
        return web.Response(body=body, content_type=content_type, headers=headers)

    return answer


class _Guard:
    """Middleware that authenticates and authorises callers."""

    def __init__(self, access: Access) -> None:
        self._access = access
        # aiohttp recognises a middleware by an attribute, which a bound method cannot have.

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._check(request, handler)

        @web.middleware
        async def prove(request: web.Request, handler: Handler) -> web.StreamResponse:
            return self._prove(request, await handler(request))

        self.check = check
        self.prove = prove

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._access.is_here(request.host):
            raise RefusedError(403, "these pages are this machine's: ask for 127.0.0.1 or localhost")
        caller = self._access.caller(request)
        if caller is not None:
            request[CALLER] = caller
            if caller.nonce is not None and not _is_for_workers(request):
                raise RefusedError(403, f"a worker asks for pages below /v1/ with {HERE}=1, and does no more")
        elif request.path != "/login" and not request.path.startswith("/static/"):
            if answers.is_for_programs(request.path):
                raise RefusedError(401, "send a token: `Authorization: Bearer …`")
            return answers.see_other(f"/login?to={quote(request.raw_path, safe='')}")
        return await handler(request)

    def _prove(self, request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
        """Add the MAC to an answer for another worker."""
        caller, key = request.get(CALLER), self._access.peer_key
        if caller is not None and caller.nonce is not None and key is not None:
            body = answer.body if isinstance(answer, web.Response) else None
            content = body if isinstance(body, bytes) else b""
            answer.headers[ANSWER_HEADER] = key.answer_mac(caller.nonce, answer.status, content)
        return answer


def _is_for_workers(request: web.Request) -> bool:
    return request.method == "GET" and request.path.startswith("/v1/") and HERE in request.query


_Answer: TypeAlias = "Callable[[web.Request], Awaitable[JsonObject | Struct]]"


def _as_json(answer: _Answer) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        found = await answer(request)
        return answers.json(to_json(found) if isinstance(found, Struct) else found)

    return handler


SeenTarget: TypeAlias = tuple[int | None, int | None]
"""The session's generation and the instance's attempt that the caller of an order has seen, if known."""
_DIGITS = 18


class _Site:
    def __init__(
        self, here: Inspector, everywhere: Inspector, access: Access, configurations: ConfigurationCache
    ) -> None:
        self._here = here
        self._everywhere = everywhere
        self._access = access
        self._configurations = configurations
        self._drawn: tuple[str, Drawing | None] | None = None

    def as_page(self, name: str, answer: _Answer) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            found = await answer(request)
            shown: dict[str, Any] = structs.asdict(found) if isinstance(found, Struct) else {**found}
            values = {**shown, **self._common(request, name), "found": found}
            if name == "configuration":
                values["drawing"] = self._drawing_of(shown["hash"], shown["text"])
            return answers.html(name, values)

        return handler

    def _drawing_of(self, config: str | None, text: str) -> Drawing | None:
        """The drawing of a configuration; the last one is kept."""
        if config is None:
            return None
        if self._drawn is None or self._drawn[0] != config:
            self._drawn = (config, draw_file(text, self._configurations))
        return self._drawn[1]

    def _common(self, request: web.Request, name: str) -> dict[str, object]:
        caller = request[CALLER]
        message = request.query.get("message", "")
        return {
            "nav": name,
            "message": message
            if self._access.is_message_mac(message, request.query.get("mac", ""))
            else None,
            "args": request.query,
            "may_order": caller.may_order,
            "may_leave": caller.logged_in,
            "form_key": self._access.form_key(request),
            "most_instances": render.MOST_INSTANCES,
        }

    def _inspector(self, request: web.Request) -> Inspector:
        return self._here if HERE in request.query else self._everywhere

    # ---- what is shown ----------------------------------------------------------------------------

    async def overview(self, request: web.Request) -> Overview:
        """Partitions and workers."""
        return await self._inspector(request).overview()

    async def sessions(self, request: web.Request) -> SessionsPage:
        """A page of sessions."""
        return await self._inspector(request).sessions(_query(request))

    async def failures(self, request: web.Request) -> SessionsPage:
        """A page of sessions that have a failed instance."""
        asked = _query(request)
        query = replace(asked, filter=replace(asked.filter, status=Status.FAILED))
        return await self._inspector(request).sessions(query)

    async def session(self, request: web.Request) -> ExplainedSession:
        """A session, explained."""
        session = _session(request)
        task, at = request.query.get("task"), _moment(request)
        found = await self._inspector(request).session(session, task=TaskName(task) if task else None, at=at)
        if found is None:
            name = render.plain(session)
            if at is not None:
                raise RefusedError(
                    404, f"no session `{name}` at {format_moment(at)}: no trigger had been fired"
                )
            says = "no trigger has been fired for this id, or the event is not processed yet"
            raise RefusedError(404, f"no session `{name}`: {says}; to see, ask again")
        return found

    async def configuration(self, request: web.Request) -> ShownConfiguration | JsonObject:
        """The configuration in force."""
        found = await self._inspector(request).configuration()
        return {"hash": None, "text": "", "tasks": [], "arrival": None} if found is None else found

    async def dead_letters(self, request: web.Request) -> DeadLettersPage:
        """A page of dead letters."""
        after = _integer(request, "after", 0, most=2**62)
        return await self._inspector(request).dead_letters(after=after, limit=_limit(request))

    async def logouts(self, request: web.Request) -> web.Response:
        """The ended logins, for other workers."""
        if request[CALLER].nonce is None:
            raise RefusedError(404, "GET /v1/logouts: Not Found")
        return answers.json(self._access.logins.ended())

    # ---- orders -----------------------------------------------------------------------------------

    async def order(self, request: web.Request) -> web.Response:
        """Append an order given as JSON. The answer has its outcome."""
        if request.content_type != "application/json" or not self._access.is_our_page(request):
            raise RefusedError(415, "send the order as application/json, and from no other page")
        fields = as_object(loads(await answers.body_of(request, most=answers.FORM_BYTES)), "")
        seen = (optional_integer(fields, "generation"), optional_integer(fields, "attempt"))
        order, instance, reason = (text_of(fields, name) for name in ("order", "instance", "reason"))
        answer = await self._give(request, order, instance, reason, seen)
        outcome: JsonObject = {
            "offset": answer.position.offset,
            "folded": answer.folded,
            "applied": answer.applied,
            "refused": answer.reason if answer.applied is False else None,
        }
        return answers.json(outcome, status=200 if answer.folded else 202)

    async def order_form(self, request: web.Request) -> web.StreamResponse:
        """Append an order from a page, and show the page again."""
        form = await answers.form_of(request)
        names = ("order", "instance", "reason", "form", "generation", "attempt")
        fields = {name: form.get(name, "") for name in names}
        if not self._access.is_our_form(request, fields["form"]):
            raise RefusedError(403, "this form is from another page, or too old: open the session again")
        session = _session(request)
        seen = (_shown_number(fields["generation"]), _shown_number(fields["attempt"]))
        order, instance, reason = fields["order"], fields["instance"], fields["reason"]
        answer = await self._give(request, order, instance, reason, seen)
        message = _order_message(order, instance, answer)
        address = render.session_url(session)
        query = render.query(message=message, mac=self._access.message_mac(message))
        return answers.see_other(f"{address}{'&' if '?' in address else '?'}{query}")

    async def _give(
        self, request: web.Request, name: str, instance: str, reason: str, seen: SeenTarget
    ) -> Answer:
        if not request[CALLER].may_order:
            raise RefusedError(403, "a viewer gives no orders: it takes an operator's token")
        if split_instance_id(instance) is None:
            raise RefusedError(422, f"{render.plain(instance)!r}: write task#number, such as t_report#0")
        if len(reason) > _REASON:
            raise RefusedError(422, f"a reason has at most {_REASON:,} characters")
        try:
            order = named_order(name, InstanceId(instance), reason=reason, by="web")
        except (DecodeError, UsageError) as exc:
            raise RefusedError(422, str(exc)) from exc
        to = await self._addressed(order, _session(request), seen)
        return await give_order(self._everywhere, to)

    async def _addressed(self, order: Order, session: SessionId, seen: SeenTarget) -> AddressedOrder:
        """``order`` with the generation and attempt that the caller saw; the current ones if it named none.

        If the session cannot be read from here, the order expects nothing; an app with a control key then
        refuses it.
        """
        generation, attempt = seen
        if generation is None or (attempt is None and isinstance(order, Resend)):
            try:
                target = target_shown(await self._everywhere.session(session), order.instance)
            except (LogError, UsageError):
                return AddressedOrder(session=session, order=order)
        else:
            target = Target(instances_generation=generation, attempt=attempt or 0)
        return address(session, order, target)


def _shown_number(text: str) -> int | None:
    """A number from a field of the page's form; None if the form has none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _session(request: web.Request) -> SessionId:
    return SessionId(request.query.get("id") or request.match_info["session"])


def _moment(request: web.Request) -> Moment | None:
    """The moment that a request asks for."""
    text = request.query.get("at")
    if not text:
        return None
    moment = parse_moment(text)
    if moment is None:
        raise RefusedError(400, f"at: {MOMENT_FORMS}")
    return moment


def _query(request: web.Request) -> Query:
    after = request.query.get("after")
    try:
        wanted = filter_of(request.query, now_us=time.time_ns() // 1_000)
    except DecodeError as exc:
        raise RefusedError(400, str(exc)) from exc
    return Query(
        prefix=request.query.get("prefix", ""),
        after=SessionId(after) if after else None,
        limit=_limit(request),
        filter=wanted,
    )


def _limit(request: web.Request) -> int:
    return max(_integer(request, "limit", _ROWS, most=MOST_ROWS), 1)


def _integer(request: web.Request, name: str, default: int, *, most: int) -> int:
    text = request.query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)) or int(text) > most:
        raise RefusedError(400, f"{name}: is a whole number up to {most:,}")
    return int(text)


def _order_message(order: str, instance: str, answer: Answer) -> str:
    what = f"{order} {instance}"
    if not answer.folded:
        return f"{what}: stored as {event_number(answer.position.offset)}, and not carried out yet"
    if answer.applied is None:
        return f"{what}: stored as {event_number(answer.position.offset)}; {answer.reason}"
    return f"{what}: done" if answer.applied else f"{what}: not done: {answer.reason}"
