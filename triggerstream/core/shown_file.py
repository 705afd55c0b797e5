"""The tasks file in whose form an instance is shown: the one in force, or that of its decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from triggerstream.core.conditions import Condition, Slot, Takes
from triggerstream.core.held import Holding, InSequence, Keyed, Members, One, Several
from triggerstream.core.ids import LeafName, TaskName
from triggerstream.core.slots import is_met, refs
from triggerstream.core.state import WAITING, Instance, Status
from triggerstream.core.tasks import Rules, Task


def task_shown(rules: Rules, name: TaskName, instance: Instance) -> Task | None:
    """The task as a file had it that explains what the instance captured; None: no known file does."""
    current = rules.current.config.by_name.get(name)
    if instance.status in WAITING and instance.clone_of is None:
        return current
    decided = was_decided(instance)
    for task in _versions(rules, name, instance):
        if fits(task.after, instance.captured) and (
            not decided or _is_complete(task.after, instance.captured)
        ):
            return task
    return None


def was_decided(instance: Instance) -> bool:
    """True once later events and tasks files do not change what the instance runs with."""
    return instance.sent is not None or instance.clone_of is not None or instance.status is Status.FAILED


def _versions(rules: Rules, name: TaskName, instance: Instance) -> Iterator[Task]:
    """The task as the file had it under which the instance was decided, then as other files have it."""
    history = list(reversed(rules.history))
    if instance.sent is not None:
        decided_under = instance.sent.config
        history.sort(key=lambda version: version.hash != decided_under)
    for version in history:
        task = version.config.by_name.get(name)
        if task is not None:
            yield task


def fits(condition: Condition, held: Mapping[LeafName, Holding]) -> bool:
    """True if each leaf that holds something is in the condition, and can hold that."""
    slots = condition.slots
    return all(name in slots and _can_hold(slots[name], name, one) for name, one in held.items())


def _can_hold(slot: Slot, name: LeafName, held: Holding) -> bool:
    if any(trigger != slot.leaf.trigger for trigger, _ in refs(name, held)):
        return False
    match slot.takes:
        case Takes.FIRST:
            return isinstance(held, int | One)
        case Takes.COUNT:
            return isinstance(held, Several)
        case Takes.KEYS:
            return isinstance(held, Keyed)
        case Takes.MEMBERS:
            return isinstance(held, Members)
        case Takes.SEQUENCE_START | Takes.SEQUENCE:
            # A decided instance keeps only the events that met the leaf.
            if isinstance(held, InSequence):
                return True
            return isinstance(held, int | One) if slot.leaf.count is None else isinstance(held, Several)
        case _ as never:
            assert_never(never)


def _is_complete(condition: Condition, captured: Mapping[LeafName, Holding]) -> bool:
    """True if the condition is satisfied by the leaves that a decided instance captured."""
    return condition.is_satisfied({name for name in captured if leaf_is_met(condition, name, captured)})


def leaf_is_met(condition: Condition, name: LeafName, held: Mapping[LeafName, Holding]) -> bool:
    """True if a leaf is met by what an instance holds, decided or not."""
    slot, holding = condition.slots[name], held.get(name)
    if slot.takes in {Takes.SEQUENCE_START, Takes.SEQUENCE} and not isinstance(holding, InSequence):
        return holding is not None
    return is_met(slot, holding)
