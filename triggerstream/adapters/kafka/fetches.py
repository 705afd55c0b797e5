"""Fetches of record batches, in which no record ends a consumer.

aiokafka parses the batches of a fetch when the caller takes records. An exception there has two bad effects:
records that the same call has already taken from other partitions are lost, because their positions have
moved; and the same record fails again after each restart. :func:`use_batch_reader` replaces four classes of
aiokafka, for every consumer of the process: its parser of batches by
:class:`triggerstream.adapters.kafka.batches.RecordBatches`, its part of a fetch by :class:`BatchResult`, the
records in it by :func:`partition_records`, and its fetcher by :class:`BatchFetcher`.
A consumer with :data:`AS_RECORDS` returns our records, built batch by batch, in the place of aiokafka's:
they cost half as much processor time. One with :data:`AS_PARSED` returns the parser's, unconverted.

A batch that cannot be read (a wrong CRC, a codec that is not installed, an unknown format, a batch that is
cut off, one that the broker itself cannot read) is a fault of a disk, a network or the installation, not of a
record. It is noted beside the partition's position and fetched again. After ``TRIES`` times :func:`fetched`
raises :class:`UnreadableError`. No position passes over such a batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import consumer as consumer_module
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest_v4

from triggerstream.adapters.kafka.batches import (
    BROKER_CANNOT_READ,
    NoReadableBatch,
    RecordBatches,
    UnfitBatch,
    WholeBatch,
)
from triggerstream.core.errors import LogError
from triggerstream.wire.records import Record, offsets

TRIES = 5
RETRY_S = 1.0
"""Long enough for another replica to take over, or for a switch to drop a damaged packet."""

PIECE_BYTES = 8 * 1024 * 1024
"""Maximum size, as objects, of the records returned at once from a compressed batch.

The record that reaches it is still returned.
"""
_RECORD_BYTES = 512
_HEADER_BYTES = 128
"""Bytes of a record and of a header as objects, beside their own bytes."""

_Fetcher: Any = fetcher.Fetcher
_Result: Any = fetcher.FetchResult
_PartitionRecords: Any = fetcher.PartitionRecords
VALUE_DESERIALIZER = 5
"""Its place among the arguments of aiokafka's class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A batch at ``offset`` that could not be read in ``tries`` consecutive fetches.

    ``last``: its last offset, if its header can be read. ``lasting``: its CRC is right, so another
    fetch or another replica would bring the same bytes.
    """

    topic: str
    partition: int
    offset: int
    last: int | None
    reason: str
    tries: int = 1
    lasting: bool = False

    @property
    def settled(self) -> bool:
        """True if no further attempt is made."""
        return self.lasting or self.tries >= TRIES

    @property
    def place(self) -> str:
        """The topic and the partition."""
        return f"{self.topic}, partition {self.partition}"

    @property
    def fault(self) -> str:
        """The offsets, and why they cannot be read."""
        tried = "" if self.lasting else f" (tried {self.tries} times)"
        where = offsets(self.offset, self.last)
        return f"the record batch at {where} cannot be read: {self.reason}{tried}"

    @property
    def lost(self) -> str:
        """The range that an operator declares lost with ``--skip``."""
        return f"{self.partition}:{self.offset}-{'LAST' if self.last is None else self.last}"

    def __str__(self) -> str:
        """One line with topic, partition and offset."""
        return f"{self.place}: {self.fault}"


def unreadable_by_broker(place: TopicPartition, offset: int, *, tries: int) -> Unreadable:
    """The batch at ``offset``, which the broker could not read ``tries`` times."""
    return Unreadable(
        topic=place.topic,
        partition=place.partition,
        offset=offset,
        last=None,
        reason=f"CorruptRecordException: {BROKER_CANNOT_READ}",
        tries=tries,
    )


class UnreadableError(LogError):
    """A record batch cannot be read, even after repeated fetches; nor can ``others`` of other partitions.

    ``repair``: advice that the message ends with.
    """

    def __init__(self, batch: Unreadable, others: Sequence[Unreadable] = (), *, repair: str = "") -> None:
        super().__init__(f"{batch}; {repair}" if repair else str(batch))
        self.batch = batch
        self.others = others


def refuse_unfit(records: Iterable[Any], place: TopicPartition) -> None:
    """Check ``records`` of ``place`` for a reader that must not skip a batch.

    Raises:
        UnreadableError: one of them stands for a batch that cannot be decompressed, or is too large then.
    """
    for record in records:
        if type(record.value) is UnfitBatch:
            unreadable = record.value.unreadable
            raise UnreadableError(
                Unreadable(
                    topic=place.topic,
                    partition=place.partition,
                    offset=unreadable.first,
                    last=record.offset,
                    reason=unreadable.reason,
                    lasting=True,
                )
            )


def use_batch_reader() -> None:
    """Make all consumers that this process starts from now on use this module's classes."""
    fetcher.MemoryRecords = RecordBatches
    fetcher.FetchResult = BatchResult
    fetcher.PartitionRecords = partition_records
    consumer_module.Fetcher = BatchFetcher


