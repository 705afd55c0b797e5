"""Places of a task: which instances of a session take one, and which are held until there is one.

The rules: docs/semantics.md, R8.10 and R8.11. Nothing here changes a status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

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


class HeldFor(StrEnum):
    """The reason why an instance is held: its task is paused, all places are taken, or others come first."""

    PAUSED = "paused"
    PLACES = "places"
    OTHERS = "others"


class Hold(NamedTuple):
    """Why an instance is held. ``by``: the instances that take the places, or that come first."""

    reason: HeldFor
    by: tuple[int, ...] = ()


def holds_of(task: Task, record: TaskRecord) -> dict[int, Hold]:
    """Why the held instances of a task are held, by number.

    One for which there is a place is left out: it is decided once the session is judged.
    """
    places = TaskPlaces(record)
    if not places.held:
        return {}
    if task.paused:
        return {number: Hold(HeldFor.PAUSED) for number in places.held}
    if task.max_concurrency is None:
        return {}
    free = max(task.max_concurrency - places.taken, 0)
    line = tuple(places.held)
    holds = {number: Hold(HeldFor.OTHERS, line[:at]) for at, number in enumerate(line) if at >= free}
    if not free:
        running = sorted(n for n, instance in record.open.items() if instance.status in DECIDED)
        holds[line[0]] = Hold(HeldFor.PLACES, tuple(running))
    return holds
