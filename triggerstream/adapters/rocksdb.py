"""A partition's states on disk: one RocksDB for each partition, with caches that are bounded."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.background import wait_to_end
from triggerstream.engine.private_files import make_private_directory
from triggerstream.wire.marks import RESERVED

_POSITION_KEY = RESERVED + RESERVED + b"position"
"""Only here, never in a changelog: the position up to which the store holds it, and which changelog."""

BLOCK_CACHE_BYTES = 32 * 1024 * 1024
"""Cache of data blocks, shared by all partitions of the process."""
WRITE_BUFFERS_BYTES = 48 * 1024 * 1024
"""Entries of all partitions that are in no file yet. RocksDB's default is twice 64 MiB for each partition."""
_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
"""The most for one partition."""
_ARENA_BYTES = 64 * 1024
"""Bytes that a memtable takes at its first entry. RocksDB's default is 1 MiB: an eighth of the buffer."""
_BLOOM_BITS = 10
_MEMTABLE_BLOOM = 0.002
"""Part of a memtable's buffer that its Bloom filter takes: 16 KiB, or 13 bits an entry for 10,000 entries.
With it, a look-up for an event of another session than the last takes 2.4 µs in place of 3.1."""
_OPEN_FILES = 512
"""Limit for one partition, enough for some 32 GiB. RocksDB keeps the index and the Bloom filter of an open
file in memory, and reads them again when it opens the file again."""
_OPENING_THREADS = 1
"""Threads that read files when a store is opened. RocksDB starts 16 for each store, even for one without a
file: with 200 partitions, 3,000 threads, and a fifth of the time of a take-over."""
_OPEN_FILES_SHARDS = 2
"""Power of two of the parts of the table of open files. 64 parts of each store took as much time."""
UNLOGGED_FROM = 10_000
"""Entries of a restore from which on no more are written to RocksDB's write-ahead log. A flush at the end
takes its place, which would cost more than the log of a short restore."""
_FILES_TO_COMPACT = 8
"""Flushed files of a store that are compacted together. A compaction writes all of a small store again: with
RocksDB's 4, an event of another session than the last takes 1 µs more. Each file is one more Bloom filter for
a look-up."""
_COMPACTIONS = {
    "level0_file_num_compaction_trigger": str(_FILES_TO_COMPACT),
    "level0_slowdown_writes_trigger": "20",
    "level0_stop_writes_trigger": "36",
}
"""Settings that come back after a restore; the last two are RocksDB's defaults."""
_COMPACTIONS_WHILE_RESTORING = {
    "level0_file_num_compaction_trigger": "16",
    "level0_slowdown_writes_trigger": "32",
    "level0_stop_writes_trigger": "48",
}
"""A partition of 80,000 sessions is compacted once, after the restore, in place of two or three times."""
_RESTORING_WRITES = 2
"""Writes of restores at a time: while one writes, the other waits for Python's lock. With more of them,
memtables would exceed their bound by more."""
_LOG_FILES = 2
_LOG_BYTES = 1024 * 1024


