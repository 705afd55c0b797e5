"""Record batches as they are read: names that are not UTF-8, and what cannot be read at all."""

from __future__ import annotations

import gzip
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from tests.support.kafka.raw import RawRecord, batch, packed, produce, sealed
from triggerstream.adapters.kafka import batches, fetches
from triggerstream.adapters.kafka.batches import RecordBatches
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fetches import (
    AS_PARSED,
    AS_RECORDS,
    RETRY_S,
    TRIES,
    BatchResult,
    UnreadableError,
    partition_records,
)
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.topics import Topics

PLACE = TopicPartition("app.events", 3)
OTHER = TopicPartition("app.events", 4)
ODD = RawRecord(key=b"s", value=b"{}", headers=[(b"caf\xe9", b"1"), (b"ok", None), (b"\xc3\xa4", b"2")])
PLAIN = RawRecord(key=None, value=b"plain", headers=[(b"ok", b"1")])
GZIP, CONTROL, TRANSACTIONAL, APPEND_TIME = 1, 32, 16, 8


class Position:
    """A partition's state in aiokafka's subscription, as far as a fetch result needs it."""

    def __init__(self) -> None:
        self.position, self.paused, self.has_valid_position = 0, False, True
        self.unreadable: fetches.Unreadable | None = None

    def consumed_to(self, position: int) -> None:
        self.position = position


def result(data: bytes | None, state: Position, *, deserializer: object = None) -> BatchResult:
    """The part of one partition in the answer to a fetch."""
    assignment = SimpleNamespace(active=True, state_value=lambda _: state, tps={PLACE})
    records = partition_records(
        PLACE, RecordBatches(data), [], state.position, None, deserializer, 1, fetcher.READ_COMMITTED
    )
    return BatchResult(PLACE, assignment=assignment, partition_records=records, backoff=0)


def names(records: list[Any]) -> list[list[str]]:
    return [[name for name, _ in record.headers] for record in records]


