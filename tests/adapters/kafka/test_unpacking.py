"""Compressed batches: what is honest is read, and what unpacks to more than its bound takes no memory."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from tests.adapters.kafka.test_batches import ODD, PLACE, PLAIN, Position, names, result
from tests.support.kafka.raw import RawRecord, batch, packed
from triggerstream.adapters.kafka import batches, unpacking
from triggerstream.adapters.kafka.batches import HEADERS, UnfitBatch
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.unpacking import (
    GZIP,
    LZ4,
    SNAPPY,
    UNPACKED_BYTES,
    ZSTD,
    UnpackError,
    unpack,
)
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Rules
from triggerstream.engine.processor import Processor

MIB = 1024 * 1024


def members(data: bytes) -> bytes:
    """Two members of gzip, and bytes after them that are none, which Java takes for the end."""
    return gzip.compress(data[:40]) + gzip.compress(data[40:]) + b"no member"


PACKERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, lambda data: gzip_encode(data, 1)),
    "gzip in members": (GZIP, members),
    "snappy": (SNAPPY, lambda data: snappy_encode(data, xerial_compatible=False)),
    "snappy in blocks": (SNAPPY, lambda data: snappy_encode(data, xerial_blocksize=4 * MIB)),
    "lz4": (LZ4, lambda data: lz4_encode(data, 1)),
    "zstd": (ZSTD, lambda data: zstd_encode(data, 1)),
}
each_packer = pytest.mark.parametrize("name", PACKERS)


def compressed(records: list[RawRecord], name: str, *, base: int = 0) -> bytes:
    codec, pack = PACKERS[name]
    return packed(batch(records, base=base), codec, pack)


@each_packer
@pytest.mark.parametrize("parser", [MemoryRecords, _MemoryRecordsPy])
def test_what_is_honest_is_read_as_before(name: str, parser: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MemoryRecords", parser)
    state = Position()
    data = compressed([PLAIN, ODD, PLAIN], name) + batch([PLAIN], base=3)
    read = result(data, state).getall()
    assert names(read) == [["ok"], ["caf\\xe9", "ok", "ä"], ["ok"], ["ok"]]
    assert [one.value for one in read] == [b"plain", b"{}", b"plain", b"plain"]
    assert (state.position, state.unreadable) == (4, None)


@each_packer
def test_a_batch_beyond_the_bound_is_one_record_that_says_so(name: str) -> None:
    bomb = RawRecord(key=b"s", value=bytes(UNPACKED_BYTES + MIB))
    data = batch([PLAIN]) + compressed([PLAIN, bomb], name, base=1) + batch([PLAIN], base=3)
    state = Position()
    reading = result(data, state)
    tracemalloc.start()
    try:
        before, after = reading.getall(1), reading.getall()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < UNPACKED_BYTES + 16 * MIB
    assert [one.offset for one in before] == [0]
    assert [one.offset for one in after] == [2, 3]
    assert type(after[0].value) is UnfitBatch
    assert (state.position, state.unreadable) == (4, None)
    unreadable = record_of(after[0]).unreadable
    assert unreadable is not None
    assert (unreadable.first, "67,108,864 bytes" in unreadable.reason, "gzip" in unreadable.reason) == (
        1,
        True,
        name.startswith("gzip"),
    )


def test_it_becomes_one_dead_letter_for_the_range_and_the_records_around_it_are_folded() -> None:
    event = RawRecord(key=b"s", value=b'{"type": "a"}')
    bomb = RawRecord(key=b"s", value=bytes(UNPACKED_BYTES + MIB))
    data = batch([event]) + compressed([bomb, bomb], "zstd", base=1) + batch([event], base=3)
    records = [record_of(one) for one in result(data, Position()).getall()]
    checkpoint = Processor(app=AppId("app")).process(Rules(app=AppId("app")), records, lambda _: None)
    assert (checkpoint.offset, checkpoint.events) == (4, 2)
    (letter,) = checkpoint.dead_letters
    assert (letter.record.offset, letter.last, letter.record.value) == (1, 2, None)
    assert "its records decompress to more than 67,108,864 bytes (zstd)" in letter.reason


@each_packer
def test_a_batch_of_one_byte_less_than_the_bound_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 3 * MIB)
    body = len(batch([RawRecord(value=bytes(3 * MIB - 100))])) - 61
    fitting = RawRecord(value=bytes(3 * MIB - 100 + (3 * MIB - body)))
    (read,) = result(compressed([fitting], name), Position()).getall()
    assert (read.value == fitting.value, type(read.value)) == (True, bytes)
    longer = RawRecord(value=bytes(len(fitting.value or b"") + 1))
    (read,) = result(compressed([longer], name), Position()).getall()
    assert type(read.value) is UnfitBatch


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (GZIP, b"no gzip"),
        (GZIP, gzip.compress(b"cut off", mtime=0)[:-9]),
        (SNAPPY, b"\xff\xff\x0f"),
        (SNAPPY, snappy_encode(b"cut off")[:-3]),
        (SNAPPY, snappy_encode(b"x")[:16] + struct.pack(">i", -5)),
        (LZ4, b"no lz4"),
        (ZSTD, b"no zstd"),
    ],
)
def test_what_cannot_be_unpacked_came_so_from_its_producer(codec: int, data: bytes) -> None:
    with pytest.raises(UnpackError, match="its records cannot be decompressed"):
        unpack(codec, memoryview(data), head=bytearray())
    (read,) = result(packed(batch([PLAIN]), codec, lambda _: data), Position()).getall()
    assert type(read.value) is UnfitBatch


@pytest.mark.parametrize("parser", [MemoryRecords, _MemoryRecordsPy])
def test_long_batches_are_parsed_as_they_are_asked_for(parser: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a batch of tiny records, or many that are long, would be gigabytes as objects."""
    monkeypatch.setattr(batches, "MemoryRecords", parser)
    long = RawRecord(key=b"s", value=bytes(3 * MIB))
    state = Position()
    reading = result(compressed([long, ODD, long, long, long, PLAIN], "zstd"), state)
    read = reading.getall()
    assert [one.offset for one in read] == [0, 1, 2, 3], "a piece ends with the record that makes it long"
    assert (state.position, reading.has_more()) == (4, True)
    assert names(read)[1] == ["caf\\xe9", "ok", "ä"]
    assert [one.offset for one in reading.getall()] == [4, 5]
    assert (state.position, reading.has_more()) == (6, False)


