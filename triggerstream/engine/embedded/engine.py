"""The engine in one process: a log, a store and a dispatcher, and three loops between them.

fold     reads records, folds them, makes the checkpoint durable, then wakes the other two
outbox   hands decisions over (:mod:`triggerstream.engine.handover.outbox`)
timers   appends timer events that are due (:mod:`triggerstream.engine.timers.service`)

A crash at any point leaves the last checkpoint. Later records are folded again with the same result, and rows
of the outbox are handed over again under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from triggerstream.core.errors import ClockError, UsageError
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.background import end_of
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.clock_step import CLOCK_PAUSE_S
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of, unload_past
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.counters import Counters
from triggerstream.engine.handover.outbox import Outbox
from triggerstream.engine.migration import TOUCHES, Pace, overdue_before
from triggerstream.engine.ports import Clock, Dispatcher, Log, Store
from triggerstream.engine.processor import PART_BYTES, Processor
from triggerstream.engine.rows import RescheduledRow
from triggerstream.engine.scan import SLICE_S, Scan
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.engine.timers.service import TimerService
from triggerstream.wire.records import NewRecord, Record

logger = logging.getLogger(__name__)

BATCH = 1_000
"""Records in a checkpoint, at most: some 30 ms in which the event loop serves nothing else."""
_SCAN_PAGE = 100
_FORGET_EVERY = 100
"""Checkpoints between two looks for configurations that no session needs any more."""


class EmbeddedEngine:
    """Folds the whole log of ``store``. ``run`` once; it closes the store and the dispatcher, not the log.

    ``on_checkpoint`` is called with each checkpoint once it is durable.
    """

    def __init__(
        self,
        *,
        app: AppId,
        log: Log,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
        pace: Pace | None = None,
        decoder: StateDecoder = SOMEWHERE,
        configurations: ConfigurationCache | None = None,
    ) -> None:
        self._processor = Processor(app=app, decoder=decoder, configurations=configurations)
        self._rules = Rules(app=app)
        self._log = log
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._on_checkpoint = on_checkpoint
        self._outbox = Outbox(store=store, dispatcher=dispatcher, clock=clock, last=0)
        self._timer_service = TimerService(clock=clock, append=self._append_timers)
        self._offset = 0
        self._scan: Scan | None = None
        self._scan_after: tuple[int, int] | None = None
        self._scanned = -1
        self._since_forget = 0
        self._pace = pace or Pace()
        self._configured = asyncio.Event()
        self._stopping = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._ready = asyncio.Event()
        self._ended = False
        self._applying = asyncio.Lock()
        self.counters = Counters()

    @property
    def rules(self) -> Rules:
        """The configurations as of the last checkpoint."""
        return self._rules

    @property
    def offset(self) -> int:
        """The next offset to read."""
        return self._offset

    @property
    def handed_over(self) -> int:
        """The number of decisions that the executor has confirmed since the start."""
        return self._outbox.handed_over

    async def lag(self) -> int:
        """The number of records that are not folded yet."""
        return await self._store.end() - self._offset

    async def run(self) -> None:
        """Run until ``stop``. An error of the store or the log ends the engine, and is raised here.

        On ``stop``, the current checkpoint is finished, and no further decision is handed over. Confirmations
        of the executor within 5 s are noted. Then the store and the dispatcher are closed.

        Raises:
            UsageError: the store cannot be opened; see ``Store.open``.
            LogError: the log or the store failed.
        """
        try:
            await self._resume()
            self._ready.set()
            await self._run_all(
                outbox=self._outbox.run(), timers=self._timer_service.run(), touches=self._touch_outdated()
            )
            if sent := self._outbox.take_sent():
                await self._store.sent(sent)
        finally:
            self._ended = True
            self._ready.set()
            for _, waiting in self._waiting:
                waiting.cancel()
            await self._dispatcher.close()
            await self._store.close()

    def stop(self) -> None:
        """Make ``run`` end in good order."""
        self._stopping = True
        self._store.wake()

    async def ready(self) -> None:
        """Return once ``run`` has opened the store and loaded its last checkpoint."""
        await self._ready.wait()
        self._check_runs()

    async def reached(self, offset: int) -> None:
        """Return once every record below ``offset`` is folded and the result is durable.

        Raises:
            UsageError: the engine has ended.
        """
        await self.ready()
        if self._offset >= offset:
            return
        reached = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, reached))
        await asyncio.wait([reached])
        if reached.cancelled():
            self._check_runs()

    async def apply(self, text: str, *, name: str = "tasks") -> bool:
        """Bring a tasks file into force; False if it is in force already. It is in force when this returns.

        Raises:
            ConfigError: the file has errors. Nothing has changed.
            UsageError: the engine ended, or another file took its place at the same time.
        """
        config = self._processor.configurations.read(text, name=name)
        async with self._applying:
            await self.ready()
            await self.reached(await self._store.end())
            current = self._rules.current
            record = configuration_record(config, replaces=current.config.hash or None, number=current.number)
            if record is None:
                return False
            await self._log.append([record])
            await self.reached(await self._store.end())
            if self._rules.current.config.hash != config.hash:
                raise UsageError(f"{name}: another configuration took its place at the same time")
            return True

    def _check_runs(self) -> None:
        if self._ended:
            raise UsageError("the engine has ended")

    async def _resume(self) -> None:
        resumed = await self._store.open()
        cache = self._processor.configurations
        self._rules = rules_of(self._processor.app, resumed.configurations, cache)
        self._configured.set()
        self._offset = resumed.offset
        self._scanned = resumed.scanned
        self._timer_service.set(resumed.due.items())
        self._outbox = Outbox(
            store=self._store, dispatcher=self._dispatcher, clock=self._clock, last=resumed.outbox
        )
        logger.info(
            "engine goes on",
            extra={"offset": self._offset, "timers": len(self._timer_service), "rows": resumed.outbox},
        )

    async def _run_all(self, **others: Coroutine[None, None, None]) -> None:
        """Fold until ``stop``, beside ``others``; if any of them ends earlier, raise its error.

        When this returns, none of them is running.
        """
        folding = asyncio.create_task(self._fold_all(), name="fold")
        tasks = [folding, *(asyncio.create_task(other, name=name) for name, other in others.items())]
        early: list[asyncio.Task[None]] = []
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping:
                early = list(done)
        finally:
            for task in tasks[1:]:
                task.cancel()
            if any(task.done() and not task.cancelled() and task.exception() for task in tasks[1:]):
                folding.cancel()
            self.stop()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        for task in early:
            raise end_of(task.get_name(), None, cancelled=task.cancelled())

    # ---- fold -----------------------------------------------------------------------------------

    async def _fold_all(self) -> None:
        while not self._stopping:
            records = await self._store.read(self._offset, limit=BATCH)
            if records:
                await self._fold(records)
            if self._scanned < self._rules.current.offset:
                await self._scan_page()
            elif not records:
                if len(self._rules.history) > 1 and self._since_forget:
                    await self._forget()
                await self._store.wait(self._offset)

    async def _fold(self, records: Sequence[Record]) -> None:
        load = await self._store.load(_sessions_of(records))
        # The remaining records are read again.
        checkpoint = self._processor.process(self._rules, records, load, most=PART_BYTES)
        first = await self._store.commit(checkpoint, sent=self._outbox.take_sent())
        self._offset = checkpoint.offset
        if checkpoint.rules is not None:
            self._rules = unload_past(checkpoint.rules, self._processor.configurations)
            self._begin_scan()
            self._configured.set()
        if checkpoint.decided:
            self._outbox.add(first, checkpoint.decided)
        self._timer_service.set((session, stored.due_us) for session, stored in checkpoint.states.items())
        self.counters.note([checkpoint], batches=1)
        if self._waiting:
            self._resolve_waiting()
        if self._on_checkpoint is not None:
            self._on_checkpoint(checkpoint)
        self._since_forget += 1
        if self._since_forget >= _FORGET_EVERY and len(self._rules.history) > 1:
            await self._forget()

    def _resolve_waiting(self) -> None:
        still = []
        for offset, reached in self._waiting:
            if offset > self._offset:
                still.append((offset, reached))
            elif not reached.done():
                reached.set_result(None)
        self._waiting = still

    async def _forget(self) -> None:
        self._since_forget = 0
        self._rules = await self._store.forget(self._rules)

    async def _scan_page(self) -> None:
        """Scan one page of all sessions, or a slice of it, after a configuration.

        Touches are durable before the page is noted as scanned. A crash between the two repeats them, which
        is harmless.
        """
        config = self._rules.current.offset
        if self._scan is None:
            self._scan = Scan(self._rules, scanned=self._scanned, decoder=self._processor.decoder)
        scan = self._scan
        page = await self._store.unmigrated(config, after=self._scan_after, limit=_SCAN_PAGE)
        time_s = asyncio.get_running_loop().time
        looked, end_s = 0, time_s() + SLICE_S
        for one in page:
            scan.look(one.session.encode(), one.state)
            looked += 1
            if time_s() > end_s:
                break
        if touches := scan.take_touches():
            if not await self._append(touches):
                return
            self.counters.touches += len(touches)
        rescheduled = [
            RescheduledRow(session=session, due_us=due_us, config=config if met is None else met)
            for session, due_us, met in scan.take_found()
        ]
        complete = looked == len(page) < _SCAN_PAGE
        await self._store.reschedule(rescheduled, scanned=config if complete else None)
        self._timer_service.set((new.session, new.due_us) for new in rescheduled)
        if complete:
            self._scanned = config
            self._begin_scan()
        else:
            self._scan_after = page[looked - 1].place

    def _begin_scan(self) -> None:
        """Make the next scan begin with the first session."""
        self._scan = self._scan_after = None

    async def _touch_outdated(self) -> None:
        """While the history is too long, touch the sessions that still need it, the furthest behind first."""
        while True:
            await self._configured.wait()
            self._configured.clear()
            while (limit := overdue_before(self._rules)) is not None:
                page = await self._store.unmigrated(limit, after=None, limit=TOUCHES)
                if not page:
                    break  # the next check removes configurations that only these sessions needed
                behind = [one.session.encode() for one in page]
                after = await self._pace.touch(behind, self._append_touches)
                self.counters.touches += len(behind)
                await self.reached(after)

    async def _append(self, records: Sequence[NewRecord]) -> bool:
        """Append events of the engine's own, once the log takes any; False if the engine stops before that.

        A timer that is appended late, or early, decides nothing else.
        """
        while True:
            try:
                await self._log.append(records)
            except ClockError:
                if self._stopping:
                    return False
                await self._clock.sleep(CLOCK_PAUSE_S)
            else:
                return True

    async def _append_touches(self, records: Sequence[NewRecord]) -> int:
        await self._append(records)
        return await self._store.end()

    async def _append_timers(self, timers: list[NewRecord]) -> None:
        if not await self._append(timers):
            return
        self.counters.timers += len(timers)
        await self.reached(await self._store.end())


def _sessions_of(records: Sequence[Record]) -> set[SessionId]:
    """The sessions whose states a batch needs. A key that is not text is not folded, so it is left out."""
    keys = {record.key for record in records}
    sessions = set()
    for key in keys:
        if key:
            try:
                sessions.add(SessionId(key.decode()))
            except UnicodeDecodeError:
                continue
    return sessions
