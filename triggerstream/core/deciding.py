"""Decides instances: judging, commands, clones, timers that are due (docs/semantics.md, sections 5 and 8)."""

from __future__ import annotations

from copy import copy
from heapq import heapify, heappop

from triggerstream.core.commands import MOST_CAUSES, Cause, Command
from triggerstream.core.draft import Draft
from triggerstream.core.effects import (
    Reason,
)
from triggerstream.core.ids import (
    JsonObject,
    LeafName,
    TaskName,
    instance_id,
)
from triggerstream.core.makers import maker_of_clone
from triggerstream.core.merge import deep_merge
from triggerstream.core.meter import BoundError, Meter
from triggerstream.core.newest import forget_too_old, too_old
from triggerstream.core.slots import captured_refs, is_satisfied, of_met_leaves
from triggerstream.core.state import (
    Instance,
    Sent,
    Status,
)
from triggerstream.core.tasks import Task
from triggerstream.core.timers import Timer, due, timers_of

NO_ROOM = "the session's state would be too long ($bounds.stateBytes)"


class Deciding(Draft):
    """A draft whose instances are judged, decided, cloned and delayed."""

    __slots__ = ()

    # ---- judging and deciding -----------------------------------------------------------------

    def _judge(self, task: Task, instance: Instance) -> None:
        """Abandon, decide, or let wait (R4.8). ``instance`` is owned."""
        if task.within_us is not None and instance.status is Status.UNSTARTED:
            self._forget_too_old(task, instance)
        if task.unless is not None and self._blocked(task, instance):
            self._resolve(task.name, instance, Status.ABANDONED)
        elif instance.status is Status.UNSTARTED:
            captured = instance.captured
            if task.is_list:
                # Mostly a leaf is still missing, and comparing lengths is faster than a subset test.
                satisfied = len(captured) >= len(task.leaf_names) and captured.keys() >= task.leaf_names
            else:
                satisfied = is_satisfied(task.after, captured)
            if satisfied:
                self._decide(task, instance, self.state.clock_us)

    def _forget_too_old(self, task: Task, instance: Instance) -> None:
        """Forget the captured events that lie before the window (R3.14). ``instance`` is owned."""
        forgetting = forget_too_old(task.after, instance.captured, self.state.time_of)
        if forgetting is None:
            return
        instance.captured = forgetting.held
        if self.timers is None:
            # While timers fire, nothing is noted: a record of a timer would get an entry in the timeline.
            for leaf, refs in forgetting.forgotten.items():
                says = too_old(leaf, refs, forgetting.window, within_us=task.within_us or 0)
                self._remark(f"{instance_id(task.name, instance.number)}: {says}")

    def _judge_all(self) -> None:
        """Judge all waiting instances once, after a change of configuration (R9.6)."""
        self.state.unjudged = False
        for task in self.config.among(self.state.tasks):
            for instance in self._waiting(task.name):
                self._judge(task, instance)

    def _decide(self, task: Task, instance: Instance, at_us: int, *, fits: bool = False) -> None:
        """Decide an instance's command (R5.1); ``fits``: it is known to be within the bounds in bytes."""
        before = 0 if self.meter is None else self.meter.sizes.instance(instance)
        is_list = task.is_list and len(instance.captured) == len(task.leaf_names)
        if instance.clone_of is None and not is_list:
            instance.captured = of_met_leaves(task.after, instance.captured)
        instance.status = Status.SCHEDULED
        instance.decided_us = at_us
        instance.decided_at = self.offset
        instance.changed_us = at_us
        instance.reason = None
        instance.sent = self._sent_by(task, instance)
        self._send(task.name, instance)
        if self.meter is not None:
            if fits:
                self.meter.count(self.decisions[-1])
            else:
                self._check_decision(self.meter, task.name, instance, before=before)

    def _check_decision(self, meter: Meter, task: TaskName, instance: Instance, *, before: int) -> None:
        """Undo the last decision and fail the instance if the decision is beyond a bound in bytes (R10.6).

        A trigger whose decision is too large is refused instead. For decisions by time, an order or a
        configuration, no trigger could be refused. ``before``: the instance's bytes before the decision.
        """
        bounds = self.config.bounds
        too_long = meter.too_long(self.decisions[-1], bounds)
        if meter.firing:
            if too_long is not None:
                raise BoundError(too_long.reason, in_bytes=True)
            meter.count(self.decisions[-1])  # the state is measured once the trigger is folded
            return
        if too_long is not None:
            error = too_long.error
        elif not meter.takes(self.state, meter.sizes.instance(instance) - before, bounds.state_bytes):
            error = NO_ROOM
        else:
            meter.count(self.decisions[-1])
            return
        self.decisions.pop()
        instance.sent = instance.decided_us = instance.decided_at = None
        instance.status = Status.FAILED
        instance.reason = Reason.BOUND
        instance.error = error
        instance.ended_us = instance.changed_us
        self._prevent(f"{instance_id(task, instance.number)} failed: {error}")

    def _send(self, task: TaskName, instance: Instance) -> None:
        """Add an instance's command, as it was decided, to the decisions (R5.2)."""
        sent = instance.sent
        if sent is None or instance.decided_us is None:
            return
        state = self.state
        causes: list[Cause] = []
        stored: JsonObject = {}
        for name, held in instance.captured.items():
            if type(held) is not int:
                break
            # Once for both: a call for each event is a fifth of what a decision costs.
            event = state.seen.get(name)  # type: ignore[call-overload]  # a plain leaf of its trigger's name
            if event is None or event.offset != held:
                event = state.arrival(name, held)  # type: ignore[arg-type]
            causes.append(Cause(trigger=name, offset=held, id=event.id))  # type: ignore[arg-type]
            stored[name] = event.data
        if len(stored) < len(instance.captured):
            events = dict.fromkeys(captured_refs(instance.captured))
            causes = [Cause(trigger=of, offset=ref, id=state.arrival(of, ref).id) for of, ref in events]
        is_plain = len(stored) == len(instance.captured) and instance.kwargs is None and not sent.per_element
        self.decisions.append(
            Command(
                id=self._command_id(task, instance.number),
                session=self.session,
                task=task,
                instance=instance_id(task, instance.number),
                run=sent.run,
                kwargs=deep_merge(sent.params, stored) if is_plain else state.kwargs(instance),
                config=sent.config,
                causes=causes[:MOST_CAUSES],
                cause_count=len(causes) if len(causes) > MOST_CAUSES else None,
                decided_us=instance.decided_us,
                decided_at=self.offset,
                attempt=instance.attempt,
                retries=instance.retries,
                queue=sent.queue,
                expires_us=sent.expires_us,
                traceparent=self.trace,
            )
        )

    def _sent_by(self, task: Task, instance: Instance) -> Sent:
        """Parts of the file that a decision keeps (R5.8, R9.7)."""
        params = task.with_params
        per_element: tuple[LeafName, ...] = ()
        per_member: tuple[LeafName, ...] = ()
        if task.listed and params:
            passed = instance.captured if instance.kwargs is None else instance.kwargs
            lists = [leaf for leaf in task.listed if leaf.name in params]
            absent = {str(leaf.name) for leaf in lists if leaf.name not in passed}
            params = {name: under for name, under in params.items() if name not in absent}
            there = [leaf for leaf in lists if leaf.name in passed]
            per_element = tuple(leaf.name for leaf in there)
            per_member = tuple(leaf.name for leaf in there if leaf.each is not None)
        return Sent(
            run=task.run,
            config=self.config.hash,
            params=params,
            per_element=per_element,
            per_member=per_member,
            queue=task.queue,
            expires_us=task.expires_us,
        )

    # ---- clones -------------------------------------------------------------------------------

    def _clone(
        self,
        task: Task,
        origin: Instance,
        *,
        kwargs: JsonObject | None,
        retries: int,
    ) -> Instance:
        """A new instance with what ``origin`` captured and noted (R6.8). ``origin`` is resolved."""
        self._resolve(task.name, origin, Status.REPLAYED)
        if self.meter is not None:
            self.meter.forget()
        record = self._own(task.name)
        clone = self._copy_of(origin, number=record.next, kwargs=kwargs, retries=retries)
        if clone.made_by is None and task.every is not None:
            clone.made_by = maker_of_clone(task, origin, clone)
        record.next += 1
        record.removed = False
        record.open[clone.number] = clone
        self.state.open_count += 1
        self.created += 1
        return clone

    def _copy_of(self, origin: Instance, *, number: int, kwargs: JsonObject | None, retries: int) -> Instance:
        return Instance(
            number=number,
            status=Status.UNSTARTED,
            created_us=self.state.clock_us,
            changed_us=self.state.clock_us,
            captured=origin.captured,
            noted=origin.noted,
            kwargs=kwargs if kwargs is not None else origin.kwargs,
            retries=retries,
            clone_of=origin.number,
            made_by=origin.made_by,
        )

    def _unfit(self, task: Task, origin: Instance, kwargs: JsonObject | None, *, retries: int) -> str | None:
        """Why a clone of ``origin`` with ``kwargs`` does not fit within the bounds (R10.6); None if it fits.

        Bounds in bytes are checked only if the event brings kwargs: a plain retry is as large as its origin.
        """
        full = self._full(0)  # the origin is resolved when the clone is made
        meter, bounds = self.meter, self.config.bounds
        if full is not None or meter is None:
            return full
        clone = self._copy_of(origin, number=self.state.tasks[task.name].next, kwargs=kwargs, retries=retries)
        clone.decided_us = self.state.clock_us
        clone.decided_at = self.offset
        clone.sent = self._sent_by(task, clone)
        self._send(task.name, clone)
        too_long = meter.too_long(self.decisions.pop(), bounds)
        if too_long is not None:
            return too_long.reason
        # The origin's error may itself exceed the bound: then the clone must not add anything.
        bare = copy(origin)
        bare.error = bare.metadata = None
        grown = meter.sizes.instance(clone) - meter.sizes.instance(bare)
        if grown > 0 and meter.sizes.state(self.state) + grown > bounds.state_bytes:
            return NO_ROOM
        return None

    def _delay(self, task: Task, instance: Instance, *, waits_us: int | None = None) -> None:
        instance.status = Status.DELAYED
        instance.waits_from_us = self.state.clock_us
        instance.waits_us = waits_us
        self._start_timer(task, instance)

    # ---- time ---------------------------------------------------------------------------------

    def fire_timers(self, until_us: int) -> None:
        """Fire every timer that is due at or before ``until_us``, in due order (R8.3, R8.4).

        While a timer fires, the session's clock is its due time, or where it was, if that is later. What it
        starts counts from there, and fires in its turn.
        """
        heap = self.timers = list(timers_of(self.config, self.state))
        heapify(heap)
        while heap and heap[0][0] <= until_us:
            timer = heappop(heap)
            instance = self._waits_for(timer)
            if instance is not None:
                due_us, _, _, name = timer
                state = self.state
                state.clock_us = max(state.clock_us, due_us)
                self._fire_timer(self.config.by_name[name], self._edit(name, instance), due_us)
        while heap and self._waits_for(heap[0]) is None:
            heappop(heap)
        self.timers = None
        self.state.due_us = heap[0][0] if heap else None

    def _waits_for(self, timer: Timer) -> Instance | None:
        """The instance of a timer; None if it does not wait for this one any more."""
        due_us, _, number, name = timer
        record = self.state.tasks.get(name)
        instance = None if record is None else record.open.get(number)
        if instance is None:
            return None
        found = due(self.config.by_name[name], instance)
        return instance if found is not None and found.us == due_us else None

    def _fire_timer(self, task: Task, instance: Instance, due_us: int) -> None:
        """Abandon or decide an instance whose wait is over. ``instance`` is owned."""
        if self._blocked(task, instance):
            self._resolve(task.name, instance, Status.ABANDONED)
        else:
            self._decide(task, instance, due_us)
