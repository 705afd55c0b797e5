"""Two workers' whole applications over real sockets, and strangers between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from tests.support.engines import RunningEngine, running_engine
from tests.support.rawhttp import Answer, Served, served
from tests.support.waiting import eventually
from triggerstream import bootstrap
from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.events import Trigger
from triggerstream.core.ids import AppId, SessionId, TaskName, TriggerName
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder
from triggerstream.engine.queries.answers import DeadLettersPage, Overview, ShownConfiguration
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.engine.queries.inspector import ElsewhereError, Inspector, Query
from triggerstream.engine.queries.past import Moment
from triggerstream.settings import SqliteAddress
from triggerstream.web.access import COOKIE, Access, Role
from triggerstream.web.peerkey import LONGEST_S, SCHEME, PeerKey, PeerRequest
from triggerstream.web.peers import NO_KEY, GroupInspector, Peers
from triggerstream.web.serving import listening_socket, url_of
from triggerstream.web.site import site
from triggerstream.web.view import learn_logouts, peer_group

OPERATOR, VIEWER = "an-operator-s-token", "a-viewer-s-token-1"
TOKENS = {OPERATOR: Role.OPERATOR, VIEWER: Role.VIEWER}
SECRET = bytes(range(32))
APP = AppId("app")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Empty:
    """A worker that owns nothing: each session is partition 1's."""

    def __init__(self) -> None:
        self.appended: list[AddressedOrder] = []

    async def overview(self) -> Overview:
        return Overview(app=APP, workers=[], partitions=[])

    async def session(
        self,
        _: SessionId,
        *,
        task: TaskName | None = None,  # noqa: ARG002
        at: Moment | None = None,  # noqa: ARG002
    ) -> ExplainedSession | None:
        raise ElsewhereError(1)

    async def sessions(self, _: Query) -> SessionsPage:
        return SessionsPage(sessions=[], after=None, complete=True)

    async def configuration(self) -> ShownConfiguration | None:
        return None

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        return DeadLettersPage(dead_letters=[], after=after + limit)

    async def dead_letter(self, _: LogPosition) -> str | None:
        return None

    async def progress(self, partition: int) -> int:
        raise ElsewhereError(partition)

    async def append(self, to: AddressedOrder) -> LogPosition:
        self.appended.append(to)
        return LogPosition(1, 7)


@dataclass
class Together:
    """Two workers: ``asking`` owns nothing, ``owner`` all. ``received``: what the owner was asked."""

    asking: Served
    owner: Served
    access: tuple[Access, Access]
    peers: Peers
    key: PeerKey
    clock: Clock
    empty: Empty
    received: list[web.Request] = field(default_factory=list)

    async def get(self, path: str, token: str = VIEWER) -> Answer:
        return await ask(self.asking, path, f"Bearer {token}")


async def ask(made: Served, path: str, authorization: str, method: str = "GET") -> Answer:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {made.host}:{made.port}\r\nAuthorization: {authorization}\r\n\r\n"
    )
    answer = await made.ask(head.encode())
    assert answer is not None
    return answer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    tasks = '{"t": {"after": ["a", "b"], "run": "x.t"}, "u": {"after": ["a"], "run": "x.u"}}'
    with running_engine(tmp_path / "state", tasks) as engine:
        engine.append("s1", Trigger(name=TriggerName("a"), data={"x": 1}))
        yield engine


