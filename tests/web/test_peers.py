"""All workers as one: what others have is asked of them, and one that does not answer is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import structs

from triggerstream.core.answers import (
    ConfigurationsMet,
    ExplainedSession,
    ListedSession,
    OwnerRow,
    SessionsPage,
)
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId, ConfigHash, Instant, SessionId, TaskName
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder
from triggerstream.engine.queries.answers import (
    DeadLettersPage,
    Overview,
    PartitionRow,
    ShownConfiguration,
    WorkerRow,
)
from triggerstream.engine.queries.inspector import ElsewhereError, Query
from triggerstream.engine.queries.past import Moment
from triggerstream.web import peers as peering
from triggerstream.web.peerkey import ANSWER_HEADER, PeerKey
from triggerstream.web.peers import (
    NO_KEY,
    GroupInspector,
    NotAskedError,
    PeerError,
    PeerGroup,
    Peers,
    PeerWorker,
)
from triggerstream.wire.answers import to_json

ODD = "a/b?c=d&e#f%g é"


KEY = PeerKey(bytes(range(32)), app=AppId("app"))


def partition(number: int) -> PartitionRow:
    return PartitionRow(partition=number, owner="http://self", own=True, phase="ready", events=9, lag=0)


def row(name: str) -> ListedSession:
    """A session as lists have it."""
    return ListedSession(
        session=SessionId(name),
        waiting=0,
        running=0,
        failed=0,
        done=1,
        closed=False,
        clock_us=Instant(0),
        waits_for=[],
        failures=[],
    )


def session(name: str) -> ExplainedSession:
    """A session, explained."""
    return ExplainedSession(
        session=SessionId(name),
        partition=1,
        generation=0,
        closed=False,
        clock_us=Instant(0),
        offset=0,
        config=ConfigurationsMet(met=None, in_force=None),
        refused=0,
        waits_for=[],
        tasks=[],
        timeline=[],
        seen=[],
    )


OWNER = OwnerRow(host="here", pid=7, since_us=Instant(5), generation=2, partitions=[0, 1])


class Here:
    """A worker that has partition 0, and sessions of a and c."""

    async def overview(self) -> Overview:
        worker = WorkerRow(url="here", own=True, says=None)
        return Overview(app="app", workers=[worker], partitions=[partition(0)], owners=[OWNER])

    async def session(
        self,
        name: SessionId,
        *,
        task: TaskName | None = None,  # noqa: ARG002
        at: Moment | None = None,  # noqa: ARG002
    ) -> ExplainedSession | None:
        if name == "a":
            return structs.replace(session("a"), partition=0)
        raise ElsewhereError(1)

    async def sessions(self, query: Query) -> SessionsPage:
        rows = [row(name) for name in ("a", "c") if query.after is None or name > query.after]
        return SessionsPage(sessions=rows[: query.limit], after=None, complete=True)

    async def configuration(self) -> ShownConfiguration | None:
        return None

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        return DeadLettersPage(dead_letters=[], after=after + limit)

    async def dead_letter(self, position: LogPosition) -> str | None:
        return f"buried at {position.offset}"

    async def progress(self, partition: int) -> int:
        if partition == 0:
            return 3
        raise ElsewhereError(partition)

    async def append(self, to: AddressedOrder) -> LogPosition:
        raise NotImplementedError(to)


class There:
    """Another worker, over HTTP: it has partition 1, and sessions b and d. ``asked``: what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.sleeping = False
        self.configured: str | None = "h"
        self.key = KEY
        app = web.Application()
        app.router.add_get("/{path:.*}", self.signed)
        self.server = TestServer(app)

    async def signed(self, request: web.Request) -> web.StreamResponse:
        """The answer, with its proof."""
        answer = await self.answer(request)
        assert isinstance(answer.body, bytes)
        nonce = request.headers["Authorization"].split(".")[1]
        answer.headers[ANSWER_HEADER] = self.key.answer_mac(nonce, answer.status, answer.body)
        return answer

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.raw_path, request.headers.get("Authorization")))
        if self.sleeping:
            await asyncio.Event().wait()
        assert request.query["here"] == "1"
        match request.path:
            case "/v1/overview":
                return web.json_response(to_json(Overview(app="app", workers=[], partitions=[partition(1)])))
            case "/v1/sessions":
                rows = [row(name) for name in ("b", "d") if name > request.query.get("after", "")]
                limit = int(request.query["limit"])
                after = rows[limit - 1].session if len(rows) > limit else None
                page = SessionsPage(sessions=rows[:limit], after=after, complete=False)
                return web.json_response(to_json(page))
            case "/v1/configuration":
                return web.json_response({"hash": self.configured, "text": "", "arrival": None, "tasks": []})
            case path if path == f"/v1/sessions/{ODD}":
                return web.json_response(to_json(session(ODD)))
            case "/v1/sessions/html":
                return web.Response(text="<html>", content_type="text/html")
            case "/v1/sessions/no":
                return web.json_response({"error": "not for you"}, status=403)
            case "/v1/sessions/away":
                return web.Response(status=302, text="", headers={"Location": "http://127.0.0.1:1/"})
        return web.json_response({"error": "no such session"}, status=404)


