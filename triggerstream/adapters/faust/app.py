"""Creates the Faust application. Importing this module creates none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import faust
from faust.types import TP, StreamT

from triggerstream.adapters.faust.assignor import PartitionAssignor
from triggerstream.adapters.faust.partition_factory import PartitionFactory
from triggerstream.adapters.faust.recovery import TableManager
from triggerstream.adapters.faust.settings import WorkerSettings, faust_settings
from triggerstream.adapters.faust.table import TABLE, Router, SessionTable
from triggerstream.adapters.faust.transport import BatchTopic, Consumer, PartitionBatch, Transport
from triggerstream.adapters.faust.web import AgentWeb, Pages
from triggerstream.adapters.kafka.answers import LastBrokerAnswer
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.ledger import KafkaAppender
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic
from triggerstream.adapters.kafka.shared_reads import SharedReads
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.engine.background import end_of
from triggerstream.engine.broker_wait import BrokerWait
from triggerstream.engine.checkpoint import LostRange
from triggerstream.engine.counters import Counters
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase
from triggerstream.wire.marks import Identity

logger = logging.getLogger(__name__)

_CLOSE_SILENCE_S = 20.0
"""Time without an answer of any broker after which a rebalance or a stop gives up waiting for checkpoints in
flight. It is longer than a client takes to stop without Kafka. The other limit is Kafka's for a rebalance,
after which the group continues without this member. Each checkpoint also has its own time limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedPartition:
    """An owned partition. ``lag``: records and markers that are not folded and durable; None: not known yet.

    ``blocked``: the last of them, which cannot be read until another program's transaction ends.

    It is computed from positions, so it becomes 0 even if a log ends with a control record.
    """

    partition: int
    ready: bool
    lag: int | None
    blocked: int
    timers: int
    counters: Counters


def _progress(partition: Partition, fetched: tuple[int, int, int] | None) -> OwnedPartition:
    lag, blocked = None, 0
    if fetched is not None:
        position, stable, high = fetched
        lag = max(high - (partition.durable if partition.taken else position), 0)
        blocked = high - stable
    return OwnedPartition(
        partition=partition.number,
        ready=partition.phase is PartitionPhase.READY,
        lag=lag,
        blocked=blocked,
        timers=partition.timers(),
        counters=partition.counters,
    )


class WorkerApp(faust.App):
    """Faust's application with our transport, and the partitions that this process owns."""

    owner: Owner
    events_topic: str
    partitions: int
    lost: Sequence[LostRange]
    appender: KafkaAppender
    _owners: KafkaOwnersTopic
    _fencing: KafkaFencing
    _reads: SharedReads
    _answers: LastBrokerAnswer
    _rebalance_timeout_s: float
    _web: AgentWeb
    _fail: Callable[[BaseException], None]
    _on_ready: Callable[[list[int]], None]
    _on_recovery: Callable[[dict[int, tuple[int, int]]], None]

    def attach(
        self,
        *,
        make: PartitionFactory,
        answers: LastBrokerAnswer,
        rebalance_timeout_s: float,
        identity: Identity,
        events_topic: str,
        lost: Sequence[LostRange],
        fail: Callable[[BaseException], None],
        on_ready: Callable[[list[int]], None],
        on_recovery: Callable[[dict[int, tuple[int, int]]], None],
    ) -> None:
        """Give the application what Faust knows nothing of."""
        self.owner = Owner(make.assignment)
        self.events_topic = events_topic
        self.partitions = identity.partitions
        self.lost = lost
        self._fail = fail
        self._on_ready = on_ready
        self._on_recovery = on_recovery
        self.appender, self._owners = make.appender, make.owners
        self._fencing, self._reads = make.fencing, make.reads
        self._answers, self._rebalance_timeout_s = answers, rebalance_timeout_s
        self._room = asyncio.Event()

    def serve_pages(self, pages: Pages) -> None:
        """Have Faust's web server serve ``pages`` once the app starts."""
        self._web = AgentWeb(self, pages=pages, fail=self.fail)
        self.boot_strategy.enable_web = True

    def room(self) -> None:
        """Note that a partition has room for a batch."""
        self._room.set()

    async def wait_for_room(self, timeout_s: float) -> None:
        """Return once a partition has room for a batch, or after ``timeout_s``."""
        self._room.clear()
        if any(partition.has_room() for partition in self.owner.partitions.values()):
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.wait()
        except TimeoutError:
            return

    async def close_partitions(self) -> None:
        """Finish work in progress and close all partitions, while brokers answer."""
        await self.tables.recovery.settled()  # type: ignore[attr-defined] # our TableManager has it
        limit = BrokerWait(
            answered_at=self.answered_at, silence_s=_CLOSE_SILENCE_S, longest_s=self._rebalance_timeout_s
        )
        try:
            await limit.wait(self.owner.close(), place="worker", what="the return of its partitions")
        except Exception as exc:  # noqa: BLE001 - the next owner fences whatever it was
            self.fail(exc)

    async def close_clients(self) -> None:
        """Close the clients that outlast the partitions."""
        await self.appender.close()
        await self._owners.close()
        await self._fencing.close()
        await self._reads.close()

    def answered_at(self) -> float:
        """Monotonic time of the last answer of a broker; minus infinity if none has answered yet."""
        return max(self._answers.at, cast("Consumer", self.consumer).thread.answered_at())

    def member_id(self) -> str:
        """The member id that the group's coordinator gave to this worker; empty if it has none."""
        return cast("Consumer", self.consumer).thread.member_id()

    def fetching(self) -> bool:
        """True if records are fetched. Fetching pauses during a rebalance."""
        return cast("Consumer", self.consumer).flow_active

    def progress(self) -> list[OwnedPartition]:
        """The progress of each owned partition, for metrics and probes."""
        thread = cast("Consumer", self.consumer).thread
        return [
            _progress(partition, thread.fetched(TP(self.events_topic, number)))
            for number, partition in sorted(self.owner.partitions.items())
        ]

    def fail(self, exc: BaseException) -> None:
        """End the process: what is in flight is not known to be durable."""
        self._fail(exc)

    def taken_over(self, partitions: list[int]) -> None:
        """Say that the worker is ready."""
        self.room()
        self._on_ready(partitions)

    def recovering(self, left: dict[int, tuple[int, int]]) -> None:
        """Say how far a recovery is."""
        self._on_recovery(left)

    async def crash(self, reason: BaseException) -> None:
        """Faust's way to end: ours is at once, as nothing after it may commit."""
        if not self.should_stop:
            self.fail(reason)
        await super().crash(reason)

    def _crash(self, reason: BaseException) -> None:
        """End the process when a service of Faust crashes; Faust only marks all services as crashed."""
        ending = self.should_stop
        super()._crash(reason)
        if not ending:
            self.fail(end_of("a service of Faust", reason))

    def _new_web(self) -> AgentWeb:
        return self._web

    def _new_transport(self) -> Any:  # noqa: ANN401 - Faust's type has no subclasses of ours
        return Transport(self.conf.broker_consumer, self)


