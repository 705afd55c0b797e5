"""Finds conditions that need more events of a task's name than the task can fire in a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Leaf, Node, is_satisfied
from triggerstream.core.conditions import Sequence as InOrder
from triggerstream.core.ids import TIMEOUT_SUFFIX, LeafName, TaskName, timeout_of
from triggerstream.wire.tasksfile.conditions import LocatedCondition
from triggerstream.wire.tasksfile.entries import Entry
from triggerstream.wire.tasksfile.logic import required
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, shown
from triggerstream.wire.tasksfile.timeouts import UNLESS_FIRED, sources_of


def check_finishes(entries: Sequence[Entry], findings: Findings) -> None:
    """Warn of leaves that wait for a task to finish more often than it can in a session."""
    tasks: dict[str, Entry] = {}
    for entry in entries:
        tasks.setdefault(entry.name.text, entry)
    most = _most_finishes(tasks)
    for entry in entries:
        _report(entry, most, findings)
        _report_lists(entry, most, findings)


def _most_finishes(tasks: Mapping[str, Entry]) -> dict[str, int]:
    """The most times that a task's name, or its ``.timeout``, can fire; those without a limit are left out.

    A retry or a replay runs an instance again that has not finished, and ``skip --cascade`` fires the name
    in place of it: so each instance fires the name once at most, with ``repeat`` once in each round, and its
    ``.timeout`` once at most. Without ``andEvery`` a task has one instance, retries and replays aside, with
    it one for each event of that trigger. If the task can start without that event, there may be one more.
    """
    most: dict[str, int] = {}
    done: set[str] = set()
    sources = sources_of(tasks)
    for start in tasks:
        walk: list[str] = []
        name: str | None = start
        while name is not None and name not in done:
            done.add(name)
            walk.append(name)
            every = tasks[name].every
            name = None if every is None else sources.get(every.trigger.text)
        for one in reversed(walk):
            entry = tasks[one]
            instances = _most_instances(entry, most)
            if instances is None:
                continue
            rounds = _most_rounds(entry)
            if rounds is not None:
                most[one] = instances * rounds
            timeout = timeout_of(TaskName(one))
            if sources.get(timeout) == one:
                most[timeout] = instances
    return most


def _most_instances(entry: Entry, most: Mapping[str, int]) -> int | None:
    """The number of instances of a task in a session; None if there is no limit."""
    if not entry.clear:
        return None
    if entry.every is None:
        return 1
    limit = most.get(entry.every.trigger.text)
    needed = entry.every.leaf.name in required(entry.after.root)
    return None if limit is None else limit + (not needed)


def _most_rounds(entry: Entry) -> int | None:
    """The number of times that an instance is decided; None if it could not be made out."""
    if "repeat" not in entry.keys:
        return 1
    return None if entry.task is None or entry.task.repeat is None else 1 + entry.task.repeat.max


class _Lacking(NamedTuple):
    """A leaf that cannot be met, its place, and the number of events of its trigger that are needed."""

    place: LocatedName
    leaf: LeafName
    trigger: str
    needed: int


def _lacking(condition: LocatedCondition, most: Mapping[str, int]) -> list[_Lacking]:
    """The leaves of a condition that cannot be met."""
    found: list[_Lacking] = []
    for leaf in condition.by_name.values():
        limit, count = most.get(leaf.trigger.text), leaf.leaf.count
        if limit is not None and count is not None and count > limit:
            found.append(_Lacking(leaf.keys["count"], leaf.leaf.name, leaf.trigger.text, count))
    places = {leaf.leaf.name: leaf.trigger for leaf in condition.leaves}
    for sequence in _sequences(condition.root):
        needed: dict[str, int] = {}
        for place in sequence.leaves:
            before = needed.get(place.trigger, 0)
            needed[place.trigger] = before + (place.count or 1)
            limit = most.get(place.trigger)
            if before and limit is not None and before <= limit < needed[place.trigger]:
                found.append(_Lacking(places[place.name], place.name, place.trigger, needed[place.trigger]))
    return found


def _sequences(node: Node) -> Iterator[InOrder]:
    match node:
        case InOrder():
            yield node
        case AllOf(members=members) | AnyOf(members=members) | AtLeast(members=members):
            for member in members:
                yield from _sequences(member)
        case Leaf():
            return


def _report(entry: Entry, most: Mapping[str, int], findings: Findings) -> None:
    lacking = _lacking(entry.after, most)
    met = {leaf.leaf.name for leaf in entry.after.leaves} - {one.leaf for one in lacking}
    starts = not entry.clear or is_satisfied(entry.after.root, met)
    for one in lacking:
        if starts:
            _warn(one, "finishes-once", "so this is never met", most, findings)
        else:
            _warn(one, "never-starts", "so this can never start", most, findings)
    for one in _lacking(entry.unless, most):
        _warn(one, "finishes-once", "so this is never met", most, findings)


def _warn(one: _Lacking, code: str, then: str, most: Mapping[str, int], findings: Findings) -> None:
    limit = _limit(one.trigger, most)
    message = f"{limit}, and {one.needed:,} are waited for, {then} {UNLESS_FIRED} {_THAT_NAME}"
    one.place.warn(findings, code, message)


def _report_lists(entry: Entry, most: Mapping[str, int], findings: Findings) -> None:
    """Warn of leaves with ``each``: short lists may meet them."""
    for leaf in entry.leaves:
        limit = most.get(leaf.trigger.text)
        if limit is not None and leaf.leaf.each is not None:
            longest = "one element" if limit == 1 else f"{limit:,} elements"
            message = (
                f"{_limit(leaf.trigger.text, most)}, so a list of more than {longest} is never complete "
                f"{UNLESS_FIRED} {_THAT_NAME}"
            )
            leaf.keys["each"].warn(findings, "finishes-once", message)


_THAT_NAME = "a trigger of that name"


def _limit(trigger: str, most: Mapping[str, int]) -> str:
    limit = most[trigger]
    times = "once" if limit == 1 else f"at most {limit:,} times"
    if trigger.endswith(TIMEOUT_SUFFIX):
        return f"`{shown(trigger)}` fires {times} in a session (only `andEvery` makes a task wait again)"
    again = "only `andEvery` and `repeat` make a task run again"
    return f"`{shown(trigger)}` finishes {times} in a session ({again})"
