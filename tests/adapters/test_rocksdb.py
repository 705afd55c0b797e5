"""The memory and the reads of a RocksDB. What every state store promises: `tests/contract`."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from rocksdict import Options, Rdict, WriteBufferManager

from tests.support.waiting import wait_until
from triggerstream.adapters import rocksdb
from triggerstream.adapters.rocksdb import WRITE_BUFFERS_BYTES, RocksStore, SharedRocksMemory, TemporaryStore
from triggerstream.core.errors import LogError, UsageError


@pytest.mark.parametrize("by_itself", [True, False], ids=["as it is", "RocksDB begins too late"])
async def test_what_is_not_in_files_yet_is_bounded_for_all_stores_together(
    tmp_path: Path, *, by_itself: bool
) -> None:
    memory = SharedRocksMemory()
    if not by_itself:
        # As on a disk so slow that what it was told to write stays in memory.
        memory.buffers = WriteBufferManager(1024 * WRITE_BUFFERS_BYTES, allow_stall=False)
    stores = [RocksStore(tmp_path / str(n), changelog="c", memory=memory) for n in range(24)]
    most = 0
    for part in range(60):
        entries: dict[bytes, bytes | None] = {b"%d-%d" % (part, n): b"x" * 1_000 for n in range(100)}
        for store in stores:
            store.write(entries, position=part)
            await store.make_room()
            most = max(most, memory.buffers.get_usage())
    assert [store.get(b"0-0") for store in stores] == [b"x" * 1_000] * 24
    for store in stores:
        await store.close()
    # 144 MB were written. RocksDB lets go of a memtable a moment after it says that it is in a file.
    assert WRITE_BUFFERS_BYTES / 2 < most < WRITE_BUFFERS_BYTES * 4 / 3


async def test_restores_of_many_stores_at_once_keep_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "UNLOGGED_FROM", 500)
    memory = SharedRocksMemory()
    memory.buffers = WriteBufferManager(1024 * WRITE_BUFFERS_BYTES, allow_stall=False)
    stores = [RocksStore(tmp_path / str(n), changelog="c", memory=memory) for n in range(24)]
    most = 0

    async def restore(store: RocksStore) -> None:
        nonlocal most
        for part in range(60):
            await store.restore({b"%d-%d" % (part, n): b"x" * 1_000 for n in range(100)}, position=part)
            most = max(most, memory.buffers.get_usage())
        await store.end_restore()

    await asyncio.gather(*(restore(store) for store in stores))
    assert [store.get(b"0-0") for store in stores] == [b"x" * 1_000] * 24
    for store in stores:
        await store.close()
    assert WRITE_BUFFERS_BYTES / 2 < most < WRITE_BUFFERS_BYTES * 4 / 3


class HeldStore(RocksStore):
    """A store whose writes wait, in their thread, until they may go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, changelog="c", memory=SharedRocksMemory())
        self.begun, self.go_on = threading.Event(), threading.Event()

    def _wait(self) -> None:
        self.begun.set()
        assert self.go_on.wait(30), "it waits on the event loop, which would have to let it go on"

    def _write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        self._wait()
        super()._write(entries, position=position)


async def test_the_event_loop_goes_on_during_a_restore(tmp_path: Path) -> None:
    store = HeldStore(tmp_path)
    restoring = asyncio.create_task(store.restore({b"a": b"1"}, position=1))
    assert await asyncio.to_thread(store.begun.wait, 30)
    store.go_on.set()
    await restoring
    assert store.get(b"a") == b"1"
    await store.close()


async def test_a_cancelled_restore_is_over_before_the_store_can_be_closed(tmp_path: Path) -> None:
    store = HeldStore(tmp_path)
    restoring = asyncio.create_task(store.restore({b"a": b"1"}, position=1))
    assert await asyncio.to_thread(store.begun.wait, 30)
    for _ in range(2):
        restoring.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not restoring.done()
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await restoring
    assert store.position() == 1
    await store.close()
    assert RocksStore(tmp_path, changelog="c", memory=SharedRocksMemory()).position() == 1


class SlowStore(HeldStore):
    """A store that waits, before it is closed or flushed, until it may go on."""

    def _write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        RocksStore._write(self, entries, position=position)  # noqa: SLF001 - it does not wait

    def flush(self) -> None:
        self._wait()
        super().flush()

    def _close(self) -> None:
        self._wait()
        super()._close()


