"""Instances that took the place of another one: automatic retries and operators' replays, in words."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.ids import InstanceId, TaskName, instance_id
from triggerstream.core.state import Instance, SessionState, TaskRecord
from triggerstream.core.tasks import Configuration, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """The instance that took the place of another one; ``retries`` 0: an operator replayed it."""

    instance: InstanceId
    retries: int


def reruns_of(name: TaskName, record: TaskRecord) -> dict[int, Rerun]:
    """The reruns of a task's instances that are still kept, by the number of the instance before."""
    return {
        one.clone_of: Rerun(instance=instance_id(name, one.number), retries=one.retries)
        for one in record.instances()
        if one.clone_of is not None
    }


def rerun_words(task: Task | None, origin: Instance, rerun: Rerun | None) -> str:
    """The end of an instance that was run again, in words; ``rerun`` None: its rerun is no longer kept."""
    if rerun is None:
        return "was run again as a later instance"
    if not rerun.retries:
        return f"was replayed as {rerun.instance}"
    number = f"retry {rerun.retries}"
    if origin.error is None:
        return f"asked to be tried again: {rerun.instance} ({number})"
    most = None if task is None or task.retry is None else task.retry.max
    of = f" of {most}" if most is not None and rerun.retries <= most else ""
    return f"failed; tried again as {rerun.instance} ({number}{of})"


def retry_notes(config: Configuration, state: SessionState) -> dict[str, str]:
    """Sentences for the timeline in place of those that a state stores of retries, which say *replayed*."""
    notes: dict[str, str] = {}
    for name, record in state.tasks.items():
        for number, rerun in reruns_of(name, record).items():
            origin = record.find(number)
            if origin is not None and rerun.retries:
                named = instance_id(name, number)
                says = f"{named} {rerun_words(config.by_name.get(name), origin, rerun)}"
                notes[f"{named} replayed"] = notes[f"{named} replayed as {rerun.instance}"] = says
    return notes
