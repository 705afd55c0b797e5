"""Outcomes in a list of events: those that name no command, and those whose command was not decided."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.events import OUTCOME_TYPES
from triggerstream.core.ids import InstanceId, Json, JsonObject, SessionId, TaskName, split_instance_id
from triggerstream.core.projections import explain
from triggerstream.core.similar_names import nearest
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.tasksfile.nodes import listed, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayOutcome:
    """A line with an outcome that belongs to no command that the simulation has decided.

    ``command`` is None if the line names none; then ``says`` is why its instance has none.
    """

    place: SourceLocation
    session: SessionId
    instance: str
    command: str | None
    says: str = ""


@dataclass(frozen=True, slots=True)
class OwnOutcome:
    """An outcome without the id of a command."""

    data: JsonObject
    task: TaskName
    number: int


def own_outcome(line: JsonObject) -> OwnOutcome | None:
    """The outcome of an instance that names no command; None for any other line."""
    data = line.get("data")
    if line.get("type") not in OUTCOME_TYPES or not isinstance(data, dict) or data.get("command") is not None:
        return None
    named = data.get("instance")
    parts = split_instance_id(named) if isinstance(named, str) else None
    return None if parts is None else OwnOutcome(data, *parts)


def named_outcome(place: SourceLocation, session: SessionId, data: Json) -> StrayOutcome | None:
    """The outcome of ``data``, to be reported if its command is not decided; None if it names none."""
    if not isinstance(data, dict):
        return None
    instance, command = data.get("instance"), data.get("command")
    if not isinstance(instance, str) or not isinstance(command, str):
        return None
    return StrayOutcome(place=place, session=session, instance=instance, command=command)


def why_no_command(
    rules: Rules, session: SessionId, state: SessionState | None, named: InstanceId, task: TaskName
) -> str:
    """Why the instance ``named`` of ``task`` has no command, in a session with ``state``."""
    tasks = rules.current.config.by_name
    if task not in tasks and (state is None or task not in state.tasks):
        likely = nearest(task, tasks)
        hint = "" if likely is None else f": did you mean `{shown(likely)}`?"
        return f"there is no task `{shown(task)}`{hint}"
    if state is None:
        return f"nothing has arrived for session {session}"
    explained = explain(rules, session, state)
    instance = explained.find(named)
    if instance is not None:
        return f"{named} {instance.says}"
    known = [one.instance for task in explained.tasks for one in task.instances]
    there = f"has {listed(known)}" if known else "has no instance"
    return f"session {session} {there}"
