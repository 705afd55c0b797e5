"""Faust's transport with an intake in batches: a partition's whole fetch goes to the agent as one message.

Only Faust's work per message is replaced: fetching, acknowledging, committing. The group, the consumer's
thread, channels and streams remain those of Faust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from faust.topics import Topic
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, EventT, Message
from mode import Service, ServiceT

from triggerstream.adapters.faust.consumer_thread import (
    ConsumerHost,
    ConsumerThread,
    RebalanceListener,
    run_to_stop,
)
from triggerstream.adapters.kafka.fetches import Unreadable, UnreadableError
from triggerstream.core import advice
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.wire.records import Record

_POLL_S = 1.0
_CROWDED_POLL_S = 0.02
"""Interval of the checks for room while a partition is not fetched because it has none."""


@dataclass(slots=True)
class PartitionBatch:
    """A fetch of one partition: its records, its begin and end position, and the owner at that time.

    ``lost``: why the span from offset ``lost_at`` on cannot be read; the fetch then has no records.
    """

    owner: Partition
    records: Sequence[Record]
    span: tuple[int, int]
    lost: str | None = None
    lost_at: int = -1

    def fold(self) -> None:
        """Have the owner fold it."""
        if self.lost is None:
            self.owner.fold(self.records, span=self.span)
        else:
            self.owner.pass_over(self.span, first=self.lost_at, reason=self.lost)


class BatchTopic(Topic):
    """A topic whose messages are batches: there is nothing to decode."""

    def _compile_decode(self) -> None:
        """Keep ``decode`` as defined below."""

    async def decode(self, message: Message, *, propagate: bool = False) -> EventT[Any]:  # noqa: ARG002 - Faust's
        """Wrap ``message`` in an event without decoding it."""
        return self._create_event(message.key, message.value, message.headers, message=message)


class Consumer(driver.Consumer):
    """Hands over batches; acknowledges and commits nothing: offsets belong to the checkpoint."""

    RebalanceListener: ClassVar[type[driver.ConsumerRebalanceListener]] = RebalanceListener
    _thread: ConsumerThread
    epoch = 0
    """The take-over whose records are folded; set before its seek."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _host(self) -> ConsumerHost:
        return cast("ConsumerHost", self.app)

    @property
    def thread(self) -> ConsumerThread:
        """The thread that owns aiokafka's consumer."""
        return self._thread

    def ack(self, message: Message) -> bool:
        """Note that a stream is done with ``message``."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ANN401, ARG002, FBT001, FBT002 - Faust's signature
        """Commit nothing."""
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust looks here for streams that do not commit; none does."""

    async def wait_empty(self) -> None:
        """Faust waits here, before it gives partitions back, for messages; we finish checkpoints."""
        await self._host.close_partitions()

    async def perform_seek(self) -> None:
        """Faust seeks to the group's offsets here; a take-over seeks to those of checkpoints."""

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # Faust's own events are asyncio's
                continue
            await self._hand_over()

    async def _hand_over(self) -> None:
        owner = self._host.owner
        owned = list(owner.partitions.values())
        free = {self._place(partition.number): partition for partition in owned if partition.has_room()}
        if not free:
            await self._host.wait_for_room(_POLL_S)
            return
        timeout_s = _POLL_S if len(free) == len(owned) else _CROWDED_POLL_S
        fetched = await self._thread.fetch(set(free), timeout_s=timeout_s)
        if fetched.epoch != self.epoch:
            return  # it is before the seek of the take-over that is due, and will be fetched again
        for place, found in fetched.records.items():
            partition = owner.get(place.partition)
            if partition is None:
                continue  # given back meanwhile: its next owner fetches it again
            partition.take(len(found))
            batch = PartitionBatch(partition, found, fetched.spans[place])
            await self.callback(self._message(self._place(place.partition), batch, found[-1].offset))
        for broken in fetched.unreadable:
            if (partition := owner.get(broken.partition)) is not None:
                await self._pass_over(partition, broken)

    async def _pass_over(self, partition: Partition, broken: Unreadable) -> None:
        """Go on after a batch that an operator has given up; where none has, end the process."""
        lost = next(
            (
                one
                for one in self._host.lost
                if one.partition == broken.partition and one.first <= broken.offset <= one.last
            ),
            None,
        )
        if lost is None:
            self._host.fail(UnreadableError(broken, repair=advice.skip_lost_events(broken.lost)))
            return
        place, after = self._place(partition.number), lost.last + 1
        handed = await self._thread.pass_over(place, (broken.offset, after), epoch=self.epoch)
        if handed is None:
            return  # it changes hands
        partition.take()
        reason = f"given up with --skip: {broken.reason}"
        batch = PartitionBatch(partition, (), (handed, after), lost=reason, lost_at=broken.offset)
        await self.callback(self._message(place, batch, lost.last))

    def _place(self, partition: int) -> TP:
        return TP(self._host.events_topic, partition)

    def _message(self, place: TP, batch: PartitionBatch, offset: int) -> ConsumerMessage:
        return ConsumerMessage(
            place.topic,
            place.partition,
            offset,
            0.0,
            0,
            None,
            None,
            cast("Any", batch),  # our topic passes it through
            None,
            tp=place,
            generation_id=self.app.consumer_generation_id,
        )


class Fetcher(FaustFetcher):
    """Runs the intake; if it ends before the worker, the process ends.

    Faust's own service leaves an idle worker, and ends the process when it is cancelled during a rebalance.
    """

    @Service.task
    async def _fetcher(self) -> None:
        intake = cast("Consumer", self.app.consumer)._drain_messages(self)  # noqa: SLF001 - Faust's own service uses it too
        try:
            await run_to_stop(self, cast("ConsumerHost", self.app).fail, "intake", intake)
        finally:
            self.set_shutdown()


class Transport(driver.Transport):
    """Faust's aiokafka transport with the classes above."""

    Consumer: ClassVar[type[driver.Consumer]] = Consumer
    Fetcher: ClassVar[type[FaustFetcher]] = Fetcher
