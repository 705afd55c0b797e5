"""Takes partitions over after a rebalance, in a separate task.

Never in Faust's callbacks: the group's heartbeat rests until those return, and a recovery may outlast the
session. Takes the place of Faust's recovery, which reads before anyone is fenced, and ends by the last offset
that it has seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol, cast

from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP
from mode import Service
from mode.utils.locks import Event

from triggerstream.adapters.faust.consumer_thread import run_to_stop
from triggerstream.adapters.faust.transport import Consumer
from triggerstream.engine.partitioned.ownership import Owner

logger = logging.getLogger(__name__)

_REPORT_S = 1.0


class RecoveryHost(Protocol):
    """The part of the application that the recovery needs."""

    owner: Owner
    events_topic: str
    partitions: int

    def fail(self, exc: BaseException) -> None:
        """End the process."""

    def taken_over(self, partitions: list[int]) -> None:
        """Say that the worker is ready."""

    def recovering(self, left: dict[int, tuple[int, int]]) -> None:
        """Say how far a recovery is: (positions left, positions in all) of each partition."""


class TakeOver(Service):
    """Opens what is assigned, then has it fetched."""

    def __init__(self, app: Any, tables: Any, **extra: Any) -> None:  # noqa: ANN401 - Faust's signature
        self.app = app
        self.tables = tables
        self.completed = Event()
        self._assigned = asyncio.Event()
        self._round = 0
        """Grows with each revocation and each assignment: what began in an earlier one is given up."""
        self._opening: asyncio.Task[dict[int, int]] | None = None
        self._generation = -1
        """The group's generation at the last assignment."""
        self._completed = -1
        """The round whose take-over is complete."""
        self.joined = False
        """True after the first assignment, even an empty one."""
        self.took_s = 0.0
        """Duration of the last complete take-over."""
        super().__init__(**extra)

    @property
    def _host(self) -> RecoveryHost:
        return cast("RecoveryHost", self.app)

    def on_partitions_revoked(self, revoked: set[TP]) -> None:  # noqa: ARG002 - Faust's signature
        """Give up a take-over in progress, and close its store and ledger before partitions are returned.

        No take-over begins before the next assignment: it would open stores that are being closed, for an
        assignment that is over.
        """
        self._round += 1
        self._assigned.clear()
        if self._opening is not None:
            self._opening.cancel()

    async def on_rebalance(
        self,
        assigned: set[TP],  # noqa: ARG002 - Faust's signature
        revoked: set[TP],  # noqa: ARG002 - Faust's signature
        newly_assigned: set[TP],  # noqa: ARG002 - Faust's signature
        generation_id: int = 0,
    ) -> None:
        """Note that there is something to take over."""
        self._round += 1
        self._generation = generation_id
        self.joined = True
        self._assigned.set()

    @property
    def complete(self) -> bool:
        """True if all assigned partitions are taken over."""
        return self._completed == self._round

    async def settled(self) -> None:
        """Return once no opening is in progress."""
        if self._opening is not None:
            await asyncio.wait([self._opening])

    @Service.task
    async def _run(self) -> None:
        await run_to_stop(self, self._host.fail, "take-overs", self._run_all())

    async def _run_all(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self._assigned):  # type: ignore[arg-type] # an asyncio.Event will do
                break
            if self._assigned.is_set():  # a revocation may have cleared it meanwhile
                self._assigned.clear()
                await self._take_over(self._round)

    async def _take_over(self, round_: int) -> None:
        host = self._host
        begun = time.monotonic()
        consumer = cast("Consumer", self.app.consumer)
        # A group leader of an older release may assign added partitions, which the app does not own.
        numbers = sorted(
            tp.partition
            for tp in consumer.assignment()
            if tp.topic == host.events_topic and tp.partition < host.partitions
        )
        self._opening = asyncio.create_task(
            host.owner.open(
                numbers,
                generation=self._generation,
                confirm_membership=consumer.thread.confirm_membership,
            )
        )
        try:
            while not (await asyncio.wait([self._opening], timeout=_REPORT_S))[0]:
                host.recovering(
                    {
                        number: (partition.recovery.left, partition.recovery.total)
                        for number, partition in host.owner.partitions.items()
                    }
                )
            if self._opening.cancelled() or self._outdated(round_):
                return
            offsets = self._opening.result()
        finally:
            self._opening = None
        places = {TP(host.events_topic, number): offset for number, offset in offsets.items()}
        if places:
            try:
                consumer.epoch += 1
                await consumer.thread.start_fetching(places, epoch=consumer.epoch)
            except Exception:
                if self._outdated(round_):
                    return
                raise
        await self._resume(consumer, set(places), round_)
        if not self._outdated(round_):
            self._completed, self.took_s = round_, time.monotonic() - begun
            host.taken_over(numbers)

    def _outdated(self, round_: int) -> bool:
        return self._round != round_ or self.should_stop

    async def _resume(self, consumer: Consumer, places: set[TP], round_: int) -> None:
        """Announce the end of the recovery and resume the consumer, as Faust does after its own recovery."""
        await self.app.on_rebalance_complete.send()
        if self._outdated(round_):
            return
        consumer.resume_partitions(places)
        self.completed.set()
        self.app.flow_control.resume()
        consumer.resume_flow()
        await self.app._fetcher.maybe_start()  # noqa: SLF001 - as Faust's own recovery
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        self.app.on_rebalance_end()
        for table in self.tables.values():
            await table.on_recovery_completed(places, set())


class TableManager(FaustTableManager):
    """Faust's table manager with :class:`TakeOver` as its recovery."""

    _take_over: TakeOver | None = None

    @property
    def recovery(self) -> Any:  # noqa: ANN401 - not Faust's class, on purpose
        """The service that takes partitions over."""
        if self._take_over is None:
            self._take_over = TakeOver(self.app, self, beacon=self.beacon, loop=self.loop)
            self._recovery = cast("Any", self._take_over)
        return self._take_over

    async def on_start(self) -> None:
        """Start the recovery, without the second that Faust sleeps first."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