def build_app(
    settings: WorkerSettings,
    *,
    identity: Identity,
    changelog_id: str,
    fail: Callable[[BaseException], None],
    on_ready: Callable[[list[int]], None],
    on_recovery: Callable[[dict[int, tuple[int, int]]], None],
) -> WorkerApp:
    """The application of a worker, on an event loop that runs.

    ``identity`` is that of the events topic as it was found, ``changelog_id`` the changelog's topic id.
    ``fail`` ends the process; it does not return.
    """
    topics = Topics.of(settings.app)
    app = WorkerApp(
        worker_group(settings.app),
        **faust_settings(settings, partitions=identity.partitions),
        TableManager=TableManager,
        PartitionAssignor=PartitionAssignor,
        Router=Router,
    )
    connection = settings.connection()
    make = PartitionFactory(
        settings=settings,
        connection=connection,
        appender=KafkaAppender(connection=connection, app=settings.app),
        owners=KafkaOwnersTopic(
            connection,
            settings.app,
            topic_id=identity.owners,
            others={topics.events: identity.topic, topics.changelog: changelog_id},
        ),
        fencing=KafkaFencing(connection, settings.app),
        reads=SharedReads(connection, settings.app),
        identity=identity,
        changelog_id=changelog_id,
        fail=fail,
        on_room=app.room,
        answered_at=app.answered_at,
    )
    app.attach(
        make=make,
        answers=connection.answers,
        rebalance_timeout_s=settings.rebalance_timeout_s,
        identity=identity,
        events_topic=topics.events,
        lost=settings.lost,
        fail=fail,
        on_ready=on_ready,
        on_recovery=on_recovery,
    )
    # With acks, Faust notes the offset of each batch until a commit of its own, which never comes: 1 MiB a
    # minute at 180 batches a second.
    events = BatchTopic(app, topics=[topics.events], partitions=identity.partitions, acks=False)
    app.tables.add(
        SessionTable(app, name=TABLE, key_type=bytes, value_type=bytes, partitions=identity.partitions)
    )
    _fold(app, events, fail)
    return app


def _fold(app: WorkerApp, events: BatchTopic, fail: Callable[[BaseException], None]) -> None:
    """Fold the batches of ``events`` in an agent of ``app``."""

    async def fold(batches: StreamT[PartitionBatch]) -> None:
        async for batch in batches:
            try:
                batch.fold()
            except Exception as exc:  # noqa: BLE001 - Faust would go on with the next batch
                fail(exc)
        if not app.should_stop:
            fail(end_of("fold", None))

    # As `app.agent` does, which also marks `fold` for a search for agents in modules: that takes 35 ms.
    agent = faust.Agent(fold, name="fold", app=app, channel=events, on_error=app._on_agent_error)  # noqa: SLF001 - Faust has no public way to it
    app.agents[agent.name] = agent
    app.topics.beacon.add(agent)
