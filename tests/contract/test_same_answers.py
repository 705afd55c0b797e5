"""Random calls have the same answers from an in-memory adapter as from the one on disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.samples import command, decided, revoke
from triggerstream.adapters.memory import (
    ManualClock,
    MemoryDatabase,
    MemoryIndex,
    MemoryLog,
    MemoryReader,
    MemoryStateFiles,
    MemoryStateStore,
    MemoryStore,
)
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.adapters.sqlite.index import SqliteIndex
from triggerstream.core.commands import Decision
from triggerstream.core.ids import AppId, CommandId, SessionId
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.partitioned.ports import StateStore
from triggerstream.engine.ports import Reader, Store
from triggerstream.engine.queries.index import Index
from triggerstream.engine.rows import RefusedRow, RescheduledRow, SentRow
from triggerstream.wire.records import NewRecord

pytestmark = pytest.mark.laws

APP = AppId("app")
few = settings(max_examples=max(settings().max_examples // 12, 5))
"""Each example opens files."""
numbers = st.integers(0, 3)
some = st.lists(numbers, max_size=3)


# ---- stores ---------------------------------------------------------------------------------------


class _Engine:
    """A store that is opened again and again, with its log and reader."""

    def __init__(self, store: Callable[[], Store], reader: Reader) -> None:
        self._make = store
        self.reader = reader
        self.store = store()
        self.offset = 0
        self._attempts: Counter[int] = Counter()

    async def reopen(self) -> object:
        await self.store.close()
        self.store = self._make()
        resumed = await self.store.open()
        return resumed.offset, dict(resumed.due), resumed.scanned, bool(resumed.outbox)

    async def rows(self) -> list[int]:
        return [row.number for row in await self.store.outbox(after=0, limit=100)]

    async def commit(
        self, which: Sequence[tuple[str, int]], settled: Sequence[int], due: Sequence[int]
    ) -> None:
        self.offset += 1
        decisions: list[Decision] = []
        for kind, n in which:
            if kind == "revoke":
                decisions += [revoke(n)] if self._attempts[n] else []
                continue
            # The fold decides a command once; whatever decides it again counts its attempts.
            decisions.append(command(n, attempt=self._attempts[n]))
            self._attempts[n] += 1
        states = {
            SessionId(f"s{n}"): Stored(state=b"%d" % self.offset, due_us=n or None, config=n) for n in due
        }
        await self.store.commit(
            Checkpoint(
                partition=0,
                offset=self.offset,
                decided=decided(*decisions),
                settled=tuple(CommandId(f"c{n}") for n in settled),
                states=states,
            )
        )

    async def sent(self, which: Sequence[int]) -> None:
        rows = await self.rows()
        await self.store.sent([SentRow(number=rows[n], sent_us=n) for n in which if n < len(rows)])

    async def refuse(self, which: int) -> None:
        rows = await self.rows()
        number = rows[which] if which < len(rows) else 10**6
        failed = NewRecord(key=b"s", value=b"{}") if which % 2 else None
        await self.store.refuse(RefusedRow(number=number, reason=f"no {which}", failed=failed))

    async def reschedule(self, which: int) -> None:
        names = {row.id for row in await self.reader.sessions()}
        new = [
            RescheduledRow(session=name, due_us=which or None, config=which)
            for n in range(which)
            if (name := SessionId(f"s{n}")) in names
        ]
        await self.store.reschedule(new, scanned=which if which == 2 else None)

    async def seen(self) -> object:
        progress = await self.reader.progress()
        unmigrated = await self.store.unmigrated(2, after=None, limit=2)
        return (
            [(r.command, r.session, r.value, r.sent_us) for r in await self.store.outbox(after=0, limit=100)],
            [(r.id, r.state, r.due_us) for r in await self.reader.sessions()],
            [(d.offset, d.key, d.value, d.reason) for d in await self.reader.dead_letters()],
            [(r.offset, r.key, r.value) for r in await self.reader.records()],
            (progress.offset, progress.end, progress.outbox, progress.dead_letters),
            {one.session for one in unmigrated} if len(unmigrated) < 2 else len(unmigrated),
        )


decisions = st.tuples(st.sampled_from(["command", "revoke"]), numbers)
ops = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(decisions, max_size=3), some, some),
        st.tuples(st.just("sent"), some),
        st.tuples(st.just("refuse"), numbers),
        st.tuples(st.just("reschedule"), numbers),
        st.tuples(st.just("reopen")),
    ),
    max_size=12,
)


@few
@given(ops)
def test_a_store_in_memory_answers_as_one_in_sqlite(ops: list[tuple[object, ...]]) -> None:
    async def run(directory: Path) -> None:
        clock = ManualClock()
        async with AsyncExitStack() as stack:
            database = MemoryDatabase()
            log = SqliteLog(directory, create=True, clock=clock)
            stack.push_async_callback(log.close)
            await log.append([NewRecord(key=b"s", value=b"{}")])
            await MemoryLog(database, clock=clock).append([NewRecord(key=b"s", value=b"{}")])
            reader = SqliteReader(directory)
            stack.push_async_callback(reader.close)
            engines = [
                _Engine(lambda: MemoryStore(database, app=APP, clock=clock), MemoryReader(database)),
                _Engine(lambda: SqliteStore(directory, app=APP, log=log, clock=clock), reader),
            ]
            for engine in engines:
                await engine.store.open()
            try:
                for name, *arguments in ops:
                    answers = [await getattr(engine, str(name))(*arguments) for engine in engines]
                    assert answers[0] == answers[1]
                    first, second = [await engine.seen() for engine in engines]
                    assert first == second
            finally:
                for engine in engines:
                    await engine.store.close()

    with TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))


# ---- state stores ---------------------------------------------------------------------------------

keys = st.sampled_from([b"\x00\x00mark", b"\x02", b"a", b"a\x00", b"ab", b"b", "é".encode(), b"\xff"])
entries = st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=3)), max_size=4)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("write"), entries, st.integers(0, 99)),
        st.tuples(st.just("page"), keys, st.integers(0, 4)),
        st.tuples(st.just("wipe")),
        st.tuples(st.just("reopen"), st.sampled_from(["c/1", "c/2"])),
    ),
    max_size=12,
)


@few
@given(calls)
async def test_a_state_store_in_memory_answers_as_one_in_rocksdb(calls: list[tuple[object, ...]]) -> None:
    files = MemoryStateFiles()
    with TemporaryDirectory() as directory:

        def opened(changelog: str) -> list[StateStore]:
            return [
                MemoryStateStore(files, changelog=changelog),
                RocksStore(Path(directory) / "store", changelog=changelog, memory=SharedRocksMemory()),
            ]

        stores = opened("c/1")
        for name, *arguments in calls:
            if name == "reopen":
                for store in stores:
                    await store.close()
                stores = opened(str(arguments[0]))
            elif name == "write":
                for store in stores:
                    store.write(arguments[0], position=arguments[1])  # type: ignore[arg-type] # as drawn
            elif name == "page":
                first, second = (
                    [*store.page(after=arguments[0], limit=arguments[1])]  # type: ignore[arg-type] # as drawn
                    for store in stores
                )
                assert first == second
            else:
                for store in stores:
                    store.wipe()
            assert stores[0].position() == stores[1].position()
            assert [*stores[0].page(after=b"\x01", limit=99)] == [*stores[1].page(after=b"\x01", limit=99)]
            assert stores[0].get(b"a") == stores[1].get(b"a")
        for store in stores:
            await store.close()


# ---- indexes --------------------------------------------------------------------------------------

names = st.sampled_from(["", "a", "ab", "b", "b\x00", "é", "\U0001f600"]).map(SessionId)
marks = st.frozensets(st.sampled_from("xyz"))
asks = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.tuples(names, marks), max_size=4)),
        st.tuples(st.just("clear")),
        st.tuples(st.just("reopen"), st.sampled_from([None, "1", "2"]), st.sampled_from(["1", "2"])),
    ),
    max_size=12,
)


@few
@example(
    [("put", [(SessionId(""), frozenset("x")), (SessionId(""), frozenset())])],
    ["x"],
    SessionId(""),
    SessionId(""),
)
@given(asks, st.lists(st.sampled_from("xyz"), min_size=1, max_size=2, unique=True), names, names)
def test_an_index_in_memory_answers_as_one_in_sqlite(
    asks: list[tuple[object, ...]], wanted: list[str], prefix: SessionId, after: SessionId
) -> None:
    stamps: dict[str, dict[SessionId, frozenset[str]]] = {}
    with TemporaryDirectory() as directory:

        def opened() -> list[Index]:
            return [MemoryIndex(stamps), SqliteIndex(Path(directory) / "index.db")]

        indexes = opened()
        assert [index.resume("1") for index in indexes] == [False, False]
        for name, *arguments in asks:
            if name == "put":
                for index in indexes:
                    index.put(arguments[0])  # type: ignore[arg-type] # as drawn
            elif name == "clear":
                for index in indexes:
                    index.clear()
            else:
                closing, opening = arguments
                for index in indexes:
                    index.close(closing)  # type: ignore[arg-type] # as drawn
                indexes = opened()
                resumed = [index.resume(str(opening)) for index in indexes]
                assert resumed[0] == resumed[1]
            for begin, last in (("", None), (prefix, None), ("", after), (prefix, after)):
                first, second = (
                    [*index.find(wanted, prefix=begin, after=last, limit=3)] for index in indexes
                )
                assert first == second
        for index in indexes:
            index.close(None)