@pytest.fixture
async def there() -> AsyncIterator[There]:
    made = There()
    async with made.server:
        yield made


def everywhere(workers: Mapping[int, PeerWorker], key: PeerKey | None = KEY) -> tuple[GroupInspector, Peers]:
    peers = Peers(lambda: PeerGroup(others=workers), key)
    return GroupInspector(Here(), peers), peers


@pytest.fixture
async def both(there: There) -> AsyncIterator[GroupInspector]:
    url = str(there.server.make_url("/")).rstrip("/")
    made, peers = everywhere({1: PeerWorker(name=url, url=url)})
    yield made
    await peers.close()


CONFIGURED = ShownConfiguration(hash=ConfigHash("h"), text="", arrival_us=None, tasks=[])


def names(page: SessionsPage) -> list[str]:
    return [one.session for one in page.sessions]


async def test_a_session_is_asked_of_its_owner(both: GroupInspector, there: There) -> None:
    assert await both.session(SessionId("a")) == structs.replace(session("a"), partition=0)
    assert there.asked == []
    assert await both.session(SessionId(ODD)) == session(ODD)
    assert str(there.asked[0][1]).startswith("Triggerstream-Peer ")
    assert await both.session(SessionId("nobody")) is None


@pytest.mark.parametrize(
    ("session", "says"),
    [("html", "nonsense: not JSON"), ("no", "nonsense: 403: not for you"), ("away", "nonsense: not JSON")],
)
async def test_an_owner_that_answers_something_else_is_told_of(
    both: GroupInspector, session: str, says: str
) -> None:
    with pytest.raises(PeerError, match=says):
        await both.session(SessionId(session))


async def test_progress_of_a_partition_is_asked_of_its_owner(both: GroupInspector, there: There) -> None:
    assert await both.progress(0) == 3
    assert there.asked == []
    assert await both.progress(1) == 9
    assert [path for path, _ in there.asked] == ["/v1/overview?here=1"]
    with pytest.raises(UsageError, match="partition 2 has no owner"):
        await both.progress(2)
    assert await both.dead_letter(LogPosition(1, 5)) == "buried at 5"


async def test_lists_of_all_are_one_list(both: GroupInspector) -> None:
    page = await both.sessions(Query(limit=3))
    assert (names(page), page.after, page.complete) == (["a", "b", "c"], "c", False)
    page = await both.sessions(Query(limit=1))
    assert (names(page), page.after) == (["a"], "a")
    page = await both.sessions(Query(limit=3, after=SessionId("c")))
    assert (names(page), page.after, page.missing) == (["d"], None, [])


async def test_an_overview_has_the_partitions_of_all(both: GroupInspector) -> None:
    found = await both.overview()
    rows = found.partitions
    assert [(one.partition, one.own) for one in rows] == [(0, True), (1, False)]
    assert str(rows[1].owner).startswith("http://127.0.0.1:")
    assert found.owners == [OWNER], "each worker reads those of all"
    assert await both.configuration() == CONFIGURED


async def test_one_that_does_not_answer_in_time_is_told_of(
    both: GroupInspector, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "TIMEOUT_S", 0.2)
    there.sleeping = True
    with pytest.raises(PeerError, match=r"http://127\.0\.0\.1:\d+ did not answer within 0\.2 s"):
        await both.session(SessionId(ODD))
    page = await both.sessions(Query())
    assert names(page) == ["a", "c"]
    assert "did not answer within" in str(page.missing)
    found = await both.overview()
    assert [one.says is None for one in found.workers[1:]] == [False]
    assert [(one.partition, one.phase) for one in found.partitions] == [(0, "ready"), (1, "unknown")]


