"""The bridge: from the commands topic to an executor. Its only memory is the offset of its consumer group."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    InvalidSessionTimeoutError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from triggerstream.adapters.kafka.bridge_offsets import GroupOffsets, begin
from triggerstream.adapters.kafka.client_tasks import check_tasks
from triggerstream.adapters.kafka.commands_topic import CommandsTopic, where_to_begin
from triggerstream.adapters.kafka.connection import Connection, answered_at, translate_errors
from triggerstream.adapters.kafka.deadletters import DeadLetterTopic
from triggerstream.adapters.kafka.fetches import Unreadable, UnreadableError, unreadable
from triggerstream.adapters.kafka.group import leave, member_id, session_timeout_refused, watch_name
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, bridge_group
from triggerstream.core import advice
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.background import Background
from triggerstream.engine.checkpoint import LostRange, dead_letter_of
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.handover.destinations import NAMED
from triggerstream.engine.handover.first_offset import FirstOffset
from triggerstream.engine.handover.pacing import not_dispatchable
from triggerstream.engine.handover.shared_log import TAKEN, PartitionHandOver, PartitionProgress
from triggerstream.engine.health.liveness import BridgeFigures, HealthSnapshot, PartitionHealth, Phase
from triggerstream.engine.histogram import Durations
from triggerstream.engine.loglimit import RecurringLines
from triggerstream.engine.ports import Clock, Dispatcher
from triggerstream.wire.records import Record, UnreadableBatch, offsets

logger = logging.getLogger(__name__)

_FETCH_MS = 200
"""Maximum time of a fetch: control records alone wake no reader, so the position is checked after it."""
_DRAIN_S = 15.0
"""Maximum time that a stop waits for confirmations. A dispatcher waits less for each."""
_REVOKE_S = 5.0
"""Maximum time that a rebalance waits for confirmations. The next owner hands the rest over again."""
_REBALANCE_MS = 60_000
_NEVER_MS = 2**31 - 1
_NO_OFFSET_S = 0.05
"""Pause after a fetch without a position: aiokafka raises an error at each until the partition has one."""


class Bridge:
    """Hands over the commands in the partitions that its group assigns to it.

    1. A command is handed over, and the executor confirms it. A command that can never be handed over becomes
       a dead letter, and an outcome with the reason is appended to the log.
    2. The offset below which all commands of the partition are done is committed. While commands wait for a
       destination that the executor's broker refuses, the commit also has the later commands that are done.

    After a crash between 1 and 2, or a rebalance, commands are repeated under their ids. None is lost.
    """

    def __init__(
        self,
        connection: Connection,
        app: AppId,
        *,
        dispatcher: Dispatcher,
        clock: Clock,
        session_timeout_s: float = 30.0,
        member: str | None = None,
        lost: Collection[LostRange] = (),
        on_ready: Callable[[Collection[int]], None],
        on_failure: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._connection = connection
        self._app = app
        self._topics = Topics.of(app)
        self._dispatcher = dispatcher
        self._session_timeout_ms = round(session_timeout_s * 1000)
        self._member = member
        """Its name as a static member of the group; None: a dynamic member."""
        self._lost = lost
        """Ranges of the topic that an operator has given up, if they cannot be read."""
        self._clock = clock
        self._on_ready, self._on_failure = on_ready, on_failure
        self._lines = RecurringLines(logger)
        self._log = KafkaLog(connection, app)
        self._dead_letters = DeadLetterTopic(connection, topic=self._topics.dead_letters)
        self.handover = PartitionHandOver(dispatcher=dispatcher, clock=clock, refuse=self._refuse)
        self._partitions: dict[int, PartitionProgress] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._phase = Phase.STARTING
        self._answered_at = -math.inf
        self._room = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stopping: asyncio.Event, *, start: FirstOffset | None, agreed: bool = False) -> None:
        """Hand over until ``stopping`` is set. Then finish commands in progress, commit, and leave the group.

        Raises:
            UsageError: it cannot start; the message says what to do.
            LogError: the log failed in a way that a restart may cure.
        """
        topic_id = await begin(self._connection, self._app, start, agreed=agreed)
        self._topic = CommandsTopic(self._connection, self._app, topic_id)
        await self._topic.refuse_unknown_partitions(self._lost)
        consumer = self._consumer = self._new_consumer()
        self._offsets = GroupOffsets(consumer, self._topic)
        handing, intake = Background(self.fail), Background(self.fail)
        ending, left = asyncio.create_task(stopping.wait()), ""
        try:
            async with translate_errors("cannot reach Kafka", timeout_s=TIMEOUT_S):
                await self._connection.start(consumer)
            if self._member is not None:
                watch_name(consumer, self.fail)
            consumer.subscribe([self._topics.commands], listener=_Listener(self))
            handing.start("hand-over", self.handover.run())
            intake.start("fetches", self._fetch())
            intake.start("commits", self._commit_all())
            intake.start("topics", self._topic.watch(consumer))
            ends: list[asyncio.Future[Any]] = [ending, self._failed]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                await end
            await intake.close()
            await self.release(within_s=_DRAIN_S)
            left = member_id(consumer)
        except UsageError:
            left = member_id(consumer)  # it does not come back by itself
            raise
        except KafkaError as exc:
            raise LogError(f"{self._topics.commands} cannot be read: {exc!r}") from exc
        finally:
            ending.cancel()
            await handing.close()
            await intake.close()
            await stop(consumer)
            await self._dispatcher.close()
            await self._log.close()
            await self._dead_letters.close()
            await self._leave(left)

    async def _leave(self, member_id: str) -> None:
        """Leave the group, so that others get the partitions at once."""
        if self._member is None or not member_id:
            return
        try:
            await leave(self._connection, bridge_group(self._app), name=self._member, member_id=member_id)
        except LogError as exc:
            logger.warning("not left: its partitions wait for its session", extra={"error": str(exc)})

    def _new_consumer(self) -> AIOKafkaConsumer:
        return self._connection.member(
            bridge_group(self._app),
            name=self._member,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=min(3_000, self._session_timeout_ms // 6),
            rebalance_timeout_ms=_REBALANCE_MS,
            # While the executor is not available, nothing is fetched, even for days. Heartbeats continue.
            max_poll_interval_ms=_NEVER_MS,
        )

    # ---- from the log to the executor ---------------------------------------------------------

    async def _fetch(self) -> None:
        consumer = self._started()
        while True:
            while (room := TAKEN - sum(progress.uncommitted for progress in self._partitions.values())) <= 0:
                self._room.clear()
                await self._room.wait()
            try:
                found = await consumer.getmany(timeout_ms=_FETCH_MS, max_records=room)
            except NoOffsetForPartitionError:
                # `assigned` handles the same case: it sets the position, or ends the bridge.
                await asyncio.sleep(_NO_OFFSET_S)
                continue
            except OffsetOutOfRangeError as exc:
                await self._topic.check()
                raise UsageError(where_to_begin(self._app, str(exc))) from exc
            except InvalidSessionTimeoutError as exc:
                raise session_timeout_refused(self._session_timeout_ms / 1000) from exc
            # No await from here on: records must be taken under the assignment for which they were fetched.
            for place, records in found.items():
                # Before `assigned`, records are dropped; it seeks back to them.
                if (progress := self._partitions.get(place.partition)) is not None:
                    for record in records:
                        if not (progress.resuming and progress.skip_known(record.offset)):
                            self.handover.take(progress, record_of(record))
            for batch in unreadable(consumer, consumer.assignment()):
                if batch.settled:
                    self._skip_lost(consumer, batch)
            await self._pass_markers(consumer)

    def _skip_lost(self, consumer: AIOKafkaConsumer, batch: Unreadable) -> None:
        """Continue after an unreadable batch that an operator has declared lost.

        Its range becomes a dead letter.

        Raises:
            UnreadableError: no operator has declared it lost.
            UsageError: the range ends beyond the topic.
        """
        progress = self._partitions.get(batch.partition)
        if progress is None:
            return  # it changes hands
        covering = (one for one in self._lost if one.partition == batch.partition)
        lost = next((one for one in covering if one.first <= batch.offset <= one.last), None)
        if lost is None:
            raise UnreadableError(batch, repair=advice.skip_lost_commands(batch.lost))
        place = TopicPartition(batch.topic, batch.partition)
        end = consumer.highwater(place)
        if end is not None and lost.last >= end:
            raise UsageError(
                f"--skip {lost}: partition {lost.partition} of {batch.topic} ends at offset {end - 1}: "
                "records that do not exist yet cannot be skipped"
            )
        consumer.seek(place, lost.last + 1)
        named = f"{offsets(batch.offset, lost.last)} of {batch.topic}, given up with --skip"
        unreadable = UnreadableBatch(first=batch.offset, reason=f"{named}: {batch.reason}")
        self.handover.take(
            progress,
            Record(
                partition=lost.partition,
                offset=lost.last,
                arrival_us=self._clock.now_us(),
                key=None,
                value=None,
                unreadable=unreadable,
            ),
        )

    async def _pass_markers(self, consumer: AIOKafkaConsumer) -> None:
        """Note offsets after the last command: transaction markers, which lag monitors count as well."""
        for partition, progress in list(self._partitions.items()):
            if not progress.idle:
                continue
            try:
                position = await consumer.position(TopicPartition(self._topics.commands, partition))
            except IllegalStateError:
                continue  # it changes hands
            if self._partitions.get(partition) is progress:
                progress.passed(position)
                if progress.position > progress.committed:
                    self.handover.moved.set()

    async def _refuse(self, record: Record, decision: Decision | None, reason: str) -> None:
        """Make a command that can never be handed over a dead letter, and report the failure to its session.

        After a crash between the two, or before the offset is committed, both are repeated; a second outcome
        changes nothing. A revocation that cannot be passed on is only logged, because nothing is lost.
        """
        self._lines.write(
            "command cannot be handed over",
            key=decision.run if isinstance(decision, Command) else None,
            level=logging.ERROR,
            extra={
                "partition": record.partition,
                "offset": record.offset,
                "command": None if decision is None else decision.id,
                "error": reason,
            },
        )
        if decision is not None and not isinstance(decision, Command):
            return
        await self._dead_letters.append(dead_letter_of(record, reason), topic=self._topics.commands)
        failpoint("bridge.dead_letter_appended")
        if decision is not None:
            await self._log.append([not_dispatchable(decision, reason)])
        failpoint("bridge.reported")

    # ---- what is done -------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        while True:
            await self.handover.moved.wait()
            self.handover.moved.clear()
            await self._offsets.commit(self._partitions.values(), holds=self.handover.holds)
            self._room.set()

    # ---- partitions that come and go ----------------------------------------------------------

    async def assigned(self, places: Collection[TopicPartition]) -> None:
        """Continue at the group's offsets."""
        consumer = self._started()
        for place in places:
            offset, reached = await self._offsets.read(place)
            # Records fetched before the assignment were dropped. The seek fetches them again.
            consumer.seek(place, offset)
            self._partitions[place.partition] = PartitionProgress(place.partition, offset, reached)
        self._phase = Phase.READY
        self._on_ready(sorted(self._partitions))

    async def release(self, *, within_s: float = _REVOKE_S) -> None:
        """Give up all partitions: start no command, wait for confirmations, commit."""
        if self._phase is Phase.READY:
            self._phase = Phase.REBALANCING
        partitions = list(self._partitions.values())
        self._partitions.clear()
        self.handover.leave(partitions)
        self._room.set()
        await self.handover.settled(partitions, within_s=within_s)
        await self._offsets.commit(partitions, holds=self.handover.holds)

    def health(self) -> HealthSnapshot:
        """The bridge's health, for probes and metrics.

        Raises:
            LogError: the bridge cannot continue.
        """
        handover = self.handover
        figures = BridgeFigures(
            handed_over=handover.handed_over,
            refused=handover.refused,
            unconfirmed=handover.waiting,
            away=handover.away,
            destinations=handover.refused_destinations()[:NAMED],
            took=handover.took + Durations(),  # a copy: other threads read it while the counting continues
        )
        if self._consumer is not None:
            check_tasks(self._consumer)
        if self._phase is Phase.STARTING:
            return HealthSnapshot(figures=figures)
        return HealthSnapshot(
            phase=self._phase,
            joined=True,
            silent_s=time.monotonic() - self.answered_at(),
            waits=handover.waiting > 0,
            topic=self._topics.commands,
            partitions=tuple(
                self._partition_health(progress) for _, progress in sorted(self._partitions.items())
            ),
            figures=figures,
        )

    def answered_at(self) -> float:
        """Monotonic time of the last answer of a broker; minus infinity if none has answered."""
        if self._consumer is not None:
            self._answered_at = max(self._answered_at, answered_at(self._consumer))
        return self._answered_at

    def _partition_health(self, progress: PartitionProgress) -> PartitionHealth:
        consumer, place = self._started(), TopicPartition(self._topics.commands, progress.partition)
        assigned = place in consumer.assignment()
        stable = consumer.last_stable_offset(place) if assigned else None
        high = consumer.highwater(place) if assigned else None
        return PartitionHealth(
            partition=progress.partition,
            ready=True,
            reached=progress.position,
            lag=None if high is None else max(high - progress.position, 0),
            blocked=0 if high is None or stable is None else max(high - stable, 0),
        )

    def fail(self, exc: BaseException) -> None:
        """End the bridge; probes report the end at once."""
        if not self._failed.done():
            self._on_failure(str(exc))
            self._failed.set_exception(exc)

    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None  # noqa: S101 - for the type checker: run() comes first
        return self._consumer


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is not typed
    """Callbacks of aiokafka, which would only log their errors."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        try:
            await self._bridge.assigned(assigned)
        except Exception as exc:  # noqa: BLE001 - it is raised by run()
            self._bridge.fail(exc)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        try:
            await self._bridge.release()
        except Exception as exc:  # noqa: BLE001 - the failure ends the process
            self._bridge.fail(exc)
