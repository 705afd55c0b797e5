"""What real workers show on their pages' port: each what all of them have."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

import pytest
from yarl import URL

from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from tests.support.waiting import eventually, wait_until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SESSIONS = 40


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


class Web:
    """The pages of a worker."""

    def __init__(self, worker: WorkerProcess, *, token: str | None = None) -> None:
        self._worker = worker
        self._token = token

    @property
    def url(self) -> str:
        found = wait_until(lambda: re.search(r"web view: (\S+)", self._worker.text()), what=self._worker.text)
        return found[1]

    def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Status and JSON of ``path``."""
        target = f"{self.url}/v1/{path}{f'?{urlencode(query)}' if query else ''}"
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return _answer(Request(target, headers=headers))  # noqa: S310 - http, as the worker says

    def status(self, page: str) -> int:
        """That of a page for people."""
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            with urlopen(Request(f"{self.url}/{page}", headers=headers), timeout=60) as answer:  # noqa: S310 - as above
                return int(answer.status)
        except HTTPError as exc:
            exc.close()
            return exc.code

    def with_cookie(self, cookie: str) -> int:
        """The status of the overview for whoever has that cookie."""
        return _answer(Request(f"{self.url}/v1/overview", headers={"Cookie": cookie}))[0]  # noqa: S310 - as above

    def order(self, session: str, **fields: str) -> tuple[int, Any]:
        """Give an order as a program does."""
        target = f"{self.url}/v1/sessions/{quote(session, safe='')}/orders"
        headers = {"Content-Type": "application/json"}
        return _answer(Request(target, data=dumps(dict(fields)), headers=headers))  # noqa: S310 - as above

    def names(self, **query: str) -> list[str]:
        """All sessions, page by page."""
        names: list[str] = []
        while True:
            status, page = self.get("sessions", **query, limit="7")
            assert status == 200, page
            assert page["missing"] == []
            names += [row["session"] for row in page["sessions"]]
            if page["after"] is None:
                return names
            query = {**query, "after": page["after"]}


def _answer(request: Request) -> tuple[int, Any]:
    try:
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return answer.status, json.load(answer)
    except HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - urllib's own
        return None


def _post(url: str, cookie: str, **fields: str) -> HTTPError:
    """The redirect that a form of ours is answered with."""
    headers = {"Cookie": cookie}
    with urlopen(Request(f"{url}/login", headers=headers), timeout=60) as page:  # noqa: S310 - as above
        form = re.search(r'name="form" value="([0-9a-f]+)"', page.read().decode())
    assert form is not None
    path = "login" if fields else "logout"
    data = urlencode({"form": form[1], **fields}).encode()
    with pytest.raises(HTTPError) as answer:
        build_opener(_Stay).open(Request(f"{url}/{path}", data=data, headers=headers), timeout=60)  # noqa: S310 - as above
    answer.value.close()
    assert answer.value.code == 303
    return answer.value


def log_in(url: str, token: str) -> str:
    """The cookie of a login, as a browser sends it."""
    return str(_post(url, "", token=token).headers["Set-Cookie"]).partition(";")[0]


def is_over(web: Web, cookie: str) -> bool:
    """Whether a login is known no more."""
    return web.with_cookie(cookie) == 401


def log_out(url: str, cookie: str) -> None:
    """End a login."""
    _post(url, cookie)


async def shared(app: Stage, first: Web, *, ready: bool = True) -> list[int]:
    """The partitions that ``first`` has itself, once both workers have some; ``ready``: and say so."""

    def halves() -> list[int] | None:
        status, found = first.get("overview")
        rows = found["partitions"] if status == 200 else []
        owners = {row["owner"] for row in rows}
        known = all(row["phase"] == "ready" for row in rows if ready or row["own"])
        all_there = len(rows) == app.partitions and len(owners) == 2
        return [row["partition"] for row in rows if row["own"]] if known and all_there else None

    return await eventually(halves, what=lambda: first.get("overview"))


