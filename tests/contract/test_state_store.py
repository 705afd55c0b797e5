"""The promises of every StateStore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from triggerstream.adapters.memory import MemoryStateFiles, MemoryStateStore
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.core.errors import UsageError
from triggerstream.engine.partitioned.ports import StateStore
from triggerstream.wire.marks import RESERVED


class Open(Protocol):
    """Opens the same store each time; a test leaves the last one open."""

    def __call__(self, *, changelog: str = "cluster/1") -> StateStore: ...


@pytest.fixture(params=["memory", "rocksdb"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    made: list[StateStore] = []
    files = MemoryStateFiles()

    def make(*, changelog: str = "cluster/1") -> StateStore:
        store: StateStore = (
            MemoryStateStore(files, changelog=changelog)
            if request.param == "memory"
            else RocksStore(tmp_path / "deep" / "store", changelog=changelog, memory=SharedRocksMemory())
        )
        made.append(store)
        return store

    yield make
    await made[-1].close()


def test_a_new_store_is_empty_and_has_no_position(opened: Open) -> None:
    store = opened()
    assert store.position() is None
    assert store.get(b"a") is None
    assert [*store.page(after=b"", limit=10)] == []


async def test_a_store_is_as_it_was_once_it_is_opened_again(opened: Open) -> None:
    store = opened()
    assert store.position() is None
    store.write({b"a": b"1", b"b": b"2", b"c": b"3"}, position=7)
    store.write({b"b": None}, position=9)
    await store.close()
    again = opened()
    assert again.position() == 9
    assert again.get(b"b") is None
    assert again.page(after=b"\x01", limit=1) == [(b"a", b"1")]
    assert again.page(after=b"a", limit=10) == [(b"c", b"3")]


async def test_a_restore_is_there_at_once_and_when_the_store_is_opened_again(opened: Open) -> None:
    store = opened()
    store.write({b"a": b"0", b"b": b"0"}, position=3)
    await store.restore({b"a": b"1", b"b": None, b"c": b"3"}, position=7)
    assert (store.position(), store.get(b"a"), store.get(b"b")) == (7, b"1", None)
    await store.restore({}, position=9)
    await store.end_restore()
    store.write({b"d": b"4"}, position=10)
    await store.close()
    again = opened()
    assert again.position() == 10
    assert again.page(after=b"\x01", limit=10) == [(b"a", b"1"), (b"c", b"3"), (b"d", b"4")]
    await again.end_restore()


async def test_a_store_of_another_changelog_is_wiped(opened: Open) -> None:
    store = opened()
    store.write({b"a": b"1"}, position=7)
    await store.close()
    other = opened(changelog="cluster/2")
    assert (other.position(), other.get(b"a")) == (None, None)
    other.write({b"b": b"2"}, position=1)
    await other.close()
    assert opened(changelog="cluster/2").position() == 1


async def test_a_store_that_another_has_open_is_refused(opened: Open) -> None:
    store = opened()
    with pytest.raises(UsageError, match="another process has this store open"):
        opened()
    await store.close()
    opened()


def test_a_later_value_takes_the_place_of_the_former_and_a_missing_one_deletes_it(opened: Open) -> None:
    store = opened()
    store.write({b"a": b"1", b"b": b""}, position=1)
    assert (store.get(b"a"), store.get(b"b")) == (b"1", b""), "an empty value is a value"
    store.write({b"a": b"2", b"b": None, b"nothing": None}, position=2)
    assert (store.get(b"a"), store.get(b"b"), store.get(b"nothing")) == (b"2", None, None)
    assert [*store.page(after=b"\x01", limit=10)] == [(b"a", b"2")]


def test_a_write_without_entries_moves_the_position(opened: Open) -> None:
    store = opened()
    store.write({}, position=5)
    assert store.position() == 5
    store.write({b"a": b"1"}, position=3)
    assert store.position() == 3, "also back: the changelog was read again"


def test_pages_have_each_entry_once_in_the_order_of_the_bytes_of_keys(opened: Open) -> None:
    store = opened()
    keys = [b"\x02", b"a", b"a\x00", b"a\x01", b"b", "é".encode(), "\U0001f600".encode(), b"\xff"]
    store.write({key: b"v" + key for key in reversed(keys)}, position=1)
    found: list[tuple[bytes, bytes]] = []
    after = b"\x01"
    while page := store.page(after=after, limit=3):
        assert len(page) <= 3
        found += page
        after = page[-1][0]
    assert found == [(key, b"v" + key) for key in sorted(keys)]
    assert [*store.page(after=b"a", limit=1)] == [(b"a\x00", b"va\x00")]
    assert [*store.page(after=b"aa", limit=1)] == [(b"b", b"vb")], "a key that is not there"
    assert [*store.page(after=b"a", limit=0)] == []
    assert [*store.page(after=b"\xff", limit=1)] == []


def test_marks_are_kept_beside_states_before_all_pages_of_sessions(opened: Open) -> None:
    store = opened()
    store.write({RESERVED + b"checkpoint": b"mark", b"s": b"state"}, position=1)
    assert store.get(RESERVED + b"checkpoint") == b"mark"
    assert [*store.page(after=b"\x01", limit=10)] == [(b"s", b"state")]


def test_nothing_but_entries_is_in_a_page(opened: Open) -> None:
    store = opened()
    store.write({RESERVED + b"m": b"1", b"a": b"2"}, position=1)
    assert [*store.page(after=b"", limit=10)] == [(RESERVED + b"m", b"1"), (b"a", b"2")]
    assert [*store.page(after=b"", limit=1)] == [(RESERVED + b"m", b"1")]


def test_a_page_sees_what_was_written_meanwhile(opened: Open) -> None:
    store = opened()
    store.write({b"a": b"1", b"c": b"1"}, position=1)
    assert [*store.page(after=b"\x01", limit=1)] == [(b"a", b"1")]
    store.write({b"b": b"2", b"c": None}, position=2)
    assert [*store.page(after=b"a", limit=9)] == [(b"b", b"2")]


async def test_a_wiped_store_is_a_new_one(opened: Open) -> None:
    store = opened()
    store.write({b"a": b"1", RESERVED + b"m": b"2"}, position=1)
    store.wipe()
    assert (store.position(), store.get(b"a"), store.get(RESERVED + b"m")) == (None, None, None)
    store.write({b"b": b"2"}, position=4)
    await store.close()
    again = opened()
    assert (again.position(), again.get(b"a"), again.get(b"b")) == (4, None, b"2")


async def test_large_values_and_many_entries_are_kept(opened: Open) -> None:
    store = opened()
    large = bytes(range(256)) * 4096 * 4
    store.write({b"large": large}, position=1)
    store.write({b"k%05d" % n: b"%d" % n for n in range(5_000)}, position=2)
    await store.close()
    again = opened()
    assert again.get(b"large") == large
    assert [*again.page(after=b"k04998", limit=2)] == [(b"k04999", b"4999"), (b"large", large)]
