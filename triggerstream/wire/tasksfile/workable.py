"""Errors about files that can never work, although each of their parts may be read.

They are found where a file is checked or applied. A file that is in force already is read without them:
the log decides what it means, whatever a later release would accept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace as replace_fields
from typing import Final

from msgspec.structs import replace

from triggerstream.core.events import Event, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, ConfigHash, SessionId, TriggerName
from triggerstream.core.results import Folded, Rejected
from triggerstream.core.similar_names import invisible_characters
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Bounds, Configuration, Rules, Task
from triggerstream.wire.state import EncodedSizes
from triggerstream.wire.tasksfile.entries import TasksFile
from triggerstream.wire.tasksfile.logic import ways
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, shown

MOST_NAMES: Final = 1_000
"""Names in one list. A session that has seen more takes no new name once no task uses them (R10.5)."""
_REPORTED = 20
"""Triggers and tasks beyond bounds that are reported: one bound may forbid them all."""
_SIZES = EncodedSizes()

_NO_NAME = re.compile(
    r"[\s/\\()\[\]{}<>,;'\"`$]|^\.|\.\.|\.$"
    r"|\.(?:py|__main__)$"  # a file, a module
    r"|^[^:]*\.[^:]*:|:(?:app|celery)$"  # module:attribute, as for a Celery app; `ns:task` may be a name
)
_NO_TASK = re.compile(r"^[^/\\:]*\.py$|:(?:app|celery)$")
"""A module's file or a Celery app: no part of it names a task."""
_BRACKETS = re.compile(r"[(\[{<].*", re.DOTALL)


def check_workable(file: TasksFile, findings: Findings) -> None:
    """Report names that no Celery task can have, reserved keys, lists too long, bounds that nothing keeps."""
    for entry in file.entries:
        if entry.run is not None:
            _check_run(entry.run, findings)
        for reserved in entry.reserved:
            message = (
                f"`{reserved.text}` cannot stand in a file with `$extras`, where an earlier release kept it "
                f"without a meaning: leave `$extras` out, or name your own key `x-{reserved.text}`"
            )
            reserved.error(findings, "unsupported-key", message)
        for key, condition in (("after", entry.after), ("unless", entry.unless)):
            if condition.is_list and (count := len(condition.leaves)) > MOST_NAMES:
                message = (
                    f"`{key}` names {count:,} triggers: at most {MOST_NAMES:,}; let tasks wait for "
                    "parts of them, and this one for those tasks"
                )
                entry.name.error(findings, "too-many-names", message)
    if not findings.errors:
        _check_bounds(file, findings)


def _check_run(run: LocatedName, findings: Findings) -> None:
    if _NO_NAME.search(run.text) is None and not invisible_characters(run.text):
        return
    likely = likely_task_name(run.text)
    hint = "such as `my_app.tasks.Report`" if likely is None else f"perhaps `{likely}`"
    message = f"`{shown(run.text)}` is no Celery task's name: write the one that is registered, {hint}"
    run.error(findings, "bad-run", message)


def likely_task_name(text: str) -> str | None:
    """The name that was probably meant by a path or a call; None if none can be made out."""
    if _NO_TASK.search(text):
        return None
    name = _BRACKETS.sub("", text.strip().strip("'\"`")).strip().removeprefix("./")
    name = re.sub(r"\.py(?=[:/\\.]|$)", "", name)
    name = re.sub(r"[/\\]+|::?", ".", name).strip(".")
    return name if name and _NO_NAME.search(name) is None and name != text else None


def _check_bounds(file: TasksFile, findings: Findings) -> None:
    """Fold the first event of each trigger, and all events of each task, into a session of its own."""
    tasks = tuple(entry.task for entry in file.entries if entry.task is not None)
    config = _configuration(tasks, file.bounds)
    limit, lowered = file.bounds.unresolved_instances, file.bounds != Bounds()
    reported = 0
    for name in file.triggers().values():
        trigger = TriggerName(name.text)
        users = tuple(use.task for use in config.users.get(trigger, ()) if _takes_any(use.task, trigger))
        if len(users) <= limit and not lowered:
            continue
        reason = _refusal(_configuration(users, file.bounds), [trigger])
        if reason is not None:
            message = f"`{shown(name.text)}` can never be folded, as {_tasks(len(users))} it: {reason}"
            name.error(findings, "beyond-bounds", message)
            reported += 1
        if reported == _REPORTED:
            return
    if reported or not lowered:
        return
    for entry in file.entries:
        if entry.task is None or reported == _REPORTED:
            continue
        reason = _never_decided(_decided_at_once(entry.task), file.bounds)
        if reason is not None:
            entry.name.error(findings, "beyond-bounds", f"can never be decided: {reason}")
            reported += 1


def _decided_at_once(task: Task) -> Task:
    """``task`` without what puts its decision off: the bounds are those of the decision."""
    return replace_fields(
        task,
        within_us=None,
        deadline_us=None,
        delay_us=None,
        debounce=None,
        repeat=None,
        max_concurrency=None,
        paused=False,
    )


def _takes_any(task: Task, trigger: TriggerName) -> bool:
    """True if the task uses each event of the trigger, whatever it brings."""
    conditions = [task.after] if task.unless is None else [task.after, task.unless]
    slots = (slot for condition in conditions for slot in condition.by_trigger.get(trigger, ()))
    return any(slot.matches_all for slot in slots)


def _never_decided(task: Task, bounds: Bounds) -> str | None:
    """Why no events without data satisfy the task; None if some do, or if its events must bring data."""
    found = ways(task.after.root)
    slots = task.after.slots
    if found is None or not all(slots[name].matches_all for way in found for name in way):
        return None
    config = _configuration((task,), bounds)
    reason = None
    for way in found:
        leaves = [slot.leaf for name, slot in slots.items() if name in way]
        triggers = [leaf.trigger for leaf in leaves for _ in range(leaf.count or 1)]
        reason = _refusal(config, triggers)
        if reason is None:
            return None
    return reason


def _tasks(users: int) -> str:
    return "1 task uses" if users == 1 else f"{users:,} tasks use"


def _configuration(tasks: tuple[Task, ...], bounds: Bounds) -> Configuration:
    return Configuration(hash=ConfigHash(""), text="", tasks=tasks, bounds=bounds)


def _refusal(config: Configuration, triggers: Sequence[TriggerName]) -> str | None:
    """Why a new session refuses ``triggers``, which bring nothing; None if it does not."""
    rules = Rules(
        app=AppId("a"), history=(AppliedConfiguration(config=config, offset=0, arrival_us=0, number=1),)
    )
    state: SessionState | None = None
    event = Event(
        session=SessionId("s"),
        offset=0,
        arrival_us=0,
        time_us=0,
        type="",
        body=Trigger(name=TriggerName(""), data={}),
    )
    for offset, name in enumerate(triggers, 1):
        body = Trigger(name=name, data={})
        now = replace(event, offset=offset, time_us=offset, type=name, body=body)
        folded = step(rules, state, now, sizes=_SIZES)
        if isinstance(folded, Rejected):
            return folded.reason
        if isinstance(folded, Folded):
            state = folded.state
    return None
