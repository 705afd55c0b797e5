"""One owned partition of a shared log: what the Kafka engine does, without Kafka.

A :class:`Partition` folds batches in the order of the log and makes them durable through its ports. Its
phases are opening → ready → closing → closed, never backwards: a process that gets a partition again creates
a new object. :mod:`triggerstream.engine.partitioned.takeover` describes the take-over,
:mod:`triggerstream.engine.partitioned.writer` how checkpoints become durable. A transaction takes the
waiting batches, up to a bound in bytes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from triggerstream.core import advice, tasks
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.background import Background
from triggerstream.engine.broker_wait import BrokerWait
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter
from triggerstream.engine.counters import Counters
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.migration import Pace
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.configurations import PartitionConfigurations
from triggerstream.engine.partitioned.in_flight import BatchesInFlight, FoldedPart, TakenBatch
from triggerstream.engine.partitioned.ports import Appender, Ledger, StateStore
from triggerstream.engine.partitioned.session_scans import SessionScans
from triggerstream.engine.partitioned.session_states import PartitionStates
from triggerstream.engine.partitioned.takeover import Recovery, TakenOver, take_over
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.partitioned.turns import TransactionTurns
from triggerstream.engine.partitioned.writer import CheckpointWriter
from triggerstream.engine.ports import Clock
from triggerstream.engine.processor import PART_BYTES, Processor, are_scattered
from triggerstream.engine.timers.service import TimerService
from triggerstream.wire.marks import CheckpointMark, Identity
from triggerstream.wire.records import NewRecord, Record

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

TRANSACTIONS = 8
"""Partitions of a process that end transactions of former owners at the same time."""


class PartitionPhase(Enum):
    """The phase of a partition object, from its take-over to its end."""

    OPENING = "opening"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


def _event_already_set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True, eq=False)
class Partition:
    """One owned partition. ``fail`` is called with an error that must end the process.

    Not thread-safe: all calls come from one event loop. ``fold`` does not await, so no other task sees a
    half-folded batch.
    """

    processor: Processor
    ledger: Ledger
    open_store: Callable[[], Awaitable[StateStore]]
    appender: Appender
    clock: Clock
    identity: Identity
    fail: Callable[[BaseException], None]
    on_room: Callable[[], None] = lambda: None
    on_durable: Callable[[Iterable[SessionId]], None] = lambda _sessions: None
    """Called with the sessions that a checkpoint has changed, once it is durable and stored."""
    answered_at: Callable[[], float] = lambda: -math.inf
    """Monotonic time of a broker's last answer to this process."""
    pace: Pace = field(default_factory=Pace)
    """Rate limit for touches of sessions that keep old configurations; shared by all partitions of a
    process."""
    transactions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRANSACTIONS))
    """Semaphore held while former owners' transactions are ended; shared by all partitions of a process."""
    turns: TransactionTurns = field(default_factory=TransactionTurns)
    """When transactions begin; shared by all partitions of a process."""
    all_taken_over: asyncio.Event = field(default_factory=_event_already_set)
    """Set once all of the assignment are taken over. Scans wait for it, as they would delay others."""
    timing: PartitionTiming = field(default_factory=PartitionTiming)
    address: str = advice.ANY_APP
    """The address of the app for ``--at``."""
    phase: PartitionPhase = PartitionPhase.OPENING
    recovery: Recovery = field(default_factory=Recovery)
    counters: Counters = field(default_factory=Counters)
    next: int = 0
    """The next offset to fold."""
    durable: int = 0
    """The next offset after what is durable."""
    begun: int = 0
    """The offset at which folding began after the take-over."""
    _position: int = 0
    """The log's position after the last batch; beyond ``next`` where control records follow."""
    _flight: BatchesInFlight = field(default_factory=BatchesInFlight)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _timer_service: TimerService = field(init=False)
    _states: PartitionStates = field(init=False)
    _configurations: PartitionConfigurations = field(init=False)
    _writer: CheckpointWriter = field(init=False)
    _scans: SessionScans = field(init=False)
    _reached: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)
    _committer: asyncio.Task[None] | None = None
    _left_open: bool = False
    """True if the next owner must end one of its transactions: its claim stays."""
    _committing: Background = field(init=False)
    _background: Background = field(init=False)

    def __post_init__(self) -> None:
        self._timer_service = TimerService(clock=self.clock, append=self._append_timers)
        self._committing, self._background = Background(self.fail), Background(self.fail)

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.processor.partition

    @property
    def rules(self) -> Rules:
        """The rules after the record folded last."""
        return self._configurations.rules

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"partition {self.number}"

    def has_room(self) -> bool:
        """True if another batch may be taken."""
        return self.phase is PartitionPhase.READY and self._flight.has_room()

    @property
    def taken(self) -> int:
        """Batches between intake and durable."""
        return self._flight.taken

    def timers(self) -> int:
        """The number of sessions that wait for a timer."""
        return len(self._timer_service)

    def state(self, session: SessionId) -> bytes | None:
        """The durable state of a session, for queries; None if there is none.

        Raises:
            UsageError: the partition is not ready.
        """
        return self.entry(session.encode())

    def entry(self, key: bytes) -> bytes | None:
        """The durable value of a key, for queries; None if there is none.

        Raises:
            UsageError: the partition is not ready.
        """
        return self._readable().stored(key)

    def _readable(self) -> PartitionStates:
        if self.phase is not PartitionPhase.READY:
            raise UsageError(f"{self.place} is {self.phase.value}: ask again in a moment")
        return self._states

    def sessions(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        """The durable states of sessions whose id begins with ``prefix``, by id, beyond ``after``.

        Raises:
            UsageError: the partition is not ready.
        """
        return self._readable().sessions(prefix=prefix, after=after, limit=limit)

    # ---- taking over ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Initialise the transactional id of its commits, before the claim that names it.

        Raises:
            LogError: the log failed.
        """
        failpoint("takeover.begun")
        async with self.transactions:
            await self._bounded(self.ledger.start(), "the start of a producer")

    async def open(self, former: Sequence[FormerOwner] = ()) -> int:
        """Take the partition over from its ``former`` owners, which are fenced, once it is claimed.

        Returns the offset from which to fetch.

        Raises:
            TakeOverError: it cannot be taken over before something is repaired.
            IdentityError: the log is not the one that the checkpoint belongs to.
            LogError: the log failed.
        """
        taken = await take_over(
            self.number,
            app=self.processor.app,
            identity=self.identity,
            ledger=self.ledger,
            open_store=self.open_store,
            recovery=self.recovery,
            address=self.address,
            former=former,
            transactions=self.transactions,
            bounded=self._bounded,
            configurations=self.processor.configurations,
        )
        mark = self._set_up(taken)
        self.next = self.durable = self.begun = self._position = mark.offset
        self.phase = PartitionPhase.READY
        self._committer = self._committing.start(f"checkpoints of {self.place}", self._commit_all())
        self._background.start(f"timers of {self.place}", self._timer_service.run())
        self._background.start(f"scans of {self.place}", self._scan())
        logger.info(
            "partition taken over",
            extra={
                "partition": self.number,
                "offset": mark.offset,
                "recovered": self.recovery.total,
            },
        )
        failpoint("takeover.ready")
        return mark.offset

    async def _scan(self) -> None:
        await self.all_taken_over.wait()
        await self._scans.run()

    def _set_up(self, taken: TakenOver) -> CheckpointMark:
        """Make the parts that need the result of the take-over; return the mark to continue with."""
        mark = replace(taken.mark, fold=min(taken.mark.fold, tasks.FOLD_VERSION))
        states = self._states = PartitionStates(taken.store)
        configurations = self._configurations = PartitionConfigurations(
            rules=taken.rules,
            history=taken.history,
            scanned=mark.scanned,
            cache=self.processor.configurations,
            stored=states.stored,
        )
        self._writer = CheckpointWriter(
            ledger=self.ledger,
            appender=self.appender,
            states=states,
            configurations=configurations,
            mark=mark,
            partitions=self.processor.partitions,
            timing=self.timing,
        )
        self._scans = SessionScans(
            configurations=configurations,
            states=states,
            decoder=self.processor.decoder,
            timers=self._timer_service,
            counters=self.counters,
            pace=self.pace,
            append=self._append,
            reached=self.reached,
            on_scanned=self._wake.set,
            prune_s=self.timing.prune_s,
        )
        return mark

    # ---- folding --------------------------------------------------------------------------------

    def take(self, events: int = 1) -> None:
        """Count a fetched batch of so many events.

        The caller then calls ``fold``, ``pass_over`` or ``drop`` for each, in the same order.
        """
        self._flight.take(events)

    def drop(self) -> None:
        """Remove a batch that will not be folded from the count."""
        self._flight.hand_over()
        self._release(1)

    def fold(self, records: Sequence[Record], *, span: tuple[int, int] | None = None) -> None:
        """Fold a batch that was taken. It is not durable when this returns; see ``durable``.

        A batch with many decisions is folded in parts. Each part waits until the previous ones are durable.

        ``span``: the batch has all records of the log from its first to before its second position. If it
        does not follow the previous batch, a batch was lost, and the process ends.
        """
        self._flight.hand_over()
        if self.phase is not PartitionPhase.READY:
            self._release(1)
            return
        if span is not None:
            begin, end = span
            if begin > self._position:
                self.fail(
                    LogError(f"{self.place}: what is in the log from {self._position} to {begin} was lost")
                )
                return
            self._position = max(self._position, end)
        self._flight.to_fold.append(TakenBatch(records, scattered=are_scattered(records)))
        self._fold_on()

    def pass_over(self, span: tuple[int, int], *, first: int, reason: str) -> None:
        """Continue after ``span``, which was taken and cannot be read; ``reason`` says why it is skipped.

        The range from ``first`` on becomes one dead letter. Like a folded batch, it is not durable when this
        returns.
        """
        self._flight.hand_over()
        begin, end = span
        if self.phase is not PartitionPhase.READY or end <= self.next:
            self._release(1)
            return
        if begin > self._position:
            self.fail(LogError(f"{self.place}: what is in the log from {self._position} to {begin} was lost"))
            return
        logger.warning(
            "range of the log skipped",
            extra={"partition": self.number, "offset": first, "last": end - 1, "error": reason},
        )
        lost = Record(
            partition=self.number, offset=first, arrival_us=self.clock.now_us(), key=None, value=None
        )
        letter = DeadLetter(record=lost, reason=f"lost: {reason}", last=end - 1)
        self._position = max(self._position, end)
        self._flight.to_fold.append(TakenBatch((), letter, end))
        self._fold_on()

    def _fold_on(self) -> None:
        """Fold taken batches as long as there is room for their decisions and changes."""
        flight, batches = self._flight, self._flight.to_fold
        while flight.may_fold():
            taken = batches[0]
            if taken.lost is not None:
                batches.popleft()
                if taken.end <= self.next:
                    self._release(1)
                    continue
                self.next = taken.end
                lost = Checkpoint(partition=self.number, offset=taken.end, dead_letters=(taken.lost,))
                self._await_commit(FoldedPart(lost, self.rules, ends=True))
                continue
            records = taken.records
            if records[0].offset < self.next:
                records = [record for record in records if record.offset >= self.next]
                if not records:
                    batches.popleft()
                    self._release(1)
                    continue
            try:
                checkpoint = self.processor.process(
                    self.rules, records, self._states.load, most=PART_BYTES, scattered=taken.scattered
                )
            except Exception as exc:  # noqa: BLE001 - whatever it is, nothing of it may be made durable
                batches.clear()
                self.fail(exc)
                return
            taken.records = records[checkpoint.records :]
            ends = not taken.records
            if ends:
                batches.popleft()
            self.next = checkpoint.offset
            if checkpoint.rules is not None:
                self._configurations.rules = checkpoint.rules
                self._scans.scan_again()
            self._states.add(checkpoint.states)
            self._await_commit(FoldedPart(checkpoint, self.rules, ends=ends))

    def _await_commit(self, part: FoldedPart) -> None:
        self._flight.add(part)
        self._wake.set()
        if self._flight.is_full():
            self.turns.hurry()
        else:
            self.turns.add()

    async def reached(self, offset: int) -> None:
        """Return once every record below ``offset`` is durable, or the partition is no longer ready."""
        if self.durable >= offset or self.phase is not PartitionPhase.READY:
            return
        reached = asyncio.get_running_loop().create_future()
        self._reached.append((offset, reached))
        await reached

    # ---- checkpoints ----------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        writer = self._writer
        while self.phase is PartitionPhase.READY or self._flight.waiting:
            await self._woken()
            async with self._turn():
                self._wake.clear()
                folded = self._flight.take_waiting()
                if self._flight.waiting:
                    self._wake.set()
                if folded:
                    await self._bounded(self._commit(folded))
                elif history := self._configurations.entries(self.rules):
                    await self._bounded(writer.trim(self.durable, self.rules, history))
                elif asyncio.get_running_loop().time() >= writer.group_offset_due(self.durable):
                    await self._bounded(writer.commit_group_offset(self.durable))
        if writer.group_offset_lags(self.durable):
            async with self._turn():
                await self._bounded(writer.commit_group_offset(self.durable))

    def _turn(self) -> AbstractAsyncContextManager[None]:
        """The partition's next turn, for which it waits no longer than it must."""
        return self.turns.turn(full=self._flight.is_full(), at_once=self.phase is not PartitionPhase.READY)

    async def _woken(self) -> None:
        """Wait for something to commit, or until the group offset is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._writer.group_offset_due(self.durable)):
                await self._wake.wait()

    async def _bounded(self, work: Coroutine[Any, Any, _T], what: str = "a checkpoint") -> _T:
        """The result of ``work``, which may take any time while brokers answer."""
        timing = self.timing
        limit = BrokerWait(
            answered_at=self.answered_at, silence_s=timing.silence_s, longest_s=timing.longest_s
        )
        return await limit.wait(work, place=self.place, what=what)

    async def _append(self, records: Sequence[NewRecord]) -> int:
        """Append ``records`` to the partition's own log; the offset after the last."""
        return await self._bounded(self.appender.append(self.number, records), "an append to the log")

    async def _commit(self, folded: Sequence[FoldedPart]) -> None:
        failpoint("checkpoint.begun")
        now = asyncio.get_running_loop().time
        begun = now()
        checkpoints = [item.checkpoint for item in folded]
        states = await self._writer.write(checkpoints, folded[-1].rules)
        batches = sum(item.ends for item in folded)
        self._timer_service.set((session, stored.due_us) for session, stored in states.items())
        self.counters.note(checkpoints, batches=batches)
        self.counters.took.note(now() - begun)
        self.on_durable(states)
        self.durable = checkpoints[-1].offset
        self._resolve_reached()
        self._flight.make_durable(folded)
        self._fold_on()
        self._release(batches)

    def _resolve_reached(self) -> None:
        still = []
        for offset, reached in self._reached:
            if offset > self.durable and self.phase is PartitionPhase.READY:
                still.append((offset, reached))
            elif not reached.done():
                reached.set_result(None)
        self._reached = still

    def _release(self, count: int) -> None:
        self._flight.taken -= count
        self.on_room()

    async def _append_timers(self, timers: list[NewRecord]) -> None:
        after = await self._append(timers)
        self.counters.timers += len(timers)
        await self.reached(after)

    # ---- the end --------------------------------------------------------------------------------

    @property
    def ended_in_order(self) -> bool:
        """True if it is closed, and each transaction that it began has ended: it is committed, or undone."""
        if self.phase is not PartitionPhase.CLOSED or self._flight.waiting or self._left_open:
            return False
        committer = self._committer
        return committer is None or (not committer.cancelled() and committer.exception() is None)

    async def close(self) -> None:
        """Finish waiting checkpoints, then close everything. If cancelled, this is not complete."""
        if self.phase in {PartitionPhase.CLOSING, PartitionPhase.CLOSED}:
            return
        self.phase = PartitionPhase.CLOSING
        self._flight.to_fold.clear()  # the next owner folds them
        self._committing.end()
        await self._background.close()
        if self._committer is not None:
            self._wake.set()
            self.turns.hurry(at_once=True)
            await asyncio.wait([self._committer])  # its error has already ended the process
        self._resolve_reached()
        try:
            await self.ledger.close()
        except LogError as exc:
            self._left_open = True
            logger.warning(
                "a transaction is left to the next owner",
                extra={"partition": self.number, "error": str(exc)},
            )
        if self._committer is not None:
            await self._states.close()
        self.phase = PartitionPhase.CLOSED