def _unchanged(value: bytes | None) -> bytes | None:
    return value


AS_RECORDS: Final = _unchanged
"""The ``value_deserializer`` of a consumer that returns :class:`triggerstream.wire.records.Record`."""


def _parsed(value: bytes | None) -> bytes | None:
    return value


AS_PARSED: Final = _parsed
"""The ``value_deserializer`` of a consumer that returns the parser's records: they have no partition."""


async def fetched(
    consumer: AIOKafkaConsumer,
    *places: TopicPartition,
    timeout_ms: int,
    max_records: int | None = None,
    tries: int = TRIES,
) -> dict[TopicPartition, list[Any]]:
    """The records that ``consumer.getmany`` returns for ``places`` (none: all assigned partitions).

    Raises:
        UnreadableError: a batch could not be read, even after ``tries`` fetches.
    """
    found: dict[TopicPartition, list[Any]] = await consumer.getmany(
        *places, timeout_ms=timeout_ms, max_records=max_records
    )
    lost = [
        batch
        for batch in unreadable(consumer, places or consumer.assignment())
        # The records before it were returned by the same call. An error now would lose them.
        if batch.lasting or batch.tries >= tries
        if not found.get(TopicPartition(batch.topic, batch.partition))
    ]
    if lost:
        raise UnreadableError(lost[0], lost[1:])
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


def partition_records(*args: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
    """The records of a partition in a fetch, with the arguments of aiokafka's class."""
    kind: Any = _KINDS.get(args[VALUE_DESERIALIZER], _PartitionRecords)
    return kind(*args)


class ConvertedRecords(_PartitionRecords):  # type: ignore[misc] # aiokafka is not typed
    """The records of a partition in a fetch, converted to :class:`Record` batch by batch."""

    _records: RecordBatches
    next_fetch_offset: int

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - those of aiokafka's class
        super().__init__(*args)
        self._records.whole = True
        self._after = self.next_fetch_offset
        """The position after the records of the newest batch."""
        self._rest: Sequence[Record] = ()
        """Those of them that are not taken yet."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> list[Record]:  # noqa: ANN401 - or a batch
        """The records of a batch, or the record that is parsed alone."""
        partition, after = tp.partition, self.next_fetch_offset
        ours: list[Record] = []
        if type(record) is not WholeBatch:
            ours.append(record_of(record, partition))
            after = record.offset + 1
        else:
            # A call for each record would cost a tenth of reading it.
            for one in record.records:
                offset = one.offset
                if offset >= after:
                    after = offset + 1
                    ours.append(
                        Record(
                            partition=partition,
                            offset=offset,
                            arrival_us=one.timestamp * 1000,
                            key=one.key,
                            value=one.value,
                            headers=tuple(headers) if (headers := one.headers) else (),
                        )
                    )
        self._after = after
        return ours

    def take(self, found: list[Record], most: int) -> bool:
        """Append records to ``found``, ``most`` in all, or fewer; False: there are no more.

        Whatever it raises, ``found`` has all records before ``next_fetch_offset``.
        """
        held = 0
        while True:
            some: Sequence[Record] | None = self._rest or next(self, None)
            if some is None:
                return False
            count = most - len(found)
            if self._records.packed:
                for number, record in enumerate(some[:count], start=1):
                    held += _bytes_of(record)
                    if held >= PIECE_BYTES:
                        count = number
                        break
            found += some[:count]
            self._rest = some[count:]
            self.next_fetch_offset = found[-1].offset + 1 if self._rest else self._after
            if held >= PIECE_BYTES or len(found) >= most:
                return True


class ParsedRecords(ConvertedRecords):
    """The records of a partition in a fetch, as the parser makes them, without their topic and partition.

    They cost 0.4 µs each; aiokafka's own ``ConsumerRecord`` costs 1.1 µs.
    """

    def _consumer_record(self, tp: TopicPartition, record: Any) -> list[Any]:  # noqa: ANN401, ARG002 - aiokafka's
        if type(record) is not WholeBatch:
            self._after = record.offset + 1
            return [record]
        after = self.next_fetch_offset
        found = []
        for one in record.records:
            offset = one.offset
            if offset >= after:
                after = offset + 1
                found.append(one)
        self._after = after
        return found


_KINDS: Final = {AS_RECORDS: ConvertedRecords, AS_PARSED: ParsedRecords}


def _take(records: Any, found: list[Any], most: int) -> bool:  # noqa: ANN401 - aiokafka is not typed
    """As :meth:`ConvertedRecords.take`, of aiokafka's records."""
    held = 0
    for record in records:
        found.append(record)
        if records._records.packed:  # noqa: SLF001 - it is a RecordBatches
            held += _bytes_of(record)
        if held >= PIECE_BYTES or len(found) >= most:
            return True
    return False


def record_of(found: Any, partition: int) -> Record:  # noqa: ANN401 - aiokafka is not typed
    """Convert a record of aiokafka."""
    if type(found.value) is UnfitBatch:
        return Record(
            partition=partition,
            offset=found.offset,
            arrival_us=found.timestamp * 1000,
            key=None,
            value=None,
            unreadable=found.value.unreadable,
        )
    return Record(
        partition=partition,
        offset=found.offset,
        arrival_us=found.timestamp * 1000,
        key=found.key,
        value=found.value,
        headers=tuple(found.headers),
    )


def _bytes_of(record: Any) -> int:  # noqa: ANN401 - aiokafka's record or ours
    """The size of a record as an object."""
    size = len(record.value or b"") + len(record.key or b"")
    return size + len(record.headers) * _HEADER_BYTES + _RECORD_BYTES


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
        records = self._partition_records
        found: list[Any] = []
        try:
            take = records.take if isinstance(records, ConvertedRecords) else partial(_take, records)
            if not take(found, sys.maxsize if max_records is None else max_records):
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
                reason=_reason(exc, tp),
                tries=tries,
            )
        else:
            state.unreadable = None
        state.consumed_to(records.next_fetch_offset)
        return found


