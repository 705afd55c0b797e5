"""Finds the task whose `}` is missing, in a file that ends within an open bracket."""

from __future__ import annotations

from triggerstream.wire.tasksfile.tree import Member, Object

_KEYS_OF_A_TASK = {"after", "run"}


def left_open(root: Object) -> tuple[Member, Object, int] | None:
    """The first task within another one: that one, the object in it that was left open, and the place there.

    Tasks stand at the top of a file, so one that stands deeper follows a missing bracket.
    """
    for task in root.members:
        open_objects = [task.value]
        while open_objects:
            node = open_objects.pop()
            if not isinstance(node, Object):
                continue
            for place, member in enumerate(node.members):
                if _is_task(member):
                    return task, node, place
            open_objects.extend(member.value for member in reversed(node.members))
    return None


def _is_task(member: Member) -> bool:
    value = member.value
    return isinstance(value, Object) and {inner.key for inner in value.members} >= _KEYS_OF_A_TASK
