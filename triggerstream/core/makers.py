"""The event that made an instance, where the instance does not say it (docs/semantics.md, R4.13)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from triggerstream.core.held import Holding, Ref, place_of
from triggerstream.core.ids import LeafName
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Instance
from triggerstream.core.tasks import Task


def derived_maker(task: Task | None, instance: Instance) -> Ref:
    """The offset of the event that made an instance without ``made_by`` (R4.13)."""
    if task is not None and task.every is not None and instance.number > 0:
        for _, ref in captured_refs({n: h for n, h in instance.captured.items() if n == task.every}):
            return ref
    events = (ref for held in (instance.captured, instance.noted) for _, ref in captured_refs(held))
    return min(events, key=place_of, default=0)


def is_derivable(task: Task, instance: Instance, made_by: Ref) -> bool:
    """True if ``made_by`` is what is derived for an instance, now and after further events."""
    if task.every is not None and instance.number > 0 and task.every not in instance.captured:
        return False
    return derived_maker(task, instance) == made_by


def maker_to_store(
    before: Task,
    instance: Instance,
    task: Task,
    captured: Mapping[LeafName, Holding],
    noted: dict[LeafName, Holding],
) -> Ref | None:
    """The event that made an instance, if it could not be derived under ``task`` with what it holds then."""
    changed = copy(instance)
    changed.captured, changed.noted = captured, noted
    made_by = derived_maker(before, instance)
    return None if is_derivable(task, changed, made_by) else made_by


def maker_of_clone(task: Task, origin: Instance, clone: Instance) -> Ref | None:
    """The event that made the origin of a clone, if it could not be derived for the clone."""
    made_by = derived_maker(task, origin)
    return None if is_derivable(task, clone, made_by) else made_by