def _reason(exc: Exception, tp: TopicPartition) -> str:
    """The message of ``exc`` without the prefix that aiokafka adds to all messages, and without ``tp``."""
    message = str(exc.args[0] if exc.args else exc)
    return f"{type(exc).__name__}: {message.removesuffix(f' - {tp}')}"


class BatchFetcher(_Fetcher):  # type: ignore[misc] # aiokafka is not typed
    """Fetcher that reports a batch that the broker itself cannot read as an unreadable one.

    The broker answers with an error, for example if the length in a batch's header is damaged. aiokafka's
    own fetcher logs the error and asks again without an end.
    """

    def __init__(self, client: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401 - aiokafka's
        super().__init__(_FetchClient(client), *args, **options)

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:  # noqa: ANN401 - aiokafka's
        try:
            woken = bool(await super()._proc_fetch_request(assignment, node_id, request))
        finally:
            unreadable: list[TopicPartition] = self._client.unreadable.pop(id(request), [])
        if not unreadable or not assignment.active:
            return woken
        for topic, partitions in request.topics:
            for number, offset, *_ in partitions:
                place = TopicPartition(topic, number)
                state = assignment.state_value(place)
                if place not in unreadable or not state.has_valid_position or state.position != offset:
                    continue
                records = partition_records(
                    place,
                    NoReadableBatch(),
                    [],
                    offset,
                    self._key_deserializer,
                    self._value_deserializer,
                    self._check_crcs,
                    self._isolation_level,
                )
                self._records[place] = BatchResult(
                    place, assignment=assignment, partition_records=records, backoff=self._prefetch_backoff
                )
                woken = True
        return woken


class _FetchClient:
    """Client of a fetcher. ``unreadable``: the partitions whose batch the broker cannot read, by request."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - aiokafka is not typed
        self._client = client
        self.unreadable: dict[int, list[TopicPartition]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the client's
        return getattr(self._client, name)

    async def send(self, node: Any, request: Any) -> Any:  # noqa: ANN401 - aiokafka's
        answer = await self._client.send(node, request)
        if request.API_KEY == FetchRequest_v4.API_KEY:
            unreadable = [
                TopicPartition(topic, partition)
                for topic, partitions in answer.topics
                for partition, code, *_ in partitions
                if code == CorruptRecordException.errno
            ]
            if unreadable:
                self.unreadable[id(request)] = unreadable
        return answer
