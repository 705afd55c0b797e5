"""One owned partition of a shared log: what the Kafka engine does, without Kafka.

A :class:`Partition` folds batches in the order of the log and makes them durable through its ports. Its
phases are opening → ready → closing → closed, never backwards: a process that gets a partition again creates
a new object. :mod:`triggerstream.engine.partitioned.takeover` describes the take-over.

A transaction takes the waiting batches, up to a bound in bytes. Its steps, in this order:

1. records that belong to other partitions are appended there; after a crash they are appended again, and the
   second copies have no effect because they have the same origin
2. ``Ledger.commit``: commands, states, dead letters and the mark, all or nothing
3. the store is written; after a crash before this, the next owner restores the store from the changelog
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from triggerstream.core import advice, tasks
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.tasks import Rules
from triggerstream.engine.background import Background
from triggerstream.engine.broker_wait import BrokerWait
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Stored
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.histogram import Durations
from triggerstream.engine.migration import Pace, overdue_before
from triggerstream.engine.partitioned.ports import Appender, Commit, Ledger, StateStore
from triggerstream.engine.partitioned.takeover import Recovery, take_over
from triggerstream.engine.partitioned.versions import (
    StoredHistory,
    configuration_reader,
    history_entries,
    stored_history,
)
from triggerstream.engine.ports import Clock
from triggerstream.engine.processor import PART_BYTES, Processor
from triggerstream.engine.scan import Scan, has_met
from triggerstream.engine.timers.service import TimerService
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    CheckpointMark,
    Identity,
    encode_checkpoint,
    in_force,
)
from triggerstream.wire.records import NewRecord, Record

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

IN_FLIGHT = 2
"""Batches of a partition between intake and durable: one is folded while the other is committed."""
TRANSACTIONS = 8
"""Concurrent transactions of a process. Batches that a partition folds meanwhile go into its next transaction
(group commit), so more transactions only make each one slower: of 96 on a busy machine, some took 10 s."""
TRANSACTION_BYTES = 2 * PART_BYTES
"""Checkpoints go together into one transaction up to this."""
_SCAN_PAGE = 500
_LEAST_PAGE = 16
"""Sessions evaluated in a row: some 10 ms, during which the event loop is blocked."""


class PartitionPhase(Enum):
    """The phase of a partition object, from its take-over to its end."""

    OPENING = "opening"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(slots=True)
class Counters:
    """Counters of a partition since it was taken over."""

    events: int = 0
    decided: int = 0
    dead_letters: int = 0
    left_out: int = 0
    """Dead letters that are triggers which a bound left out."""
    prevented: int = 0
    """Instances and seeds that bounds prevented."""
    rehomed: int = 0
    checkpoints: int = 0
    took: Durations = field(default_factory=Durations)
    """The checkpoints, from the batches that wait to their states being stored."""
    batches: int = 0
    timers: int = 0
    touches: int = 0


@dataclass(slots=True)
class _Taken:
    """The rest of a batch, not folded yet; with ``lost``, the dead letter of a range before ``end``."""

    records: Sequence[Record]
    lost: DeadLetter | None = None
    end: int = 0


@dataclass(slots=True)
class _Folded:
    """A batch, or a part of one, that is folded and not durable yet, and the rules after it.

    ``ends``: no part of its batch follows.
    """

    checkpoint: Checkpoint
    rules: Rules
    ends: bool


@dataclass(slots=True)
class _Pass:
    """Progress of a pass that touches sessions: the last key, and the offset after the last touch."""

    after: bytes = b"\x01"
    touched: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Limits and intervals of a partition.

    ``silence_s``: the process ends if no broker has answered a checkpoint, fence or append for this time.
    ``longest_s``: it also ends if one of them takes longer than this although brokers answer. No transaction
    lives half as long. ``group_offset_every_s``: how often the group offset is committed for lag monitors. A
    commit with every checkpoint would take most of its time. ``keep_alive_s``: the longest time without a
    commit, because brokers forget a transactional id after 7 days without one
    (``transactional.id.expiration.ms``). ``prune_s``: how often to look for configurations that no session
    needs any more.
    """

    silence_s: float = 10.0
    longest_s: float = 120.0
    group_offset_every_s: float = 1.0
    keep_alive_s: float = 86_400.0
    prune_s: float = 600.0


