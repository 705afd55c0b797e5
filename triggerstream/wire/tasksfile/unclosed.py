"""Finds the task whose `}` is missing, in a file that ends within an open bracket."""

from __future__ import annotations

from triggerstream.wire.tasksfile.tree import Document, Member, Object

_KEYS_OF_A_TASK = {"after", "run"}
_OBJECTS_OF_A_TASK = {"withParams", "retry"}


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
                if _is_task(member, directly=node is task.value):
                    return task, node, place
            open_objects.extend(member.value for member in reversed(node.members))
    return None


def closed_too_early(root: Object, document: Document) -> Member | None:
    """The last task, if its `}` begins a line and stands further left than the task's own line.

    Who indents a file puts the file's own `}` there; the task's is the one that is missing.
    """
    last = root.members[-1] if root.members else None
    if last is None or not isinstance(last.value, Object) or last.value.end < 0:
        return None
    end = last.value.end
    _, column = document.position(end)
    if document.text[end - column + 1 : end].strip():
        return None  # it does not begin its line
    _, key_column = document.position(last.at)
    before = document.text[last.at - key_column + 1 : last.at]
    return last if column <= len(before) - len(before.lstrip()) else None


def _is_task(member: Member, *, directly: bool) -> bool:
    """True if a member looks like a task; ``directly``: it stands in a task, where few objects may stand."""
    value = member.value
    if not isinstance(value, Object):
        return False
    keys = _KEYS_OF_A_TASK & {inner.key for inner in value.members}
    return keys == _KEYS_OF_A_TASK or (bool(keys) and directly and member.key not in _OBJECTS_OF_A_TASK)