@asynccontextmanager
async def together(
    engine: RunningEngine, others: dict[int, str] | None = None, *, key: bool = True
) -> AsyncIterator[Together]:
    """Both workers; ``others``: more addresses that the group has, by partition."""
    clock = Clock()
    shared = PeerKey(SECRET, app=APP, clock=clock)
    address = SqliteAddress(path=engine.directory / "triggerstream.db")
    async with AsyncExitStack() as stack:
        reader, log = bootstrap.reader(address), bootstrap.log(address)
        stack.push_async_callback(reader.close)
        stack.push_async_callback(log.close)
        received: list[web.Request] = []

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            received.append(request)
            return await handler(request)

        def announced(url: str) -> str:
            return shared.announced(f"{url}/?on=here")

        # The addresses are known before there are applications, as with real workers.
        sockets = [listening_socket("127.0.0.1", 0) for _ in range(2)]
        urls = [url_of(one) for one in sockets]
        accesses = [Access(TOKENS, peer_key=shared if key else None, url=url) for url in urls]
        owning: Inspector = EmbeddedInspector(reader, log, app=APP)
        owner_app = site(owning, owning, accesses[1])
        owner_app.middlewares.insert(0, note)
        found = {1: announced(urls[1]), **(others or {})}
        peers = Peers(lambda: peer_group(found, shared if key else None), shared if key else None)
        stack.push_async_callback(peers.close)
        empty = Empty()
        asking_app = site(empty, GroupInspector(empty, peers), accesses[0])
        servers = [
            await stack.enter_async_context(served(app, listening=one))
            for app, one in zip((asking_app, owner_app), sockets, strict=True)
        ]
        yield Together(
            asking=servers[0],
            owner=servers[1],
            access=(accesses[0], accesses[1]),
            peers=peers,
            key=shared,
            clock=clock,
            empty=empty,
            received=received,
        )


@pytest.fixture(autouse=True)
def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggerstream.web.view.socket.gethostname", lambda: "here")


async def test_a_worker_shows_what_another_one_has_and_no_token_leaves_it(engine: RunningEngine) -> None:
    async with together(engine) as made:
        for token in (VIEWER, OPERATOR):
            answer = await made.get("/v1/sessions/s1", token)
            assert (answer.status, answer.json["session"]) == (200, "s1")
            for path in (
                "/v1/overview",
                "/v1/sessions",
                "/v1/failures",
                "/v1/configuration",
                "/sessions/s1",
                "/",
            ):
                assert (await made.get(path, token)).status == 200, path
        assert (await made.get("/v1/sessions/nobody")).status == 404
        assert made.received
        for request in made.received:
            assert request.headers["Authorization"].startswith(f"{SCHEME} ")
            sent = f"{request.raw_path} {request.headers}"
            assert not any(token in sent for token in TOKENS)
            assert "Cookie" not in request.headers


