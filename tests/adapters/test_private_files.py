"""States, events and indexes are their owner's alone, whatever the process's umask allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.adapters.sqlite import SqliteLog, SqliteStore
from triggerstream.adapters.sqlite.index import SqliteIndex
from triggerstream.core.ids import AppId, SessionId
from triggerstream.engine.private_files import make_private_directory, make_private_file
from triggerstream.wire.records import NewRecord


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The mode of ``folder`` and of all directly within it, by name."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


async def test_a_database_and_all_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    log = SqliteLog(folder, create=True)
    store = SqliteStore(folder, app=AppId("app"), log=log)
    await store.open()
    await log.append([NewRecord(key=b"s", value=b"{}")])
    index = SqliteIndex(folder / "index.db")
    index.put([(SessionId("s"), frozenset({"mark"}))])
    found = modes(folder)
    assert found.pop("state") == 0o700
    assert {"triggerstream.db", "triggerstream.db-wal", "triggerstream.db-shm", "index.db"} <= found.keys()
    assert {name: oct(mode) for name, mode in found.items()} == dict.fromkeys(found, "0o600")
    index.close(None)
    await store.close()
    await log.close()


async def test_a_store_of_a_worker(tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    make_private_directory(folder)
    store = RocksStore(folder / "0", changelog="c", memory=SharedRocksMemory())
    await store.close()
    assert modes(folder) == {"worker": 0o700, "0": 0o700}


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever shares a database with another account has said so."""
    folder, file = tmp_path / "shared", tmp_path / "shared" / "file"
    folder.mkdir(mode=0o770)
    file.touch(mode=0o660)
    make_private_directory(folder)
    make_private_file(file)
    assert modes(folder) == {"shared": 0o770, "file": 0o660}
