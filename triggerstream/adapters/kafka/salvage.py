"""Reads all of a range that can be read, for readers that go on after record batches that cannot.

Another attempt may read such a batch: it was damaged on the way, or another replica is the leader now. So
each gets its :data:`triggerstream.adapters.kafka.fetches.TRIES` attempts, but all of them share the pauses
between these: a damaged disk has many, and four seconds for each would be minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Container
from contextlib import aclosing
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka import fetches
from triggerstream.adapters.kafka.connection import translate_errors
from triggerstream.adapters.kafka.fetches import Unreadable, UnreadableError, refuse_unfit
from triggerstream.adapters.kafka.raw_fetches import first_unreadable, next_readable
from triggerstream.adapters.kafka.records import read_range
from triggerstream.adapters.kafka.topics import TIMEOUT_S

_MOST = 2_000
"""Records that are returned at once: some 5 ms in which the event loop serves nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableRecords:
    """Records of a run: a part of the range that was read without a gap.

    ``run`` is the offset at which the run begins. Parts of one run come in order.
    """

    run: int
    records: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A batch that cannot be read. Nothing was read from its offset to before ``end``.

    If its header cannot be read either, the gap ends where the broker finds the next batch: see
    :func:`triggerstream.adapters.kafka.raw_fetches.next_readable`.
    """

    batch: Unreadable
    end: int


async def salvage(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    *,
    most: int = _MOST,
    given_up: Container[int] = (),
) -> AsyncGenerator[ReadableRecords | Gap]:
    """The committed records from ``begin`` to before ``end`` that can be read, then the gaps by offset.

    Runs come in any order: batches that only a later attempt reads come last. ``given_up``: offsets of
    batches that have had all their attempts before, and get one more. A batch that cannot be decompressed is
    among the records, as the one that replaces it: see
    :func:`triggerstream.adapters.kafka.fetches.refuse_unfit`.

    Raises:
        LogError: as :func:`triggerstream.adapters.kafka.records.read_range`, but for such batches.
    """
    gaps: list[Gap] = []
    todo = [(begin, end)]
    for attempt in range(1, fetches.TRIES + 1):
        if attempt > 1:
            await asyncio.sleep(fetches.RETRY_S)
        failed: list[Gap] = []
        for first, before in todo:
            at = first
            while at < before:
                try:
                    reading = read_range(reader, place, at, before, most=most, tries=1)
                    async with aclosing(reading) as found:
                        async for records, _ in found:
                            if records:
                                yield ReadableRecords(run=at, records=records)
                    break
                except UnreadableError as exc:
                    batch = exc.batch
                    at = await offset_after(reader, place, batch, before)
                    failed.append(Gap(batch=replace(batch, tries=attempt), end=at))
        lost = [gap for gap in failed if attempt == fetches.TRIES or gap.batch.offset in given_up]
        gaps += [replace(gap, batch=replace(gap.batch, tries=fetches.TRIES)) for gap in lost]
        todo = [(gap.batch.offset, gap.end) for gap in failed if gap not in lost]
        if not todo:
            break
    for gap in sorted(gaps, key=lambda one: one.batch.offset):
        yield gap


async def offset_after(reader: AIOKafkaConsumer, place: TopicPartition, batch: Unreadable, end: int) -> int:
    """The offset at which to read on after ``batch``, at most ``end``.

    Raises:
        LogError: as :func:`salvage`.
    """
    client = reader._client  # noqa: SLF001 - nothing public
    async with translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
        return await next_readable(client, place, batch.offset, end, last=batch.last)


async def damaged_header_before(
    reader: AIOKafkaConsumer, place: TopicPartition, batch: Unreadable, begin: int
) -> int:
    """The offset, at least ``begin``, of the damaged header that keeps the broker from finding ``batch``.

    Raises:
        LogError: as :func:`salvage`.
    """
    async with translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
        return await first_unreadable(reader._client, place, batch.offset, begin)  # noqa: SLF001 - nothing public


async def salvaged_entries(
    reader: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, *, given_up: Container[int] = ()
) -> list[dict[bytes, bytes | None] | Unreadable]:
    """The values by key of each run of a compacted topic, and the unreadable batches between runs, in order.

    Raises:
        LogError: as :func:`salvage`.
    """
    parts: dict[int, dict[bytes, bytes | None] | Unreadable] = {}
    begins: dict[int, int] = {}
    async with aclosing(salvage(reader, place, begin, end, given_up=given_up)) as found:
        async for one in found:
            if isinstance(one, Gap):
                parts[one.batch.offset] = one.batch
                continue
            at = begins.get(one.run, one.run)
            entries: dict[bytes, bytes | None] = {}
            for record in one.records:
                if record.key is not None:
                    entries[record.key] = record.value
                    continue
                try:
                    refuse_unfit([record], place)  # otherwise another program wrote it
                except UnreadableError as exc:
                    _add(parts, at, entries)
                    parts[exc.batch.offset] = exc.batch
                    at, entries = record.offset + 1, {}
            begins[one.run] = at
            _add(parts, at, entries)
    return [part for _, part in sorted(parts.items(), key=itemgetter(0))]


def _add(
    parts: dict[int, dict[bytes, bytes | None] | Unreadable], at: int, entries: dict[bytes, bytes | None]
) -> None:
    """Add ``entries`` to those of the part that begins at ``at``."""
    known = parts.get(at)
    if isinstance(known, dict):
        known.update(entries)
    elif entries:
        parts[at] = entries