async def test_whoever_announces_an_address_without_proof_is_never_connected_to(
    engine: RunningEngine,
) -> None:
    asked: list[str] = []

    async def impostor(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.json_response({"partitions": [], "sessions": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", impostor)
    async with served(app) as stranger:
        url = f"http://{stranger.host}:{stranger.port}"
        claims = {
            2: f"{url}/?on=here",
            3: f"{url}/?on=here&mac={'0' * 64}",
            4: PeerKey(bytes(32), app=APP).announced(f"{url}/?on=here"),
        }
        async with together(engine, claims) as made:
            overview = (await made.get("/v1/overview")).json
            assert {row["partition"] for row in overview["partitions"]} >= {0, 2, 3, 4}
            assert "not proven" in str(overview["workers"])
            listed = (await made.get("/v1/sessions")).json
            assert [row["session"] for row in listed["sessions"]] == ["s1"]
            assert "not proven" in str(listed["missing"])
            page = await made.get("/")
            assert f'href="{url}' not in page.body.decode()
        assert stranger.server.runner.bounded.most_open == 0
        assert asked == []


async def test_an_impostor_with_a_proven_address_of_another_cannot_answer_for_it(
    engine: RunningEngine,
) -> None:
    """Somebody who takes over the machine's address, but has no key."""

    async def impostor(_: web.Request) -> web.Response:
        return web.json_response({"sessions": [{"session": "forged"}], "after": None, "complete": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", impostor)
    async with served(app) as stranger:
        url = f"http://{stranger.host}:{stranger.port}/?on=here"
        async with together(engine, {2: PeerKey(SECRET, app=APP).announced(url)}) as made:
            listed = (await made.get("/v1/sessions")).json
            assert [row["session"] for row in listed["sessions"]] == ["s1"]
            assert "answered nonsense (200)" in str(listed["missing"])
            assert (await made.get("/")).status == 200


async def test_a_captured_request_is_good_for_nothing_else(engine: RunningEngine) -> None:
    async with together(engine) as made, together(engine) as elsewhere:
        await made.get("/v1/sessions/s1")
        captured = made.received[-1]
        header, path = captured.headers["Authorization"], captured.raw_path
        assert (await ask(made.owner, path, header)).status == 200
        for target, where, method in (
            (made.asking, path, "GET"),
            (elsewhere.owner, path, "GET"),
            (made.owner, "/v1/sessions/s2?here=1", "GET"),
            (made.owner, "/v1/sessions?here=1", "GET"),
            (made.owner, path + "&limit=1", "GET"),
            (made.owner, path, "HEAD"),
            (made.owner, "/v1/sessions/s1/orders", "POST"),
        ):
            head = f"{method} {where} HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n\r\n"
            answer = await target.ask(head.encode())
            assert answer is not None
            assert answer.status == 401, (where, method)
            assert "triggerstream-peer" not in answer.headers
        made.clock.now += LONGEST_S
        assert (await ask(made.owner, path, header)).status == 401


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "GET"),
        ("/sessions/s1?here=1", "GET"),
        ("/v1/sessions/s1", "GET"),
        ("/v1/sessions/s1/orders?here=1", "POST"),
        ("/v1/sessions/s1/orders", "POST"),
        ("/v1/overview?here=1", "HEAD"),
        ("/logout", "POST"),
    ],
)
async def test_a_worker_that_asks_may_only_look(engine: RunningEngine, path: str, method: str) -> None:
    async with together(engine) as made:
        url = f"http://{made.owner.host}:{made.owner.port}"
        header, _ = made.key.authorization(PeerRequest(url=url, method=method, path=path))
        answer = await ask(made.owner, path, header, method)
        assert answer.status == 403


async def test_without_a_key_a_worker_shows_what_it_owns_and_says_so(engine: RunningEngine) -> None:
    async with together(engine, key=False) as made:
        answer = await made.get("/v1/sessions/s1")
        assert answer.status == 421
        assert NO_KEY in answer.json["error"]
        for path in ("/", "/sessions", "/failures"):
            page = await made.get(path)
            assert page.status == 200
            assert NO_KEY in page.body.decode()
        assert made.received == []
        header, _ = PeerKey(SECRET, app=APP).authorization(
            PeerRequest(
                url=f"http://{made.owner.host}:{made.owner.port}", method="GET", path="/v1/overview?here=1"
            )
        )
        assert (await ask(made.owner, "/v1/overview?here=1", header)).status == 401


async def test_an_order_is_appended_here_whoever_has_the_session(engine: RunningEngine) -> None:
    body = b'{"order": "cancel", "instance": "t#0", "reason": "r"}'
    head = (
        f"POST /v1/sessions/s1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with together(engine, key=False) as made:
        answer = await made.asking.ask(head + body)
        assert answer is not None
        # It is in the log although what became of it cannot be seen from here.
        assert (answer.status, answer.json) == (
            202,
            {"offset": 7, "folded": False, "applied": None, "refused": None},
        )
        assert len(made.empty.appended) == 1
    async with together(engine) as made:
        await made.asking.ask(head + body)
        assert len(made.empty.appended) == 1
        assert {request.method for request in made.received} == {"GET"}


async def test_a_logout_at_one_worker_is_known_to_the_others(
    engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggerstream.web.view.LEARN_S", 0.01)
    async with together(engine) as made:
        asking, owner = made.access
        for access in made.access:
            monkeypatch.setattr(access.logins, "_clock", made.clock)
        cookie = owner.logins.issue(VIEWER)

        async def status(served_: Served) -> int:
            head = f"GET /v1/overview?here=1 HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={cookie}\r\n\r\n"
            answer = await served_.ask(head.encode())
            assert answer is not None
            return answer.status

        assert [await status(one) for one in (made.asking, made.owner)] == [200, 200]
        owner.logins.end(cookie)
        learning = asyncio.create_task(learn_logouts(made.peers, asking.logins))
        await eventually(lambda: asking.logins.token_of(cookie, TOKENS) is None)
        learning.cancel()
        assert [await status(one) for one in (made.asking, made.owner)] == [401, 401]
        # People have no use for the list.
        assert (await made.get("/v1/logouts?here=1", OPERATOR)).status == 404
