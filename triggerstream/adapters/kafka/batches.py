r"""Record batches, parsed below aiokafka's fetcher, so that every record of a readable batch can be taken.

- A header whose name is not UTF-8, which librdkafka and other clients can write, gets a name with ``\xff``
  escapes. No header of ours has a backslash in its name, so such a header is ignored; a dead letter shows it.
- A compressed batch is unpacked within bounds. If that fails although the CRC is right, its producer has
  written it so, and no disk is at fault. One record replaces the batch, whose value is an
  :class:`UnfitBatch`, so that readers of the log can continue after it.

aiokafka still handles CRCs, control batches and aborted transactions.
:mod:`triggerstream.adapters.kafka.fetches` handles batches that cannot be read.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from triggerstream.adapters.kafka.unpacking import CODECS, UnpackError, unpack
from triggerstream.wire.records import UnreadableBatch

_OVERHEAD = struct.calcsize(">qi")
"""Size of base offset and length, which are not included in the length."""
_LENGTH = struct.Struct(">i")
_LENGTH_AT = struct.calcsize(">q")
_MAGIC_AT = struct.calcsize(">qii")
_MAGIC = 2
_HEAD_BYTES = _DefaultRecordBatchPy.HEADER_STRUCT.size
_LAST = struct.Struct(">q15xi")
"""Base offset and last offset delta of a batch of format 2."""

_CODEC_AT = struct.calcsize(">qiibIb")
_CODECS = 7
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = struct.calcsize(">qiibI")
_AT_ONCE_BYTES = 1024 * 1024
"""Unpacked batches up to this size are parsed at once. At seven bytes per record, or with the most headers,
the objects take some 100 MB."""
HEADERS = 10_000
"""Maximum number of headers of a longer record: a header of two bytes takes 64 as an object."""


BROKER_CANNOT_READ = "the broker cannot read it"
"""Reason for which a batch is unreadable if the broker answers ``CORRUPT_MESSAGE`` in place of batches."""


class UnfitBatch(bytes):
    """The value of a record that replaces a batch, or the rest of one, that is too large to unpack.

    ``unreadable`` has the reason. The record's offset is the last of the batch.
    """

    unreadable: UnreadableBatch

    @classmethod
    def of(cls, first: int, reason: str) -> UnfitBatch:
        """The value for offsets from ``first`` on."""
        value = cls()
        value.unreadable = UnreadableBatch(first=first, reason=reason)
        return value


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
        self.packed = False
        """True if the newest batch is compressed."""
        self.whole = False
        """True: a batch is iterated as :class:`WholeBatch`, if its records are parsed at once."""

    def size_in_bytes(self) -> int:
        """The length of all batches."""
        return len(self._data)

    def has_next(self) -> bool:
        """True if there is another batch, readable or not."""
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
        self.packed = bool(data[_CODEC_AT] & _CODECS)
        return _Batch(data, whole=self.whole)

    def _length(self) -> int:
        return int(_LENGTH.unpack_from(self._data, self._at + _LENGTH_AT)[0])


class NoReadableBatch(RecordBatches):
    """Stands for the batches of an answer in which the broker says that it cannot read them."""

    def __init__(self) -> None:
        super().__init__(b"\0")

    def next_batch(self) -> Any:  # noqa: ANN401 - never returns
        """Raise CorruptRecordException."""
        raise CorruptRecordException(BROKER_CANNOT_READ)


class WholeBatch:
    """The records of a batch. To aiokafka it is a record that is not before any position."""

    __slots__ = ("records",)
    offset: Final = sys.maxsize

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = records


class _Batch:
    """A batch of format 2.

    A short one is parsed at once, so that its records can be parsed again after an error.
    """

    __slots__ = ("_batch", "_data", "_whole")

    def __init__(self, data: bytes, *, whole: bool) -> None:
        self._data = data
        self._whole = whole
        self._batch: Any = MemoryRecords(data).next_batch()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the attribute of aiokafka's batch
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # noqa: ANN401 - aiokafka's record
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        codec = self._data[_CODEC_AT] & _CODECS
        if codec not in CODECS:
            return self._at_once(self._data, self._batch)
        try:
            data = _unpacked(self._data, codec)
        except UnpackError as exc:
            return iter([self._unfit(self._batch.base_offset, str(exc))])
        batch = MemoryRecords(data).next_batch()
        if len(data) <= _HEAD_BYTES + _AT_ONCE_BYTES:
            return self._at_once(data, batch)
        return self._one_by_one(data, batch)

    def _at_once(self, data: bytes, batch: Any) -> Iterator[Any]:  # noqa: ANN401 - aiokafka is not typed
        """Iterate over the records of a batch with the bytes ``data``, or over all of them as one."""
        records = _all_records(data, batch)
        return iter((WholeBatch(records),) if self._whole else records)

    def _one_by_one(self, data: bytes, batch: Any) -> Iterator[Any]:  # noqa: ANN401 - aiokafka is not typed
        """Parse records one by one, because all objects of a long batch could take gigabytes."""
        at, count, next_offset, escaping = _HEAD_BYTES, 0, self._batch.base_offset, False
        while True:
            length, begin = _varint(data, at)
            if length > _AT_ONCE_BYTES and _header_count(data, begin) > HEADERS:
                reason = f"a record of {length:,} bytes has more than {HEADERS:,} headers"
                yield self._unfit(next_offset, reason)
                return
            try:
                record = next(batch, None)
            except Exception as exc:
                if escaping or not _is_of_a_name(exc):
                    raise
                escaping, batch = True, EscapingBatch(data)
                for _ in range(count):
                    next(batch)
                record = next(batch, None)
            if record is None:
                return
            yield record
            at, count, next_offset = begin + length, count + 1, record.offset + 1

    def _unfit(self, first: int, reason: str) -> _DefaultRecordPy:
        batch = self._batch
        return _DefaultRecordPy(
            batch.base_offset + batch.last_offset_delta,
            batch.max_timestamp,
            batch.timestamp_type,
            None,
            UnfitBatch.of(first, reason),
            [],
        )


def _all_records(data: bytes, batch: Any) -> list[Any]:  # noqa: ANN401 - aiokafka is not typed
    """Parse all records of a batch with the bytes ``data``, so that they can be parsed again."""
    try:
        return list(batch)
    except (UnicodeDecodeError, CorruptRecordException) as exc:
        if not _is_of_a_name(exc):
            raise
    return list(EscapingBatch(data))


def _is_of_a_name(exc: Exception) -> bool:
    """True if the error is about the name of a header."""
    # aiokafka's parser in Python, used if the one in C is not installed, wraps the error.
    return isinstance(exc, UnicodeDecodeError) or isinstance(exc.__cause__, UnicodeDecodeError)


def _unpacked(data: bytes, codec: int) -> bytes:
    """The batch without compression. Its CRC is not updated, because it was checked before."""
    head = bytearray(data[:_HEAD_BYTES])
    (attributes,) = _ATTRIBUTES.unpack_from(head, _ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(head, _ATTRIBUTES_AT, attributes & ~_CODECS)
    found = unpack(codec, memoryview(data)[_HEAD_BYTES:], head=head)
    _LENGTH.pack_into(found, _LENGTH_AT, len(found) - _OVERHEAD)
    return bytes(found)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and the position after it; 0 if there is none, which the parser then reports."""
    value = shift = 0
    for place in range(at, min(at + 5, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), place + 1
        shift += 7
    return 0, at


def _header_count(data: bytes, at: int) -> int:
    """The number of headers of the record whose fields begin at ``at``."""
    at += 1  # its attributes
    for _ in range(2):
        while at < len(data) and data[at] & 0x80:
            at += 1
        at += 1
    for _ in range(2):
        length, at = _varint(data, at)
        at += max(length, 0)
    return _varint(data, at)[0]


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