async def test_each_worker_shows_what_all_of_them_have(app: Stage) -> None:
    await app.prepare()
    names = sorted(f"s{n}" for n in range(SESSIONS))
    await app.append(NewRecord(key=name.encode(), value=b'{"type": "a"}') for name in names)
    await app.append(
        NewRecord(key=f"s{n}".encode(), value=dumps({"type": name})) for name in "bcd" for n in range(10)
    )
    await app.append([NewRecord(key=b"s1", value=b"<script>")])
    workers = [app.start(name, arguments=app.shown()) for name in ("w1", "w2")]
    first, second = (Web(worker) for worker in workers)
    for worker in workers:
        await worker.ready()
    await app.settled()
    own = await shared(app, first)
    await shared(app, second)

    assert first.names() == second.names() == names
    assert first.names(prefix="s1") == [name for name in names if name.startswith("s1")]
    waiting = [name for name in names if int(name[1:]) >= 10]
    await eventually(lambda: first.get("sessions", waitsFor="b")[1]["complete"])
    for web in (first, second):
        assert web.names(waitsFor="b") == web.names(status="unstarted") == waiting
        assert web.names(status="scheduled", task="t_report") == sorted(set(names) - set(waiting))
        assert web.names(status="scheduled", waitsFor="b") == []

    places: dict[int, list[str]] = {}
    for name in names:
        status, found = first.get(f"sessions/{name}")
        assert (status, found["session"]) == (200, name)
        assert second.get(f"sessions/{name}") == (200, found)
        places.setdefault(found["partition"], []).append(name)
    theirs = next(name for partition in places if partition not in own for name in places[partition])
    assert first.get(f"sessions/{theirs}", here="1")[0] == 421
    assert first.get("sessions/nobody")[0] == 404
    assert first.get("configuration")[1]["text"] == second.get("configuration")[1]["text"]
    (letter,) = first.get("deadletters")[1]["deadLetters"]
    assert (letter["key"], letter["value"]) == ("s1", "<script>")

    # An order for a session of the other worker: durable, folded there, and in its history.
    target = next(
        n for n in names if n not in waiting and first.get(f"sessions/{n}")[1]["partition"] not in own
    )
    status, answer = first.order(target, order="cancel", instance="t_report#0", reason="no longer wanted")
    assert (status, answer["folded"], answer["refused"]) == (200, True, None), answer
    found = second.get(f"sessions/{target}")[1]
    assert found["tasks"][0]["instances"][0]["status"] == "cancelled"
    assert found["timeline"][-1]["offset"] == answer["offset"]


async def test_a_worker_that_does_not_answer_is_named_within_the_time_limit(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(SESSIONS))
    workers = [app.start(name, arguments=app.shown()) for name in ("w1", "w2")]
    first, second = (Web(worker) for worker in workers)
    for worker in workers:
        await worker.ready()
    await app.settled()
    own = await shared(app, first)
    away = second.url
    workers[1].signal(signal.SIGSTOP)
    try:
        status, page = first.get("sessions")
        assert status == 200
        (missing,) = page["missing"]
        assert away in missing
        assert page["sessions"]
        by_partition = {row["partition"]: row for row in first.get("overview")[1]["partitions"]}
        assert {n for n, row in by_partition.items() if row["phase"] == "unknown"} == set(by_partition) - set(
            own
        )
    finally:
        workers[1].signal(signal.SIGCONT)


async def test_one_that_keeps_its_name_is_found_again_after_a_crash(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(SESSIONS))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # Its session outlasts a restart on a busy machine: it is not put out of the group meanwhile.
    lasting = ("--session-timeout", "60s")
    named = ("--instance-id", "w2", *app.shown(), "--web-port", port, *lasting)
    first = Web(app.start("w1", arguments=app.shown()))
    before = app.start("w2", arguments=named)
    await before.ready()
    await app.settled()
    own = await shared(app, first)
    before.kill()
    after = app.start("w2", arguments=named)
    await after.ready()
    assert await shared(app, first) == own
    found = {name: first.get(f"sessions/{name}") for name in (f"s{n}" for n in range(SESSIONS))}
    assert {status for status, _ in found.values()} == {200}
    assert {session["partition"] for _, session in found.values()} > set(own)


