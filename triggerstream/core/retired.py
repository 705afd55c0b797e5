"""Resolved instances that have left a session's state for entries of their own (R10.11)."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from msgspec import Struct

from triggerstream.core.held import Ref
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.number_ranges import count_of, each_of, is_among
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Arrival, Instance, SessionState, TaskRecord

KEPT_RESOLVED = 8
"""Resolved instances of a task that stay in the state. Each has some 400 bytes, and is read and written with
every event of the session; a message that a broker delivers again concerns one of the newest."""


class Retired(Struct, frozen=True, kw_only=True):
    """A resolved instance with the events that it captured, so that it can be read without the state.

    ``generation`` is that of the session's instances.
    """

    task: TaskName
    generation: int
    instance: Instance
    events: dict[TriggerName, dict[Ref, Arrival]]


def retired_of(state: SessionState, task: TaskName, instance: Instance) -> Retired:
    """The entry of an instance of ``state``, with the events that it captured."""
    events: dict[TriggerName, dict[Ref, Arrival]] = {}
    for trigger, ref in captured_refs(instance.captured):
        events.setdefault(trigger, {})[ref] = state.arrival(trigger, ref)
    return Retired(task=task, generation=state.instances_generation, instance=instance, events=events)


def retired_numbers(state: SessionState) -> dict[TaskName, tuple[int, ...]]:
    """The numbers of the instances that have entries of their own, by task."""
    return {name: tuple(each_of(record.retired)) for name, record in state.tasks.items() if record.retired}


def is_retired_in(state: SessionState, one: Retired) -> bool:
    """True if ``state`` names the entry. If not, it was deleted, or is of another moment than the state."""
    record = state.tasks.get(one.task)
    return (
        one.generation == state.instances_generation
        and record is not None
        and is_among(one.instance.number, record.retired)
    )


def with_retired(state: SessionState, entries: Iterable[Retired]) -> SessionState:
    """``state`` as it would be if no instance had left it: for readers, never for the fold.

    An entry that ``state`` does not name is left out: it was read at another moment.
    """
    found = [one for one in entries if is_retired_in(state, one)]
    if not found:
        return state
    whole = copy(state)
    whole.tasks = dict(state.tasks)
    whole.kept = {name: dict(arrivals) for name, arrivals in state.kept.items()}
    for name in {one.task for one in found}:
        record = whole.tasks[name] = copy(whole.tasks[name])
        mine = {one.instance.number: one.instance for one in found if one.task == name}
        record.resolved = dict(sorted(mine.items())) | record.resolved
        record.retired = ()
    for one in found:
        for trigger, arrivals in one.events.items():
            whole.kept.setdefault(trigger, {}).update(arrivals)
    return whole


def forgotten_count(record: TaskRecord) -> int:
    """The number of a task's instances that neither its state nor an entry has any more."""
    return record.next - len(record.open) - len(record.resolved) - count_of(record.retired)
