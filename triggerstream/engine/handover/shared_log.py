"""Hands the commands of a shared log over to the executor, and tracks the progress of each partition."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from triggerstream.core.commands import Decision
from triggerstream.core.errors import DecodeError, DispatchError, LogError
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.handover.destinations import RefusedDestination
from triggerstream.engine.handover.pacing import Pacing, PendingDecision
from triggerstream.engine.histogram import Durations
from triggerstream.engine.ports import Clock, Dispatcher
from triggerstream.wire import commands
from triggerstream.wire.records import Record

TAKEN = 1_000
"""The most commands that are taken from the log and not committed as done. A crash repeats at most these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverProgress:
    """Progress of a partition: all below ``position`` is done, and all below ``upto`` except ``open``.

    ``begun``: an operator had the hand-over begin at this offset, so it is not known which commands below it
    were handed over; 0: it began at the first command.
    """

    position: int
    upto: int
    open: tuple[int, ...] = ()
    begun: int = 0


class PartitionProgress:
    """Progress of one partition. ``next`` is the next offset to take.

    ``resumed``: the progress that was committed last. Commands that it includes are not repeated.
    """

    def __init__(self, partition: int, offset: int, resumed: HandOverProgress | None = None) -> None:
        self.partition = partition
        self.next = offset
        self.committed = offset
        self.left = False
        """True once another process may have the partition: what is not started is not started any more."""
        self._open: dict[int, None] = {}
        self._uncommitted: deque[int] = deque()
        self._changed = False
        self.begun = 0 if resumed is None else resumed.begun
        self._known_upto = 0 if resumed is None else resumed.upto
        self._known_open = frozenset(() if resumed is None else resumed.open)

    @property
    def position(self) -> int:
        """Every command below this offset is handed over, or is a dead letter."""
        return next(iter(self._open), self.next)

    @property
    def idle(self) -> bool:
        """True if all taken commands are done."""
        return not self._open

    @property
    def uncommitted(self) -> int:
        """The number of taken commands that are not committed as done. A crash repeats them."""
        return len(self._uncommitted)

    @property
    def changed(self) -> bool:
        """True if anything was done since :meth:`reached` was last called."""
        return self._changed

    @property
    def resuming(self) -> bool:
        """True if commands that an earlier owner has done are still ahead."""
        return self.next < self._known_upto

    def reached(self) -> HandOverProgress:
        """The progress now; commands above ``position`` that are done are part of it."""
        self._changed = False
        still = sorted(offset for offset in self._known_open if offset >= self.next)
        return HandOverProgress(
            position=self.position,
            upto=max(self.next, self._known_upto),
            open=(*sorted(self._open), *still),
            begun=self.begun,
        )

    def commit(self, reached: HandOverProgress) -> None:
        """Note that ``reached`` is committed."""
        self.committed = reached.position
        while self._uncommitted and self._uncommitted[0] < reached.position:
            self._uncommitted.popleft()
        if reached.upto > reached.position:
            open_ = frozenset(reached.open)
            self._uncommitted = deque(
                offset for offset in self._uncommitted if offset >= reached.upto or offset in open_
            )

    def take(self, offset: int) -> None:
        """Count a record as taken."""
        self._open[offset] = None
        self._uncommitted.append(offset)
        self.next = offset + 1

    def skip_known(self, offset: int) -> bool:
        """Skip a record that an earlier owner has done; False: it must be taken."""
        if offset >= self._known_upto or offset in self._known_open:
            return False
        self.next = offset + 1
        self._changed = True
        return True

    def done(self, offset: int) -> None:
        """Count a record as done: handed over, or made a dead letter."""
        self._open.pop(offset, None)
        self._changed = True

    def passed(self, offset: int) -> None:
        """Note that the log has no further command below ``offset``, if all taken commands are done."""
        if self.idle:
            self.next = max(self.next, offset)


@dataclass(slots=True, eq=False, kw_only=True)
class _TakenCommand(PendingDecision):
    progress: PartitionProgress
    record: Record

    @property
    def dropped(self) -> bool:
        return self.progress.left

    @property
    def fields(self) -> Mapping[str, object]:
        return {"partition": self.progress.partition, "offset": self.record.offset}


RefusalRecorder = Callable[[Record, Decision | None, str], Awaitable[None]]
"""Records durably that a record is never handed over, with the reason; LogError: not known to be durable."""


class PartitionHandOver:
    """Hands over commands of several partitions, in the order in which they were taken.

    :class:`triggerstream.engine.handover.pacing.Pacing` decides how many at once. If the log does not accept
    a refusal, it is repeated, like a hand-over that the executor does not confirm.
    """

    def __init__(self, *, dispatcher: Dispatcher, clock: Clock, refuse: RefusalRecorder) -> None:
        self._refuse = refuse
        self._number = 0
        self._pacing: Pacing[_TakenCommand] = Pacing(
            dispatcher=dispatcher,
            clock=clock,
            confirmed=self._confirmed,
            refuse=self._give_up,
            ended=self._ended,
            retried=(DispatchError, LogError),
        )
        self.moved = asyncio.Event()
        """Set when the position of a partition may have moved."""
        self.handed_over = 0
        self.refused = 0
        self.took = Durations()

    @property
    def waiting(self) -> int:
        """The number of commands that were taken and are not confirmed."""
        return self._pacing.waiting

    @property
    def holds(self) -> bool:
        """True if commands wait for a refused destination while later ones are handed over."""
        return bool(self._pacing.destinations)

    def refused_destinations(self) -> tuple[RefusedDestination, ...]:
        """Destinations that the executor's broker refuses, those with the most waiting commands first."""
        return self._pacing.destinations.report()

    @property
    def away(self) -> bool:
        """True if the last hand-over failed and is being repeated."""
        return self._pacing.away

    def take(self, progress: PartitionProgress, record: Record) -> None:
        """Take the next record of a partition."""
        progress.take(record.offset)
        self._number += 1
        decision, reason = None, ""
        try:
            decision = commands.decode(record.value or b"")
        except DecodeError as exc:
            reason = f"no command: {exc}"
        self._pacing.add(
            _TakenCommand(
                number=self._number, progress=progress, record=record, decision=decision, reason=reason
            )
        )
        self._pacing.wake()

    def leave(self, partitions: Collection[PartitionProgress]) -> None:
        """Start no more commands of ``partitions``. Those in progress still count once they are confirmed."""
        for progress in partitions:
            progress.left = True
        self._pacing.forget_dropped()

    async def settled(self, partitions: Collection[PartitionProgress], *, within_s: float) -> None:
        """Return once no command of ``partitions`` is in progress, or after ``within_s``."""
        tasks = [
            taken.task for taken in self._pacing.in_flight() if taken.task and taken.progress in partitions
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    async def run(self) -> None:
        """Hand over until cancelled.

        Raises:
            Exception: an error after which it is not safe to try again. The process must end.
        """
        await self._pacing.run()

    def _confirmed(self, _taken: _TakenCommand, took_s: float) -> None:
        self.handed_over += 1
        self.took.note(took_s)
        failpoint("bridge.published")

    async def _give_up(self, taken: _TakenCommand, reason: str) -> None:
        await self._refuse(taken.record, taken.decision, reason)
        self.refused += 1

    def _ended(self, taken: _TakenCommand, done: bool) -> None:  # noqa: FBT001 - a callback
        if done:
            taken.progress.done(taken.record.offset)
        self.moved.set()
