"""The indexes of a worker: they pause while records wait to be folded, and follow the fold's own states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.engine.partitioned.bench import APP, IDENTITY, Bench, assigns
from tests.support.waiting import eventually
from triggerstream.adapters.memory import MemoryDatabase, MemoryIndex, MemoryReader
from triggerstream.core.ids import TriggerName
from triggerstream.core.listing import Filter
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.engine.queries import index
from triggerstream.engine.queries.inspector import Query
from triggerstream.engine.queries.worker import LAG, WorkerInspector
from triggerstream.wire import state
from triggerstream.wire.claims import Claim, OwnerId

WAITS_FOR_B = Query(filter=Filter(waits_for=TriggerName("b")))


class Watched:
    """An inspector of one partition. ``waiting`` records wait to be folded; ``asked``: how often it asks."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.owner = Owner(assigns({0: bench.durable}, lambda _: bench.partition()))
        self.index = MemoryIndex()
        self.waiting = self.asked = 0
        self.inspector = WorkerInspector(
            self.owner,
            app=APP,
            url="http://here",
            identity=IDENTITY,
            lag=lambda: {0: self.waiting},
            waiting=self._ask,
            index=lambda _: self.index,
            appender=bench.partition().appender,
            reader=MemoryReader(MemoryDatabase()),
            claims=self._claims,
        )

    async def _claims(self) -> Sequence[Claim]:
        return [Claim(id=OwnerId("test-w-1-0"), partitions=frozenset({0}), host="here", pid=7, since_us=5)]

    def _ask(self) -> dict[int, int]:
        self.asked += 1
        return {0: self.waiting}

    async def fold(self) -> None:
        await self.bench.fold(self.owner.partitions[0])

    def indexed(self) -> list[str]:
        """The sessions in the index that wait for b; no list has brought it further."""
        return [*self.index.find(WAITS_FOR_B.filter.tags(), prefix="", after=None, limit=9)]


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(index, "_IDLE_S", 0.0)
    made = Watched(Bench())
    made.bench.configure()
    await made.owner.open([0])
    running = asyncio.create_task(made.inspector.run())
    yield made
    await index.ended(running)
    await made.owner.close()
    await made.inspector.close()


async def test_an_index_pauses_while_records_wait_and_follows_afterwards(watched: Watched) -> None:
    watched.bench.fire("s", "a")
    await watched.fold()
    await eventually(lambda: watched.indexed() == ["s"])
    watched.waiting = LAG + 1
    watched.bench.fire("t", "a")
    await watched.fold()
    asked = watched.asked
    await eventually(lambda: watched.asked > asked + 50)
    assert watched.indexed() == ["s"]
    watched.waiting = LAG
    await eventually(lambda: watched.indexed() == ["s", "t"])
    page = await watched.inspector.sessions(WAITS_FOR_B)
    assert ([row.session for row in page.sessions], page.complete) == (["s", "t"], True)


async def test_an_index_pauses_while_another_partition_is_taken_over(watched: Watched) -> None:
    watched.owner.partitions[1] = watched.bench.partition()
    watched.bench.fire("s", "a")
    await watched.fold()
    for _ in range(100):
        await asyncio.sleep(0)
    assert watched.indexed() == []
    del watched.owner.partitions[1]
    await eventually(lambda: watched.indexed() == ["s"])


async def test_a_filtered_list_brings_a_paused_index_further(watched: Watched) -> None:
    watched.waiting = LAG + 1
    watched.bench.fire("s", "a")
    await watched.fold()
    assert watched.indexed() == []
    page = await watched.inspector.sessions(WAITS_FOR_B)
    assert ([row.session for row in page.sessions], page.complete) == (["s"], True)


async def test_a_state_that_was_just_folded_is_not_decoded_for_the_index(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(state, "decode", decoded.append)
    watched.bench.fire("s", "a")
    watched.bench.fire("t", "b")
    await watched.fold()
    await eventually(lambda: watched.indexed() == ["s"])
    assert decoded == []
