"""The ledger of a partition and the appender, on aiokafka's producers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.deadletters import dead_letter_record, read_dead_letter
from triggerstream.adapters.kafka.ends import Ends
from triggerstream.adapters.kafka.fencing import KafkaFencing, own_places
from triggerstream.adapters.kafka.fetches import Unreadable, UnreadableError, refuse_unfit
from triggerstream.adapters.kafka.layout import newest_mark, newest_rebuild, unreadable_entries
from triggerstream.adapters.kafka.records import STUCK_READ_S, reader_of
from triggerstream.adapters.kafka.salvage import salvaged_entries
from triggerstream.adapters.kafka.seen_members import seen_in, seen_text
from triggerstream.adapters.kafka.sending import Entry, send_all
from triggerstream.adapters.kafka.shared_reads import SharedReads
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.adapters.kafka.transaction_ends import first_event, last_ended
from triggerstream.adapters.kafka.transaction_group import TRANSACTION_S, TransactionGroup
from triggerstream.core import advice
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError, LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ports import (
    Commit,
    Extent,
    UnreadableEntriesError,
    UnreadableTakeOverError,
)
from triggerstream.wire import commands
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.records import NewRecord

_EXTENT_S = 60.0
"""Several requests, which are each tried again after 10 s."""
_SEEN_S = 2.0


class KafkaLedger:
    """A :class:`triggerstream.engine.partitioned.ports.Ledger` that commits with others of its assignment.

    ``group``: commits for the partitions of the assignment. ``id_``: in its place, the transactional id of a
    ledger that commits alone, in transactions of up to ``transaction_s``. Without either it is only read.
    ``fencing`` and ``reads`` are shared by those of a process. Without ``reads``, reading the changelog fails
    after ``stuck_s`` without progress.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        app: AppId,
        topics: Topics,
        partition: int,
        group: TransactionGroup | None = None,
        id_: OwnerId | None = None,
        fencing: KafkaFencing | None = None,
        reads: SharedReads | None = None,
        transaction_s: float = TRANSACTION_S,
        stuck_s: float = STUCK_READ_S,
        member: str | None = None,
    ) -> None:
        self._connection = connection
        self._fencing = fencing or KafkaFencing(connection, app)
        self._reads = reads or SharedReads(connection, app, stuck_s=stuck_s)
        if group is None and id_ is not None:
            group = TransactionGroup(
                fencing=self._fencing,
                connection=connection,
                app=app,
                ids=[id_],
                partitions=[partition],
                transaction_s=transaction_s,
            )
        self._group = group
        self._member = member
        """The name that an operator gave to the worker, which is committed with the group offset."""
        self._seen: dict[str, int] | None = None
        self._topics = topics
        self._partition = partition
        self._covered: list[TopicPartition] = []
        """Partitions with an open transaction of events before the newest checkpoint: it was committed."""

        self._given_up: set[int] = set()
        """Offsets of batches of the changelog that had all their attempts."""

    async def start(self) -> None:
        await self._started().open()

    async def fence_old_release(self) -> OwnerId:
        return await self._fencing.fence_old_release(self._partition)

    async def extent(self) -> Extent:
        changelog, log, own = self._at(self._topics.changelog), self._at(self._topics.events), self._own()
        is_owner = self._group is not None and self._group.started
        if not is_owner:
            own = [changelog]
        found = await self._reads.ends.of([*own, log])
        extent = Extent(
            begin=found[changelog].begin,
            end=found[changelog].end,
            log_begin=found[log].begin,
            log_end=found[log].end,
        )
        if not is_owner or all(found[place].readable for place in own):
            return extent
        try:
            async with translate_errors("the end of a transaction is not known", timeout_s=_EXTENT_S):
                ended = await self._ended({place: found[place] for place in own})
        except UnreadableError as exc:
            repair = advice.end_transaction(self._connection.bootstrap)
            text = f"{exc}: how a former owner's transaction ended is not known; {repair}"
            raise UnreadableTakeOverError(text) from exc
        return replace(extent, unfinished=min(found[changelog].stable, extent.end), ended=ended)

    async def _ended(self, ends: Mapping[TopicPartition, Ends]) -> bool | None:
        """How the transaction ended that is still open in some partitions; None: nothing shows it.

        Records of events before the newest committed mark belong to transactions that were committed, records
        of later events to the one that is open in the changelog, or was aborted there.
        """
        changelog = self._at(self._topics.changelog)
        is_open = {place: not found.readable for place, found in ends.items()}
        async with reader_of(self._connection, changelog.topic) as reader:
            mark = await newest_mark(reader, changelog)
        if isinstance(mark, DecodeError):
            return None
        offset = 0 if mark is None else mark.offset
        shown: set[bool] = set()
        self._covered = []
        async with self._connection.client() as client:
            for topic, event_of in (
                (self._topics.commands, _event_of_command),
                (self._topics.dead_letters, _event_of_letter),
            ):
                place = self._at(topic)
                try:
                    if is_open[place]:
                        event = await first_event(client, place, ends[place].stable, event_of)
                        if event is not None and event < offset:
                            self._covered.append(place)
                        elif event is not None and not is_open[changelog]:
                            shown.add(event < offset)
                    elif is_open[changelog]:
                        at = ends[place]
                        last = await last_ended(client, place, at.begin, at.end, event_of)
                        if last is not None and last.event >= offset:
                            shown.add(last.committed)
                except TopicAuthorizationFailedError:
                    continue  # the worker's account needs no right to read them
        if self._covered and not is_open[changelog] and not shown:
            return True
        return max(shown, default=None)

    async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
        covered = [] if commit else self._covered
        rest = [place for place in self._own() if place not in covered]
        await self._fencing.finish(former, rest, commit=commit)
        if covered:  # last: if this is not reached, the next owner finds them open, and the rest ended
            await self._fencing.finish(former, covered, commit=True)

    async def is_undone(self, position: int) -> bool:
        question = self._at(self._topics.changelog), position
        undone = (await self._reads.aborted_across.answers([question]))[question]
        if isinstance(undone, Unreadable):
            raise unreadable_entries(undone)
        if undone is not None:
            return undone
        async with aclosing(self.changelog(position, position + 1)) as found:
            async for _ in found:
                pass  # until its transaction ends; an error names it
        return await self.is_undone(position)

    async def committed(self) -> int | None:
        at = await self._group_commit()
        return None if at is None else int(at.offset)

    async def _group_commit(self) -> OffsetAndMetadata | None:
        log = self._at(self._topics.events)
        return (await self._reads.group_commits.answers([log])).get(log)

    async def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        try:
            async with aclosing(self._reads.changelogs.read(self._partition, begin, end)) as found:
                async for records, after in found:
                    entries = {one.key: one.value for one in records}
                    if None in entries:
                        refuse_unfit(records, self._at(self._topics.changelog))
                        del entries[None]  # another program wrote it
                    yield entries, min(after, end)
        except UnreadableError as exc:
            raise unreadable_entries(exc.batch) from exc

    async def salvage(
        self, begin: int, end: int
    ) -> Sequence[dict[bytes, bytes | None] | UnreadableEntriesError]:
        place = self._at(self._topics.changelog)
        async with reader_of(self._connection, place.topic, parsed=True) as reader:
            parts = await salvaged_entries(reader, place, begin, end, given_up=self._given_up)
        self._given_up |= {part.offset for part in parts if isinstance(part, Unreadable)}
        return [unreadable_entries(part) if isinstance(part, Unreadable) else part for part in parts]

    async def rebuilt(self, end: int) -> int:
        changelog = self._at(self._topics.changelog)
        async with reader_of(self._connection, changelog.topic) as reader:
            return await newest_rebuild(reader, changelog, end=end, given_up=self._given_up)

    async def commit(self, commit: Commit) -> int:
        group, topics = self._started(), self._topics
        decided = [NewRecord(key=one.decision.session.encode(), value=one.value) for one in commit.decided]
        letters = [dead_letter_record(letter, topic=topics.events) for letter in commit.dead_letters]
        states = [Entry(key, value) for key, value in (*commit.states.items(), *commit.marks.items())]
        batches = ((topics.changelog, states), (topics.commands, decided), (topics.dead_letters, letters))
        offset = {}
        if commit.offset is not None:
            metadata = "" if self._member is None else await self._seen_text(self._member)
            offset = {self._at(topics.events): OffsetAndMetadata(commit.offset, metadata)}
        return await group.commit(self._partition, batches, offset=offset)

    async def close(self) -> None:
        if self._group is not None:
            await self._group.leave(self._partition)

    async def _seen_text(self, member: str) -> str:
        """The names of the workers that had the partition in the last day, this one included."""
        if self._seen is None:
            try:
                async with translate_errors("the group's offset is not known", timeout_s=_SEEN_S):
                    at = await self._group_commit()
            except LogError:
                at = None  # only `doctor` needs the names
            self._seen = {} if at is None else seen_in(at.metadata)
        now_s = int(time.time())
        self._seen[member] = now_s
        return seen_text(self._seen, now_s=now_s)

    def _started(self) -> TransactionGroup:
        if self._group is None:
            raise LogError("this ledger was not started: it is only read")
        return self._group

    def _own(self) -> list[TopicPartition]:
        return own_places(self._topics, self._partition)

    def _at(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self._partition)


