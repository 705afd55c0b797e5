"""Due times: worked out from stored starts and the file in force (docs/semantics.md, R8.2).

Only the first due time of a session is stored, so that engines find it without reading the instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from triggerstream.core.ids import TaskName
from triggerstream.core.state import Instance, SessionState, Status, TaskRecord
from triggerstream.core.tasks import Configuration, Debounce, Rules, Task


class DueOf(StrEnum):
    """The key of a task from which the due time of an instance follows."""

    DEADLINE = "deadline"
    RETRY = "retry"
    REPEAT = "repeat"
    DELAY = "delay"
    DEBOUNCE = "debounce"


class Due(NamedTuple):
    """The instant at which an instance's timer fires, in microseconds, and the key that it follows from."""

    us: int
    of: DueOf


def due(task: Task, instance: Instance) -> Due | None:
    """The timer of an instance; None if time does not change it.

    A delayed instance whose key is gone from the file is due when its wait began.
    """
    if instance.status is Status.UNSTARTED:
        deadline_us = task.deadline_us
        if deadline_us is None or instance.clone_of is not None or instance.opened_us == 0:
            return None
        return Due((instance.opened_us or instance.created_us) + deadline_us, DueOf.DEADLINE)
    if instance.status is not Status.DELAYED:
        return None
    start_us = instance.waits_from_us or 0
    if instance.clone_of is not None:
        return Due(start_us + _retry_wait_us(task, instance), DueOf.RETRY)
    if instance.repeat_of is not None:
        return Due(start_us + (0 if task.repeat is None else task.repeat.every_us), DueOf.REPEAT)
    if task.debounce is not None:
        return Due(_quiet_until(task.debounce, instance, start_us), DueOf.DEBOUNCE)
    return Due(start_us + (task.delay_us or 0), DueOf.DELAY)


def _retry_wait_us(task: Task, clone: Instance) -> int:
    if clone.waits_us is not None:
        return clone.waits_us
    return 0 if task.retry is None else task.retry.wait_us(clone.retries - 1)


def _quiet_until(debounce: Debounce, instance: Instance, start_us: int) -> int:
    quiet_us = start_us + debounce.quiet_us
    if debounce.at_most_us is None or instance.satisfied_us is None:
        return quiet_us
    return min(quiet_us, instance.satisfied_us + debounce.at_most_us)


Timer: TypeAlias = tuple[int, int, int, TaskName]
"""A timer in the order of firing (R8.3): due time, the task's place in the file, the instance's number; and
the task's name."""


def timers_of(config: Configuration, state: SessionState) -> Iterator[Timer]:
    """All timers of a session under the file that it has met."""
    for name, record in state.tasks.items():
        task = config.by_name.get(name)
        if task is not None:
            for instance in _timed(task, record):
                found = due(task, instance)
                if found is not None:
                    yield found.us, config.places[name], instance.number, name


def _timed(task: Task, record: TaskRecord) -> Iterable[Instance]:
    """The open instances that may have a timer, by number."""
    if isinstance(record.open, dict):
        return record.open.values()
    statuses = {Status.DELAYED} if task.deadline_us is None else {Status.DELAYED, Status.UNSTARTED}
    return record.open.where(lambda shape: shape.status in statuses)


def is_deadline_due(config: Configuration, state: SessionState, until_us: int) -> bool:
    """True if an instance has a deadline at or before ``until_us`` under the file that the state has met."""
    if not config.starts_timers:
        return False
    for name, record in state.tasks.items():
        task = config.by_name.get(name)
        if task is not None and task.deadline_us is not None:
            for instance in _timed(task, record):
                found = due(task, instance)
                if found is not None and found.of is DueOf.DEADLINE and found.us <= until_us:
                    return True
    return False


def with_exact_due(rules: Rules, state: SessionState) -> SessionState:
    """The state with its first due time instead of a lower bound, so that batches do not change its bytes."""
    if state.due_us is None:
        return state
    first = min(timers_of(rules.met(state.config).config, state), default=None)
    exact_us = None if first is None else first[0]
    if exact_us == state.due_us:
        return state
    state = copy(state)
    state.due_us = exact_us
    return state
