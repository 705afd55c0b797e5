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
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import COMMIT_MARKER, ControlRecord

from triggerstream.adapters.kafka import fetches
from triggerstream.adapters.kafka.fetches import (
    Unreadable,
    UnreadableError,
    refuse_unfit,
    unreadable_by_broker,
)
from triggerstream.adapters.kafka.raw_fetches import READ_COMMITTED, fetch_raw

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
        UnreadableError: one of the batches cannot be read, even after repeated fetches.
    """
    for batch in await _batches(client, place, begin):
        if batch.is_transactional and not batch.is_control_batch:
            for record in _records(batch, place):
                if record.offset >= begin and (event := event_of(record)) is not None:
                    return event
    return None


async def last_ended(
    client: AIOKafkaClient, place: TopicPartition, begin: int, end: int, event_of: EventOffset
) -> EndedTransaction | None:
    """The last transaction with records from ``begin`` to before ``end``; None if none is found.

    Records that do not say their event are passed over.

    Raises:
        KafkaError, UnreadableError: as :func:`first_event`.
    """
    width = _WINDOW
    while begin < end:
        event: int | None = None
        committed: bool | None = None
        at = max(begin, end - width)
        while at < end:
            batches = await _batches(client, place, at)
            if not batches:
                return None
            for batch in batches:
                if batch.is_control_batch:
                    if committed is None:
                        committed = ControlRecord.parse(next(iter(batch)).key) == COMMIT_MARKER
                elif batch.is_transactional:
                    events = [
                        found for record in _records(batch, place) if (found := event_of(record)) is not None
                    ]
                    if events:
                        event, committed = max(events), None
            at = batches[-1].next_offset
        if event is not None:
            return None if committed is None else EndedTransaction(event=event, committed=committed)
        if end - width <= begin or width > _WIDEST:
            return None
        width *= _WIDER
    return None


async def _batches(client: AIOKafkaClient, place: TopicPartition, offset: int) -> Sequence[Any]:
    """The batches from ``offset`` on, up to some bytes.

    Raises:
        KafkaError, UnreadableError: as :func:`first_event`.
    """
    tries = 1
    while True:
        try:
            found = (await fetch_raw(client, place, offset)).batches()
        except CorruptRecordException:
            unreadable = unreadable_by_broker(place, offset, tries=tries)
        else:
            damaged = next((batch for batch in found if not batch.validate_crc()), None)
            if damaged is None:
                return found
            unreadable = Unreadable(
                topic=place.topic,
                partition=place.partition,
                offset=damaged.base_offset,
                last=damaged.base_offset + damaged.last_offset_delta,
                reason="CorruptRecordException: Invalid CRC",
                tries=tries,
            )
        if tries == fetches.TRIES:
            raise UnreadableError(unreadable)
        tries += 1
        await asyncio.sleep(fetches.RETRY_S)


def _records(batch: Any, place: TopicPartition) -> Sequence[Any]:  # noqa: ANN401 - aiokafka is not typed
    """The records of ``batch``.

    Raises:
        UnreadableError: they cannot be decompressed.
    """
    records = list(batch)
    refuse_unfit(records, place)
    return records
