from __future__ import annotations

from pathlib import Path

import pytest
from rocksdict import WriteBufferManager

from triggerstream.adapters.faust.rocks import WRITE_BUFFERS_BYTES, Memory, RocksStore
from triggerstream.core.errors import UsageError


def opened(path: Path, *, changelog: str = "cluster/1") -> RocksStore:
    """A store that shares nothing with others."""
    return RocksStore(path, changelog=changelog, memory=Memory())


def test_a_store_is_as_it_was_once_it_is_opened_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.position() is None
    store.write({b"a": b"1", b"b": b"2", b"c": b"3"}, position=7)
    store.write({b"b": None}, position=9)
    store.close()
    again = opened(tmp_path)
    assert again.position() == 9
    assert again.get(b"b") is None
    assert again.page(after=b"\x01", limit=1) == [(b"a", b"1")]
    assert again.page(after=b"a", limit=10) == [(b"c", b"3")]
    again.close()


def test_a_store_of_another_changelog_is_wiped(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write({b"a": b"1"}, position=7)
    store.close()
    other = opened(tmp_path, changelog="cluster/2")
    assert (other.position(), other.get(b"a")) == (None, None)
    other.close()


def test_a_store_that_another_has_open_is_named(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(UsageError, match="another process has this store open"):
        opened(tmp_path)
    store.close()


@pytest.mark.parametrize("by_itself", [True, False], ids=["as it is", "RocksDB begins too late"])
def test_what_is_not_in_files_yet_is_bounded_for_all_stores_together(
    tmp_path: Path, *, by_itself: bool
) -> None:
    memory = Memory()
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