class SharedRocksMemory:
    """Caches and buffers that all stores of a process share, whatever the number of partitions."""

    def __init__(self, *, cache_bytes: int = BLOCK_CACHE_BYTES) -> None:
        self.cache = Cache(cache_bytes)
        # RocksDB writes memtables out in the background from two thirds on; a slow disk does not stop it from
        # taking more. Its own way to stop writers (`allow_stall`) lets one wait for ever for a memtable of a
        # store to which nobody writes.
        self.buffers = WriteBufferManager(WRITE_BUFFERS_BYTES * 2 // 3, allow_stall=False)
        self.stores: set[RocksStore] = set()
        self._restoring = asyncio.Semaphore(_RESTORING_WRITES)
        self._making_room = asyncio.Lock()

    async def make_room(self) -> None:
        """If the bound is exceeded, wait until the store with most unwritten data has written it.

        A thread writes it: it may take a second on a busy machine.
        """
        if self._is_full():
            async with self._making_room:
                stores = list(self.stores)  # threads add stores that they have opened
                if self._is_full() and stores:
                    await _run_to_end(max(stores, key=RocksStore.unwritten_bytes).flush)

    def _is_full(self) -> bool:
        return bool(self.buffers.get_usage() > WRITE_BUFFERS_BYTES)

    async def write_in_thread(self, write: Callable[[], None]) -> None:
        """Call ``write`` in a thread, a few at a time of all stores; then make room."""
        async with self._restoring:
            await _run_to_end(write)
            await self.make_room()


async def _run_to_end(work: Callable[[], None]) -> None:
    """Call ``work`` in a thread. If the caller is cancelled, CancelledError comes once it has ended."""
    working = asyncio.get_running_loop().run_in_executor(None, work)
    if (cancelled := await wait_to_end(working)) is not None:
        working.exception()  # otherwise it would be logged that nobody asked for it
        raise cancelled
    working.result()


class RocksStore:
    """A :class:`triggerstream.engine.partitioned.ports.StateStore`.

    ``changelog`` names the changelog that the store is a copy of: that of another one is wiped.
    A write is in the operating system's cache when it returns: the death of the process loses nothing, that
    of the machine loses what the changelog still has.
    A long restore bypasses RocksDB's write-ahead log. RocksDB puts a batch, with its position, into one
    memtable, and writes memtables to files in their order: the death of the process leaves the entries up to
    some position. No write may go to the log before these entries are in files: after a death, RocksDB would
    recover it from the log without them.

    Raises:
        UsageError: another process has the store open.
    """

    def __init__(self, path: Path, *, changelog: str, memory: SharedRocksMemory) -> None:
        self._path = path
        self._changelog = changelog.encode()
        self._memory = memory
        self._options = _options(memory)
        self._flushing = threading.Lock()
        """Held while the store is flushed, closed or wiped: a thread of another store may flush this one."""
        self._restored_entries = 0
        """Number of entries that the restore in progress has written."""
        self._is_logged = True
        """False during a long restore, until all of it is in files."""
        self._is_open = True
        self._db = self._open()
        memory.stores.add(self)

    @classmethod
    async def open(cls, path: Path, *, changelog: str, memory: SharedRocksMemory) -> Self:
        """Open a store in a thread, because opening waits for the disk several times.

        Raises:
            UsageError: another process has the store open.
        """
        found: list[Self] = []
        try:
            await _run_to_end(lambda: found.append(cls(path, changelog=changelog, memory=memory)))
        except asyncio.CancelledError:
            for store in found:
                await store.close()
            raise
        return found[0]

    def position(self) -> int | None:
        value = self._db.get(_POSITION_KEY)
        if value is None:
            return None
        position, _, changelog = value.partition(b" ")
        if changelog != self._changelog:
            self.wipe()
            return None
        return int(position)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        if not self._is_logged:
            self._end_restore()
        self._write(entries, position=position)

    async def make_room(self) -> None:
        await self._memory.make_room()

    async def restore(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        await self._memory.write_in_thread(partial(self._restore, entries, position=position))

    async def end_restore(self) -> None:
        if self._restored_entries:
            await _run_to_end(self._end_restore)

    def _restore(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        self._restored_entries += len(entries)
        if self._is_logged and self._restored_entries >= UNLOGGED_FROM:
            self._db.set_options(_COMPACTIONS_WHILE_RESTORING)
            self._is_logged = False
        self._write(entries, position=position)

    def _end_restore(self) -> None:
        self._restored_entries = 0
        if not self._is_logged:
            self.flush()
            self._db.set_options(_COMPACTIONS)
            self._is_logged = True

    def _write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in entries.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_POSITION_KEY, b"%d %s" % (position, self._changelog))
        self._db.write(batch, None if self._is_logged else _unlogged_options())

    def page(self, *, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        items: Iterator[tuple[object, bytes]] = iter(self._db.items(from_key=after + b"\x00"))
        if after < _POSITION_KEY:
            items = (item for item in items if item[0] != _POSITION_KEY)
        return [(key, value) for key, value in islice(items, limit) if isinstance(key, bytes)]

    def wipe(self) -> None:
        with self._flushing:
            self._db.close()
            # Deleted under another name: RocksDB does not open a store whose deletion was cut off.
            self._path.rename(self._wiped_path)
            self._db = self._open()
            self._restored_entries, self._is_logged = 0, True

    def unwritten_bytes(self) -> int:
        """Bytes in memory that are not in a file yet, including those being written."""
        return self._db.property_int_value("rocksdb.cur-size-all-mem-tables") or 0

    def flush(self) -> None:
        """Wait until all that is in memory is in a file."""
        with self._flushing:
            if self._is_open:
                self._db.flush()

    async def close(self) -> None:
        """Close the store in a thread: it writes what is in memory, and waits for a compaction."""
        self._memory.stores.discard(self)
        await _run_to_end(self._close)

    def _close(self) -> None:
        with self._flushing:
            self._is_open = False
            self._db.close()

    @property
    def _wiped_path(self) -> Path:
        """The directory of a store that is wiped, until it is deleted."""
        return self._path.with_name(f"{self._path.name}.wiped")

    def _open(self) -> Rdict:
        make_private_directory(self._path)  # it protects RocksDB's own files
        try:
            db = Rdict(str(self._path), self._options)
        except Exception as exc:
            # rocksdict has no class of its own for it.
            if "lock" in str(exc).lower():
                raise UsageError(f"{self._path}: another process has this store open") from exc
            raise
        if self._wiped_path.exists():  # also one that a process left behind when it died
            shutil.rmtree(self._wiped_path)
        return db


class TemporaryStore(RocksStore):
    """A new store in a directory of its own, which ``close`` deletes.

    Raises:
        LogError: the directory for temporary files cannot be used, or is full.
    """

    def __init__(self) -> None:
        try:
            self._directory = TemporaryDirectory(prefix="triggerstream-")
            path = Path(self._directory.name) / "states"
            super().__init__(path, changelog="", memory=SharedRocksMemory())
        except OSError as exc:
            raise LogError(f"no directory for temporary files can be used: {exc}") from exc

    def _write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        try:
            super()._write(entries, position=position)
        except Exception as exc:
            # rocksdict has no class of its own for a disk that is full.
            raise LogError(f"{self._directory.name}: a copy of the states cannot be written: {exc}") from exc

    def _close(self) -> None:
        super()._close()
        self._directory.cleanup()


def _unlogged_options() -> WriteOptions:
    options: Any = WriteOptions()  # its types say that this is a method
    options.disable_wal = True
    return cast("WriteOptions", options)


def _options(memory: SharedRocksMemory) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(memory.cache)
    # In the cache, the index of a file (some 700 KiB) is evicted like any block. Once the sessions of a
    # partition exceed the cache, nearly every look-up reads one again: 180 µs in place of 8.
    table.set_cache_index_and_filter_blocks(v=False)
    table.set_bloom_filter(_BLOOM_BITS, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_manager(memory.buffers)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_arena_block_size(_ARENA_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM)
    options.set_memtable_whole_key_filtering(whole_key_filter=True)
    options.set_level_zero_file_num_compaction_trigger(_FILES_TO_COMPACT)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(_OPEN_FILES)
    options.set_max_file_opening_threads(_OPENING_THREADS)
    options.set_table_cache_num_shard_bits(_OPEN_FILES_SHARDS)
    # Nobody reads them, and what writes them starts with the store.
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(_LOG_FILES)
    options.set_max_log_file_size(_LOG_BYTES)
    return options
