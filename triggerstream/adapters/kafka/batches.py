r"""Record batches, read below aiokafka's fetcher, so that no record ends a consumer.

aiokafka parses the batches of a fetch when the caller takes records. An exception there has two bad effects:
records that the same call has already taken from other partitions are lost, because their positions have
moved; and the same record fails again after each restart. :func:`use_batch_reader` replaces two classes of
aiokafka by classes of this module, for every consumer of the process:

- A header whose name is not UTF-8, which librdkafka and other clients can write, gets a name with ``\xff``
  escapes. No header of ours has a backslash in its name, so such a header is ignored; a dead letter shows it.
- A compressed batch that unpacks to more than ``LONGEST_BATCH``, or that has more than ``MOST_RECORDS``, is
  not unpacked: a few KiB can stand for many GiB. It is the fault of whoever appended it, so it is settled at
  once, and the owner of its partition writes its offsets to the dead letters.
- Anything else that cannot be read (a wrong CRC, a codec that is not installed, an unknown format, a batch
  that is cut off) is a fault of a disk, a network or the installation, not of a record. It is noted beside
  the partition's position and fetched again. After ``TRIES`` times :func:`fetched` raises
  :class:`UnreadableError`. No position passes over such a batch.

CRC, control batches and aborted transactions stay aiokafka's.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.codec import _detect_xerial_stream, snappy_decode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from triggerstream.core.errors import LogError

TRIES = 5
RETRY_S = 1.0
"""Long enough for another replica to take over, or for a switch to drop a damaged packet."""

LONGEST_BATCH = 64 * 1024 * 1024
"""Clients make batches of some MiB at most before they compress them; brokers take 1 MiB, compressed."""
MOST_RECORDS = 500_000
"""Some 150 MiB as objects. The shortest event has 12 bytes."""

_OVERHEAD = struct.calcsize(">qi")
"""Size of base offset and length, which are not included in the length."""
_LENGTH = struct.Struct(">i")
_LENGTH_AT = struct.calcsize(">q")
_MAGIC_AT = struct.calcsize(">qii")
_MAGIC = 2
_HEAD_BYTES = _DefaultRecordBatchPy.HEADER_STRUCT.size
_LAST = struct.Struct(">q15xi")
"""Base offset and last offset delta of a batch of format 2."""

_COUNT = struct.Struct(">i")
_COUNT_AT = _HEAD_BYTES - _COUNT.size
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = struct.calcsize(">qiibI")
_CODEC = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_GZIP_WINDOW = 31
"""zlib's way to say: the largest window, in the format of gzip."""

_Result: Any = fetcher.FetchResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A batch at ``offset`` that could not be read in ``tries`` consecutive fetches.

    ``last``: its last offset, as far as its head tells. ``too_long``: its content is beyond the bounds of
    this module, however often it is fetched.
    """

    topic: str
    partition: int
    offset: int
    last: int | None
    reason: str
    tries: int = 1
    too_long: bool = False

    @property
    def settled(self) -> bool:
        """Whether the number of attempts has reached the limit."""
        return self.too_long or self.tries >= TRIES

    def __str__(self) -> str:
        """One line with topic, partition and offset."""
        upto = f" to {self.last}" if self.last is not None else ""
        return (
            f"{self.topic}, partition {self.partition}: the record batch at offset {self.offset}{upto} "
            f"cannot be read: {self.reason} (tried {self.tries} times)"
        )


class TooLongError(CorruptRecordException):  # type: ignore[misc] # aiokafka is not typed
    """A batch has more records, or unpacks to more bytes, than this module reads."""


class UnreadableError(LogError):
    """A record batch cannot be read, even after repeated fetches."""

    def __init__(self, batch: Unreadable) -> None:
        super().__init__(str(batch))
        self.batch = batch


def use_batch_reader() -> None:
    """Make all consumers that this process starts from now on use this module's classes."""
    fetcher.MemoryRecords = RecordBatches
    fetcher.FetchResult = BatchResult


async def fetched(
    consumer: AIOKafkaConsumer, *places: TopicPartition, timeout_ms: int, max_records: int | None = None
) -> dict[TopicPartition, list[Any]]:
    """The records that ``consumer.getmany`` returns for ``places`` (none: all assigned partitions).

    Raises:
        UnreadableError: a batch could not be read, even after repeated fetches.
    """
    found: dict[TopicPartition, list[Any]] = await consumer.getmany(
        *places, timeout_ms=timeout_ms, max_records=max_records
    )
    for batch in unreadable(consumer, places or consumer.assignment()):
        # What stands before it was read by the same call, and would be lost by an error now.
        if batch.settled and not found.get(TopicPartition(batch.topic, batch.partition)):
            raise UnreadableError(batch)
    return found