def test_tiny_records_are_handed_out_in_pieces() -> None:
    tiny = RawRecord(value=bytes(20))
    state = Position()
    reading = result(compressed([tiny] * 50_000, "zstd"), state)
    tracemalloc.start()
    try:
        count = most = 0
        while found := reading.getall():
            count, most = count + len(found), max(most, len(found))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (count, state.position, most < 20_000) == (50_000, 50_000, True)
    assert peak < 32 * MIB


@pytest.mark.parametrize("place", [0, 1])
def test_a_long_record_with_too_many_headers_ends_its_batch(place: int) -> None:
    many = RawRecord(value=bytes(MIB), headers=[(b"", None)] * (HEADERS + 1))
    records = [PLAIN, PLAIN, PLAIN]
    records[place] = many
    read = result(compressed(records, "lz4") + batch([PLAIN], base=3), Position()).getall()
    assert [one.offset for one in read] == [*range(place), 2, 3]
    unreadable = record_of(read[place]).unreadable
    assert unreadable is not None
    assert (unreadable.first, "more than 10,000 headers" in unreadable.reason) == (place, True)


def test_a_position_within_such_a_batch_passes_it_too() -> None:
    state = Position()
    state.position = 2
    bomb = RawRecord(value=bytes(UNPACKED_BYTES))
    read: list[Any] = result(compressed([PLAIN, PLAIN, bomb, PLAIN], "zstd"), state).getall()
    assert [(one.offset, record_of(one).partition) for one in read] == [(3, PLACE.partition)]
    assert state.position == 4


def test_a_wrong_crc_stays_a_fault_of_the_disk() -> None:
    bomb = compressed([RawRecord(value=bytes(UNPACKED_BYTES))], "zstd")
    state = Position()
    assert result(bomb[:-1] + bytes([bomb[-1] ^ 1]), state).getall() == []
    assert state.unreadable is not None
