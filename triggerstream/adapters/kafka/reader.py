"""The read-only view of an app in Kafka: its changelog, its dead letters, its log. No worker need run."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.deadletters import read_dead_letter
from triggerstream.adapters.kafka.fetches import UnreadableError, refuse_unfit
from triggerstream.adapters.kafka.hand_overs import read_hand_overs
from triggerstream.adapters.kafka.layout import (
    fewest_partitions,
    marked_partitions,
    newest_rebuild,
    unreadable_entries,
)
from triggerstream.adapters.kafka.lost import LostRanges
from triggerstream.adapters.kafka.records import (
    POLL_MS,
    read_range,
    read_ranges,
    readable_extents,
    record_of,
)
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of, no_topic
from triggerstream.core import advice
from triggerstream.core.answers import HandOver
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.fold import next_due
from triggerstream.core.ids import AppId, CommandId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.projections import SilentCommand
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.ports import UnreadableEntriesError
from triggerstream.engine.partitioned.takeover import rebuilt_after
from triggerstream.engine.partitioned.versions import history_texts, is_history, read_history
from triggerstream.engine.rows import ConfigurationText, DeadLetterRow, OutboxRow, Progress, SessionRow
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    RESERVED,
    decode_checkpoint,
)
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey, encode_key

Take = Callable[[Any], bool]
"""Receives one record; returns True if it needs no more."""


@dataclass(slots=True)
class _Copy:
    """A partition's changelog up to ``position``: states and marks by key."""

    position: int
    entries: dict[bytes, bytes] = field(default_factory=dict)
    rules: Rules | None = None
    """The rules with the history in ``entries``; None if it was not read since it changed."""

    def take(self, record: Any) -> bool:  # noqa: ANN401 - aiokafka's ConsumerRecord is not typed
        if record.key is None:
            refuse_unfit([record], TopicPartition(record.topic, record.partition))
            return False  # another program wrote it
        if is_history(record.key):
            self.rules = None
        if record.value is None:
            self.entries.pop(record.key, None)
        else:
            self.entries[record.key] = record.value
        return False


