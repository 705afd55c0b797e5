"""Fuzzer of record batches as bytes: what brokers answer, down to header names."""

from __future__ import annotations

import gzip
import random
import struct
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.codec import lz4_encode, snappy_encode, zstd_encode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes
from tests.support.kafka.raw import RawRecord, batch, packed, sealed
from triggerstream.adapters.kafka import batches, fetches, unpacking
from triggerstream.adapters.kafka.batches import RecordBatches
from triggerstream.adapters.kafka.fetches import (
    AS_PARSED,
    AS_RECORDS,
    BatchResult,
    Unreadable,
    partition_records,
)
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.unpacking import GZIP, LZ4, SNAPPY, ZSTD

PLACE = TopicPartition("app.events", 0)
HEAD_BYTES, CODEC_AT = 61, 22
PLAIN = RawRecord(key=b"s", value=b'{"type": "a"}', headers=[(b"traceparent", b"00"), (b"ce_id", None)])
ODD = RawRecord(key=None, value=None, headers=[(b"\xff\xfe", b"\x00"), (b"caf\xc3\xa9", None)])
MARKER = RawRecord(key=struct.pack(">hh", 0, 1), value=struct.pack(">hi", 0, 0))
LONG = RawRecord(value=bytes(1024 * 1024))
MANY = RawRecord(value=bytes(1024 * 1024), headers=[(b"", None)] * 10_001)
LEGACY = struct.pack(">qiIbbqi", 0, 22, 0, 1, 0, 1, -1) + struct.pack(">i", -1)
SEEDS = (
    b"",
    batch([PLAIN, ODD, PLAIN]),
    batch([ODD]),
    batch([PLAIN]) + batch([ODD, ODD], base=1, attributes=8) + batch([PLAIN], base=3),
    batch([MARKER], attributes=48) + batch([PLAIN], base=1, attributes=16),
    batch([PLAIN, PLAIN])[:-3],
    batch([ODD])[:16] + b"\x03" + batch([ODD])[17:],
    batch([PLAIN])[:8] + struct.pack(">i", 3) + b"\x00" * 3,
    batch([PLAIN])[:8] + struct.pack(">i", 40) + batch([PLAIN])[12:52],
    LEGACY,
    packed(batch([PLAIN, ODD]), GZIP, partial(gzip.compress, mtime=0)),
    packed(batch([PLAIN, ODD]), SNAPPY, snappy_encode),
    packed(batch([PLAIN, ODD]), SNAPPY, partial(snappy_encode, xerial_compatible=False)),
    packed(batch([PLAIN, ODD]), LZ4, lz4_encode),
    packed(batch([PLAIN, ODD]), ZSTD, zstd_encode),
    packed(batch([PLAIN, ODD, LONG, MANY, PLAIN]), ZSTD, zstd_encode),
)


def _packed(data: bytes) -> bytes:
    """``data``, one batch, with its records compressed."""
    data = data[:22] + b"\x01" + data[23:HEAD_BYTES] + gzip.compress(data[HEAD_BYTES:], mtime=0)
    return data[:8] + struct.pack(">i", len(data) - 12) + data[12:]


def _mutate(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed anywhere, or in the records alone; mostly with a CRC and a length that fit."""
    if chance.random() < 0.6 and len(data) > HEAD_BYTES:
        data = data[:HEAD_BYTES] + mutate_bytes(chance, data[HEAD_BYTES:])
    else:
        data = mutate_bytes(chance, data)
    if len(data) <= HEAD_BYTES or chance.random() < 0.3:
        return data
    if chance.random() < 0.1:
        data = _packed(data)
    if chance.random() < 0.8:
        data = data[:8] + struct.pack(">i", len(data) - 12) + data[12:]
    return sealed(data)


def _read(data: bytes) -> None:
    """Read ``data`` as every consumer does: it raises nothing, and what cannot be read is noted.

    Our records and parsed ones, read batch by batch, are those that aiokafka's become, and so are the
    positions.
    """
    plain, ours, parsed = (_result(data, kind) for kind in (None, AS_RECORDS, AS_PARSED))
    for most in (2, 3, None):
        records = [record_of(found) for found in plain.result.getall(most)]
        assert ours.result.getall(most) == records
        assert [fetches.record_of(found, PLACE.partition) for found in parsed.result.getall(most)] == records
        assert vars(parsed.position) == vars(ours.position) == vars(plain.position)
        for record in records:
            for name, _ in record.headers:
                name.encode()
    if plain.position.unreadable is not None:
        assert str(plain.position.unreadable)


class _Position:
    """A partition's position, as far as a fetch needs it."""

    def __init__(self) -> None:
        self.position, self.paused = 0, False
        self.unreadable: Unreadable | None = None

    def consumed_to(self, offset: int) -> None:
        self.position = offset


class _Reading(NamedTuple):
    position: _Position
    result: BatchResult


def _result(data: bytes, deserializer: object) -> _Reading:
    position = _Position()
    assignment = SimpleNamespace(active=True, state_value=lambda _: position)
    records = partition_records(
        PLACE, RecordBatches(data), [], 0, None, deserializer, 1, fetcher.READ_COMMITTED
    )
    result = BatchResult(PLACE, assignment=assignment, partition_records=records, backoff=0)
    return _Reading(position, result)


def _parse(data: bytes) -> None:
    _read(data)
    # The parser that takes over where a name is not UTF-8, for whatever it may get.
    if len(data) > HEAD_BYTES and not data[CODEC_AT] & 7:
        with suppress(CorruptRecordException):
            list(batches.EscapingBatch(data))


def test_record_batches_are_read_or_noted_as_unreadable() -> None:
    reading = frozenset(
        {
            "RecordBatches.has_next",
            "RecordBatches.next_batch",
            "RecordBatches._length",
            "_Batch.__iter__",
            "_Batch._one_by_one",
            "_Batch._at_once",
            "_all_records",
            "_varint",
            "EscapingBatch._read_msg",
            "_nullable",
        }
    )
    fuzz(
        Fuzzer(
            parse=_parse,
            refuses=(),
            seeds=SEEDS,
            mutate=_mutate,
            parsers=(
                Parser(module=batches, functions=reading),
                Parser(module=fetches, functions=frozenset({"BatchResult.getall", "ConvertedRecords.take"})),
                Parser(
                    module=unpacking,
                    functions=frozenset({"unpack", "_gunzip", "_member", "_unsnap", "_stream"}),
                ),
            ),
        )
    )
