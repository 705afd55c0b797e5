"""What only the store on disk has to do: ownership between processes, waking, large records."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.memory import MemoryDispatcher
from triggerstream.adapters.nowhere import NowhereDispatcher
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.core.commands import Command
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.events import Cancel
from triggerstream.core.ids import AppId, InstanceId, SessionId
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.ports import Dispatcher
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

APP = AppId("app")

OWNER = """
import asyncio, sys
from triggerstream.adapters.sqlite import SqliteStore
async def own():
    await SqliteStore(sys.argv[1], app="app").open()
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(own())
"""

PRODUCER = """
import sys
from triggerstream.adapters.sqlite import SqliteLog
log = SqliteLog(sys.argv[1])
log.report("warm", b"{}")
print("ready", flush=True)
for line in sys.stdin:
    log.report("s", b"{}")
"""


async def test_database_of_the_first_schema_is_brought_up_to_date_with_all_that_it_has(
    tmp_path: Path,
) -> None:
    store = SqliteStore(tmp_path, app=APP)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(tmp_path / "triggerstream.db", isolation_level=None)) as older:
        older.executescript(
            """
            DROP TABLE retired;
            DROP TABLE dead_letters;
            CREATE TABLE dead_letters (
                number INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, offset INTEGER UNIQUE,
                key BLOB, value BLOB, reason TEXT NOT NULL
            );
            INSERT INTO dead_letters (at_us, offset, reason) VALUES (1, 5, 'of a record');
            ALTER TABLE configurations DROP COLUMN number;
            ALTER TABLE outbox DROP COLUMN published_us;
            INSERT INTO configurations VALUES (3, 0, 'a', '{}'), (7, 0, 'b', '{}');
            INSERT INTO dead_letters (at_us, key, value, reason) VALUES (2, 'k', 'v', 'of a command');
            PRAGMA user_version = 1;
            """
        )
    reader = SqliteReader(tmp_path)
    found = await reader.dead_letters()
    counted = [(c.offset, c.number) for c in await reader.configurations()]
    await reader.close()
    assert counted == [(3, 1), (7, 2)]
    assert [(d.number, d.offset, d.left_out, d.reason) for d in found] == [
        (1, 5, None, "of a record"),
        (2, None, None, "of a command"),
    ]
    with closing(sqlite3.connect(tmp_path / "triggerstream.db")) as newer:
        assert newer.execute("PRAGMA user_version").fetchone() == (4,)
        assert newer.execute("SELECT count(*) FROM retired").fetchone() == (0,)
        newer.execute("INSERT INTO dead_letters (at_us, offset, left_out, reason) VALUES (3, 5, 0, 'r')")
        assert newer.execute("SELECT max(number) FROM dead_letters").fetchone() == (3,)


@contextmanager
def python(script: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_directory_belongs_to_one_process_until_it_dies(tmp_path: Path) -> None:
    with python(OWNER, tmp_path) as owner:
        assert await asyncio.to_thread(line, owner) == "open"
        store = SqliteStore(tmp_path, app=APP)
        with pytest.raises(
            UsageError, match=rf"another engine \(process {owner.pid}\) runs on this directory"
        ):
            await store.open()
        os.kill(owner.pid, signal.SIGKILL)
        await asyncio.to_thread(owner.wait, 30)
        await store.open()
        await store.close()


async def test_append_of_another_process_wakes_the_engine_before_it_looks_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggerstream.adapters.sqlite.store.POLL_S", 3_600.0)
    store = SqliteStore(tmp_path, app=APP)
    await store.open()
    with python(PRODUCER, tmp_path) as producer:
        assert await asyncio.to_thread(line, producer) == "ready"
        assert producer.stdin is not None
        for _ in range(20):
            waiting = asyncio.create_task(store.wait(await store.end()))
            await asyncio.sleep(0)
            producer.stdin.write("\n")
            producer.stdin.flush()
            async with asyncio.timeout(10):
                await waiting
    await store.close()


async def test_append_is_noticed_without_the_fifo(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, app=APP)
    await store.open()
    (tmp_path / "triggerstream.wake").unlink()
    log = SqliteLog(tmp_path)
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(store.wait(0))
        await log.append([NewRecord(key=b"s", value=b"{}")])
        await waiting
    await log.close()
    await store.close()


async def test_batch_of_large_records_is_cut(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, create=True)
    store = SqliteStore(tmp_path, app=APP, log=log)
    await store.open()
    await log.append([NewRecord(key=b"s", value=b"x" * 256 * 1024) for _ in range(50)])
    first = await store.read(0, limit=1_000)
    rest = await store.read(len(first), limit=1_000)
    assert [r.offset for r in (*first, *rest)] == list(range(50))
    assert len(first) == 32
    await store.close()
    await log.close()


async def test_checkpoint_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, app=APP)
    await store.open()
    broken = {
        SessionId("a"): Stored(state=b"A", due_us=None, config=0),
        SessionId("b"): Stored(state=b"B", due_us=2**63, config=0),
    }
    with pytest.raises(OverflowError):
        await store.commit(Checkpoint(partition=0, offset=5, states=broken))
    state_of = await store.load([SessionId("a")])
    assert state_of(SessionId("a")) is None
    await store.close()
    store = SqliteStore(tmp_path, app=APP)
    assert (await store.open()).offset == 0
    await store.close()


async def test_database_that_goes_wrong_is_a_log_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, app=APP)
    await store.open()
    store._writer.execute("DROP TABLE outbox")  # noqa: SLF001 - no disk fails on request
    with pytest.raises(LogError, match=r"triggerstream\.db: no such table: outbox"):
        await store.outbox(after=0, limit=1)
    with pytest.raises(LogError, match=r"triggerstream\.db: no such table: outbox"):
        await store.sent([])
    await store.close()


async def test_task_cancelled_in_the_batch_that_decided_it_does_not_run_after_a_restart(
    tmp_path: Path,
) -> None:
    tasks = '{"t": {"after": ["a"], "run": "tasks.t"}}'
    cancel = encode(Cancel(instance=InstanceId("t#0"), reason="enough", by="me", generation=0))

    async def run(dispatcher: Dispatcher, records: Sequence[NewRecord]) -> None:
        """Run an engine until ``records`` are folded, and the command of session u is handed over."""
        log = SqliteLog(tmp_path, create=True)
        store = SqliteStore(tmp_path, app=APP, log=log)
        engine = EmbeddedEngine(app=APP, log=log, store=store, dispatcher=dispatcher, clock=SystemClock())
        running = asyncio.create_task(engine.run())
        await engine.apply(tasks)
        await log.append(records)
        await engine.reached(await store.end())
        if isinstance(dispatcher, MemoryDispatcher):
            async with asyncio.timeout(30):
                while not any(one.session == "u" for one in dispatcher.dispatched):
                    await dispatcher.wait_for(len(dispatcher.dispatched) + 1)
        engine.stop()
        await running
        await log.close()

    decided = NewRecord(key=b"s", value=b'{"type":"a"}')
    await run(NowhereDispatcher(), [decided, NewRecord(key=b"s", value=cancel)])
    later = MemoryDispatcher()
    await run(later, [NewRecord(key=b"u", value=b'{"type":"a"}')])
    assert [one.session for one in later.dispatched if isinstance(one, Command)] == ["u"]