async def test_a_configuration_is_asked_of_whoever_has_one(both: GroupInspector, there: There) -> None:
    url = str(there.server.make_url("/")).rstrip("/")
    gone = PeerWorker(name="http://127.0.0.1:1", url="http://127.0.0.1:1")
    made, peers = everywhere({1: gone, 2: PeerWorker(name=url, url=url)})
    assert await made.configuration() == CONFIGURED
    there.configured = None
    assert await both.configuration() is None
    with pytest.raises(PeerError, match="cannot be reached"):
        await made.configuration()
    await peers.close()


async def test_one_without_an_address_and_one_that_is_gone_are_told_of() -> None:
    made, peers = everywhere({1: PeerWorker(name="the worker w1", url=None, says="it has no pages")})
    with pytest.raises(PeerError, match="the worker w1: it has no pages"):
        await made.session(SessionId("z"))
    made, gone = everywhere({1: PeerWorker(name="http://127.0.0.1:1", url="http://127.0.0.1:1")})
    with pytest.raises(PeerError, match="cannot be reached"):
        await made.session(SessionId("z"))
    made, nobody = everywhere({})
    with pytest.raises(UsageError, match="no owner at the moment"):
        await made.session(SessionId("z"))
    for one in (peers, gone, nobody):
        await one.close()


ODD_STATUS: dict[str, Any] = {
    **to_json(session(ODD)),
    "tasks": [{"task": "t", "inForce": True, "instances": [{"status": "x"}]}],
}


async def test_an_answer_that_is_not_proven_is_nonsense(both: GroupInspector, there: There) -> None:
    there.key = PeerKey(bytes(32), app=AppId("app"))
    with pytest.raises(PeerError, match=r"answered nonsense \(200\): it does not prove"):
        await both.session(SessionId(ODD))
    page = await both.sessions(Query())
    assert names(page) == ["a", "c"]
    assert "answered nonsense" in str(page.missing)
    found = await both.overview()
    assert "answered nonsense" in str(found.workers)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/overview", {"partitions": [{"partition": "1"}]}),
        ("/v1/overview", {"partitions": [1]}),
        ("/v1/overview", {}),
        ("/v1/sessions", {"sessions": [{"session": "b"}], "after": None, "complete": True}),
        ("/v1/sessions", {"sessions": [], "after": 3, "complete": True}),
        (f"/v1/sessions/{ODD}", {"session": ODD}),
        (f"/v1/sessions/{ODD}", ODD_STATUS),
        ("/v1/configuration", {"hash": "h"}),
    ],
)
async def test_an_answer_of_another_shape_is_nonsense(
    both: GroupInspector, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    async def answer(_: There, request: web.Request) -> web.Response:
        return web.json_response(body if request.path == path else {"error": "no"})

    monkeypatch.setattr(There, "answer", answer)
    match path:
        case "/v1/overview":
            assert "nonsense" in str((await both.overview()).workers)
        case "/v1/sessions":
            assert "nonsense" in str((await both.sessions(Query())).missing)
        case "/v1/configuration":
            with pytest.raises(PeerError, match="nonsense"):
                await both.configuration()
        case _:
            with pytest.raises(PeerError, match="nonsense"):
                await both.session(SessionId(ODD))


async def test_an_answer_beyond_the_bound_is_not_read(
    both: GroupInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "LONGEST_ANSWER", 10)
    with pytest.raises(PeerError, match="cannot be reached: ValueError"):
        await both.session(SessionId(ODD))


async def test_without_a_key_nobody_is_asked_and_the_pages_say_so(there: There) -> None:
    url = str(there.server.make_url("/")).rstrip("/")
    made, peers = everywhere({1: PeerWorker(name=url, url=url), 2: PeerWorker(name="w2", url=None)}, None)
    with pytest.raises(NotAskedError, match=f"partition 1 belongs to another worker: {NO_KEY}"):
        await made.session(SessionId(ODD))
    page = await made.sessions(Query())
    assert (names(page), page.missing) == (["a", "c"], [f"2 other workers are not asked: {NO_KEY}"])
    found = await made.overview()
    assert [one.says for one in found.workers[1:]] == [f"2 other workers are not asked: {NO_KEY}"]
    with pytest.raises(PeerError, match=NO_KEY):
        await made.configuration()
    assert there.asked == []
    await peers.close()
