"""The transactional producers of an assignment: one transaction takes the checkpoints of all that wait.

A shared producer has partitions that commit through it, one transaction after the other. A partition stays
with its shared producer, which goes on under another id only after a transaction was given up. So in each
partition at most the last transaction can be one whose end the brokers still owe.

One partition must not hold up or undo what the others have done. If a broker refuses its records, or does not
acknowledge them although it has acknowledged those of others, the transaction is given up:

1. its producer is closed. It has not asked for a commit and never will, so nothing of it is ever committed
2. the coordinator is asked to abort the transaction in all partitions. When it has, the id gets a new epoch
   and is spare again, unless another owner has fenced it
3. a new producer goes on with a spare id, which was claimed with the others
4. each partition waits, for itself, until nothing in its topics is open any more, then commits the same
   content again. The transaction of before is aborted there, so no reader sees it twice
5. a partition whose records were refused has its error only now, when the others are durable. It ends the
   process, whose next attempt meets the same record, after the others have gone on

A crash between any two of these leaves an open or aborted transaction of a claimed id, which the next owner
fences. Without a spare id, all wait for the slowest, and an error is that of all partitions, until an id is
spare again. A group that is closed waits for what is being aborted; if that takes too long, its claims stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.fencing import KafkaFencing, own_places
from triggerstream.adapters.kafka.sending import Entry, send_all
from triggerstream.adapters.kafka.shared_producer import (
    QueuedCheckpoint,
    SharedProducer,
    TransactionGivenUpError,
    fail_after,
    failing,
    wait_for_acknowledgements,
)
from triggerstream.adapters.kafka.spare_ids import AGAIN_S, SpareIds
from triggerstream.adapters.kafka.stopping import abandon, retrieve_error, stop
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.errors import LogError, describe_error
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import failpoint
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.records import NewRecord

logger = logging.getLogger(__name__)

TRANSACTION_S = 60.0
"""A coordinator aborts a transaction that takes longer. The next owner aborts the transaction of a dead
worker earlier, so nobody waits for this time: it only limits how slow brokers may be."""
PRODUCERS = 1
"""Producers that work. Each costs two connections to a broker, and its transactions are the smaller."""
SPARES = 4
"""Ids that are claimed in addition, for transactions that are given up. Each is a claim of 500 bytes. As many
partitions may be away, one after the other; an id is spare again once the partition is back."""
MOST_BYTES = 16 * 1024 * 1024
"""A transaction takes checkpoints up to this, the oldest first: some seconds of a slow broker's time, of the
60 s after which the coordinator aborts it."""
SLOW_S = 3.0
"""A partition that is not acknowledged for so long although others are holds them up no longer. Elections of
leaders at an orderly restart of a broker take less; after a crash, 9 s pass before there is one."""
_TOGETHER_S = 10.0
"""Time for the partitions of a transaction that was given up to be readable. After that each has clients of
its own, as one of them may be away."""
_RETURNING = 8
"""Partitions that are asked for at the same time whether they are there again: each question has a client."""
_SETTLED_S = 5.0
"""Time for one such question. A partition that is away does not keep its place among the eight for longer."""
_ABORTED_S = 5.0
"""Time for transactions that were given up to be aborted when the group is closed: as long as a release waits
until all can be read."""


class TransactionGroup:
    """Commits the checkpoints of the partitions of an assignment, those that wait in one transaction.

    ``ids`` are claimed for all ``partitions``: one for each of ``producers``, the others are spare. A
    transaction takes up to ``most_bytes``, and at most ``transaction_s``: the coordinator aborts it then.
    Partitions do not wait for one that is not acknowledged within ``slow_s``.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        app: AppId,
        fencing: KafkaFencing,
        ids: Sequence[OwnerId],
        partitions: Collection[int],
        transaction_s: float = TRANSACTION_S,
        producers: int = PRODUCERS,
        most_bytes: int = MOST_BYTES,
        slow_s: float = SLOW_S,
    ) -> None:
        self._connection = connection
        self._app = app
        self._fencing = fencing
        self._ids = ids
        self._transaction_s = transaction_s
        self._producer_count = producers
        self._most_bytes = most_bytes
        self._slow_s = slow_s
        place = own_places(Topics.of(app), min(partitions))[0]
        self._spare = SpareIds(fencing, place=place, transaction_s=transaction_s)
        self._returning = asyncio.Semaphore(_RETURNING)
        self._shared: list[SharedProducer] = []
        self._starting: asyncio.Task[None] | None = None
        self._place_of = {number: place for place, number in enumerate(sorted(partitions))}
        self._open = set(partitions)
        self._background: set[asyncio.Task[None]] = set()
        self.transactions = 0
        """How many transactions were committed."""

    @property
    def started(self) -> bool:
        """True from the start on, until it is closed."""
        return bool(self._shared)

    async def open(self) -> None:
        """Initialise the ids, which are never initialised again, and start the producers; once.

        Raises:
            LogError: they cannot be started.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        own = await self._fencing.initialise(self._ids, transaction_s=self._transaction_s)
        for id_ in own[: self._producer_count]:
            self._shared.append(SharedProducer(id_, await self._started(id_)))
        self._spare.start(own[self._producer_count :])

    async def commit(
        self,
        partition: int,
        batches: Iterable[tuple[str, Sequence[NewRecord | Entry]]],
        *,
        offset: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> int:
        """Make records of ``partition`` durable, with those of others; the position after the first topic's.

        ``batches``: the records of each topic, the changelog's first. ``offset``: an offset of the group.

        Raises:
            FencedError: another owner has taken the partition over.
            LogError: it is unknown whether they are durable.
        """
        if not self._shared:
            raise LogError("this ledger was not started")
        shared = self._shared[self._place_of[partition] % len(self._shared)]
        if shared.error is not None:
            raise LogError(f"partition {partition}: no further transaction: {shared.error}") from shared.error
        written = [(topic, records) for topic, records in batches if records]
        size = sum(len(one.value or b"") for _, records in written for one in records)
        checkpoint = QueuedCheckpoint(
            partition, written, offset, size, asyncio.get_running_loop().create_future()
        )
        shared.waiting.append(checkpoint)
        self._work_on(shared)
        return await checkpoint.done

    async def leave(self, partition: int) -> None:
        """Say that ``partition`` commits nothing more. The last one closes the producers.

        Raises:
            LogError: a transaction that was given up may still be open: the claims must not be released.
        """
        self._open.discard(partition)
        if self._open:
            return
        left = await self._spare.wait_until_aborted(within_s=_ABORTED_S)
        await self.close()
        if left:
            raise LogError(f"{left} of the transactions that were given up are not aborted yet")

    async def close(self) -> None:
        """Close the connections. What is not committed has an error."""
        self._open.clear()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        tasks = {
            *self._background,
            *(shared.working for shared in self._shared if shared.working is not None),
        }
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._spare.close()
        all_, self._shared = self._shared, []
        await asyncio.gather(*(stop(shared.producer) for shared in all_))

    # ---- transactions ---------------------------------------------------------------------------

    def _work_on(self, shared: SharedProducer) -> None:
        if shared.error is None and (shared.working is None or shared.working.done()):
            shared.working = asyncio.create_task(self._work(shared))

    async def _work(self, shared: SharedProducer) -> None:
        """Commit what waits, one transaction after the other."""
        taken: list[QueuedCheckpoint] = []
        try:
            while taken := shared.take(self._most_bytes):
                taken = self._without_leaderless(shared, taken)
                if not taken:
                    continue
                try:
                    await self._commit(shared, taken)
                except TransactionGivenUpError as exc:
                    await self._give_up(shared, taken, exc.culprits)
        except BaseException as exc:
            shared.error = LogError("it was closed") if isinstance(exc, asyncio.CancelledError) else exc
            for checkpoint in (*taken, *shared.waiting):
                checkpoint.fail(shared.error)
            shared.waiting.clear()
            if isinstance(exc, asyncio.CancelledError):
                raise

    async def _commit(self, shared: SharedProducer, taken: Sequence[QueuedCheckpoint]) -> None:
        """Commit ``taken`` in one transaction.

        Raises:
            TransactionGivenUpError: some of them hold it up; nothing of it is or will be committed.
            LogError, FencedError: as :meth:`commit`, for all of them.
        """
        producer = shared.producer
        async with translate_errors("the log did not begin a transaction"):
            await producer.begin_transaction()
        failpoint("checkpoint.opened")
        sending = {asyncio.create_task(send_all(producer, one.partition, one.batches)): one for one in taken}
        failpoint("checkpoint.sent")
        try:
            # Only here does a record that was not accepted raise an error: commit_transaction does not.
            async with translate_errors("the log did not take a checkpoint"):
                await wait_for_acknowledgements(
                    producer, sending, has_spare=lambda: bool(self._spare.ids), slow_s=self._slow_s
                )
        finally:
            for task in sending:
                task.cancel()
                task.add_done_callback(retrieve_error)
        offsets = {place: offset for one in taken for place, offset in one.offset.items()}
        if offsets:
            # Not beside the records: while the coordinator adds the group to the transaction, the broker
            # cannot learn that their partitions belong to it, and aiokafka waits before it tries again.
            async with translate_errors("the log did not take an offset"):
                await producer.send_offsets_to_transaction(offsets, worker_group(self._app))
        failpoint("checkpoint.acknowledged")
        async with translate_errors("the log did not commit"):
            await producer.commit_transaction()
        self.transactions += 1
        for checkpoint in taken:
            checkpoint.succeed()

    # ---- giving a transaction up ----------------------------------------------------------------

    async def _give_up(
        self,
        shared: SharedProducer,
        taken: Sequence[QueuedCheckpoint],
        culprits: Mapping[QueuedCheckpoint, BaseException | None],
    ) -> None:
        """Give the transaction of ``taken`` up, and have all but ``culprits`` committed first."""
        if not self._spare.ids:
            raise LogError("a transaction was given up, and there is no spare transactional id to go on with")
        failed, former, spare = shared.producer, shared.id, self._spare.ids.popleft()
        logger.warning(
            "a transaction is given up because of some of its partitions",
            extra={
                "partitions": sorted(one.partition for one in culprits),
                "others": len(taken) - len(culprits),
                "error": next(
                    (describe_error(error) for error in culprits.values() if error is not None), None
                ),
                "spare": len(self._spare.ids),
            },
        )
        await abandon(failed)
        self._spare.abort(former)
        shared.id = spare
        shared.producer = await self._started(shared.id)
        others = [one for one in taken if one not in culprits]
        written = [one for one in others if one.batches]
        try:
            async with asyncio.timeout(_TOGETHER_S):
                await self._settled([one.partition for one in written])
        except (TimeoutError, LogError):  # another one is away as well
            for one in written:
                self._run(self._return(shared, one))
            shared.waiting.extendleft(one for one in reversed(others) if not one.batches)
        else:
            shared.waiting.extendleft(reversed(others))
        for culprit, error in culprits.items():
            if error is None:
                self._run(self._return(shared, culprit))
            else:
                why = describe_error(error)
                text = f"partition {culprit.partition}: the log did not take a checkpoint: {why}"
                self._run(fail_after([*others, *shared.waiting], culprit, LogError(text)))

    async def _settled(self, partitions: Collection[int]) -> None:
        """Return once no transaction is open in the topics of ``partitions``."""
        rest = set(partitions)
        while rest:
            rest -= set(await self._fencing.readable(rest, within_s=_SETTLED_S))

    async def _return(self, shared: SharedProducer, checkpoint: QueuedCheckpoint) -> None:
        """Put a checkpoint back once its partition is there again and has no open transaction."""
        with failing(checkpoint):
            while True:
                try:
                    async with self._returning, asyncio.timeout(_SETTLED_S):
                        await self._settled([checkpoint.partition])
                    with suppress(TimeoutError):  # a producer that is given up meanwhile does not answer
                        async with asyncio.timeout(AGAIN_S):
                            await shared.producer.client.force_metadata_update()
                except (LogError, TimeoutError) as exc:
                    logger.info(
                        "a partition cannot be reached",
                        extra={"partition": checkpoint.partition, "error": str(exc)},
                    )
                    await asyncio.sleep(AGAIN_S)
                else:
                    break
            if shared.error is not None:
                raise shared.error
        shared.waiting.appendleft(checkpoint)
        self._work_on(shared)

    def _without_leaderless(
        self, shared: SharedProducer, taken: Sequence[QueuedCheckpoint]
    ) -> list[QueuedCheckpoint]:
        """``taken`` without those of partitions that have no leader: these come back when they have one."""
        cluster = shared.producer.client.cluster
        left = []
        for checkpoint in taken:
            places = [TopicPartition(topic, checkpoint.partition) for topic, _ in checkpoint.batches]
            if any(cluster.leader_for_partition(place) == -1 for place in places):
                self._run(self._return(shared, checkpoint))
            else:
                left.append(checkpoint)
        return left

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(retrieve_error)

    async def _started(self, id_: InitialisedId) -> AIOKafkaProducer:
        """A producer under ``id_``, which does not initialise it: that would lift another owner's fence."""
        producer = self._connection.producer(transactional_id=id_.id, transaction_s=self._transaction_s)
        producer._txn_manager.set_pid_and_epoch(id_.producer, id_.epoch)  # noqa: SLF001 - nothing public
        async with translate_errors("the log cannot be reached"):
            await self._connection.start(producer)
        return producer
