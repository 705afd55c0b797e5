"""Fires timers: expires, abandons and decides what is due (docs/semantics.md, section 8)."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from heapq import heapify, heappop
from typing import NamedTuple

from msgspec.structs import replace

from triggerstream.core.deciding import Deciding
from triggerstream.core.effects import Reason
from triggerstream.core.held import ref_after
from triggerstream.core.ids import JsonObject, TaskName, TriggerName, timeout_of
from triggerstream.core.meter import BoundEffects, BoundError, Meter
from triggerstream.core.results import LeftOut
from triggerstream.core.sizes import changed_bytes
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Arrival, Instance, SessionState, Status
from triggerstream.core.tasks import Task
from triggerstream.core.timers import Timer, due, timers_of

_ENTRY_BYTES = 128
"""Most bytes of an event in a state beside its content and its trigger's name."""


class _Savepoint(NamedTuple):
    """A draft as it was before a trigger fired."""

    state: SessionState
    owned: set[TaskName]
    decisions: int
    counts: tuple[int, int, int]
    decided_bytes: int
    beyond: BoundEffects | None


class FiringTimers(Deciding):
    """A draft whose timers fire."""

    @abstractmethod
    def _fire(self, name: TriggerName, arrival: Arrival) -> None:
        """Remember a trigger, and offer it to the tasks that use it."""

    def fire_timers(self, until_us: int) -> None:
        """Fire every timer that is due at or before ``until_us``, in due order (R8.3, R8.4).

        While a timer fires, the clock is its due time, or where it was, if that is later (R8.6). What it
        starts counts from there, and fires in its turn.
        """
        heap = self.timers = list(timers_of(self.config, self.state))
        heapify(heap)
        while heap and heap[0][0] <= until_us:
            timer = heappop(heap)
            instance = self._waiting_for(timer)
            if instance is not None:
                due_us, _, _, name = timer
                state = self.state
                state.clock_us = max(state.clock_us, due_us)
                self._fire_timer(self.config.by_name[name], self._edit(name, instance), due_us)
        while heap and self._waiting_for(heap[0]) is None:
            heappop(heap)
        self.timers = None
        self.state.due_us = heap[0][0] if heap else None

    def _waiting_for(self, timer: Timer) -> Instance | None:
        """The instance that waits for a timer; None if it no longer waits for this one."""
        due_us, _, number, name = timer
        record = self.state.tasks.get(name)
        instance = None if record is None else record.open.get(number)
        if instance is None:
            return None
        found = due(self.config.by_name[name], instance)
        return instance if found is not None and found.us == due_us else None

    def _fire_timer(self, task: Task, instance: Instance, due_us: int) -> None:
        """Expire, abandon or decide an instance whose timer is due. ``instance`` is owned."""
        if instance.status is Status.UNSTARTED:
            self._pass_deadline(task, instance, due_us)
        elif self._blocked(task, instance):
            self._resolve(task.name, instance, Status.ABANDONED)
        else:
            self._decide_or_hold(task, instance, due_us)

    # ---- deadlines ----------------------------------------------------------------------------

    def _pass_deadline(self, task: Task, instance: Instance, due_us: int) -> None:
        """Expire an instance whose deadline is due, and fire its timeout (R8.7).

        If the session has met a configuration since its instances were judged, the instance is judged first.
        """
        if self.state.unjudged:
            self._judge(task, instance)
            if instance.status is not Status.UNSTARTED:
                return
        captured = {name: instance.captured[name] for name in task.after.slots if name in instance.captured}
        data = self.state.stored_kwargs(replace(instance, captured=captured))
        instance.reason = Reason.DEADLINE
        self._resolve(task.name, instance, Status.EXPIRED)
        self._fire_timeout(task, instance, data, due_us)

    def _fire_timeout(self, task: Task, instance: Instance, data: JsonObject, due_us: int) -> None:
        """Fire ``<task>.timeout``, completely or not at all (R10.10)."""
        trigger = timeout_of(task.name)
        size = 0 if self.meter is None else self._size_of_data(self.meter, instance)
        saved = self._savepoint(trigger)
        state = self.state
        latest = max(state.positions[-1][0] if state.positions else 0, state.config)
        state.timeouts = ref_after(max(latest, 0), state.timeouts)
        arrival = Arrival(data=data, offset=state.timeouts, time_us=due_us)
        try:
            self._check_size(size)
            self._fire(trigger, arrival)
            if saved is not None:
                self._accept(saved, trigger, size)
        except BoundError as broken:
            if saved is None:
                raise
            self._return_to(saved)
            beyond = self._beyond()
            # Together they may be as large as commands: all of it becomes durable at once.
            keeps_data = beyond.left_out_bytes + size <= self.config.bounds.decided_bytes
            beyond.left_out_bytes += size if keeps_data else 0
            left_out = LeftOut(
                trigger=trigger,
                data=data if keeps_data else None,
                time_us=due_us,
                id=self._command_id(task.name, instance.number),
                reason=str(broken),
            )
            beyond.left_out += (left_out,)
            beyond.prevented += 1
            instance.error = f"the trigger `{trigger}` is left out: {broken}"

    # ---- completely or not at all -------------------------------------------------------------

    def _savepoint(self, trigger: TriggerName) -> _Savepoint | None:
        """The draft before a trigger fires, to return to if a bound forbids it; None if none can.

        The draft goes on with copies.
        """
        state, bounds = self.state, self.config.bounds
        uses = self.config.users.get(trigger, ())
        # A task makes one instance at most, and each instance that is decided the next round.
        most = state.open_count + len(uses)
        if any(use.task.repeat is not None for use in uses):
            most *= 2
        is_known = bool(uses) or len(state.seen) < bounds.trigger_names
        if self.meter is None and most <= bounds.unresolved_instances and is_known:
            return None
        saved = _Savepoint(
            state=state,
            owned=self.owned,
            decisions=len(self.decisions),
            counts=(self.created, self.resolved, self.taken),
            decided_bytes=0 if self.meter is None else self.meter.decided,
            beyond=None if self.beyond is None else self.beyond.copy(),
        )
        self.state = replace(state, seen=state.seen.copy(), tasks=state.tasks.copy())
        self.owned = set()
        return saved

    def _accept(self, saved: _Savepoint, trigger: TriggerName, size: int) -> None:
        """Go on with what was done since ``saved``, unless the state is too large (R10.4).

        ``size``: the bytes of the trigger's data.
        """
        meter = self.meter
        if meter is not None:
            grown = changed_bytes(saved.state, self.state, self.owned, meter.sizes)
            grown += size + meter.sizes.text(trigger) + _ENTRY_BYTES
            limit = self.config.bounds.state_bytes
            self._check_size(0 if meter.fits(self.state, grown, limit) else limit + 1)
        self.owned |= saved.owned

    def _size_of_data(self, meter: Meter, instance: Instance) -> int:
        """The bytes of the events that an instance holds: nearly those of its timeout's data.

        They are added up because the data itself may be too large to be encoded: a timeout can bring those
        before it many times.
        """
        found = Counter(captured_refs(instance.captured))
        return sum(
            count * meter.sizes.arrival(self.state.arrival(name, ref)) for (name, ref), count in found.items()
        )

    def _check_size(self, size: int) -> None:
        limit = self.config.bounds.state_bytes
        if size > limit:
            reason = f"the state would have more than {limit:,} bytes ($bounds.stateBytes)"
            raise BoundError(reason, in_bytes=True)

    def _return_to(self, saved: _Savepoint) -> None:
        """Undo what was done since ``saved``."""
        self.state = saved.state
        self.owned = saved.owned
        del self.decisions[saved.decisions :]
        self.created, self.resolved, self.taken = saved.counts
        self.beyond = saved.beyond
        if self.meter is not None:
            self.meter.firing = False
            self.meter.decided = saved.decided_bytes
