"""The triggers ``<task>.timeout``: which tasks fire them, and names of them that were probably not meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from triggerstream.core.conditions import is_satisfied
from triggerstream.core.ids import TIMEOUT_SUFFIX, TaskName, TriggerName, timeout_of
from triggerstream.core.similar_names import nearest
from triggerstream.wire.tasksfile.entries import Entry, TasksFile
from triggerstream.wire.tasksfile.logic import required
from triggerstream.wire.tasksfile.nodes import Findings, shown

UNLESS_FIRED = "unless an application fires"
_MOST_HINTS = 20
"""Names that are compared with those of all tasks: a comparison of thousands takes milliseconds."""


def is_met_by_any_event(entry: Entry) -> bool:
    """True if each event that a leaf of ``after`` takes satisfies ``after`` at once."""
    leaves = [leaf.leaf for leaf in entry.after.leaves]
    return (
        entry.clear
        and bool(leaves)
        and all(
            leaf.count in (None, 1) and leaf.each is None and is_satisfied(entry.after.root, {leaf.name})
            for leaf in leaves
        )
    )


def can_expire(entry: Entry) -> bool:
    """True if an instance of the task can reach its deadline."""
    return "deadline" in entry.keys and not is_met_by_any_event(entry)


def sources_of(tasks: Mapping[str, Entry]) -> dict[str, str]:
    """The triggers that tasks fire when they finish or expire, each with the task. Names come first."""
    timeouts = {str(timeout_of(TaskName(name))): name for name, entry in tasks.items() if can_expire(entry)}
    return timeouts | {name: name for name in tasks}


def check_timeout_names(entries: Sequence[Entry], findings: Findings) -> None:
    """Report a task that has the name of the trigger that another one's deadline fires."""
    fired = {
        timeout_of(TaskName(entry.name.text)): entry.name for entry in entries if "deadline" in entry.keys
    }
    for entry in entries:
        other = fired.get(TriggerName(entry.name.text))
        if other is not None:
            message = (
                f"`{shown(other.text)}` at {findings.where(other.at)} has a `deadline`, after which a "
                "trigger of this name fires: give the task another name"
            )
            entry.name.error(findings, "reserved-name", message)


def _check_both_ends(
    entry: Entry, tasks: Mapping[str, Entry], expiring: Collection[str], findings: Findings
) -> None:
    """Warn of a task that waits for one that runs once to finish *and* to expire."""
    needed = required(entry.after.root)
    leaves = [leaf for leaf in entry.after.leaves if leaf.leaf.name in needed]
    triggers = {str(leaf.leaf.trigger) for leaf in leaves}
    for leaf in leaves:
        timeout = str(leaf.leaf.trigger)
        name = timeout.removesuffix(TIMEOUT_SUFFIX)
        if name == timeout or name not in triggers or timeout in tasks or name not in expiring:
            continue
        if tasks[name].every is None:
            message = (
                f"can never start {UNLESS_FIRED} one of them: `{shown(name)}` either finishes or expires; if "
                f'either should start it, write `{{"any": ["{shown(name)}", "{shown(timeout)}"]}}`'
            )
            leaf.trigger.warn(findings, "never-starts", message)


def check_timeouts(file: TasksFile, findings: Findings) -> None:
    """Warn of ``<task>.timeout`` in a condition where nothing in the file fires it."""
    tasks: dict[str, Entry] = {}
    for entry in file.entries:
        tasks.setdefault(entry.name.text, entry)
    expiring = {name for name, entry in tasks.items() if can_expire(entry)}
    for entry in file.entries:
        _check_both_ends(entry, tasks, expiring, findings)
    hints = 0
    for trigger in file.triggers().values():
        name = trigger.text.removesuffix(TIMEOUT_SUFFIX)
        if name in ("", trigger.text) or trigger.text in tasks or name in expiring:
            continue
        never = f"`{shown(trigger.text)}` never fires {UNLESS_FIRED} a trigger of that name"
        if name in tasks and "deadline" not in tasks[name].keys:
            message = f"`{shown(name)}` has no `deadline`, so {never}"
        elif name in tasks:
            message = f"`after` of `{shown(name)}` is met by its first event, so {never}"
        elif expiring and hints < _MOST_HINTS:
            hints += 1
            likely = nearest(name, sorted(expiring))
            hint = "" if likely is None else f": did you mean `{shown(timeout_of(TaskName(likely)))}`?"
            message = f"there is no task `{shown(name)}`, so {never}{hint}"
        else:
            continue  # without deadlines in the file, it is a name like any other
        trigger.warn(findings, "never-times-out", message)
