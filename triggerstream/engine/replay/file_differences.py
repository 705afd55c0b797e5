"""Finds the triggers for which two tasks files may decide something different."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from triggerstream.core.ids import JsonObject, TriggerName, timeout_of
from triggerstream.core.tasks import Configuration, Task


def differing_triggers(old: Configuration, new: Configuration) -> frozenset[TriggerName] | None:
    """The triggers of which a session needs at least one for the files to decide something different in it.

    A session without any of them has the same result under both files: the tasks that its events can reach,
    directly or through the triggers that follow, are equal and in the same order. None: any trigger may be
    enough, because the files differ in their bounds, or in the order of the tasks that both have.
    """
    both = [task.name for task in old.tasks if task.name in new.by_name]
    if old.bounds != new.bounds or both != [task.name for task in new.tasks if task.name in old.by_name]:
        return None
    groups = _Groups()
    for task in (*old.tasks, *new.tasks):
        first, *others = _triggers(task)
        for other in others:
            groups.join(first, other)
    changed = {
        groups.of(TriggerName(name))
        for name in (*old.by_name, *new.by_name)
        if not _is_same(old.by_name.get(name), new.by_name.get(name))
    }
    return frozenset(
        trigger
        for task in (*old.tasks, *new.tasks)
        for trigger in _triggers(task)
        if groups.of(trigger) in changed
    )


def is_same_json(one: JsonObject, other: JsonObject) -> bool:
    """True if both are the same JSON, in which 1, 1.0 and true are different."""
    if one != other:
        return False
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _is_same(old: Task | None, new: Task | None) -> bool:
    if old is None or new is None:
        return old is new
    return old == new and is_same_json(old.with_params, new.with_params)


def _triggers(task: Task) -> Iterator[TriggerName]:
    """The triggers that a task fires, and those that it waits for."""
    yield TriggerName(task.name)
    yield timeout_of(task.name)
    yield from task.needs
    yield from task.unless_triggers


class _Groups:
    """Disjoint sets of triggers."""

    def __init__(self) -> None:
        self._above: dict[TriggerName, TriggerName] = {}

    def of(self, trigger: TriggerName) -> TriggerName:
        """The trigger that stands for the set of ``trigger``."""
        path = []
        while (above := self._above.get(trigger)) is not None:
            path.append(trigger)
            trigger = above
        for one in path:
            self._above[one] = trigger
        return trigger

    def join(self, one: TriggerName, other: TriggerName) -> None:
        """Make the sets of both one set."""
        first, second = self.of(one), self.of(other)
        if first != second:
            self._above[second] = first
