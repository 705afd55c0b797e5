"""Places of a task: which instances of a session take one, and which are held until there is one.

The rules: docs/semantics.md, R8.10 and R8.11. Nothing here changes a status.
"""

from __future__ import annotations

from triggerstream.core.state import DECIDED, Status, TaskRecord
from triggerstream.core.tasks import Task


class TaskPlaces:
    """The places of one task, counted once and kept up to date while an event is folded.

    ``taken`` is the number of instances that are scheduled or running. ``held`` has the numbers of those that
    are held, in the order in which they were held.
    """

    __slots__ = ("held", "taken")

    def __init__(self, record: TaskRecord) -> None:
        self.taken = 0
        held: list[tuple[int, int]] = []
        for number, instance in record.open.items():
            if instance.status in DECIDED:
                self.taken += 1
            elif instance.status is Status.HELD:
                held.append((instance.held_no or 0, number))
        self.held = dict.fromkeys(number for _, number in sorted(held))

    def is_one_free(self, task: Task) -> bool:
        """True if one more instance may be decided."""
        if task.paused:
            return False
        return task.max_concurrency is None or self.taken < task.max_concurrency