async def test_pages_that_others_reach_take_a_token(app: Stage, tmp_path: Path) -> None:
    await app.prepare()
    refused = app.start("w0", arguments=("--web-host", "0.0.0.0", "--web-port", "0"))  # noqa: S104 - refused
    assert await refused.ended() == 2
    (line,) = refused.text().splitlines()
    assert line.startswith("--web-host 0.0.0.0: other machines reach it: name a file with --web-tokens")

    tokens = tmp_path / "tokens"
    tokens.write_text("viewer:look-but-do-not-touch\noperator:may-give-orders-too\n")
    tokens.chmod(0o600)
    host = socket.gethostbyname(socket.gethostname())
    arguments = ("--web-host", host, *app.shown(), "--web-tokens", str(tokens))
    worker = app.start("w1", arguments=arguments)
    await worker.ready()
    assert Web(worker).get("overview")[0] == 401
    assert Web(worker, token="look-but-do-not-touch-either").get("overview")[0] == 401
    viewer = Web(worker, token="look-but-do-not-touch")
    assert viewer.get("overview")[0] == viewer.status("sessions") == 200
    for page in ("router", "router/", "table", "table/sessions/s1/", "graph/", "stats/", "performance/"):
        assert viewer.status(page) == 404, "Faust's own pages are off"
    await app.fire(range(SESSIONS))
    other = app.start("w2", arguments=arguments)
    await other.ready()
    await app.settled()
    await shared(app, viewer)
    assert viewer.names() == sorted(f"s{n}" for n in range(SESSIONS)), "the workers know each other"
    cookie = log_in(viewer.url, "look-but-do-not-touch")
    for web in (Web(worker), Web(other)):
        assert web.with_cookie(cookie) == 200
    log_out(viewer.url, cookie)
    for web in (Web(worker), Web(other)):
        await eventually(partial(is_over, web, cookie))
    # Also after a restart.
    worker.kill()
    again = app.start("w1", arguments=arguments)
    await again.ready()
    assert Web(again).with_cookie(cookie) == 401


async def test_a_stranger_in_the_group_is_neither_asked_nor_shown(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(SESSIONS))
    with socket.create_server(("127.0.0.1", 0)) as recorder:
        recorder.settimeout(0)
        # A member of the group that has partitions and announces an address, without the key.
        url = f"http://127.0.0.1:{recorder.getsockname()[1]}"
        stranger = app.start("w2", arguments=("--web-port", "0", "--web-url", url))
        worker = app.start("w1", arguments=app.shown())
        web = Web(worker)
        for one in (worker, stranger):
            await one.ready()
        await app.settled()
        own = await shared(app, web, ready=False)
        status, listed = web.get("sessions")
        assert (status, len(listed["missing"])) == (200, 1)
        assert "not proven by the peer key: it is not asked" in listed["missing"][0]
        names = [f"s{n}" for n in range(SESSIONS)]
        answers = {name: web.get(f"sessions/{name}") for name in names}
        assert {status for status, _ in answers.values()} == {200, 502}
        assert {found["partition"] for status, found in answers.values() if status == 200} == set(own)
        web.get("configuration")
        # The stranger, which has no key, shows what it owns and says so.
        assert set(await shared(app, Web(stranger), ready=False)).isdisjoint(own)
        status, theirs = Web(stranger).get("sessions")
        assert (status, len(theirs["missing"])) == (200, 1)
        assert "has no --peer-key, and shows only what it owns itself" in theirs["missing"][0]
        assert sorted(row["session"] for page in (listed, theirs) for row in page["sessions"]) == sorted(
            names
        )
        with pytest.raises(BlockingIOError):
            recorder.accept()


async def test_without_web_nothing_listens(app: Stage) -> None:
    await app.prepare()
    worker = app.start("w1", arguments=("--without-web",))
    await worker.ready()
    assert "web view" not in worker.text()
    assert not (app.directory("w1") / f"{app.app}-indexes").exists()


async def test_a_named_port_that_is_taken_is_refused_in_one_line(app: Stage) -> None:
    await app.prepare()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = app.start("w1", arguments=("--web-port", str(port)))
        assert await worker.ended() == 2
        (line,) = worker.text().splitlines()
        assert line.startswith(
            f"--web-host 127.0.0.1 --web-port {port}: Address already in use: choose another"
        )


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"5e" * 32, 0o644, "everybody on this machine can read or change it: `chmod "),
        (b"5e" * 31, 0o600, "a peer key has at least 32 bytes: write one with `openssl rand -hex 32`"),
    ],
)
async def test_a_peer_key_that_cannot_be_used_is_refused_in_one_line(
    app: Stage, tmp_path: Path, content: bytes, mode: int, says: str
) -> None:
    path = tmp_path / "peer.key"
    path.write_bytes(content)
    path.chmod(mode)
    worker = app.start("w1", arguments=("--web-port", "0", "--peer-key", str(path)))
    assert await worker.ended() == 2
    (line,) = worker.text().splitlines()
    assert line.startswith(f"{path}: {says}")


async def test_a_client_that_hangs_on_does_not_keep_a_worker_from_ending(app: Stage) -> None:
    await app.prepare()
    worker = app.start("w1", arguments=("--web-port", "0"))
    await worker.ready()
    url = URL(Web(worker).url)
    with (
        socket.create_connection((url.host, url.port)) as idle,
        socket.create_connection((url.host, url.port)) as half,
    ):
        idle.sendall(b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        half.sendall(
            b"POST /v1/sessions/s/orders HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