@dataclass(slots=True, eq=False)
class Partition:
    """One owned partition. ``fail`` is called with an error that must end the process.

    Not thread-safe: all calls come from one event loop. ``fold`` does not await, so no other task sees a
    half-folded batch.
    """

    processor: Processor
    ledger: Ledger
    open_store: Callable[[], StateStore]
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
    """Semaphore held while a transaction is open; shared by all partitions of a process."""
    timing: Timing = field(default_factory=Timing)
    address: str = advice.ANY_APP
    """The address of the app for ``--at``."""
    phase: PartitionPhase = PartitionPhase.OPENING
    recovery: Recovery = field(default_factory=Recovery)
    counters: Counters = field(default_factory=Counters)
    rules: Rules = field(init=False)
    next: int = 0
    """The next offset to fold."""
    durable: int = 0
    """The next offset after what is durable."""
    begun: int = 0
    """The offset at which folding began after the take-over."""
    _group_offset: int = 0
    """The group offset committed last; see ``durable``."""
    _group_offset_due: float = 0.0
    """When to commit a new group offset, by the loop's clock."""
    _keep_alive_due: float = 0.0
    """When to commit the group offset even if it is unchanged."""
    taken: int = 0
    """Batches between intake and durable."""
    _position: int = 0
    """The log's position after the last batch; beyond ``next`` where control records follow."""
    _store: StateStore | None = None
    _overlay: dict[bytes, bytes] = field(default_factory=dict)
    """States that are folded and not in the store yet."""
    _batches: deque[_Taken] = field(default_factory=deque)
    """Batches that are not folded yet, or not wholly, because what is folded has too many bytes."""
    _waiting: list[_Folded] = field(default_factory=list)
    _held: int = 0
    """The bytes of what is folded and not durable yet."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _timer_service: TimerService = field(init=False)
    _history: StoredHistory = field(default_factory=StoredHistory)
    """The durable history of configurations."""
    _scanned: int = -1
    _rebuilt: int = -1
    _pass: _Pass = field(default_factory=_Pass)
    _fold_version: int = 1
    _rescan: asyncio.Event = field(default_factory=asyncio.Event)
    _reached: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)
    _committer: asyncio.Task[None] | None = None
    _committing: Background = field(init=False)
    _background: Background = field(init=False)

    def __post_init__(self) -> None:
        self._timer_service = TimerService(clock=self.clock, append=self._ring)
        self._committing, self._background = Background(self.fail), Background(self.fail)

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.processor.partition

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"partition {self.number}"

    def has_room(self) -> bool:
        """True if another batch may be taken."""
        return self.phase is PartitionPhase.READY and self.taken < IN_FLIGHT

    def timers(self) -> int:
        """The number of sessions that wait for a timer."""
        return len(self._timer_service)

    def state(self, session: SessionId) -> bytes | None:
        """The durable state of a session, for queries; None if there is none.

        Raises:
            UsageError: the partition is not ready.
        """
        return self._readable().get(session.encode())

    def _readable(self) -> StateStore:
        if self.phase is not PartitionPhase.READY or self._store is None:
            raise UsageError(f"{self.place} is {self.phase.value}: ask again in a moment")
        return self._store

    def sessions(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        """The durable states of sessions whose id begins with ``prefix``, by id, beyond ``after``.

        Raises:
            UsageError: the partition is not ready.
        """
        store, begin = self._readable(), prefix.encode()
        found: list[tuple[bytes, bytes]] = []
        if (after is None or after < prefix) and begin:
            value = store.get(begin)
            found = [] if value is None else [(begin, value)]
        place = b"\x01" if after is None and not begin else max(begin, (after or "").encode())
        found += store.page(after=place, limit=limit - len(found))
        return [(SessionId(key.decode()), value) for key, value in found if key.startswith(begin)]

    # ---- taking over ----------------------------------------------------------------------------

    async def open(self) -> int:
        """Take the partition over. Returns the offset from which to fetch.

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
            transactions=self.transactions,
            bounded=self._bounded,
            configurations=self.processor.configurations,
        )
        self._store, mark = taken.store, taken.mark
        self.rules, self._history = taken.rules, taken.history
        self._scanned, self._rebuilt = mark.scanned, mark.rebuilt
        self._fold_version = min(mark.fold, tasks.FOLD_VERSION)
        self.next = self.durable = self.begun = self._position = mark.offset
        self._keep_alive_due = asyncio.get_running_loop().time() + self.timing.keep_alive_s
        self.phase = PartitionPhase.READY
        self._committer = self._committing.start(f"checkpoints of {self.place}", self._commit_all())
        self._background.start(f"timers of {self.place}", self._timer_service.run())
        self._background.start(f"scans of {self.place}", self._run_scans())
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

    # ---- folding --------------------------------------------------------------------------------

    def take(self) -> None:
        """Count a fetched batch. The caller then calls ``fold`` or ``drop`` for it."""
        self.taken += 1

    def drop(self) -> None:
        """Uncount a batch that will not be folded."""
        self._release(1)

    def fold(self, records: Sequence[Record], *, span: tuple[int, int] | None = None) -> None:
        """Fold a batch that was taken. It is not durable when this returns; see ``durable``.

        A batch with many decisions is folded in parts. Each part waits until the previous ones are durable.

        ``span``: the batch has all records of the log from its first to before its second position. If it
        does not follow the previous batch, a batch was lost, and the process ends.
        """
        if self.phase is not PartitionPhase.READY:
            self.drop()
            return
        if span is not None:
            begin, end = span
            if begin > self._position:
                self.fail(
                    LogError(f"{self.place}: what is in the log from {self._position} to {begin} was lost")
                )
                return
            self._position = end
        self._batches.append(_Taken(records))
        self._fold_on()

    def pass_over(self, span: tuple[int, int], *, first: int, reason: str) -> None:
        """Continue after ``span``, which was taken and cannot be read; ``reason`` says why it is skipped.

        The range from ``first`` on becomes one dead letter. Like a folded batch, it is not durable when this
        returns.
        """
        begin, end = span
        if self.phase is not PartitionPhase.READY or end <= self.next:
            self.drop()
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
        self._position = end
        self._batches.append(_Taken((), letter, end))
        self._fold_on()

    def _fold_on(self) -> None:
        """Fold taken batches as long as there is room for their decisions and changes."""
        batches = self._batches
        while batches and self._held < PART_BYTES:
            taken = batches[0]
            if taken.lost is not None:
                batches.popleft()
                if taken.end <= self.next:
                    self.drop()
                    continue
                self.next = taken.end
                lost = Checkpoint(partition=self.number, offset=taken.end, dead_letters=(taken.lost,))
                self._await_commit(_Folded(lost, self.rules, ends=True))
                continue
            records = taken.records
            if records[0].offset < self.next:
                records = [record for record in records if record.offset >= self.next]
                if not records:
                    batches.popleft()
                    self.drop()
                    continue
            try:
                checkpoint = self.processor.process(self.rules, records, self._load, most=PART_BYTES)
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
                self.rules = checkpoint.rules
                self._rescan.set()
            overlay = self._overlay
            for session, stored in checkpoint.states.items():
                overlay[session.encode()] = stored.state
            self._await_commit(_Folded(checkpoint, self.rules, ends=ends))

    def _await_commit(self, folded: _Folded) -> None:
        self._held += folded.checkpoint.size
        self._waiting.append(folded)
        self._wake.set()

    def _take_waiting(self) -> list[_Folded]:
        """The batches for the next transaction: the first waiting one, and more up to a bound in bytes."""
        waiting = self._waiting
        count = size = 0
        for item in waiting:
            size += item.checkpoint.size
            if count and size > TRANSACTION_BYTES:
                self._wake.set()
                break
            count += 1
        self._waiting = waiting[count:]
        return waiting[:count]

    def _load(self, session: SessionId) -> bytes | None:
        key = session.encode()
        value = self._overlay.get(key)
        return self._stored(key) if value is None else value

    def _stored(self, key: bytes) -> bytes | None:
        assert self._store is not None  # noqa: S101 - for the type checker: open() comes first
        return self._store.get(key)

    async def reached(self, offset: int) -> None:
        """Return once every record below ``offset`` is durable, or the partition is no longer ready."""
        if self.durable >= offset or self.phase is not PartitionPhase.READY:
            return
        reached = asyncio.get_running_loop().create_future()
        self._reached.append((offset, reached))
        await reached

    # ---- checkpoints ----------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        while self.phase is PartitionPhase.READY or self._waiting:
            await self._woken()
            async with self.transactions:
                self._wake.clear()
                folded = self._take_waiting()
                if folded:
                    await self._bounded(self._commit(folded))
                elif history := history_entries(self.rules, self._history):
                    await self._bounded(self._trim(self.rules, history))
                elif self._is_group_offset_due():
                    await self._bounded(self._commit_group_offset())
        if self._group_offset < self.durable:
            async with self.transactions:
                await self._bounded(self._commit_group_offset())

    async def _woken(self) -> None:
        """Wait for something to commit, or until the group offset is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(
                self._group_offset_due if self._group_offset < self.durable else self._keep_alive_due
            ):
                await self._wake.wait()

    def _is_group_offset_due(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now >= self._keep_alive_due or (
            self._group_offset < self.durable and now >= self._group_offset_due
        )

    async def _trim(self, rules: Rules, history: Mapping[bytes, bytes | None]) -> None:
        """Delete configurations from the changelog that ``rules`` no longer have, without an event."""
        marks = {CHECKPOINT_KEY: encode_checkpoint(self._mark(self.durable, rules)), **history}
        nothing = Commit(decided=(), states={}, dead_letters=(), marks=marks, offset=None)
        self._write({}, marks, await self.ledger.commit(nothing))
        self._shelve(rules)

    def _mark(self, offset: int, rules: Rules) -> CheckpointMark:
        return CheckpointMark(
            offset=offset,
            identity=self.identity,
            configuration=in_force(rules),
            scanned=self._scanned,
            rebuilt=self._rebuilt,
            fold=self._fold_version,
        )

    async def _commit_group_offset(self) -> None:
        nothing = Commit(decided=(), states={}, dead_letters=(), marks={}, offset=self.durable)
        await self.ledger.commit(nothing)
        self._note_group_offset(self.durable)

    def _note_group_offset(self, offset: int) -> None:
        now = asyncio.get_running_loop().time()
        self._group_offset = offset
        self._group_offset_due = now + self.timing.group_offset_every_s
        self._keep_alive_due = now + self.timing.keep_alive_s

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

    async def _commit(self, folded: Sequence[_Folded]) -> None:
        failpoint("checkpoint.begun")
        now = asyncio.get_running_loop().time
        begun = now()
        checkpoints = [item.checkpoint for item in folded]
        await self._rehome(checkpoints)
        failpoint("checkpoint.rehomed")
        states: dict[SessionId, Stored] = {}
        for checkpoint in checkpoints:
            states.update(checkpoint.states)
        rules = folded[-1].rules
        offset = checkpoints[-1].offset
        history = history_entries(rules, self._history)
        mark = self._mark(offset, rules)
        marks: dict[bytes, bytes | None] = {CHECKPOINT_KEY: encode_checkpoint(mark), **history}
        entries = {session.encode(): stored.state for session, stored in states.items()}
        with_group_offset = now() >= self._group_offset_due
        position = await self.ledger.commit(
            Commit(
                decided=[decided for checkpoint in checkpoints for decided in checkpoint.decided],
                states=entries,
                dead_letters=[letter for checkpoint in checkpoints for letter in checkpoint.dead_letters],
                marks=marks,
                offset=offset if with_group_offset else None,
            )
        )
        failpoint("checkpoint.committed")
        if with_group_offset:
            self._note_group_offset(offset)
        self._write(entries, marks, position)
        if history:
            self._shelve(rules)
        failpoint("checkpoint.stored")
        batches = sum(item.ends for item in folded)
        self._note(checkpoints, states, batches)
        self.counters.took.note(now() - begun)
        self.on_durable(states)
        self.durable = offset
        self._tell_reached()
        self._held -= sum(checkpoint.size for checkpoint in checkpoints)
        if self._batches:
            self._fold_on()
        self._release(batches)

    async def _rehome(self, checkpoints: Sequence[Checkpoint]) -> None:
        elsewhere: dict[int, list[NewRecord]] = {}
        for checkpoint in checkpoints:
            for record in checkpoint.rehomed:
                target = partition_of(record.key or b"", self.processor.partitions)
                elsewhere.setdefault(target, []).append(record)
        if elsewhere:
            await asyncio.gather(*(self.appender.append(p, records) for p, records in elsewhere.items()))

    def _shelve(self, durable: Rules) -> None:
        """Drop parsed past configurations whose text is in the store, from where they can be read again."""
        cache = self.processor.configurations
        self._history = stored_history(durable, self._stored, cache)
        self.rules = self.rules.shelve(
            lambda applied: configuration_reader(self._stored, cache, applied.hash),
            below=durable.current.offset + 1,
        )

    def _write(
        self, entries: Mapping[bytes, bytes], marks: Mapping[bytes, bytes | None], position: int
    ) -> None:
        assert self._store is not None  # noqa: S101 - for the type checker
        self._store.write({**entries, **marks}, position=position)
        overlay = self._overlay
        for key, value in entries.items():
            if overlay.get(key) is value:
                del overlay[key]

    def _note(
        self, checkpoints: Sequence[Checkpoint], states: Mapping[SessionId, Stored], batches: int
    ) -> None:
        self._timer_service.set((session, stored.due_us) for session, stored in states.items())
        counters = self.counters
        counters.checkpoints += 1
        counters.batches += batches
        for checkpoint in checkpoints:
            counters.events += checkpoint.events
            counters.decided += len(checkpoint.decided)
            counters.dead_letters += len(checkpoint.dead_letters)
            counters.left_out += checkpoint.left_out
            counters.prevented += checkpoint.prevented
            counters.rehomed += len(checkpoint.rehomed)

    def _tell_reached(self) -> None:
        still = []
        for offset, reached in self._reached:
            if offset > self.durable and self.phase is PartitionPhase.READY:
                still.append((offset, reached))
            elif not reached.done():
                reached.set_result(None)
        self._reached = still

    def _release(self, count: int) -> None:
        self.taken -= count
        self.on_room()

    async def _ring(self, timers: list[NewRecord]) -> None:
        after = await self._append(timers)
        self.counters.timers += len(timers)
        await self.reached(after)

    # ---- looking at all sessions ----------------------------------------------------------------

    async def _run_scans(self) -> None:
        """Scan after a take-over, after each configuration, and periodically while the history can shrink."""
        while True:
            self._rescan.clear()
            await self._scan()
            if await self._touch_stragglers():
                continue
            try:
                # Not asyncio.wait_for: it swallows a cancellation if the event is set at the same moment.
                async with asyncio.timeout(self.timing.prune_s):
                    await self._rescan.wait()
            except TimeoutError:
                if len(self.rules.history) == 1:
                    await self._rescan.wait()

    async def _scan(self) -> None:
        assert self._store is not None  # noqa: S101 - for the type checker
        rules = self.rules
        scan = Scan(rules, scanned=self._scanned, decoder=self.processor.decoder)
        # A session may have to meet the whole history before its timers' due times are known.
        limit = max(_SCAN_PAGE // len(rules.history), _LEAST_PAGE)
        # An entry that is only in the overlay may be written before the position that the scan has reached.
        for key, value in list(self._overlay.items()):
            scan.look(key, value)
        after = b"\x01"
        while page := self._store.page(after=after, limit=limit):
            for key, value in page:
                scan.look(key, self._overlay.get(key, value))
            after = page[-1][0]
            self._timer_service.set((one.session, one.due_us) for one in scan.take_found())
            if touches := scan.take_touches():
                await self._append(touches)
                self.counters.touches += len(touches)
            await asyncio.sleep(0)
            if self.rules.current.offset != rules.current.offset:
                return  # a configuration arrived: begin again
        self._scanned = rules.current.offset
        self.rules = self.rules.forget(scan.oldest)
        self._wake.set()

    async def _touch_stragglers(self) -> bool:
        """Touch the sessions that keep the history long; return whether to scan again for old versions."""
        assert self._store is not None  # noqa: S101 - for the type checker
        limit = overdue_before(self.rules)
        if limit is None:
            self._pass = _Pass()
            return False
        going = self._pass
        while page := self._store.page(after=going.after, limit=_SCAN_PAGE):
            behind = [
                key
                for key, value in page
                if not has_met(key, self._overlay.get(key, value), limit, decoder=self.processor.decoder)
            ]
            if behind:
                going.touched = await self.pace.touch(behind, self._append)
                self.counters.touches += len(behind)
            going.after = page[-1][0]
            await asyncio.sleep(0)
            if self._rescan.is_set():
                return True  # a new configuration: first the sessions in which it decides something
        self._pass = _Pass()
        await self.reached(going.touched)
        return going.touched > 0

    # ---- the end --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish waiting checkpoints, then close everything. If cancelled, this is not complete."""
        if self.phase in {PartitionPhase.CLOSING, PartitionPhase.CLOSED}:
            return
        self.phase = PartitionPhase.CLOSING
        self._batches.clear()  # the next owner folds them
        self._committing.end()
        await self._background.close()
        if self._committer is not None:
            self._wake.set()
            await asyncio.wait([self._committer])  # its error has already ended the process
        self._tell_reached()
        await self.ledger.close()
        if self._store is not None:
            self._store.close()
        self.phase = PartitionPhase.CLOSED