async def test_the_event_loop_goes_on_while_a_store_is_closed(tmp_path: Path) -> None:
    """Twelve stores with entries that are in no file yet took up to 1.5 s together on a busy machine."""
    store = SlowStore(tmp_path)
    store.write({b"a": b"1"}, position=1)
    closing = asyncio.create_task(store.close())
    assert await asyncio.to_thread(store.begun.wait, 30)
    for _ in range(2):
        closing.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not closing.done(), "its next owner could not open it"
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    again = RocksStore(tmp_path, changelog="c", memory=SharedRocksMemory())
    assert again.position() == 1
    await again.close()


async def test_the_event_loop_goes_on_while_room_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SlowStore(tmp_path)
    monkeypatch.setattr(rocksdb, "WRITE_BUFFERS_BYTES", 1)
    store.write({b"a": b"1"}, position=1)
    making = [asyncio.create_task(store.make_room()) for _ in range(9)]
    assert await asyncio.to_thread(store.begun.wait, 30)
    assert store.get(b"a") == b"1"
    store.go_on.set()
    await asyncio.gather(*making)
    await store.close()


async def test_a_store_whose_opening_is_cancelled_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    opens = RocksStore._open  # noqa: SLF001 - it waits for the disk

    def slow(self: RocksStore) -> Rdict:
        begun.set()
        assert go_on.wait(30), "it waits on the event loop, which would have to let it go on"
        return opens(self)

    monkeypatch.setattr(RocksStore, "_open", slow)
    memory = SharedRocksMemory()
    opening = asyncio.create_task(RocksStore.open(tmp_path, changelog="c", memory=memory))
    assert await asyncio.to_thread(begun.wait, 30)
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert memory.stores == set()
    store = await RocksStore.open(tmp_path, changelog="c", memory=memory)
    with pytest.raises(UsageError, match="another process has this store open"):
        await RocksStore.open(tmp_path, changelog="c", memory=memory)
    await store.close()


_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory

async def main(path, chunks, after):
    store = RocksStore(Path(path), changelog="c", memory=SharedRocksMemory())
    store.write({b"begun": b"0"}, position=0)
    for number in range(1, chunks + 1):
        entries = {b"%d-%d" % (number, n): b"x" * 400 for n in range(2_000)}
        await store.restore({**entries, b"newest": b"%d" % number}, position=number)
    if after == "restored":
        await store.end_restore()
    if after in ("restored", "written"):
        store.write({b"later": b"1"}, position=chunks + 1)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("chunks", "after", "least", "most"),
    [
        (3, "", 3, 3),  # a short restore is logged
        (9, "", 4, 8),  # nothing beyond what was logged is in a file yet
        (40, "", 5, 39),
        (40, "restored", 41, 41),
        (40, "written", 41, 41),
    ],
)
def test_death_in_a_restore_leaves_all_entries_up_to_some_position(
    tmp_path: Path, chunks: int, after: str, least: int, most: int
) -> None:
    words = [sys.executable, "-c", _DIE, str(tmp_path), str(chunks), after]
    assert subprocess.run(words, check=False, timeout=120).returncode == -signal.SIGKILL
    store = RocksStore(tmp_path, changelog="c", memory=SharedRocksMemory())
    position = store.position()
    assert position is not None
    assert least <= position <= most
    last = min(position, chunks)
    assert store.get(b"newest") == b"%d" % last
    assert store.get(b"later") == (b"1" if position > chunks else None)
    keys = [key for key, _ in store.page(after=b"0", limit=1_000_000)]
    wanted = {b"%d-%d" % (number, n) for number in range(1, last + 1) for n in range(2_000)}
    assert {key for key in keys if b"-" in key} == wanted
    asyncio.run(store.close())


async def test_a_store_that_is_wiped_in_a_restore_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "UNLOGGED_FROM", 2)
    store = RocksStore(tmp_path / "store", changelog="c", memory=SharedRocksMemory())
    await store.restore({b"a": b"1", b"b": b"2"}, position=2)
    store.wipe()
    store.write({b"c": b"3"}, position=1)
    await store.close()
    again = RocksStore(tmp_path / "store", changelog="c", memory=SharedRocksMemory())
    assert (again.position(), again.get(b"a"), again.get(b"c")) == (1, None, b"3")
    await again.close()


_DIE_WIPING = """
import os, shutil, signal, sys
from pathlib import Path
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory

def die(path):
    for file in Path(path).glob(sys.argv[2]):
        file.unlink()
    os.kill(os.getpid(), signal.SIGKILL)

store = RocksStore(Path(sys.argv[1]), changelog="c", memory=SharedRocksMemory())
store.write({b"a": b"1"}, position=1)
shutil.rmtree = die
store.wipe()
"""


