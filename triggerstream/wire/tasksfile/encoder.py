"""Writes the tasks file: a configuration back to text."""

from __future__ import annotations

import json
from typing import assert_never

from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Condition, Leaf, Node, Sequence, leaves_of
from triggerstream.core.durations import format_duration
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.paths import format_path
from triggerstream.core.tasks import AppliesTo, Bounds, Configuration, Debounce, Retry, Task, UnlessFrom
from triggerstream.wire.tasksfile.keys import BOUND_KEYS, NOTE_PREFIX


def encode(config: Configuration) -> str:
    """A tasks file with the tasks and bounds of ``config``; reading it gives equal ones.

    Comments, ``$schema`` and notes between the tasks are no part of the tasks: ``config.text`` has them.
    """
    top: JsonObject = {}
    if any(not key.startswith(NOTE_PREFIX) for task in config.tasks for key in task.extras):
        top["$extras"] = "keep"
    standard = Bounds()
    bounds: JsonObject = {
        key: getattr(config.bounds, bound)
        for key, bound in BOUND_KEYS.items()
        if getattr(config.bounds, bound) != getattr(standard, bound)
    }
    if bounds:
        top["$bounds"] = bounds
    for task in config.tasks:
        top[task.name] = _encode_task(task)
    return json.dumps(top, ensure_ascii=False, indent=2) + "\n"


def _encode_task(task: Task) -> JsonObject:
    after, every = encode_after(task)
    out: JsonObject = {"after": after, "run": task.run}
    if task.unless is not None:
        out["unless"] = encode_list(task.unless)
    if every is not None:
        out["andEvery"] = every
    if task.unless_from is not UnlessFrom.SESSION:
        out["unlessFrom"] = task.unless_from.value
    if task.applies_to is not AppliesTo.NEW:
        out["appliesTo"] = task.applies_to.value
    if task.with_params:
        out["withParams"] = task.with_params
    if task.within_us is not None:
        out["within"] = format_duration(task.within_us)
    if task.deadline_us is not None:
        out["deadline"] = format_duration(task.deadline_us)
    if task.delay_us is not None:
        out["delay"] = format_duration(task.delay_us)
    if task.debounce is not None:
        out["debounce"] = _encode_debounce(task.debounce)
    if task.repeat is not None:
        out["repeat"] = {"every": format_duration(task.repeat.every_us), "max": task.repeat.max}
    if task.retry is not None:
        out["retry"] = _encode_retry(task.retry)
    if task.queue is not None:
        out["queue"] = task.queue
    if task.priority is not None:
        out["priority"] = task.priority
    if task.expires_us is not None:
        out["expires"] = format_duration(task.expires_us)
    if task.max_concurrency is not None:
        out["maxConcurrency"] = task.max_concurrency
    if task.paused:
        out["paused"] = True
    return out | task.extras


def _encode_debounce(debounce: Debounce) -> Json:
    quiet = format_duration(debounce.quiet_us)
    if debounce.at_most_us is None:
        return quiet
    return {"quiet": quiet, "atMost": format_duration(debounce.at_most_us)}


def _encode_retry(retry: Retry) -> JsonObject:
    out: JsonObject = {"max": retry.max}
    if retry.backoff_us:
        out["backoff"] = format_duration(retry.backoff_us)
    if retry.factor != 1:
        out["factor"] = retry.factor
    if retry.max_backoff_us is not None:
        out["maxBackoff"] = format_duration(retry.max_backoff_us)
    return out


def encode_after(task: Task) -> tuple[list[Json], Json]:
    """``after`` and ``andEvery`` of ``task`` as they stand in a file; None if there is no ``andEvery``."""
    members = _members(task.after)
    last = members[-1] if members else None
    if isinstance(last, Leaf) and last.name == task.every:
        names = [leaf.name for leaf in leaves_of(task.after.root)]
        if names.count(last.name) == 1:
            return [_encode_condition(member) for member in members[:-1]], _encode_leaf(last)
    return encode_list(task.after), task.every


def encode_list(condition: Condition) -> list[Json]:
    """The conditions of a list as they stand in a file."""
    return [_encode_condition(member) for member in _members(condition)]


def _members(condition: Condition) -> tuple[Node, ...]:
    root = condition.root
    return root.members if isinstance(root, AllOf) else (root,)


def _encode_condition(node: Node) -> Json:
    """``node`` as it stands in a file."""
    match node:
        case Leaf():
            return _encode_leaf(node)
        case AllOf(members=members):
            return {"all": [_encode_condition(member) for member in members]}
        case AnyOf(members=members):
            return {"any": [_encode_condition(member) for member in members]}
        case AtLeast(need=need, members=members):
            return {"atLeast": need, "of": [_encode_condition(member) for member in members]}
        case Sequence(leaves=leaves):
            return {"sequence": [_encode_leaf(leaf) for leaf in leaves]}
        case _ as never:
            assert_never(never)


def _encode_leaf(leaf: Leaf) -> Json:
    out: JsonObject = {"trigger": leaf.trigger}
    if str(leaf.name) != leaf.trigger:
        out["as"] = leaf.name
    if leaf.where is not None:
        out["where"] = leaf.where.text
    if leaf.key is not None:
        out["key"] = format_path(leaf.key)
    if leaf.count is not None:
        out["count"] = leaf.count
    if leaf.each is not None:
        out["each"] = {"of": leaf.each.of, "list": format_path(leaf.each.path)}
    return leaf.trigger if len(out) == 1 else out
