"""The thread in which a worker's client of Kafka runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import OffsetResetStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import ServiceT

from triggerstream.adapters.faust.settings import FETCH_BYTES
from triggerstream.adapters.kafka.client_tasks import check_tasks
from triggerstream.adapters.kafka.connection import answered_at
from triggerstream.adapters.kafka.fetches import AS_RECORDS, Unreadable, unreadable, use_batch_reader
from triggerstream.adapters.kafka.group import member_id, watch_name
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.background import end_of
from triggerstream.engine.checkpoint import LostRange
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.wire.records import Record

_MEMBER_RETRY_S = 0.1
_FETCH_WAIT_MS = 250
"""Faust's own 1,500 delays what has to wait for the broker's answer, a rebalance among it."""


class ConsumerHost(Protocol):
    """The part of the application that the transport needs."""

    owner: Owner
    events_topic: str
    partitions: int
    lost: Sequence[LostRange]

    async def close_partitions(self) -> None:
        """Finish work in progress and close all partitions."""

    async def wait_for_room(self, timeout_s: float) -> None:
        """Return once a partition has room for a batch, or after ``timeout_s``."""

    def fail(self, exc: BaseException) -> None:
        """End the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The result of one fetch: after the seek of which take-over, from where to where in each partition."""

    epoch: int
    records: Mapping[Any, list[Record]]
    spans: Mapping[Any, tuple[int, int]]
    unreadable: Sequence[Unreadable] = field(default_factory=tuple)


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Pauses all assigned partitions before any record of them is fetched.

    The events topic is resumed after the take-over. The changelog is never resumed: the recovery reads it
    itself.
    """

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        assigned = list(assigned)
        self._thread._ensure_consumer().pause(*assigned)  # noqa: SLF001 - Faust has no public way to it
        await super().on_partitions_assigned(assigned)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns aiokafka's consumer."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:  # noqa: ANN401 - aiokafka is not typed
        use_batch_reader()
        consumer = super()._create_worker_consumer(transport)
        # Faust sets them by itself; aiokafka reads them when it starts.
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - nothing public
        consumer._fetch_max_bytes = FETCH_BYTES  # noqa: SLF001 - nothing public
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # noqa: SLF001 - nothing public
        consumer._value_deserializer = AS_RECORDS  # noqa: SLF001 - nothing public
        return consumer

    epoch = 0
    """Counts take-overs: what is fetched is of the take-over whose seek came before it."""

    _handed: dict[TopicPartition, int] | None = None
    """By partition, the position up to which records were handed over since the seek."""

    async def on_start(self) -> None:
        """Connect; afterwards, the process ends if a broker answers that another process has its name."""
        await super().on_start()
        consumer = self._ensure_consumer()
        host = cast("ConsumerHost", self.consumer.app)
        if consumer._group_instance_id is not None:  # noqa: SLF001 - nothing public
            watch_name(consumer, host.fail)

    async def on_thread_stop(self) -> None:
        """Stop in limited time; aiokafka's own stop may raise CancelledError here, or never return."""
        await super(driver.AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await stop(self._consumer)

    def member_id(self) -> str:
        """The member id that the group's coordinator gave to this consumer; empty if it has none."""
        return member_id(self._consumer)

    async def confirm_membership(self) -> None:
        """Return once the group's coordinator answers that this process is a member.

        A process that was paused may have lost its partitions without having heard of it.
        """
        while not await self.call_thread(self._is_member):  # noqa: ASYNC110 - a broker's answer
            await asyncio.sleep(_MEMBER_RETRY_S)

    async def _is_member(self) -> bool:
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001 - nothing public
        if not member_id(self._consumer):
            return False
        await coordinator.ensure_coordinator_known()
        answered: bool = await coordinator._do_heartbeat()  # noqa: SLF001 - nothing public
        return answered

    async def start_fetching(self, offsets: Mapping[TP, int], *, epoch: int) -> None:
        """Fetch from ``offsets`` on, of these partitions only; that is ``epoch``."""
        await self.call_thread(self._start_fetching, offsets, epoch)

    async def _start_fetching(self, offsets: Mapping[TP, int], epoch: int) -> None:
        consumer = self._ensure_consumer()
        # Each partition has its position now. If the log was deleted beyond it, aiokafka would silently
        # continue at the first record that is left.
        consumer._fetcher._default_reset_strategy = OffsetResetStrategy.NONE  # noqa: SLF001 - nothing public
        self.epoch = epoch
        self._handed = {TopicPartition(*place): offset for place, offset in offsets.items()}
        for place, offset in offsets.items():
            consumer.seek(TopicPartition(*place), offset)
        consumer.resume(*(TopicPartition(*place) for place in offsets))

    async def fetch(self, places: set[TP], *, timeout_s: float) -> Fetched:
        """Records of ``places``.

        A fetch that began before a rebalance may end after the next take-over's seek: its epoch tells.
        """
        fetched: Fetched = await self.call_thread(self._fetch, places, timeout_s)
        return fetched

    async def _fetch(self, places: set[TP], timeout_s: float) -> Fetched:
        consumer = self._ensure_consumer()
        limit = consumer._max_poll_records  # noqa: SLF001 - Faust's own service uses it too
        # Nothing else runs in this thread between what is read from the fetcher and the end of this method.
        found = await self._fetch_records(consumer, places, timeout=timeout_s, max_records=limit)
        handed = self._handed or {}
        spans = {}
        for place in found:
            end = consumer._subscription.subscription.assignment.state_value(place).position  # noqa: SLF001
            spans[place] = (handed.get(place, end), end)
            handed[place] = end
        broken = [batch for batch in unreadable(consumer, places) if batch.settled]
        return Fetched(epoch=self.epoch, records=found, spans=spans, unreadable=broken)

    async def pass_over(self, place: TP, lost: tuple[int, int], *, epoch: int) -> int | None:
        """Continue to fetch ``place`` after ``lost``, if it is at its begin and ``epoch`` is current.

        Returns the position up to which records were handed over, None where nothing was done. Between that
        position and the begin of ``lost`` there are only control records.

        Raises:
            UsageError: the range ends beyond the log.
        """
        handed: int | None = await self.call_thread(self._pass_over, TopicPartition(*place), lost, epoch)
        return handed

    async def _pass_over(self, place: TopicPartition, lost: tuple[int, int], epoch: int) -> int | None:
        consumer, (begin, after) = self._ensure_consumer(), lost
        at = self.fetched(TP(*place))
        if epoch != self.epoch or self._handed is None or at is None or at[0] != begin:
            return None
        end = consumer.highwater(place)
        if end is not None and after > end:
            raise UsageError(
                f"--skip {place.partition}:{begin}-{after - 1}: the log of partition {place.partition} ends "
                f"at offset {end - 1}: records that do not exist yet cannot be skipped"
            )
        consumer.seek(place, after)
        handed = self._handed.get(place, begin)
        self._handed[place] = after
        return handed

    def trouble(self) -> BaseException | None:
        """The error that prevents it from joining its group. aiokafka raises it only in a fetch."""
        coordinator = None if self._consumer is None else self._consumer._coordinator  # noqa: SLF001 - nothing public
        return getattr(coordinator, "_pending_exception", None)

    def check(self) -> None:
        """Raise if a background task or the thread of the consumer has ended: fetches would stop silently.

        Raises:
            LogError: one has ended.
        """
        if self._consumer is not None and not self.should_stop:
            check_tasks(self._consumer)
            if self._thread is not None and not self._thread.is_alive():
                raise LogError("the consumer's thread has ended")

    def answered_at(self) -> float:
        """Monotonic time of the last answer of a broker; minus infinity if none has answered."""
        if self._consumer is not None:
            self._answered_at = max(self._answered_at, answered_at(self._consumer))
        return self._answered_at

    _answered_at = -math.inf

    def fetched(self, place: TP) -> tuple[int, int, int] | None:
        """The position of the next fetch, and the last stable offset and high watermark as last seen.

        None where nothing was fetched yet.
        """
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001 - nothing public
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or place not in assignment.tps:
            return None
        state = assignment.state_value(place)
        if not state.has_valid_position or state.lso is None:
            return None
        return state.position, state.lso, max(state.lso, state.highwater or 0)


async def run_to_stop(
    service: ServiceT,
    fail: Callable[[BaseException], None],
    name: str,
    work: Coroutine[Any, Any, object],
) -> None:
    """Run ``work`` as the task ``name`` of ``service``; if it ends before the service, the process ends.

    Faust itself only marks services as crashed, and the worker then idles.
    """
    try:
        await work
    except asyncio.CancelledError:
        if not service.should_stop:
            fail(end_of(name, None, cancelled=True))
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is, the worker cannot work without this task
        fail(end_of(name, exc))
    else:
        if not service.should_stop:
            fail(end_of(name, None))
