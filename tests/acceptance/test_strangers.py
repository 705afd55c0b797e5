"""Strangers at the ports of real processes, before any login: their requests stop no other client."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from yarl import URL

from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from tests.fuzz.harness import mutations
from tests.fuzz.test_http import mutate, seeds
from tests.support.dev import Project, dev
from tests.support.rawhttp import close, read_answer
from tests.support.waiting import wait_until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId

pytestmark = pytest.mark.slow

BOMB = gzip.compress(bytes(300_000_000))
"""300 KB that unpack to 300 MB."""
HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-More: "
MOST_FILES = 250
"""Connections of both ports of a worker, at the most, and some that the test's own requests need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port of a process, and a path that it answers with 200 while the process is well."""

    url: URL
    path: str

    async def ask(self, data: bytes, *, end: bool = True) -> int | None:
        """The status of the answer to ``data``; None: the connection was closed."""
        reader, writer = await asyncio.open_connection(self.url.host, self.url.port)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            answer = await read_answer(reader)
        except ConnectionError:
            return None
        finally:
            await close(writer)
        return None if answer is None else answer.status

    async def is_well(self) -> bool:
        """True if it answers a well-behaved client."""
        return (
            await self.ask(f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), end=False) == 200
        )

    @asynccontextmanager
    async def half_heads(self, count: int) -> AsyncIterator[None]:
        """Connections that have sent half a head, and wait."""
        writers = []
        for _ in range(count):
            _, writer = await asyncio.open_connection(self.url.host, self.url.port)
            writer.write(HALF)
            writers.append(writer)
        yield
        for writer in writers:
            await close(writer)

    async def bombs(self, count: int) -> list[int | None]:
        """Bodies that unpack to a thousand times their size, at paths that take a body and others."""
        statuses = []
        for number in range(count):
            path = ("/v1/events", "/login", "/logout", "/sessions/s/orders", "/", "/livez")[number % 6]
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
            size = f"Content-Length: {len(BOMB)}\r\n\r\n"
            statuses.append(await self.ask(head.encode() + size.encode() + BOMB, end=False))
        return statuses


async def attack(doors: list[Door], *, halves: int, bombs: int, inputs: int, seed: int) -> None:
    """All of it, again and again with somebody between who asks as people do."""
    for door in doors:
        async with door.half_heads(halves):
            assert await door.is_well()
            assert set(await door.bombs(bombs)) <= {415, None}
            assert await door.is_well()
    found = mutations(seeds(), mutate, seed=seed)
    chance = random.Random(seed)
    for number in range(inputs):
        status = await chance.choice(doors).ask(next(found).data)
        assert status is None or status < 500 or status == 503
        if number % 100 == 0:
            assert all([await door.is_well() for door in doors])
    assert all([await door.is_well() for door in doors])


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_strangers_at_dev_stop_nobody(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with dev(project, str(project.tasks)) as running:
        door = Door(url=URL(running.url), path="/healthz")
        before = open_files(running.process.pid)
        await attack([door], halves=300, bombs=12, inputs=300, seed=1)
        assert open_files(running.process.pid) < before + MOST_FILES
        assert running.errors().count("\n") < 50, running.errors()
        project.fire_both("42")
        assert running.stop() == 0


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


def doors_of(worker: WorkerProcess) -> list[Door]:
    """The pages and the probes of a worker."""

    def url(name: str) -> URL:
        found = wait_until(lambda: re.search(rf"{name}: (\S+)", worker.text()), what=worker.text)
        return URL(found[1])

    return [Door(url=url("web view"), path="/login"), Door(url=url("probes and metrics"), path="/livez")]


@pytest.mark.kafka
@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_a_worker_folds_while_strangers_are_at_its_ports(app: Stage, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("operator:an-operator-s-token\n")
    await app.prepare()
    worker = app.start("w1", arguments=(*app.shown(), "--web-tokens", str(tokens), "--probes-port", "0"))
    await worker.ready()
    doors = doors_of(worker)
    before = open_files(worker.at_work())
    attacking = asyncio.create_task(attack(doors, halves=300, bombs=12, inputs=500, seed=2))
    turn = 0
    while not attacking.done():
        await app.fire(range(turn * 200, turn * 200 + 200))
        turn += 1
    await attacking
    await app.settled()
    assert open_files(worker.at_work()) < before + MOST_FILES
    lines = worker.text().count("\n")
    await worker.drained()
    found = await app.exact()
    print(f"strangers: {turn * 800:,} events, {found.command_count():,} commands, {lines} lines in the log")  # noqa: T201
    assert found.command_count() == turn * 200
    assert lines < 100
