"""Decides instances: judging, commands, waits, rounds, clones (docs/semantics.md, sections 5 and 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy

from triggerstream.core.commands import MOST_CAUSES, Cause, Command
from triggerstream.core.draft import Draft
from triggerstream.core.effects import (
    Reason,
)
from triggerstream.core.held import Holding
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
from triggerstream.core.places import is_place_free
from triggerstream.core.slots import brought_again, captured_refs, is_satisfied, of_met_leaves
from triggerstream.core.state import (
    UNSTARTED,
    Instance,
    Sent,
    Status,
    TaskPlaces,
)
from triggerstream.core.tasks import Task

NO_ROOM = "the session's state would be too long ($bounds.stateBytes)"


class Deciding(Draft):
    """A draft whose instances are judged, decided, cloned and delayed."""

    # ---- judging and deciding -----------------------------------------------------------------

    def _judge(self, task: Task, instance: Instance) -> None:
        """Abandon, decide, or let wait (R4.8). ``instance`` is owned."""
        if task.within_us is not None and instance.status is UNSTARTED:
            self._forget_too_old(task, instance)
        if task.unless is not None and self._blocked(task, instance):
            self._resolve(task.name, instance, Status.ABANDONED)
        elif instance.status is UNSTARTED:
            captured = instance.captured
            if task.is_list:
                # Mostly a leaf is still missing, and comparing lengths is faster than a subset test.
                satisfied = len(captured) >= len(task.leaf_names) and captured.keys() >= task.leaf_names
            else:
                satisfied = is_satisfied(task.after, captured)
            if satisfied:
                self._satisfied(task, instance)

    def _forget_too_old(self, task: Task, instance: Instance) -> None:
        """Forget the captured events that lie before the window (R3.14). ``instance`` is owned."""
        forgetting = forget_too_old(task.after, instance.captured, self.state.time_of)
        if forgetting is None:
            return
        instance.captured = forgetting.held
        for leaf, refs in forgetting.forgotten.items():
            says = too_old(leaf, refs, forgetting.window, within_us=task.within_us or 0)
            self._remark(f"{instance_id(task.name, instance.number)}: {says}")

    def _judge_all(self) -> None:
        """Judge all waiting instances once, after a change of configuration (R9.6)."""
        state = self.state
        tasks = self.config.among(state.tasks)
        for task in tasks:
            for instance in self._waiting(task.name):
                self._judge(task, instance)
        # Only now: meanwhile, instances of a task that is not limited any more are held behind others.
        state.unjudged = False
        if state.holds:
            self._give_places(tasks)

    def _satisfied(self, task: Task, instance: Instance) -> None:
        """Decide an instance whose condition is satisfied, or begin its wait (R8.8)."""
        clock_us = self.state.clock_us
        if task.delay_us is None and task.debounce is None:
            self._decide_or_hold(task, instance, clock_us)
            return
        instance.satisfied_us = instance.changed_us = clock_us
        self._delay(task, instance)

    def _decide_or_hold(self, task: Task, instance: Instance, at_us: int, *, fits: bool = False) -> None:
        """Decide an instance that waits for nothing but a place.

        Every decision goes through here, but for those of an operator who does not want to wait.
        """
        # A file that does not limit the task any more leaves instances held until they are judged.
        if task.limits_places or self.state.unjudged:
            places = self._places_of(task.name)
            if places.held or not is_place_free(task, places):
                self._hold(instance, places)
                return
        self._decide(task, instance, at_us, fits=fits)

    def _hold(self, instance: Instance, places: TaskPlaces) -> None:
        """Let an instance wait for a place, behind those that are held (R8.10)."""
        state = self.state
        state.holds += 1
        instance.status = Status.HELD
        instance.held_no = state.holds
        instance.changed_us = state.clock_us
        places.held[instance.number] = None

    def _give_places(self, tasks: Iterable[Task]) -> None:
        """Decide held instances of ``tasks``, those held first, as far as places go (R8.11)."""
        for task in tasks:
            places = self._places_of(task.name)
            for number in list(places.held):
                if not is_place_free(task, places):
                    break
                instance = self._edit(task.name, self.state.tasks[task.name].open[number])
                self._decide(task, instance, self.state.clock_us)

    def _decide(self, task: Task, instance: Instance, at_us: int, *, fits: bool = False) -> None:
        """Decide an instance's command (R5.1); ``fits``: it is known to be within the bounds in bytes."""
        held = instance.captured
        before = 0 if self.meter is None else self.meter.sizes.instance(instance)
        is_list = (
            task.is_list
            and len(held) == len(task.leaf_names)
            # A file may have changed while it waited, so that the names are others.
            and (instance.status is UNSTARTED or held.keys() == task.leaf_names)
        )
        if instance.clone_of is None and not is_list:
            instance.captured = of_met_leaves(task.after, instance.captured)
        places = self.state.tasks[task.name].places
        if places is not None:
            places.held.pop(instance.number, None)
            places.taken += 1
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
            elif not self._check_decision(self.meter, task.name, instance, before=before):
                return
        if task.repeat is not None and instance.clone_of is None and instance.repeats < task.repeat.max:
            self._make_next_round(task, instance, held)

    def _check_decision(self, meter: Meter, task: TaskName, instance: Instance, *, before: int) -> bool:
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
            return True
        if too_long is not None:
            error = too_long.error
        elif not meter.takes(self.state, meter.sizes.instance(instance) - before, bounds.state_bytes):
            error = NO_ROOM
        else:
            meter.count(self.decisions[-1])
            return True
        self.decisions.pop()
        self._leave_place(task, instance)
        instance.sent = instance.decided_us = instance.decided_at = None
        instance.status = Status.FAILED
        instance.reason = Reason.BOUND
        instance.error = error
        instance.ended_us = instance.changed_us
        self._prevent(f"{instance_id(task, instance.number)} failed: {error}")
        return False

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
            event = state.seen.get(name)  # type: ignore[call-overload,arg-type]  # a leaf of its trigger's name
            if event is None or event.offset != held:
                event = state.arrival(name, held)  # type: ignore[arg-type]
            causes.append(Cause(trigger=name, offset=held if held >= 0 else None, id=event.id))  # type: ignore[arg-type]
            stored[name] = event.data
        if len(stored) < len(instance.captured):
            events = dict.fromkeys(captured_refs(instance.captured))
            causes = [
                Cause(trigger=of, offset=ref if ref >= 0 else None, id=state.arrival(of, ref).id)
                for of, ref in events
            ]
        is_plain = len(stored) == len(instance.captured) and instance.kwargs is None and not sent.per_element
        self.decisions.append(
            # Four positional arguments: Python passes more than 15 keywords in a dict, which takes 5,000
            # instructions more, a thirtieth of what a trigger with a decision costs.
            Command(
                self._command_id(task, instance.number),
                self.session,
                task,
                instance_id(task, instance.number),
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
                priority=sent.priority,
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
            priority=task.priority,
            expires_us=task.expires_us,
        )

    # ---- rounds -------------------------------------------------------------------------------

    def _make_next_round(self, task: Task, decided: Instance, held: Mapping[LeafName, Holding]) -> None:
        """Make the instance of the next round, which is decided later (R8.9), unless a bound forbids it.

        ``held``: what the leaves of ``decided`` held before it was decided.
        """
        state, meter = self.state, self.meter
        forbids = self._full(1)
        if forbids is None:
            record = self._own(task.name)
            following = Instance(
                number=record.next,
                status=Status.DELAYED,
                created_us=state.clock_us,
                changed_us=state.clock_us,
                captured=brought_again(decided.captured, held),
                noted=decided.noted,
                waits_from_us=state.clock_us,
                made_by=decided.made_by,
                repeats=decided.repeats + 1,
                repeat_of=decided.number,
            )
            record.open[following.number] = following
            grown = 0 if meter is None or meter.firing else meter.sizes.instance(following)
            if meter is None or meter.takes(state, grown, self.config.bounds.state_bytes):
                record.next += 1
                record.removed = False
                state.open_count += 1
                self.created += 1
                self._start_timer(task, following)
                return
            del record.open[following.number]
            forbids = NO_ROOM
        decided.error = f"not repeated: {forbids}"
        self._prevent(f"{instance_id(task.name, decided.number)} is {decided.error}")

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
