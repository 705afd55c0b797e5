"""The inspector of a worker: the partitions that it owns, and for each an index of its sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId, SessionId, TaskName
from triggerstream.core.placement import partition_of
from triggerstream.engine.health.rates import SAMPLE_S, Rates
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder, ReaderSource, order_record
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase
from triggerstream.engine.partitioned.ports import Appender
from triggerstream.engine.ports import Reader
from triggerstream.engine.queries.answers import (
    DeadLettersPage,
    Overview,
    PartitionRow,
    ShownConfiguration,
    WorkerRow,
)
from triggerstream.engine.queries.index import CHANGED, Index, Indexer, States, keep
from triggerstream.engine.queries.inspector import (
    ElsewhereError,
    Query,
    described,
    explained,
    letters,
)
from triggerstream.engine.queries.listing import Part, listing
from triggerstream.engine.queries.owners import RecentOwners
from triggerstream.engine.queries.past import Moment, PastSessions
from triggerstream.wire.claims import Claim
from triggerstream.wire.marks import Identity
from triggerstream.wire.retired import RetiredKey, encode_key

_APPEND_S = 30.0
"""How long somebody who gives an order waits for the log to take it."""
LAG = 5_000
"""Number of records that a worker of all partitions folds in a fifth of a second. The index of a partition
pauses while more records of the partition wait than its equal share of these; at a steady load, fewer do."""
_LEAST_LAG = 50
"""The least share of a partition, for any number of partitions."""


class InspectedPartition:
    """A :class:`triggerstream.engine.queries.listing.States` of an owned partition."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def page(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        return self._partition.sessions(prefix=prefix, after=after, limit=limit)

    async def some(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, bytes]:
        found = ((session, self._partition.state(session)) for session in sessions)
        return {session: value for session, value in found if value is not None}

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        """The durable entries of ``keys`` that there are."""
        found = ((key, self._partition.entry(encode_key(key))) for key in keys)
        return {key: value for key, value in found if value is not None}


@dataclass(frozen=True, slots=True)
class _IndexedPartition:
    """An owned partition with its index."""

    partition: Partition
    indexer: Indexer
    states: States