def unreadable(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> list[Unreadable]:
    """The batches at the positions of ``places`` that could not be read."""
    subscription = consumer._subscription.subscription  # noqa: SLF001 - nothing public
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return []
    found = []
    for place in places:
        if place in assignment.tps:
            state = assignment.state_value(place)
            batch: Unreadable | None = getattr(state, "unreadable", None)
            if batch is not None and state.has_valid_position and state.position == batch.offset:
                found.append(batch)
    return found


class BatchResult(_Result):  # type: ignore[misc] # aiokafka is not typed
    """Part of a fetch for one partition. It records an unreadable batch and never raises."""

    _assignment: Any
    _partition_records: Any
    _topic_partition: TopicPartition
    _again_at = 0.0
    """Time until which a partition with an unreadable batch is not fetched; other partitions are fetched."""

    def check_assignment(self, tp: TopicPartition) -> bool:
        return self._partition_records is not None and bool(super().check_assignment(tp))

    def calculate_backoff(self) -> float:
        # A partition that waits for its next attempt must not delay the other partitions of its broker.
        return 0.0 if self._again_at else float(super().calculate_backoff())

    def has_more(self) -> bool:
        if self._partition_records is not None:
            return True
        return bool(self._again_at) and self._assignment.active and time.monotonic() < self._again_at

    def getone(self) -> Any:  # noqa: ANN401 - aiokafka's ConsumerRecord is not typed
        found = self.getall(1)
        return found[0] if found else None

    def getall(self, max_records: int | None = None) -> list[Any]:
        tp = self._topic_partition
        if not self.check_assignment(tp):
            return []
        state = self._assignment.state_value(tp)
        records, found = self._partition_records, []
        try:
            for record in records:
                found.append(record)
                if max_records is not None and len(found) >= max_records:
                    break
            else:
                self._partition_records = None
        except Exception as exc:  # noqa: BLE001 - whatever a parser raises: the batch cannot be read
            self._partition_records = None
            self._again_at = time.monotonic() + RETRY_S
            offset = records.next_fetch_offset
            before = getattr(state, "unreadable", None)
            tries = before.tries + 1 if before is not None and before.offset == offset else 1
            last = records._records.last  # noqa: SLF001 - it is a RecordBatches
            state.unreadable = Unreadable(
                topic=tp.topic,
                partition=tp.partition,
                offset=offset,
                last=last if last is not None and last >= offset else None,
                reason=_reason(exc),
                tries=tries,
                too_long=isinstance(exc, TooLongError),
            )
        else:
            state.unreadable = None
        state.consumed_to(records.next_fetch_offset)
        return found


def _reason(exc: Exception) -> str:
    """The message of ``exc`` without the prefix that aiokafka adds to all its messages."""
    says = str(exc.args[0] if exc.args else exc)
    return says if isinstance(exc, TooLongError) else f"{type(exc).__name__}: {says}"


class RecordBatches:
    """The batches of one partition in a fetch response: aiokafka's, except for header names.

    A truncated last batch is left out, because brokers cut a response at its maximum size; the first batch is
    complete in every response since Kafka 0.10.1.
    """

    def __init__(self, data: bytes | None) -> None:
        self._data = bytes(data or b"")
        self._at = 0
        self.last: int | None = None
        """The last offset of the newest batch, as its head says."""

    def size_in_bytes(self) -> int:
        """The length of all batches."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another batch, readable or not."""
        left = len(self._data) - self._at
        if self._at == 0:
            return left > 0
        return left >= _OVERHEAD and left >= _OVERHEAD + self._length()

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka's batch, or one of this module
        """The next batch.

        Raises:
            CorruptRecordException: the batch is truncated, too short, or has an unknown format.
        """
        begin, left = self._at, len(self._data) - self._at
        self.last = None
        length = self._length() if left >= _OVERHEAD else 0
        end = begin + _OVERHEAD + length
        if left < _OVERHEAD or end > len(self._data):
            raise CorruptRecordException(f"the batch is truncated: it has {left} bytes")
        data = self._data[begin:end] if begin or end < len(self._data) else self._data
        if len(data) <= _MAGIC_AT:
            raise CorruptRecordException(f"the batch has only {len(data)} bytes")
        magic = data[_MAGIC_AT]
        if magic > _MAGIC:
            raise CorruptRecordException(f"the batch has the unknown format {magic}")
        self._at = end
        if magic < _MAGIC:
            return MemoryRecords(data).next_batch()
        if len(data) < _HEAD_BYTES:
            raise CorruptRecordException(f"the batch has only {len(data)} bytes")
        base, delta = _LAST.unpack_from(data)
        self.last = base + delta
        return _Batch(data)

    def _length(self) -> int:
        return int(_LENGTH.unpack_from(self._data, self._at + _LENGTH_AT)[0])


class _Batch:
    """A batch of format 2. All records are parsed in one step, so that the step can be repeated."""

    __slots__ = ("_batch", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._batch: Any = MemoryRecords(data).next_batch()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the attribute of aiokafka's batch
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # noqa: ANN401 - aiokafka's record
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        data = _unpacked(self._data)
        try:
            return iter(list(MemoryRecords(data).next_batch()))
        except UnicodeDecodeError:
            pass
        except CorruptRecordException as exc:
            # aiokafka's parser in Python, used if the one in C is not installed, wraps the error.
            if not isinstance(exc.__cause__, UnicodeDecodeError):
                raise
        return iter(list(EscapingBatch(data)))


def _unpacked(data: bytes) -> bytes:
    """The batch ``data`` as one that is not compressed.

    Raises:
        TooLongError: that would have too many records or bytes.
    """
    (count,) = _COUNT.unpack_from(data, _COUNT_AT)
    if count > MOST_RECORDS:
        raise TooLongError(f"it has {count:,} records, and {MOST_RECORDS:,} are read at most")
    (attributes,) = _ATTRIBUTES.unpack_from(data, _ATTRIBUTES_AT)
    unpack = _UNPACK.get(attributes & _CODEC)
    if unpack is None:
        return data  # not compressed, or by a codec that aiokafka does not know either
    body = unpack(data[_HEAD_BYTES:])
    if body is None:
        raise TooLongError(f"it unpacks to more than {LONGEST_BATCH:,} bytes")
    length = _LENGTH.pack(_HEAD_BYTES - _OVERHEAD + len(body))
    plain = _ATTRIBUTES.pack(attributes & ~_CODEC)
    return b"".join(
        (
            data[:_LENGTH_AT],
            length,
            data[_OVERHEAD:_ATTRIBUTES_AT],
            plain,
            data[_ATTRIBUTES_AT + _ATTRIBUTES.size : _HEAD_BYTES],
            body,
        )
    )


def _gunzipped(packed: bytes) -> bytes | None:
    parts: list[bytes] = []
    room = LONGEST_BATCH
    while packed:
        stream = zlib.decompressobj(_GZIP_WINDOW)
        part = stream.decompress(packed, room + 1)
        room -= len(part)
        if room < 0:
            return None
        if not stream.eof:
            raise CorruptRecordException("the compressed content is cut off")
        parts.append(part)
        packed = stream.unused_data
    return b"".join(parts)


def _unsnapped(packed: bytes) -> bytes | None:
    size = cramjam.snappy.decompress_raw_len
    if not _detect_xerial_stream(packed):
        return snappy_decode(packed) if size(packed) <= LONGEST_BATCH else None
    at, whole = 16, 0  # after the head of the stream, blocks with their lengths
    while at < len(packed):
        end = at + _LENGTH.size + _LENGTH.unpack_from(packed, at)[0]
        if end <= at:
            raise CorruptRecordException("a compressed block has a negative length")
        whole += size(packed[at + _LENGTH.size : end])
        at = end
    return snappy_decode(packed) if whole <= LONGEST_BATCH else None


def _into(codec: Any) -> Callable[[bytes], bytes | None]:  # noqa: ANN401 - a module of cramjam
    def unpack(packed: bytes) -> bytes | None:
        # Of the buffer, the system gives memory to what is written alone.
        unpacked, mark = bytearray(LONGEST_BATCH), secrets.token_bytes(16)
        unpacked[-len(mark) :] = mark
        try:
            size = codec.decompress_into(packed, unpacked)
        except cramjam.DecompressionError:
            if unpacked.endswith(mark):
                raise
            return None  # it was filled up to its end
        return bytes(memoryview(unpacked)[:size])

    return unpack


_UNPACK: Mapping[int, Callable[[bytes], bytes | None]] = {
    _GZIP: _gunzipped,
    _SNAPPY: _unsnapped,
    _LZ4: _into(cramjam.lz4),
    _ZSTD: _into(cramjam.zstd),
}
"""By codec, what unpacks the content of a batch; None: it has more than ``LONGEST_BATCH`` bytes."""


class EscapingBatch(_DefaultRecordBatchPy):  # type: ignore[misc] # final for type checkers alone
    r"""A batch whose header names get ``\xff`` escapes; parsing is some ten times slower than aiokafka's."""

    _pos: int

    def _read_msg(self) -> _DefaultRecordPy:
        data = self._buffer
        length, at = decode_varint_py(data, self._pos)
        begin = at
        _, at = decode_varint_py(data, at)
        later, at = decode_varint_py(data, at)
        further, at = decode_varint_py(data, at)
        key, at = _nullable(data, at)
        value, at = _nullable(data, at)
        count, at = decode_varint_py(data, at)
        if not 0 <= count <= len(data):
            raise CorruptRecordException(f"a record has {count} headers")
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            name, at = _nullable(data, at)
            if name is None:
                raise CorruptRecordException("a header has no name")
            text, at = _nullable(data, at)
            headers.append((name.decode("utf-8", "backslashreplace"), text))
        if at - begin != length or at > len(data):
            raise CorruptRecordException(f"a record has {at - begin} bytes, and says {length}")
        self._pos = at
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        return _DefaultRecordPy(
            self.base_offset + further,
            self.max_timestamp if appended else self.first_timestamp + later,
            self.timestamp_type,
            key,
            value,
            headers,
        )


def _nullable(data: bytearray, at: int) -> tuple[bytes | None, int]:
    """Length-prefixed bytes, and the position after them; a negative length means null."""
    length, at = decode_varint_py(data, at)
    if length < 0:
        return None, at
    return bytes(data[at : at + length]), at + length
