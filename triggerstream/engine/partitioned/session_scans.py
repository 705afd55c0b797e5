"""Looks at all sessions of a partition: for timers, and for configurations that they have not met."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from triggerstream.core.tasks import Rules
from triggerstream.engine.counters import Counters
from triggerstream.engine.migration import Pace, overdue_before
from triggerstream.engine.partitioned.configurations import PartitionConfigurations
from triggerstream.engine.partitioned.session_states import FIRST, PartitionStates
from triggerstream.engine.scan import SLICE_S, Scan, has_met
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.engine.timers.service import TimerService
from triggerstream.wire.records import NewRecord

_PAGE = 500
_LEAST_PAGE = 16
"""Most and fewest sessions that are read from the store at a time."""


@dataclass(slots=True)
class _Pass:
    """Progress of a pass that touches sessions: the last key, and the offset after the last touch."""

    after: bytes = FIRST
    touched: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class SessionScans:
    """The scans of a partition's sessions, which run beside the folding."""

    configurations: PartitionConfigurations
    states: PartitionStates
    decoder: StateDecoder
    timers: TimerService
    counters: Counters
    pace: Pace
    append: Callable[[Sequence[NewRecord]], Awaitable[int]]
    """Appends records to the partition's own log and returns the offset after the last one."""
    reached: Callable[[int], Awaitable[None]]
    """Returns once every record below an offset is durable."""
    on_scanned: Callable[[], None]
    """Called after a complete scan: the next checkpoint says so, and has a shorter history."""
    prune_s: float
    _again: asyncio.Event = field(default_factory=asyncio.Event)
    _pass: _Pass = field(default_factory=_Pass)

    def scan_again(self) -> None:
        """Scan for a configuration that was just folded."""
        self._again.set()

    async def run(self) -> None:
        """Scan after a take-over, after each configuration, and periodically while the history can shrink."""
        while True:
            self._again.clear()
            await self._scan()
            if await self._touch_outdated():
                continue
            try:
                # Not asyncio.wait_for: it swallows a cancellation if the event is set at the same moment.
                async with asyncio.timeout(self.prune_s):
                    await self._again.wait()
            except TimeoutError:
                if len(self.configurations.rules.history) == 1:
                    await self._again.wait()

    async def _scan(self) -> None:
        configurations = self.configurations
        rules = configurations.rules
        scan = Scan(rules, scanned=configurations.scanned, decoder=self.decoder)
        # A session may have to meet the whole history before its timers' due times are known.
        limit = max(_PAGE // len(rules.history), _LEAST_PAGE)
        # An entry that is only in the overlay may be written before the position that the scan has reached.
        if not await self._scan_entries(scan, rules, self.states.not_durable()):
            return
        for page in self.states.pages(limit=limit):
            if not await self._scan_entries(scan, rules, page):
                return
        configurations.scanned = rules.current.offset
        configurations.rules = configurations.rules.forget(scan.oldest)
        self.on_scanned()

    async def _scan_entries(self, scan: Scan, rules: Rules, entries: Sequence[tuple[bytes, bytes]]) -> bool:
        """Scan entries in slices; False if a configuration arrived meanwhile: the scan begins again."""
        time_s = asyncio.get_running_loop().time
        begun = time_s()
        is_old = False
        for key, value in entries:
            if time_s() - begun > SLICE_S:
                if not await self._hand_on(scan, rules):
                    return False
                begun, is_old = time_s(), True
            # A due time from an older state must not take the place of a newer one.
            newest = self.states.newest(key) if is_old else value
            if newest is not None:
                scan.look(key, newest)
        return await self._hand_on(scan, rules)

    async def _hand_on(self, scan: Scan, rules: Rules) -> bool:
        """Hand on what was found, and let the folding go on; False if a configuration arrived meanwhile."""
        self.timers.set((one.session, one.due_us) for one in scan.take_found())
        if touches := scan.take_touches():
            await self.append(touches)
            self.counters.touches += len(touches)
        await asyncio.sleep(0)
        return self.configurations.rules.current.offset == rules.current.offset

    async def _touch_outdated(self) -> bool:
        """Touch the sessions that keep the history long; return whether to scan again for old versions."""
        limit = overdue_before(self.configurations.rules)
        if limit is None:
            self._pass = _Pass()
            return False
        going = self._pass
        for page in self.states.pages(after=going.after, limit=_PAGE):
            behind = [key for key, value in page if not has_met(key, value, limit, decoder=self.decoder)]
            if behind:
                going.touched = await self.pace.touch(behind, self.append)
                self.counters.touches += len(behind)
            going.after = page[-1][0]
            await asyncio.sleep(0)
            if self._again.is_set():
                return True  # a new configuration: first the sessions in which it decides something
        self._pass = _Pass()
        await self.reached(going.touched)
        return going.touched > 0
