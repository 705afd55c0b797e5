"""A draft of a session's state: copies what an event changes, and shares the rest.

The rules are in :mod:`triggerstream.core.fold`, which folds an event into a draft.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappush

from msgspec import Struct
from msgspec.structs import replace

from triggerstream.core.blocks import instances_where
from triggerstream.core.by_place import mark
from triggerstream.core.commands import Decision
from triggerstream.core.effects import Refused, Why
from triggerstream.core.events import (
    Order,
)
from triggerstream.core.held import Ref
from triggerstream.core.ids import (
    CommandId,
    InstanceId,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    split_instance_id,
)
from triggerstream.core.meter import BoundEffects, BoundError, Meter
from triggerstream.core.number_ranges import count_of, is_among, without_first
from triggerstream.core.places import count_places
from triggerstream.core.results import Follows
from triggerstream.core.retired import KEPT_RESOLVED, Retired
from triggerstream.core.sizes import Sizes, captured_by_resolved_alone
from triggerstream.core.slots import captured_refs, is_satisfied
from triggerstream.core.state import (
    DECIDED,
    WAITING,
    Arrival,
    EarlierEvents,
    Instance,
    SessionState,
    Status,
    TaskPlaces,
    TaskRecord,
)
from triggerstream.core.tasks import Configuration, Rules, Task
from triggerstream.core.timers import Timer, due

_COLLECTED = 1_000
"""Kept events at which unneeded ones are dropped, for which all instances are visited."""
_COLLECTED_AGAIN = 2
"""Unneeded events are dropped again when the kept ones are this many times the needed ones."""
_RECENT = 32
"""Events after which ``kept`` is copied: with a thousand events in it, a copy takes 3 µs."""


class Draft(Struct):
    """Copy-on-write draft of a session state. Parts not yet copied are shared and never modified.

    ``offset`` is that of the event, or of the configuration that is being met. ``config`` is the
    configuration that the session has met last, ``before`` the state as it was. ``follows`` is the trigger
    that follows from the event, ``barred`` the reason not to fire it, ``followed`` whether it fired.
    ``meter`` is set if the bounds in bytes are checked, ``beyond`` if a bound prevented an effect.
    ``timers`` is a heap of the session's timers while they fire. ``freed`` has the tasks of which an instance
    has given its place back, ``owned`` those whose records are copies.

    A ``Struct``, because one is made for each event: setting its fields in ``__init__`` takes three times as
    long.
    """

    rules: Rules
    session: SessionId
    offset: int
    state: SessionState
    config: Configuration
    before: SessionState | None
    meter: Meter | None = None
    decisions: list[Decision] = []
    settled: list[CommandId] = []
    trace: str | None = None
    created: int = 0
    resolved: int = 0
    taken: int = 0
    retired: list[Retired] = []
    followed: bool = False
    follows: Follows | None = None
    barred: BoundError | None = None
    beyond: BoundEffects | None = None
    timers: list[Timer] | None = None
    freed: set[TaskName] | None = None
    owned: set[TaskName] = set()
    needed: dict[TriggerName, EarlierEvents] | None = None
    """The earlier events that were needed when the latest configuration was met; None until asked for."""

    # ---- effects that a bound prevented -------------------------------------------------------

    def _beyond(self) -> BoundEffects:
        if self.beyond is None:
            self.beyond = BoundEffects()
        return self.beyond

    def _remark(self, what: str) -> None:
        """Add a sentence to the timeline: what a bound left out, or a leaf forgot (R2.5).

        While timers fire, nothing is added: it would be an entry of the record of a timer if there is one,
        else of the next event, and records of timers change nothing.
        """
        if self.timers is None:
            self._beyond().remarks.append(what)

    def _prevent(self, what: str) -> None:
        """Count an effect that a bound prevented (R10.6), and add a sentence to the timeline."""
        self._beyond().prevented += 1
        self._remark(what)

    def _full(self, more: int) -> str | None:
        """Why the session cannot have ``more`` additional unresolved instances (R10.5); None if it can."""
        limit = self.config.bounds.unresolved_instances
        if self.state.open_count + more <= limit:
            return None
        return bound_text("unresolvedInstances", limit, "unresolved instances")

    # ---- copies that may be modified ----------------------------------------------------------

    def _own(self, name: TaskName) -> TaskRecord:
        """The task's record, as a copy that this draft may modify; created if there is none."""
        tasks = self.state.tasks
        record = tasks.get(name)
        if record is None:
            record = TaskRecord()
        elif name in self.owned:
            return record
        else:
            places = record.places
            record = replace(record, open=record.open.copy(), resolved=record.resolved.copy())
            if places is not None:
                record.places = TaskPlaces(places.taken, places.held.copy())
        self.owned.add(name)
        tasks[name] = record
        return record

    def _edit(self, name: TaskName, instance: Instance) -> Instance:
        """Replace ``instance`` by a copy that this draft may modify, and return the copy."""
        record = self._own(name)
        edited = replace(instance)
        where = record.open if instance.number in record.open else record.resolved
        where[edited.number] = edited
        return edited

    def _waiting(self, name: TaskName) -> Iterator[Instance]:
        """Owned copies of the task's waiting instances, by number. The caller may resolve each of them."""
        for instance in instances_where(self.state.tasks[name].open, lambda shape: shape.status in WAITING):
            yield self._edit(name, instance)

    # ---- finding instances --------------------------------------------------------------------

    def _addressed(self, order: Order) -> tuple[TaskName, Instance] | Refused:
        """The instance for ``order``; or why the order does not apply to the current one (R7.1)."""
        generation = self.state.instances_generation
        if order.generation not in (None, generation):
            return other_generation(generation, order.generation)
        return self._find(order.instance)

    def _find(self, text: InstanceId) -> tuple[TaskName, Instance] | Refused:
        parts = split_instance_id(text)
        if parts is None:
            return Refused(Why.UNKNOWN_INSTANCE, f"`{text}` is no instance: write task#number")
        record = self.state.tasks.get(parts[0])
        if record is None:
            return Refused(Why.UNKNOWN_INSTANCE, f"the session has no instance of task {parts[0]}")
        instance = record.find(parts[1])
        if instance is None and is_among(parts[1], record.retired):
            says = f"{text} is over: at least {KEPT_RESOLVED} of its task were resolved after it"
            return Refused(Why.OVER, says)
        if instance is None:
            says = f"the session has no instance {text}, or keeps it no longer"
            return Refused(Why.UNKNOWN_INSTANCE, says)
        return parts[0], instance

    def _blocked(self, task: Task, instance: Instance) -> bool:
        return task.unless is not None and is_satisfied(task.unless, instance.noted)

    def _command_id(self, task: TaskName, number: int) -> CommandId:
        generation = self.state.instances_generation
        return command_id(self.rules.app, self.session, generation=generation, task=task, number=number)

    def _refuse(self, refused: Refused) -> Refused:
        """Count a refused event (R2.4)."""
        self.state.refused += 1
        return refused

    # ---- timers -------------------------------------------------------------------------------

    def _start_timer(self, task: Task, instance: Instance) -> None:
        """Take a timer into account that an instance has got; nothing if it has none."""
        timer = due(task, instance)
        if timer is None:
            return
        state = self.state
        if state.due_us is None or timer.us < state.due_us:
            state.due_us = timer.us
        if self.timers is not None:
            heappush(self.timers, (timer.us, self.config.places[task.name], instance.number, task.name))

    # ---- places -------------------------------------------------------------------------------

    def _places_of(self, name: TaskName) -> TaskPlaces:
        """The places of a task that has instances, in a record that this draft may modify."""
        record = self._own(name)
        if record.places is None:
            record.places = count_places(record)
        return record.places

    def _leave_place(self, name: TaskName, instance: Instance) -> None:
        """Note that an instance is about to give its place back, or to leave the line of those held."""
        places = self._own(name).places
        if instance.status in DECIDED:
            task = self.config.by_name.get(name)
            if task is not None and task.limits_places:
                self.freed = {name} if self.freed is None else self.freed | {name}
            if places is not None:
                places.taken -= 1
        elif places is not None:
            places.held.pop(instance.number, None)

    # ---- resolving and forgetting -------------------------------------------------------------

    def _resolve(self, task: TaskName, instance: Instance, status: Status) -> None:
        """Resolve an owned, open instance (R1.6), and forget the oldest beyond the bound (R10.9)."""
        state = self.state
        record = self._own(task)
        if record.places is not None or self.config.limits_places:
            self._leave_place(task, instance)
        instance.status = status
        instance.changed_us = instance.ended_us = state.clock_us
        del record.open[instance.number]
        state.open_count -= 1
        self.resolved += 1
        if self.meter is not None:
            self.meter.shrunk()
        record.resolved[instance.number] = instance
        limit = self.config.bounds.resolved_instances
        while len(record.resolved) + count_of(record.retired) > limit:
            if record.retired and record.retired[0][0] < min(record.resolved, default=record.next):
                record.retired = without_first(record.retired)
            else:
                del record.resolved[min(record.resolved)]

    def _forget_resolved(self, sizes: Sizes, limit: int) -> None:
        """Forget the oldest resolved instances until the rest is within the bound in bytes (R10.9)."""
        state = self.state
        spans = captured_by_resolved_alone(state)
        sizes_of_kept = {(name, ref): sizes.arrival(state.arrival(name, ref)) for name, ref in spans}
        kept = [
            (instance.ended_us or 0, place, number, name, sizes.instance(instance))
            for place, (name, record) in enumerate(state.tasks.items())
            for number, instance in record.resolved.items()
        ]
        total = sum(sizes_of_kept.values()) + sum(size for *_, size in kept)
        if total <= limit:
            return
        for _, _, number, name, size in sorted(kept):
            record = self._own(name)
            instance = record.resolved.pop(number)
            total -= size
            for event in set(captured_refs(instance.captured)):
                if event in spans:
                    spans[event] -= 1
                    if not spans[event]:
                        total -= sizes_of_kept[event]
            if total <= limit:
                break

    def _start_generation(self) -> None:
        """Forget the closed generation's instances: the next one begins (R4.2)."""
        state = self.state
        state.closed = False
        state.tasks = {}
        state.kept, state.recent = {}, {}
        state.open_count = 0
        state.due_us = None
        state.latest_captured = frozenset()
        state.remembered = {}
        self.owned.clear()

    # ---- events that instances captured ------------------------------------------------------

    def _mark_captured(self, trigger: TriggerName) -> None:
        """Note that an instance captured the trigger's latest event."""
        self.state.latest_captured = mark(self.state.latest_captured, trigger)

    def _keep(self, trigger: TriggerName, arrival: Arrival) -> None:
        """Keep an event that is no longer the latest of its trigger (R4.3)."""
        state = self.state
        event = (trigger, arrival.offset)
        if event not in state.recent:
            state.recent = {**state.recent, event: arrival}

    def _needed_event(self, trigger: TriggerName, ref: Ref) -> Arrival | None:
        """An event that the state still has when it meets a configuration, wherever batches end.

        Those of resolved instances do not count: which of them the state has may change nothing (R10.11).
        """
        latest = self.state.seen.get(trigger)
        if latest is not None and latest.offset == ref:
            return latest
        if self.needed is None:
            self.needed = self.state.needed_events(by_resolved=False)
        return self.needed.get(trigger, {}).get(ref)

    def _file_recent_events(self) -> None:
        """Move many recent events to ``kept``, and drop those that nothing needs if there are too many.

        This is done at the end of a fold only: in the middle, a leaf may hold an event of which the state
        does not say so yet.
        """
        state = self.state
        if len(state.recent) < _RECENT:
            return
        kept = {name: arrivals.copy() for name, arrivals in state.kept.items()}
        for (name, ref), one in state.recent.items():
            kept.setdefault(name, {})[ref] = one
        state.kept, state.recent = kept, {}
        if sum(map(len, kept.values())) >= max(_COLLECTED, state.collect_at):
            # Folding a whole log at once must not keep the whole log.
            state.kept = state.needed_events()
            state.collect_at = _COLLECTED_AGAIN * sum(map(len, state.kept.values()))


def other_generation(generation: int, given_for: int | None) -> Refused:
    """The refusal of an order that was given for another generation of the session."""
    says = f"the session is in generation {generation}, the order was given for {given_for}"
    return Refused(Why.OTHER_GENERATION, says)


def bound_text(key: str, limit: int, what: str) -> str:
    """Why a session cannot hold more than ``limit`` of ``what``; ``key`` names the bound in a tasks file."""
    return f"a session holds at most {limit:,} {what} ($bounds.{key})"