class KafkaReader:
    """A :class:`triggerstream.engine.ports.Reader` of one app. It belongs to no group.

    The first query for a session reads the changelog of its partition; a list of sessions reads all
    changelogs. Later queries read only newer entries. Entries are kept in memory.
    """

    def __init__(
        self, connection: Connection, app: AppId, *, configurations: ConfigurationCache | None = None
    ) -> None:
        self._connection = connection
        self._app = app
        self._topics = Topics.of(app)
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._second: AIOKafkaConsumer | None = None
        """Sees records behind an open transaction, which the other one does not."""
        self._partitions = 0
        self._copies: dict[int, _Copy] = {}
        self._configurations = configurations or ConfigurationCache()
        self._ids: list[str] = []
        """The ids that the list asked for last has, and the question that its next page would be."""
        self._next_page: tuple[str, SessionId] | None = None

    async def partition(self, session: SessionId) -> int:
        await self._opened()
        return partition_of(_key(session), self._partitions)

    async def partitions(self) -> int:
        await self._opened()
        return self._partitions

    async def session(self, session: SessionId) -> SessionRow | None:
        return (await self.some([session])).get(session)

    async def some(self, sessions: Collection[SessionId]) -> Mapping[SessionId, SessionRow]:
        by_partition: dict[int, list[SessionId]] = {}
        for session in sessions:
            by_partition.setdefault(await self.partition(session), []).append(session)
        rows = {}
        for partition, wanted in by_partition.items():
            copy = await self._caught_up(partition)
            for session in wanted:
                if (value := copy.entries.get(_key(session))) is not None:
                    rows[session] = self._row(copy, session, value)
        return rows

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        """The entries of ``keys`` that there are, as far as the states of their sessions were read."""
        await self._opened()
        found = {}
        for key in keys:
            copy = self._copies.get(partition_of(_key(key.session), self._partitions))
            if copy is not None and (value := copy.entries.get(encode_key(key))) is not None:
                found[key] = value
        return found

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        """Sessions whose id begins with ``prefix``, by id, beyond ``after``.

        The next page was read ahead with the previous one.
        """
        await self._opened()
        begin, last = _key(SessionId(prefix)), "" if after is None else _key(after).decode()
        if after is None or (prefix, after) != self._next_page:
            copies = [await self._caught_up(partition) for partition in range(self._partitions)]
            keys = (key for copy in copies for key in copy.entries if not key.startswith(RESERVED))
            self._ids = sorted(key.decode() for key in keys if key.startswith(begin))
        first = 0 if after is None else bisect_right(self._ids, last)
        names = self._ids[first : first + limit]
        if names:
            self._next_page = prefix, SessionId(names[-1])
        rows = []
        for name in names:
            key = name.encode()
            copy = self._copies[partition_of(key, self._partitions)]
            if (value := copy.entries.get(key)) is not None:  # else it was deleted meanwhile
                rows.append(self._row(copy, SessionId(name), value))
        return rows

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        """Dead letters with a number greater than ``after``, by number: by offset, then partition."""
        await self._opened()
        count = self._partitions
        begins = {number: max(after - number + count - 1, 0) // count for number in range(count)}
        async with self._turn:
            found = await self._first_of_each(self._topics.dead_letters, begins, limit)
        rows = [_letter(record, partitions=count, log=self._topics.events) for record in found]
        return sorted(rows, key=lambda row: row.number)[:limit]

    async def dead_letters_at(
        self, offsets: Collection[int], *, partition: int = 0
    ) -> Mapping[int, DeadLetterRow]:
        found: dict[int, DeadLetterRow] = {}
        first = await self.records(after=min(offsets) - 1, limit=1, partition=partition) if offsets else []
        if not first:
            return found
        place = TopicPartition(self._topics.dead_letters, partition)
        async with translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
            since = (await self._started().offsets_for_times({place: first[0].arrival_us // 1000}))[place]
        if since is None:
            return found

        def take(record: Any) -> bool:  # noqa: ANN401 - aiokafka is not typed
            row = _letter(record, partitions=self._partitions, log=self._topics.events)
            if row.offset is not None and row.offset in offsets and row.left_out is None:
                found.setdefault(row.offset, row)
            return len(found) == len(offsets)

        await self._read(place.topic, partition, since.offset, take)
        return found

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:
        copy = await self._caught_up(partition)
        return history_texts(copy.entries.get)

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        """Refuse: an app in Kafka has no outbox.

        Decisions are in a topic, and the bridge's offset is its progress.

        Raises:
            UsageError: always; the message says where to look.
        """
        del after, limit, sent_before_us
        raise UsageError(f"Kafka has no outbox: {advice.resend_stuck()}")

    async def hand_overs(
        self, commands: Sequence[SilentCommand], *, partition: int = 0
    ) -> Mapping[CommandId, HandOver]:
        """Progress of the hand-over of each of ``commands``.

        "Not known" also if the account may not read the bridge's offset.
        """
        await self._opened()
        async with self._turn:
            return await read_hand_overs(
                self._connection,
                self._app,
                self._started(),
                commands,
                uncommitted=self._uncommitted(),
                partition=partition,
            )

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:
        records = await self.records(after=offset - 1, limit=1, partition=partition)
        return records[0] if records and records[0].offset == offset else None

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:
        found: list[Record] = []
        if limit < 1:
            return found

        def take(record: Any) -> bool:  # noqa: ANN401 - aiokafka is not typed
            found.append(record_of(record))
            return len(found) == limit

        await self._read(self._topics.events, partition, after + 1, take)
        return found

    async def progress(self, *, partition: int = 0) -> Progress:
        """The offset that the partition's owner has reached, and the end of its log."""
        copy = await self._caught_up(partition)
        mark = copy.entries.get(CHECKPOINT_KEY)
        place = TopicPartition(self._topics.events, partition)
        async with translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
            high = (await self._uncommitted().end_offsets([place]))[place]
            stable = (await self._started().end_offsets([place]))[place]
        return Progress(
            offset=0 if mark is None else decode_checkpoint(mark).offset,
            end=max(high, stable),
            blocked=max(high - stable, 0),
            outbox=None,
            dead_letters=None,
        )

    async def close(self) -> None:
        """Close the connections."""
        started, self._consumer, self._second = (self._consumer, self._second), None, None
        for consumer in started:
            if consumer is not None:
                await stop(consumer)

    # ---- reading ------------------------------------------------------------------------------

    def _row(self, copy: _Copy, session: SessionId, value: bytes) -> SessionRow:
        number = partition_of(session.encode(), self._partitions)
        decoder = StateDecoder(
            name=f"{self._topics.changelog}, partition {number}",
            address=address_of(self._connection, self._app),
        )
        known = decoder.read(session, value)
        due_us = None
        if known.open_count:
            if copy.rules is None:
                copy.rules = read_history(copy.entries.get, self._configurations).rules(self._app)
            due_us = next_due(copy.rules, known)
        return SessionRow(id=session, state=value, due_us=due_us, decoder=decoder)

    async def _caught_up(self, partition: int) -> _Copy:
        """The partition's changelog, read up to its current end."""
        await self._opened()
        async with self._turn:
            copy, topic = self._copies.setdefault(partition, _Copy(0)), self._topics.changelog
            while True:
                try:
                    copy.position = await self._read_turn(topic, partition, copy.position, copy.take)
                except UnreadableError as exc:
                    try:
                        newest = await newest_rebuild(self._started(), TopicPartition(topic, partition))
                        rebuilt = rebuilt_after(unreadable_entries(exc.batch), newest)
                    except UnreadableEntriesError as needed:
                        at = address_of(self._connection, self._app)
                        repair = advice.rebuild_unreadable(at, lasting=needed.lasting)
                        raise LogError(f"{needed}; {repair}") from needed
                    copy = self._copies[partition] = _Copy(rebuilt)
                else:
                    return copy

    async def _read(self, topic: str, partition: int, begin: int, take: Take) -> None:
        await self._opened()
        async with self._turn:
            await self._read_turn(topic, partition, begin, take)

    async def _read_turn(self, topic: str, partition: int, begin: int, take: Take) -> int:
        """Pass the committed records from ``begin`` to the current end to ``take``.

        Returns the position after them.
        """
        first, end = await self._extent(topic, partition)
        place, position = TopicPartition(topic, partition), max(begin, first)
        lost = LostRanges(self._connection, self._app, partition) if topic == self._topics.events else None
        after_lost = None if lost is None else lost.after
        found = read_range(self._started(), place, position, end, after_lost=after_lost)
        async with aclosing(found):
            async for records, after in found:
                for record in records:
                    if take(record):
                        return int(record.offset) + 1
                position = min(after, end)
        return position

    async def _first_of_each(self, topic: str, begins: Mapping[int, int], limit: int) -> list[Any]:
        """The first ``limit`` records, or some more, of each partition from its begin on."""
        extents = await readable_extents(self._started(), [TopicPartition(topic, n) for n in begins])
        ranges = {
            place: (max(begins[place.partition], first), end) for place, (first, end) in extents.items()
        }
        read = await read_ranges(self._started(), ranges, enough=limit)
        return [record for records in read.values() for record in records]

    async def _extent(self, topic: str, partition: int) -> tuple[int, int]:
        await self._opened()
        place = TopicPartition(topic, partition)
        return (await readable_extents(self._started(), [place]))[place]

    async def _opened(self) -> None:
        async with self._opening:
            if self._consumer is None:
                await self._open()

    async def _open(self) -> None:
        async with translate_errors("cannot reach Kafka", timeout_s=TIMEOUT_S):
            async with self._connection.client() as client:
                topics = (await describe(client, self._topics.partitioned())).topics
            for name in self._topics.partitioned():
                if name not in topics:
                    raise no_topic(name, self._connection, self._app)
            partitions = await marked_partitions(self._connection, topics[self._topics.changelog])
            partitions = partitions or fewest_partitions(self._topics, topics)
            consumer = self._connection.reader(wait_ms=POLL_MS)
            await self._connection.start(consumer)
            second = self._connection.reader(wait_ms=POLL_MS, committed=False)
            try:
                await self._connection.start(second)
            except BaseException:
                await stop(consumer)
                raise
        self._partitions = partitions
        self._consumer, self._second = consumer, second

    def _uncommitted(self) -> AIOKafkaConsumer:
        assert self._second is not None  # noqa: S101 - for the type checker: _opened() comes first
        return self._second

    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None  # noqa: S101 - for the type checker: _opened() comes first
        return self._consumer


def _key(session: SessionId) -> bytes:
    try:
        return session.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{session!r}: a session id is valid Unicode") from exc


def _letter(record: Any, *, partitions: int, log: str) -> DeadLetterRow:  # noqa: ANN401 - aiokafka is not typed
    headers = tuple(record.headers)
    try:
        found = read_dead_letter(record.value, key=record.key, headers=headers)
    except DecodeError as exc:
        offset, last, left_out, reason = None, None, None, str(exc)
    else:
        # A command has no position in the log.
        offset = found.record.offset if found.topic == log else None
        last = found.last if found.topic == log else None
        left_out, reason, headers = found.left_out, found.reason, found.record.headers
    return DeadLetterRow(
        number=record.offset * partitions + record.partition + 1,
        at_us=record.timestamp * 1000,
        offset=offset,
        key=record.key,
        value=record.value,
        headers=headers,
        reason=reason,
        partition=record.partition,
        last=last,
        left_out=left_out,
    )
