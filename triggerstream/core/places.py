"""Places of a task: which instances of a session take one, and which are held until there is one.

The rules: docs/semantics.md, R8.10 and R8.11. Nothing here changes a status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from triggerstream.core.state import DECIDED, Status, TaskPlaces, TaskRecord
from triggerstream.core.tasks import Task


def count_places(record: TaskRecord) -> TaskPlaces:
    """The places of a task, counted."""
    open_ = record.open
    if not isinstance(open_, dict):
        taken = open_.count(lambda shape: shape.status in DECIDED)
        open_ = {one.number: one for one in open_.where(lambda shape: shape.status is Status.HELD)}
    else:
        taken = 0
    held: list[tuple[int, int]] = []
    for number, instance in open_.items():
        status = instance.status
        # Comparing identities takes a fifth of looking a status up in a set.
        if status is Status.SCHEDULED or status is Status.RUNNING:
            taken += 1
        elif status is Status.HELD:
            held.append((instance.held_no or 0, number))
    return TaskPlaces(taken, dict.fromkeys(number for _, number in sorted(held)))


def is_place_free(task: Task, places: TaskPlaces) -> bool:
    """True if one more instance may be decided."""
    if task.paused:
        return False
    return task.max_concurrency is None or places.taken < task.max_concurrency


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
    places = count_places(record)
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
