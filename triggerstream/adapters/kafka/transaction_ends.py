"""How transactions have ended in a partition: read from its record batches as they are, markers included.

aiokafka's consumers show neither markers nor which transactions were aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest_v4
from aiokafka.record.control_record import COMMIT_MARKER, ControlRecord

from triggerstream.adapters.kafka.batches import RecordBatches
from triggerstream.adapters.kafka.protocol import Call

_COMMITTED = 1
"""The isolation level with which a broker names the transactions that were aborted."""
_MOST_BYTES = 1024 * 1024
"""Bytes of a fetch; a broker returns one batch even if it is longer."""
_WAIT_MS = 100
_RETRY_S = 0.1
_WINDOW = 16
"""Offsets that are searched at first: a transaction's last record is nearly always before the last marker."""
_WIDER = 16
_WIDEST = 100_000
"""Offsets that are searched at most: markers alone, and the bridge's dead letters, may follow."""

EventOffset = Callable[[Any], int | None]
"""Returns the offset of the event for which a record was written; None if the record does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTransaction:
    """The last transaction with records in a partition. ``event``: the newest event that these were for."""

    event: int
    committed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    data: bytes | None
    stable_end: int
    aborted: Sequence[tuple[int, int]]
    """Producer id and first offset of the transactions that were aborted within the batches or later."""

    def batches(self) -> Sequence[Any]:
        """The batches, parsed.

        Raises:
            CorruptRecordException: one of them is damaged.
        """
        batches, found = RecordBatches(self.data), []
        while batches.has_next():
            found.append(batches.next_batch())
        return found


async def is_aborted_across(client: AIOKafkaClient, place: TopicPartition, offset: int) -> bool | None:
    """True if a transaction that had begun before ``offset`` was aborted at ``offset`` or later.

    None: records at ``offset`` cannot be read yet, because of an open transaction.

    Raises:
        KafkaError: no answer, or an error.
    """
    found = await _fetch(client, place, offset, isolation=_COMMITTED)
    return None if found.stable_end <= offset else any(begin < offset for _, begin in found.aborted)


async def first_event(
    client: AIOKafkaClient, place: TopicPartition, begin: int, event_of: EventOffset
) -> int | None:
    """The event for which the first records of a transaction from ``begin`` on were written.

    Raises:
        KafkaError: no answer, or an error.
    """
    for batch in (await _fetch(client, place, begin)).batches():
        if batch.is_transactional and not batch.is_control_batch:
            for record in batch:
                if record.offset >= begin and (event := event_of(record)) is not None:
                    return event
    return None


async def last_ended(
    client: AIOKafkaClient, place: TopicPartition, begin: int, end: int, event_of: EventOffset
) -> EndedTransaction | None:
    """The last transaction with records from ``begin`` to before ``end``; None if none is found.

    Records that do not say their event are passed over.

    Raises:
        KafkaError: no answer, or an error.
    """
    width = _WINDOW
    while begin < end:
        event: int | None = None
        committed: bool | None = None
        at = max(begin, end - width)
        while at < end:
            batches = (await _fetch(client, place, at)).batches()
            if not batches:
                return None
            for batch in batches:
                if batch.is_control_batch:
                    if committed is None:
                        committed = ControlRecord.parse(next(iter(batch)).key) == COMMIT_MARKER
                elif batch.is_transactional:
                    events = [found for record in batch if (found := event_of(record)) is not None]
                    if events:
                        event, committed = max(events), None
            at = batches[-1].next_offset
        if event is not None:
            return None if committed is None else EndedTransaction(event=event, committed=committed)
        if end - width <= begin or width > _WIDEST:
            return None
        width *= _WIDER
    return None


async def _fetch(
    client: AIOKafkaClient, place: TopicPartition, offset: int, *, isolation: int = 0
) -> _Fetched:
    """The batches from ``offset`` on, up to some bytes; the first may begin before it."""
    request = Call(
        FetchRequest_v4,
        replica_id=-1,
        max_wait_time=_WAIT_MS,
        min_bytes=1,
        max_bytes=_MOST_BYTES,
        isolation_level=isolation,
        topics=[(place.topic, [(place.partition, offset, _MOST_BYTES)])],
    )
    await client.set_topics([place.topic])
    while True:
        leader = client.cluster.leader_for_partition(place)
        error: type[Any] = LeaderNotAvailableError
        if leader is not None and leader >= 0:
            answer = await client.send(leader, request)
            ((_, ((_, code, _, stable_end, aborted, data),)),) = answer.topics
            if not code:
                return _Fetched(data=data, stable_end=stable_end, aborted=aborted or ())
            error = for_code(code)
        if not error.retriable:
            raise error(f"{place.topic}, partition {place.partition}")
        await asyncio.sleep(_RETRY_S)
        await client.force_metadata_update()