class WorkerInspector:
    """An :class:`triggerstream.engine.queries.inspector.Inspector` of the partitions of ``owner``.

    ``lag``: the number of records not folded, by partition, if known; ``waiting``: of those, the number that
    can be folded. ``index`` creates the index of a partition. ``reader`` reads dead letters, which no
    worker owns, and ``claims`` the claims of all workers that are not released.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        app: AppId,
        url: str,
        identity: Identity,
        lag: Callable[[], Mapping[int, int | None]],
        waiting: Callable[[], Mapping[int, int]],
        index: Callable[[int], Index],
        appender: Appender,
        reader: Reader,
        claims: Callable[[], Awaitable[Sequence[Claim]]],
    ) -> None:
        self._owner = owner
        self._app = app
        self._url = url
        self._identity = identity
        self._lag = lag
        self._waiting = waiting
        self._most_waiting = max(LAG // identity.partitions, _LEAST_LAG)
        self._index = index
        self._appender = appender
        self._reader = reader
        self._past = PastSessions(reader, app=app)
        self._orders = ReaderSource(reader)
        self._indexed: dict[int, _IndexedPartition] = {}
        self._rates = Rates()
        self._owners = RecentOwners(claims)
        owner.on_durable = self.note

    async def run(self) -> None:
        """Update the indexes of the partitions until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sample())
            tasks.create_task(keep(self._following))

    def _following(self) -> list[tuple[Indexer, States]]:
        """The indexes to update now.

        All pause while partitions are taken over; that of one, while many of its records wait to be folded.
        """
        ready = list(self._ready())
        if len(ready) < len(self._owner.partitions):
            return []
        if not all(one.indexer.complete for one in ready):
            waiting, most = self._waiting(), self._most_waiting
            ready = [one for one in ready if waiting.get(one.partition.number, 0) <= most]
        return [(one.indexer, one.states) for one in ready]

    async def _sample(self) -> None:
        while True:
            events = {number: one.counters.events for number, one in self._owner.partitions.items()}
            self._rates.note(time.monotonic(), events)
            await asyncio.sleep(SAMPLE_S)

    async def close(self) -> None:
        """Close the indexes, after the partitions are closed."""
        for number in list(self._indexed):
            self._let_go(number)
        await self._owners.close()
        await self._reader.close()

    def note(self, partition: Partition, sessions: Iterable[SessionId]) -> None:
        """Note that a checkpoint of ``partition`` has changed ``sessions``."""
        self._indexed_partition(partition).indexer.note(sessions)

    # ---- what is shown ----------------------------------------------------------------------------

    async def overview(self) -> Overview:
        """The partitions of this worker."""
        lag = self._lag()
        return Overview(
            app=self._app,
            workers=[WorkerRow(url=self._url, own=True, says=None)],
            partitions=[self._row(one, lag) for _, one in sorted(self._owner.partitions.items())],
            owners=await self._owners.rows(),
        )

    def _row(self, partition: Partition, lag: Mapping[int, int | None]) -> PartitionRow:
        counters = partition.counters
        opening, total = partition.phase is PartitionPhase.OPENING, partition.recovery.total
        return PartitionRow(
            partition=partition.number,
            owner=self._url,
            own=True,
            phase="recovering" if opening else partition.phase.value,
            recovered=100 * (total - partition.recovery.left) // total if opening and total else 100,
            lag=lag.get(partition.number),
            events=partition.durable,
            events_per_second=self._rates.of(partition.number),
            dead_letters=counters.dead_letters,
        )

    async def session(
        self, session: SessionId, *, task: TaskName | None = None, at: Moment | None = None
    ) -> ExplainedSession | None:
        partition = self._partition(session)
        if at is not None:
            return await self._past.explain(session, at, task=task)
        value = partition.state(session)
        if value is None:
            return None
        return await explained(
            partition.rules,
            session,
            value,
            reader=self._reader,
            retired=InspectedPartition(partition),
            partition=partition.number,
            task=task,
            decoder=partition.processor.decoder,
        )

    async def sessions(self, query: Query) -> SessionsPage:
        parts = [
            Part(
                states=one.states,
                rules=one.partition.rules,
                indexer=one.indexer,
                decoder=one.partition.processor.decoder,
            )
            for one in self._ready()
        ]
        page = await listing(parts, query)
        if any(one.phase is not PartitionPhase.READY for one in self._owner.partitions.values()):
            return structs.replace(page, complete=False)
        return page

    async def configuration(self) -> ShownConfiguration | None:
        """The configuration in force, in the first partition that is ready.

        Raises:
            LogError: no partition of this worker is ready.
        """
        owned = self._owner.partitions.values()
        if owned and all(one.phase is not PartitionPhase.READY for one in owned):
            raise LogError("no partition of this worker can be read yet: ask again in a moment")
        return next((described(one.partition.rules.current) for one in self._ready()), None)

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        """The dead letters of the whole app, oldest first."""
        return letters(await self._reader.dead_letters(after=after, limit=limit), limit=limit)

    async def dead_letter(self, position: LogPosition) -> str | None:
        return (await self._orders.dead_letters([position])).get(position)

    async def progress(self, partition: int) -> int:
        owned = self._owner.partitions.get(partition)
        if owned is None:
            raise ElsewhereError(partition)
        return owned.durable

    async def append(self, to: AddressedOrder) -> LogPosition:
        """Append an order for a session of any worker. Returns its position."""
        record = order_record(to)
        number = partition_of(record.key or b"", self._identity.partitions)
        try:
            async with asyncio.timeout(_APPEND_S):
                return LogPosition(number, await self._appender.append(number, [record]) - 1)
        except TimeoutError as exc:
            raise LogError(f"the log did not take the order within {_APPEND_S:g} s") from exc

    # ---- what is here -----------------------------------------------------------------------------

    def _partition(self, session: SessionId) -> Partition:
        try:
            number = partition_of(session.encode(), self._identity.partitions)
        except UnicodeEncodeError as exc:
            raise UsageError(f"{session!r}: a session id is valid Unicode") from exc
        partition = self._owner.partitions.get(number)
        if partition is None:
            raise ElsewhereError(number)
        return partition

    def _ready(self) -> Iterator[_IndexedPartition]:
        """The partitions that can be read now. Indexes of closed partitions are closed."""
        partitions = self._owner.partitions
        for number in [number for number in self._indexed if number not in partitions]:
            if self._indexed[number].partition.phase is PartitionPhase.CLOSED:
                self._let_go(number)
        for _, partition in sorted(partitions.items()):
            if partition.phase is PartitionPhase.READY:
                yield self._indexed_partition(partition)

    def _indexed_partition(self, partition: Partition) -> _IndexedPartition:
        number = partition.number
        one = self._indexed.get(number)
        if one is not None and one.partition is partition:
            return one
        if one is not None:
            self._let_go(number)
        changed = CHANGED // self._identity.partitions
        indexer = Indexer(
            self._index(number),
            lambda: partition.rules,
            changed=changed,
            read=partition.processor.peek,
        )
        indexer.resume(self._stamp(partition.begun))
        one = self._indexed[number] = _IndexedPartition(partition, indexer, InspectedPartition(partition))
        return one

    def _let_go(self, number: int) -> None:
        one = self._indexed.pop(number)
        one.indexer.close(self._stamp(one.partition.durable))

    def _stamp(self, offset: int) -> str:
        """The position and the log at which an index equals the store."""
        return f"{self._identity.cluster}/{self._identity.topic} {offset}"
