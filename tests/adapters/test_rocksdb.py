"""The memory and the reads of a RocksDB. What every state store promises: `tests/contract`."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from rocksdict import Options, WriteBufferManager

from triggerstream.adapters import rocksdb
from triggerstream.adapters.rocksdb import WRITE_BUFFERS_BYTES, RocksStore, SharedRocksMemory, TemporaryStore
from triggerstream.core.errors import LogError


@pytest.mark.parametrize("by_itself", [True, False], ids=["as it is", "RocksDB begins too late"])
def test_what_is_not_in_files_yet_is_bounded_for_all_stores_together(
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
            most = max(most, memory.buffers.get_usage())
    assert [store.get(b"0-0") for store in stores] == [b"x" * 1_000] * 24
    for store in stores:
        store.close()
    # 144 MB were written. RocksDB lets go of a memtable a moment after it says that it is in a file.
    assert WRITE_BUFFERS_BYTES / 2 < most < WRITE_BUFFERS_BYTES * 4 / 3


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


def test_a_look_up_reads_no_index_however_small_the_cache_is(tmp_path: Path, reads: list[Reads]) -> None:
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
    store.close()

    found = {kind: present[kind] - before[kind] for kind in before}
    missed = {kind: absent[kind] - present[kind] for kind in before}
    assert found["index"] == found["filter"] == missed["index"] == missed["filter"] == 0
    # RocksDB counts a data block twice: when it is not in the cache, and when it is put there.
    assert looked_up / 2 < found["data"] < looked_up * 2.5
    # A Bloom filter of 10 bits lets 1 % through, for each file that has the key in its range.
    assert missed["data"] < looked_up / 2


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
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_for_temporary_files_that_cannot_be_used_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(LogError, match="no directory for temporary files can be used"):
        TemporaryStore()