class KafkaAppender:
    """A :class:`triggerstream.engine.partitioned.ports.Appender`: one idempotent producer for the process."""

    def __init__(self, *, connection: Connection, app: AppId) -> None:
        self._connection = connection
        self._app = app
        self._topic = Topics.of(app).events
        self._starting: asyncio.Task[AIOKafkaProducer] | None = None

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        async with translate_errors("the log cannot be reached"):
            producer = await asyncio.shield(self._starting)
        signed = (self._connection.signed(self._app, record) for record in records)
        async with translate_errors("the log did not take records"):
            return await send_all(producer, partition, [(self._topic, signed)])

    async def close(self) -> None:
        """Close the connections."""
        starting, self._starting = self._starting, None
        if starting is not None:
            started = (await asyncio.gather(starting, return_exceptions=True))[0]
            if not isinstance(started, BaseException):
                await stop(started)

    async def _start(self) -> AIOKafkaProducer:
        producer = self._connection.producer()
        await self._connection.start(producer)
        return producer


def _event_of_command(record: Any) -> int | None:  # noqa: ANN401 - aiokafka is not typed
    try:
        decision = commands.decode(record.value or b"")
    except DecodeError:
        return None
    return decision.decided_at if isinstance(decision, Command) else None


def _event_of_letter(record: Any) -> int | None:  # noqa: ANN401 - aiokafka is not typed
    try:
        letter = read_dead_letter(record.value, key=record.key, headers=tuple(record.headers))
    except DecodeError:
        return None
    return letter.record.offset
