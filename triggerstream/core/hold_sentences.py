"""Sentences about what a held instance waits for."""

from __future__ import annotations

from typing import Final, assert_never

from triggerstream.core.ids import TaskName, instance_id
from triggerstream.core.joined_names import join_first
from triggerstream.core.places import HeldFor, Hold
from triggerstream.core.tasks import Task

_NAMED: Final = 3


def hold_words(task: Task | None, hold: Hold | None) -> str:
    """Why an instance is held: `is held: the task is paused`."""
    if task is None or hold is None:
        return "is held; it is decided at the session's next event"
    match hold.reason:
        case HeldFor.PAUSED:
            return "is held: the task is paused"
        case HeldFor.PLACES:
            runs = "runs" if len(hold.by) == 1 else "run"
            most = task.max_concurrency or 0
            return f"is held: at most {most:,} at a time, {_named(task.name, hold.by)} {runs}"
        case HeldFor.OTHERS:
            return f"is held behind {_named(task.name, hold.by)}"
        case _ as never:
            assert_never(never)


def place_keys(task: Task) -> list[str]:
    """The keys of a task that limit its places in words, each by itself."""
    words = ["paused"] if task.paused else []
    if task.max_concurrency is not None:
        words.append(f"at most {task.max_concurrency:,} at a time")
    return words


def _named(task: TaskName, numbers: tuple[int, ...]) -> str:
    """The first instances by name, and the number of the others."""
    return join_first([instance_id(task, number) for number in numbers], _NAMED)
