"""What only the log on disk has to do: many processes, forks, locks, a file that is something else."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import subprocess
import sys
from collections import defaultdict
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId, SessionId
from triggerstream.wire.records import NewRecord

SPAWN = multiprocessing.get_context("spawn")


def append_many(directory: Path, producer: int, appends: int, barrier: Barrier) -> None:
    async def run() -> None:
        log = SqliteLog(directory, create=True)
        barrier.wait(60)
        for number in range(appends):
            key = b"p%d" % producer
            await log.append([NewRecord(key=key, value=b"%d" % (2 * number + part)) for part in range(2)])
        await log.close()

    asyncio.run(run())


def tables(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / "triggerstream.db", isolation_level=None)


@pytest.mark.slow
async def test_producers_in_many_processes_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(4)
    producers = [SPAWN.Process(target=append_many, args=(tmp_path, n, 100, barrier)) for n in range(4)]
    for producer in producers:
        producer.start()
    for producer in producers:
        await asyncio.to_thread(producer.join, 60)
    assert [producer.exitcode for producer in producers] == [0] * 4
    reader = SqliteReader(tmp_path)
    records = await reader.records(limit=10_000)
    await reader.close()
    assert [r.offset for r in records] == list(range(800))
    assert [r.arrival_us for r in records] == sorted(r.arrival_us for r in records)
    values = defaultdict(list)
    for record in records:
        values[record.key].append(int(record.value or b""))
    assert values == {b"p%d" % n: list(range(200)) for n in range(4)}
    pairs = [(records[i].key, records[i + 1].key) for i in range(0, 800, 2)]
    assert all(first == second for first, second in pairs)


async def test_appends_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, create=True)
    await log.append([NewRecord(key=b"s", value=b"0")])
    transactions = 0

    def count() -> None:
        nonlocal transactions
        transactions += 1

    log.listen(count)
    await asyncio.gather(*(log.append([NewRecord(key=b"s", value=b"%d" % n)]) for n in range(500)))
    await log.close()
    assert transactions <= 3


async def test_appended_event_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, create=True)
    await log.append([NewRecord(key=b"s", value=b"{}")])
    other = tables(tmp_path)
    assert other.execute("SELECT count(*) FROM log").fetchone() == (1,)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    await log.close()


async def test_writer_waits_for_its_turn_and_gives_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteLog(tmp_path, create=True)
    await log.append([NewRecord(key=b"s", value=b"1")])
    holder = tables(tmp_path)
    holder.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(log.append([NewRecord(key=b"s", value=b"2")]))
    await asyncio.sleep(0)
    assert not waiting.done()
    holder.execute("ROLLBACK")
    await waiting
    monkeypatch.setattr("triggerstream.adapters.sqlite.log.LOCK_TIMEOUT_S", 0.0)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        LogError, match=r"triggerstream\.db: the log did not take 1 events: database is locked"
    ):
        await log.append([NewRecord(key=b"s", value=b"3")])
    holder.execute("ROLLBACK")
    assert holder.execute("SELECT value FROM log").fetchall() == [(b"1",), (b"2",)]
    await log.append([NewRecord(key=b"s", value=b"4")])
    holder.close()
    await log.close()


async def test_outcomes_are_reported_from_forked_children(tmp_path: Path) -> None:
    """In an interpreter of its own, without threads, as Celery's prefork pool forks."""
    script = """
import os, sys
from triggerstream.adapters.sqlite import SqliteLog
from triggerstream.core.ids import SessionId
log = SqliteLog(sys.argv[1], create=True)
log.report(SessionId("parent"), b"before")
children = []
for n in range(4):
    pid = os.fork()
    if pid == 0:
        for m in range(5):
            log.report(SessionId(f"child {n}"), b"%d" % m)
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
log.report(SessionId("parent"), b"after")
sys.exit(max(codes))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path)], timeout=60, check=False
    )
    assert done.returncode == 0
    found = tables(tmp_path)
    rows = found.execute("SELECT key, count(*) FROM log GROUP BY key ORDER BY key").fetchall()
    assert rows == [*((b"child %d" % n, 5) for n in range(4)), (b"parent", 2)]
    assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found.close()


# ---- a file that is something else ----------------------------------------------------------------


async def refusals(path: Path) -> list[str]:
    """What each of the three says of ``path``."""
    log, reader, store = SqliteLog(path), SqliteReader(path), SqliteStore(path, app=AppId("app"))
    messages = []
    with pytest.raises(UsageError) as refused:
        await log.append([NewRecord(key=b"s", value=b"{}")])
    messages.append(str(refused.value))
    with pytest.raises(UsageError) as refused:
        log.report(SessionId("s"), b"{}")
    messages.append(str(refused.value))
    with pytest.raises(UsageError) as refused:
        await reader.progress()
    messages.append(str(refused.value))
    with pytest.raises(UsageError) as refused:
        await store.open()
    messages.append(str(refused.value))
    await log.close()
    await reader.close()
    await store.close()
    return messages


async def test_directory_without_a_database_is_refused_by_all_but_the_engine(tmp_path: Path) -> None:
    log, reader = SqliteLog(tmp_path / "typo"), SqliteReader(tmp_path / "typo")
    with pytest.raises(
        UsageError, match=r"typo/triggerstream\.db: not there: start one with `triggerstream dev"
    ):
        await log.append([NewRecord(key=b"s", value=b"{}")])
    with pytest.raises(UsageError, match="not there"):
        await reader.progress()
    assert not (tmp_path / "typo").exists()
    store = SqliteStore(tmp_path / "typo", app=AppId("app"))
    await store.open()
    await log.append([NewRecord(key=b"s", value=b"{}")])
    assert (await reader.progress()).end == 1
    await store.close()
    await reader.close()
    await log.close()


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, create=True)
    await log.append([NewRecord(key=b"s", value=b"{}")])
    await log.close()
    database = tables(tmp_path)
    database.execute("PRAGMA user_version = 7")
    database.close()
    said = await refusals(tmp_path)
    assert len(set(said)) == 1
    assert said[0].endswith(
        "triggerstream.db: has schema 7, of a newer triggerstream; this one knows 4 at most: upgrade it"
    )


async def test_other_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE orders (number)")
    other.close()
    before = path.read_bytes()
    said = "is no triggerstream database, but empty or a database of something else"
    assert set(await refusals(path)) == {f"{path}: {said}"}
    assert path.read_bytes() == before


async def test_empty_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "triggerstream.db"
    path.touch()
    said = "is no triggerstream database, but empty or a database of something else"
    assert set(await refusals(tmp_path)) == {f"{path}: {said}"}
    assert path.read_bytes() == b""


async def test_write_ahead_log_without_its_database_is_not_taken_for_another_s(tmp_path: Path) -> None:
    (tmp_path / "triggerstream.db-wal").write_bytes(b"events that only this file holds")
    log = SqliteLog(tmp_path, create=True)
    with pytest.raises(UsageError, match=r"triggerstream\.db-wal: its database is gone"):
        await log.append([NewRecord(key=b"s", value=b"{}")])
    await log.close()


@pytest.mark.slow
async def test_processes_that_create_the_same_database_at_once_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    """In an interpreter of its own, so that its forks share nothing with this one's threads."""
    script = """
import os, sys, time
from pathlib import Path
from triggerstream.adapters.sqlite import SqliteLog
failed = 0
for round in range(15):
    directory = Path(sys.argv[1]) / str(round)
    start, children = time.monotonic() + 0.02, []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < start:
                pass
            SqliteLog(directory, create=True).report("s", b"{}")
            os._exit(0)
        children.append(pid)
    failed += sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
sys.exit(failed)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path)], timeout=60, check=False
    )
    assert done.returncode == 0
    for number in range(15):
        found = tables(tmp_path / str(number))
        assert found.execute("SELECT count(*) FROM log").fetchone() == (6,)
        found.close()
        assert [f for f in (tmp_path / str(number)).iterdir() if f.name.startswith(".")] == []


async def test_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "triggerstream.db"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    before = path.read_bytes()
    assert set(await refusals(tmp_path)) == {f"{path}: is no triggerstream database"}
    assert path.read_bytes() == before


async def test_path_may_name_the_directory_or_the_file(tmp_path: Path) -> None:
    by_file = SqliteLog(tmp_path / "triggerstream.db", create=True)
    await by_file.append([NewRecord(key=b"s", value=b"1")])
    by_directory = SqliteReader(str(tmp_path))
    assert [r.value for r in await by_directory.records()] == [b"1"]
    await by_directory.close()
    await by_file.close()


async def test_directory_that_cannot_be_made_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = SqliteLog(tmp_path / "file" / "state", create=True)
    with pytest.raises(LogError, match="cannot be opened"):
        await log.append([NewRecord(key=b"s", value=b"1")])
    await log.close()