@pytest.mark.parametrize("first", ["CURRENT", "MANIFEST-*", "*.sst", "none"])
def test_a_store_whose_process_died_while_it_was_wiped_begins_anew(tmp_path: Path, first: str) -> None:
    path = tmp_path / "store"
    words = [sys.executable, "-c", _DIE_WIPING, str(path), first]
    assert subprocess.run(words, check=False, timeout=60).returncode == -signal.SIGKILL
    store = RocksStore(path, changelog="c", memory=SharedRocksMemory())
    assert (store.position(), store.get(b"a")) == (None, None)
    asyncio.run(store.close())
    assert list(tmp_path.iterdir()) == [path]


@dataclass
class Reads:
    """Counts the blocks that a store reads from files, by the kind of block."""

    options: Options

    def count(self) -> dict[str, int]:
        """The blocks read so far."""
        tickers = dict(
            re.findall(r"^rocksdb[.]block[.]cache[.](\S+) COUNT : ([0-9]+)$", self._text(), re.MULTILINE)
        )
        return {kind: int(tickers[f"{kind}.miss"]) for kind in ("data", "index", "filter")}

    def _text(self) -> str:
        return self.options.get_statistics() or ""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Reads]:
    """The reads of each store that the test opens."""
    made: list[Reads] = []
    plain = rocksdb._options  # noqa: SLF001 - RocksDB counts only where its options ask for it

    def counting(memory: SharedRocksMemory) -> Options:
        options = plain(memory)
        options.enable_statistics()
        options.set_disable_auto_compactions(True)  # their reads would be counted, too
        made.append(Reads(options))
        return options

    monkeypatch.setattr(rocksdb, "_options", counting)
    return made


async def test_a_look_up_reads_no_index_however_small_the_cache_is(
    tmp_path: Path, reads: list[Reads]
) -> None:
    memory = SharedRocksMemory(cache_bytes=1024 * 1024)
    store = RocksStore(tmp_path, changelog="c", memory=memory)
    count, looked_up = 60_000, 2_000
    filling = b"".join(b"%08x" % (n * 2_654_435_761 % 2**32) for n in range(140))
    for begin in range(0, count, 1_000):
        entries: dict[bytes, bytes | None] = {
            _session(n): b"%d" % n + filling for n in range(begin, begin + 1_000)
        }
        store.write(entries, position=begin)
    store.flush()

    before = reads[0].count()
    assert all(store.get(_session(n * 29)) is not None for n in range(looked_up))
    present = reads[0].count()
    assert all(store.get(_session(count + n)) is None for n in range(looked_up))
    absent = reads[0].count()
    await store.close()

    found = {kind: present[kind] - before[kind] for kind in before}
    missed = {kind: absent[kind] - present[kind] for kind in before}
    assert found["index"] == found["filter"] == missed["index"] == missed["filter"] == 0
    # RocksDB counts a data block twice: when it is not in the cache, and when it is put there.
    assert looked_up / 2 < found["data"] < looked_up * 2.5
    # A Bloom filter of 10 bits lets 1 % through, for each file that has the key in its range.
    assert missed["data"] < looked_up / 2


@pytest.mark.parametrize("restored", [False, True], ids=["as opened", "after a long restore"])
def test_seven_flushed_files_are_left_as_they_are_and_the_eighth_is_compacted_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restored: bool
) -> None:
    monkeypatch.setattr(rocksdb, "UNLOGGED_FROM", 1)
    store = RocksStore(tmp_path, changelog="c", memory=SharedRocksMemory())

    async def restore() -> None:
        await store.restore({b"restored": b"0"}, position=0)
        await store.end_restore()

    if restored:
        asyncio.run(restore())
    for number in range(2 if restored else 1, 8):
        store.write({b"first": b"", b"last": b""}, position=number)
        store.flush()
    assert len([*tmp_path.glob("*.sst")]) == 7
    store.write({b"first": b"", b"last": b""}, position=8)
    store.flush()
    wait_until(lambda: len([*tmp_path.glob("*.sst")]) == 1)
    assert store.position() == 8
    asyncio.run(store.close())


def _session(number: int) -> bytes:
    """A session's id; neighbours in number are far apart in the store."""
    return b"session-%032d" % (number * 2_654_435_761 % 2**32)


def test_a_temporary_store_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = TemporaryStore()
    assert store.position() is None
    store.write({b"s": b"state", b"gone": None}, position=7)
    (made,) = tmp_path.iterdir()
    assert made.stat().st_mode & 0o077 == 0, "states are nobody else's business"
    assert store.page(after=b"", limit=10) == [(b"s", b"state")]
    asyncio.run(store.close())
    assert list(tmp_path.iterdir()) == []


def test_a_place_for_temporary_files_that_cannot_be_used_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(LogError, match="no directory for temporary files can be used"):
        TemporaryStore()