@pytest.mark.parametrize("parser", [MemoryRecords, _MemoryRecordsPy])
@pytest.mark.parametrize("attributes", [0, APPEND_TIME])
def test_a_name_that_is_not_utf8_is_escaped(
    parser: type, attributes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MemoryRecords", parser)
    state = Position()
    read = result(
        batch([PLAIN, ODD], attributes=attributes) + batch([PLAIN], base=2, attributes=attributes), state
    ).getall()
    assert names(read) == [["ok"], ["caf\\xe9", "ok", "ä"], ["ok"]]
    assert [(one.offset, one.timestamp, one.key, one.value) for one in read] == [
        (0, 1_700_000_000_000, None, b"plain"),
        (1, 1_700_000_000_000, b"s", b"{}"),
        (2, 1_700_000_000_000, None, b"plain"),
    ]
    assert read[1].headers[1] == ("ok", None)
    assert (state.position, state.unreadable) == (3, None)


def test_a_compressed_batch_is_read_alike() -> None:
    plain = batch([ODD, PLAIN], attributes=GZIP)
    packed = plain[:61] + gzip.compress(plain[61:])
    packed = sealed(packed[:8] + struct.pack(">i", len(packed) - 12) + packed[12:])
    assert names(result(packed, Position()).getall()) == [["caf\\xe9", "ok", "ä"], ["ok"]]


CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("attributes", [0, APPEND_TIME])
def test_batches_of_every_codec_are_read_alike(codec: str, attributes: int) -> None:
    records = [ODD, PLAIN, RawRecord(key=b"k", value=b"v" * 100_000, headers=[(b"h", b"")])]
    plain = result(batch(records, base=5, attributes=attributes), Position()).getall()
    state = Position()
    read = result(packed(batch(records, base=5, attributes=attributes), CODECS[codec]), state).getall()
    assert read == plain
    assert state.position == 8


MARKER = RawRecord(key=struct.pack(">hh", 0, 1), value=struct.pack(">hi", 0, 0))
LOGS = {
    "batches": batch([PLAIN, ODD, PLAIN]) + batch([ODD], base=3) + batch([PLAIN] * 4, base=6),
    "control": batch([PLAIN], attributes=TRANSACTIONAL)
    + batch([MARKER], base=1, attributes=CONTROL | TRANSACTIONAL)
    + batch([PLAIN, PLAIN], base=2),
    "times": batch([PLAIN, ODD], attributes=APPEND_TIME),
    "packed": packed(batch([PLAIN, ODD, PLAIN, PLAIN]), 4) + batch([PLAIN], base=4),
    "unfit": batch([PLAIN]) + packed(batch([PLAIN, PLAIN], base=1), 3)[:-4] + bytes(4),
    "one by one": packed(batch([PLAIN, RawRecord(value=bytes(2 * 1024 * 1024)), ODD]), 1),
    "broken": batch([PLAIN, ODD]) + batch([PLAIN], base=2)[:-1] + b"x",
}


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("most", [1, 2, 3, None])
@pytest.mark.parametrize("begin", range(8))
@pytest.mark.parametrize("piece_bytes", [fetches.PIECE_BYTES, 1])
def test_our_records_and_parsed_ones_are_those_that_aiokafkas_become(
    log: str, most: int | None, begin: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "PIECE_BYTES", piece_bytes)
    positions = Position(), Position(), Position()
    for position in positions:
        position.position = begin
    plain, ours, parsed = (
        result(LOGS[log], position, deserializer=deserializer)
        for position, deserializer in zip(positions, (None, AS_RECORDS, AS_PARSED), strict=True)
    )
    while True:
        expected = [record_of(record) for record in plain.getall(most)]
        assert ours.getall(most) == expected
        assert [fetches.record_of(record, PLACE.partition) for record in parsed.getall(most)] == expected
        assert vars(positions[2]) == vars(positions[1]) == vars(positions[0])
        assert parsed.has_more() == ours.has_more() == plain.has_more()
        if not expected:
            break


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "crc": (lambda data: _flipped(data, -1), "Invalid CRC"),
    "codec": (lambda data: sealed(data[:22] + b"\x07" + data[23:]), "Unknown compression codec 0x07"),
    "format": (lambda data: data[:16] + b"\x05" + data[17:], "unknown format 5"),
    "cut": (lambda data: data[:-1], "the batch is truncated"),
    "short": (lambda data: data[:8] + struct.pack(">i", 8) + data[12:20], "has only 20 bytes"),
    "negative": (lambda data: data[:8] + struct.pack(">i", -5) + data[12:], "has only"),
    "count": (lambda data: sealed(data[:57] + struct.pack(">i", 1) + data[61:]), "unconsumed bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_noted_and_tried_again(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, reason = FAULTS[fault]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state, good = Position(), batch([PLAIN, PLAIN])
    # What stands before it is read, and the position comes to where it begins.
    first = result(good + spoil(batch([PLAIN, PLAIN], base=2)), state)
    assert len(first.getall()) == 2
    for tries in range(1, TRIES + 1):
        again = result(spoil(batch([PLAIN, PLAIN], base=2)), state)
        before = state.unreadable.tries if state.unreadable else 0
        assert again.getall() == []
        assert state.unreadable is not None
        assert state.unreadable.tries == before + 1
        # Until the next try nothing of this partition is fetched, and its broker's others are.
        assert (again.has_more(), again.calculate_backoff()) == (True, 0)
        assert again.getall() == []
        now += RETRY_S
        assert not again.has_more()
        del tries
    assert state.position == 2
    assert state.unreadable is not None
    assert state.unreadable.settled
    assert reason in str(state.unreadable)
    assert "app.events, partition 3: the record batch at offset 2" in str(state.unreadable)
    # It was the network: all goes on as if nothing had been.
    assert len(result(batch([PLAIN, PLAIN], base=2), state).getall()) == 2
    assert state.position == 4
    assert state.unreadable is None


async def test_an_unreadable_batch_takes_nothing_from_other_partitions() -> None:
    """Else what the same call has taken before would be lost: positions have moved, and the call raises."""
    fetches.use_batch_reader()
    state, other = Position(), Position()
    found = {
        OTHER: result(batch([PLAIN]), other),
        PLACE: result(_flipped(batch([PLAIN]), -1), state),
    }
    subscriptions = SimpleNamespace(reassignment_in_progress=False)
    asking = SimpleNamespace(_subscriptions=subscriptions, _records=found, _notify=lambda _: None)
    asking._wait_consume_future = None  # noqa: SLF001 - as aiokafka's
    read = await fetcher.Fetcher.fetched_records(asking, {OTHER, PLACE})
    assert {place: len(records) for place, records in read.items()} == {OTHER: 1}
    assert (other.position, state.position) == (1, 0)
    assert set(found) == {PLACE}, "until its next try, the partition is not fetched"


def test_records_are_handed_out_in_pieces() -> None:
    state = Position()
    read = result(batch([PLAIN, ODD, PLAIN]), state)
    assert [record.offset for record in read.getall(2)] == [0, 1]
    assert (state.position, read.has_more()) == (2, True)
    assert [record.offset for record in read.getall(2)] == [2]
    assert (state.position, read.has_more()) == (3, False)
    assert read.getone() is None


def test_control_batches_are_passed_over_as_before() -> None:
    state = Position()
    data = batch([MARKER], attributes=CONTROL | TRANSACTIONAL) + batch([PLAIN], base=1)
    assert [record.offset for record in result(data, state).getall()] == [1]


@pytest.mark.parametrize("data", [None, b""])
def test_an_empty_answer_has_no_batches(data: bytes | None) -> None:
    assert not RecordBatches(data).has_next()


def test_a_last_batch_that_is_cut_off_is_fetched_again() -> None:
    state = Position()
    read = result(batch([PLAIN]) + batch([PLAIN], base=1)[:40], state)
    assert len(read.getall()) == 1
    assert (state.position, read.has_more()) == (1, False)
    assert state.unreadable is None


@pytest.mark.kafka
async def test_real_brokers_take_such_names_and_they_are_read(connection: Connection, topics: Topics) -> None:
    offset = await produce(connection, topics.events, 1, batch([PLAIN, ODD, PLAIN]))
    reader = connection.reader()
    await reader.start()
    try:
        place = TopicPartition(topics.events, 1)
        reader.assign([place])
        reader.seek(place, offset)
        found: list[Any] = []
        deadline = time.monotonic() + 30
        while len(found) < 3 and time.monotonic() < deadline:
            found += (await fetches.fetched(reader, place, timeout_ms=20)).get(place, [])
        assert names(found) == [["ok"], ["caf\\xe9", "ok", "ä"], ["ok"]]
    finally:
        await reader.stop()


def test_the_error_carries_the_place() -> None:
    known = fetches.Unreadable(topic="t", partition=1, offset=5, last=9, reason="CRC", tries=5)
    assert UnreadableError(known).batch is known
    assert "offset 5 to 9" in str(UnreadableError(known))
    alone = replace(known, last=5)
    assert str(UnreadableError(alone)).startswith("t, partition 1: the record batch at offset 5 cannot be")
    assert (alone.lost, replace(known, last=None).lost) == ("1:5-5", "1:5-LAST")
