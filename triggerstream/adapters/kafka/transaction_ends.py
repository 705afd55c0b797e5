"""How transactions have ended in a partition: read from its record batches as they are, markers included.

aiokafka's consumers show neither markers nor which transactions were aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import COMMIT_MARKER, ControlRecord

from triggerstream.adapters.kafka import fetches
from triggerstream.adapters.kafka.batches import RecordBatches
from triggerstream.adapters.kafka.fetches import (
    Unreadable,
    UnreadableError,
    refuse_unfit,
    unreadable_by_broker,
)
from triggerstream.adapters.kafka.raw_fetches import READ_COMMITTED, fetch_raw, next_readable

T = TypeVar("T")

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


async def is_aborted_across(client: AIOKafkaClient, place: TopicPartition, offset: int) -> bool | None:
    """True if a transaction that had begun before ``offset`` was aborted at ``offset`` or later.

    None: records at ``offset`` cannot be read yet, because of an open transaction.

    Raises:
        KafkaError: no answer, or an error.
    """
    found = await fetch_raw(client, place, offset, isolation=READ_COMMITTED)
    return None if found.stable_end <= offset else any(begin < offset for _, begin in found.aborted)


async def first_event(
    client: AIOKafkaClient, place: TopicPartition, begin: int, event_of: EventOffset
) -> int | None:
    """The event for which the first records of a transaction from ``begin`` on were written.

    Raises:
        KafkaError: no answer, or an error.
        UnreadableError: a batch before them cannot be read, even after repeated fetches.
    """

    async def search() -> tuple[int | None, Unreadable | None]:
        batches, damaged = await _batches(client, place, begin)
        for batch in batches:
            if batch.is_transactional and not batch.is_control_batch:
                for record in _records(batch, place):
                    if record.offset >= begin and (event := event_of(record)) is not None:
                        return event, None
        return None, damaged

    return await repeated(search)


async def last_ended(
    client: AIOKafkaClient, place: TopicPartition, begin: int, end: int, event_of: EventOffset
) -> EndedTransaction | None:
    """The last transaction with records from ``begin`` to before ``end``; None if none is found.

    Records that do not say their event are passed over.

    Raises:
        KafkaError: no answer, or an error.
        UnreadableError: a batch that may have records of it, or its end, cannot be read, even after repeated
            fetches. Earlier ones do not matter.
    """
    width = _WINDOW
    while begin < end:
        search = partial(_last_event, client, place, max(begin, end - width), end, event_of)
        event, committed = await repeated(search)
        if event is not None:
            return None if committed is None else EndedTransaction(event=event, committed=committed)
        if end - width <= begin or width > _WIDEST:
            return None
        width *= _WIDER
    return None


async def _last_event(
    client: AIOKafkaClient, place: TopicPartition, at: int, end: int, event_of: EventOffset
) -> tuple[tuple[int | None, bool | None], Unreadable | None]:
    """The event and the end of the last transaction from ``at`` to before ``end``, each None if not found.

    The last batch that cannot be read is returned, too, unless the event was found after it.
    """
    event: int | None = None
    committed: bool | None = None
    unread: Unreadable | None = None
    while at < end:
        batches, damaged = await _batches(client, place, at)
        for batch in batches:
            if batch.is_control_batch:
                if committed is None:
                    committed = ControlRecord.parse(next(iter(batch)).key) == COMMIT_MARKER
            elif batch.is_transactional:
                events = [
                    found for record in _records(batch, place) if (found := event_of(record)) is not None
                ]
                if events:
                    event, committed, unread = max(events), None, None
        if damaged is not None and damaged.offset < end:
            unread = damaged
            at = await next_readable(client, place, damaged.offset, end, last=damaged.last)
        elif batches:
            at = batches[-1].next_offset
        else:
            break
    return (event, committed), unread


async def repeated(search: Callable[[], Awaitable[tuple[T, Unreadable | None]]]) -> T:
    """The result of a search, which is repeated while an unreadable batch prevents it.

    ``search`` returns its result and this batch; None: no batch prevented it.

    Raises:
        KafkaError: as ``search``.
        UnreadableError: a batch still prevents it after all attempts.
    """
    tries = 1
    while True:
        found, damaged = await search()
        if damaged is None:
            return found
        if tries == fetches.TRIES:
            raise UnreadableError(replace(damaged, tries=tries))
        tries += 1
        await asyncio.sleep(fetches.RETRY_S)


async def _batches(
    client: AIOKafkaClient, place: TopicPartition, offset: int
) -> tuple[Sequence[Any], Unreadable | None]:
    """The batches from ``offset`` on, up to some bytes or to one that cannot be read, and that one.

    Raises:
        KafkaError: no answer, or an error.
    """
    try:
        found = await fetch_raw(client, place, offset)
    except CorruptRecordException:
        return (), unreadable_by_broker(place, offset, tries=1)
    parser, batches = RecordBatches(found.data), list[Any]()
    while parser.has_next():
        reason, last = "Invalid CRC", None
        try:
            batch = parser.next_batch()
            if batch.validate_crc():
                batches.append(batch)
                offset = batch.next_offset
                continue
            offset, last = int(batch.base_offset), parser.last
        except CorruptRecordException as exc:
            reason = str(exc.args[0])
        return batches, Unreadable(
            topic=place.topic,
            partition=place.partition,
            offset=offset,
            last=last if last is not None and last >= offset else None,
            reason=f"CorruptRecordException: {reason}",
        )
    return batches, None


def _records(batch: Any, place: TopicPartition) -> Sequence[Any]:  # noqa: ANN401 - aiokafka is not typed
    """The records of ``batch``.

    Raises:
        UnreadableError: they cannot be decompressed.
    """
    records = list(batch)
    refuse_unfit(records, place)
    return records
