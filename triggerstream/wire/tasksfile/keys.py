"""Reads each key of a tasks file: which values it may hold, and what they become.

``schemas/tasks.schema.json`` says the same for editors and other languages; a test compares the two. What
is doubtful rather than malformed, or concerns several tasks, is in :mod:`triggerstream.wire.tasksfile.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, assert_never

from triggerstream.core.commands import CELERY_PREFIX
from triggerstream.core.conditions import Condition
from triggerstream.core.ids import JsonObject, TaskName
from triggerstream.core.tasks import (
    MOST_DIGESTS,
    MOST_PRIORITY,
    AppliesTo,
    Bounds,
    Debounce,
    Repeat,
    Retry,
    Task,
    UnlessFrom,
)
from triggerstream.wire.tasksfile.condition_checks import (
    add_every,
    check_leaves,
    check_number_of_leaves,
    check_unless,
)
from triggerstream.wire.tasksfile.conditions import (
    Every,
    LocatedCondition,
    read_every,
    read_list,
)
from triggerstream.wire.tasksfile.entries import Entry, TasksFile
from triggerstream.wire.tasksfile.leaves import LocatedLeaf, check_name
from triggerstream.wire.tasksfile.nodes import (
    Findings,
    LocatedName,
    Node,
    listed,
    meant,
    unknown_key,
)
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS, TaskKey
from triggerstream.wire.tasksfile.time_checks import check_times
from triggerstream.wire.tasksfile.time_keys import read_debounce, read_repeat, read_retry
from triggerstream.wire.tasksfile.tree import Value, plain
from triggerstream.wire.tasksfile.tried_keys import instead_of
from triggerstream.wire.tasksfile.values import (
    describe_number,
    read_choice,
    read_duration,
    read_flag,
    read_integer,
    read_text,
)

REFUSED_KEYS: Final = ("onTimeout",)
"""Keys that are refused even under ``$extras``: people expect them to mean something."""
KEPT_UNDER_EXTRAS: Final = frozenset({"repeat", "priority"})
"""Keys that the first release kept under ``$extras`` without a meaning. In a file with ``$extras`` that is in
force, they have none today either; a new file with ``$extras`` cannot have them."""
MOST_CONCURRENT: Final = 1_000
TOP_KEYS: Final = ("$schema", "$extras", "$bounds")
BOUND_KEYS: Final[Mapping[str, str]] = {
    re.sub("_(.)", lambda m: m.group(1).upper(), bound.name): bound.name for bound in fields(Bounds)
}
"""The names of the bounds in the file (``stateBytes``) and in :class:`Bounds` (``state_bytes``)."""
_RAISED: Final[Mapping[str, int]] = {"digests": MOST_DIGESTS}
"""The greatest values of bounds that a file may raise. The others may only be lowered."""
NOTE_PREFIX: Final = "x-"
_WRAPPERS: Final = ("tasks", "rules", "triggers", "triggerstream")
"""Names under which other systems' files hold their list of tasks."""
EXECUTORS: Final = ("celery",)


def read_tasks(root: Value, findings: Findings, *, name: str) -> TasksFile:
    """Read ``root``; whatever is wrong with it goes to ``findings``. ``name`` is the file's."""
    top = Node(root, (), findings)
    if not top.is_object:
        top.error("wrong-type", f'{name} must hold an object of task name → task: `{{"t_report": {{…}}}}`')
        return TasksFile()
    keep = any(key.text == "$extras" and node.text == "keep" for key, node in top.members())
    bounds = Bounds()
    entries: list[Entry] = []
    for key, node in top.members():
        if key.text == "$bounds":
            bounds = _read_bounds(node)
        elif key.text == "$extras":
            if node.text != "keep":
                node.error("wrong-value", 'must be `"keep"`, the only choice there is; or leave the key out')
        elif key.text == "$schema":
            if node.text is None:
                node.error("wrong-type", f"must be a string, the schema's address, not {node.kind}")
        elif key.text.startswith("$"):
            message = unknown_key(key.text, TOP_KEYS, "names beginning with `$` are reserved")
            key.error(findings, "unknown-key", message)
        elif key.text.startswith(NOTE_PREFIX):
            if any(inner.text == "run" for inner, _ in node.members()):
                message = f"names beginning with `{NOTE_PREFIX}` are notes: this is no task and never runs"
                key.warn(findings, "note-like-task", message)
        elif key.text in _WRAPPERS and _is_wrapper(node):
            message = (
                f"the tasks stand at the top of the file: leave `{key.text}` and its brackets out, as in "
                '`{"t_report": {"after": ["…"], "run": "…"}}`'
            )
            key.error(findings, "wrapped-tasks", message)
        else:
            entries.append(_read_task(key, node, keep=keep))
    return TasksFile(entries=tuple(entries), bounds=bounds)


def _is_wrapper(node: Node) -> bool:
    """True if the value holds tasks instead of being one."""
    inner = [value for _, value in node.members()] or list(node.items())
    keys = {key.text for key, _ in node.members()}
    return bool(inner) and keys.isdisjoint({"after", "run"}) and all(value.is_object for value in inner)


def _read_bounds(node: Node) -> Bounds:
    if not node.is_object:
        node.error("wrong-type", f"must be an object of bounds, not {node.kind}")
    given: dict[str, int] = {}
    for key, value in node.members():
        bound = BOUND_KEYS.get(key.text)
        if bound is None:
            message = unknown_key(key.text, BOUND_KEYS, f"the bounds are {listed(BOUND_KEYS)}")
            key.error(node.findings, "unknown-key", message)
            continue
        most: int = _RAISED.get(bound, getattr(Bounds(), bound))
        number = value.number
        if not isinstance(number, int):
            value.error("wrong-type", f"must be an integer from 1 to {most}, not {describe_number(value)}")
        elif not 1 <= number <= most:
            value.error("wrong-value", f"must be from 1 to {most}, not {number}")
        else:
            given[bound] = number
    return Bounds(**given)


@dataclass(slots=True)
class _Draft:
    """The fields of a task that were read so far."""

    after: LocatedCondition | None = None
    unless: LocatedCondition = field(default_factory=LocatedCondition)
    every: Every = field(default_factory=Every)
    unless_from: UnlessFrom = UnlessFrom.SESSION
    applies_to: AppliesTo = AppliesTo.NEW
    params: tuple[LocatedName, ...] = ()
    run: LocatedName | None = None
    with_params: JsonObject = field(default_factory=dict)
    within_us: int | None = None
    deadline_us: int | None = None
    delay_us: int | None = None
    debounce: Debounce | None = None
    repeat: Repeat | None = None
    retry: Retry | None = None
    queue: str | None = None
    priority: int | None = None
    expires_us: int | None = None
    max_concurrency: int | None = None
    paused: bool = False
    keys: dict[str, LocatedName] = field(default_factory=dict)
    """The keys that are given, ``null`` left out."""
    extras: JsonObject = field(default_factory=dict)
    reserved: list[LocatedName] = field(default_factory=list)


def _read_task(name: LocatedName, node: Node, *, keep: bool) -> Entry:
    findings = node.findings
    errors_before = findings.errors
    check_name(name, findings, what="task")
    if not node.is_object:
        message = f'a task must be an object, `{{"after": […], "run": "…"}}`, not {node.kind}'
        node.error("wrong-type", message)
    draft = _Draft()
    values: dict[str, Node] = {}
    for key, value in node.members():
        if keep and key.text in KEPT_UNDER_EXTRAS:
            draft.extras[key.text] = plain(value.value)
            draft.reserved.append(key)
        elif key.text in TASK_KEYS:
            values[key.text] = value
            if not value.is_null:
                draft.keys[key.text] = key
            _read_key(key.text, value, draft)
        else:
            _read_other_key(key, value, draft, keep=keep)
    if node.is_object and node.is_whole:
        _check_missing(name, values, draft, findings)
    _check_after(values, draft)
    after, every = add_every(draft.after or LocatedCondition(clear=False), draft.every, findings)
    _check_conditions(name, values, after, draft, findings)
    check_times(draft.keys, after, findings)
    _check_params(values, after)
    usable = findings.errors == errors_before and node.is_whole and draft.run is not None
    return Entry(
        name=name,
        after=after,
        unless=draft.unless,
        every=every,
        unless_from=draft.unless_from,
        keys=draft.keys,
        params=draft.params,
        run=draft.run,
        reserved=tuple(draft.reserved),
        clear=node.is_whole and after.clear and draft.unless.clear and draft.every.clear,
        task=_task(name, after, every, draft) if usable and after.clear else None,
    )


def _task(name: LocatedName, after: LocatedCondition, every: LocatedLeaf | None, draft: _Draft) -> Task:
    return Task(
        name=TaskName(name.text),
        run="" if draft.run is None else draft.run.text,
        after=Condition(root=after.root),
        unless=Condition(root=draft.unless.root) if draft.unless.root.members else None,
        every=None if every is None else every.leaf.name,
        unless_from=draft.unless_from,
        applies_to=draft.applies_to,
        with_params=draft.with_params,
        within_us=draft.within_us,
        deadline_us=draft.deadline_us,
        delay_us=draft.delay_us,
        debounce=draft.debounce,
        repeat=draft.repeat,
        retry=draft.retry,
        queue=draft.queue,
        priority=draft.priority,
        expires_us=draft.expires_us,
        max_concurrency=draft.max_concurrency,
        paused=draft.paused,
        extras=draft.extras,
    )


def _read_key(key: TaskKey, value: Node, draft: _Draft) -> None:
    match key:
        case "after":
            draft.after = read_list(value)
        case "run":
            draft.run = _read_run(value)
        case _ if value.is_null:
            pass  # equals leaving the key out
        case "unless":
            draft.unless = read_list(value)
        case "andEvery":
            draft.every = read_every(value)
        case "unlessFrom":
            draft.unless_from = UnlessFrom(read_choice(value, UnlessFrom) or draft.unless_from)
        case "appliesTo":
            draft.applies_to = AppliesTo(read_choice(value, AppliesTo) or draft.applies_to)
        case "withParams":
            if not value.is_object:
                value.error("wrong-type", f"must be an object of trigger → arguments, not {value.kind}")
            draft.params = tuple(name for name, _ in value.members())
            draft.with_params = {name.text: plain(node.value) for name, node in value.members()}
        case "using":
            _read_using(value)
        case "within":
            draft.within_us = read_duration(value)
        case "deadline":
            draft.deadline_us = read_duration(value)
        case "delay":
            draft.delay_us = read_duration(value)
        case "debounce":
            draft.debounce = read_debounce(value)
        case "repeat":
            draft.repeat = read_repeat(value)
        case "retry":
            draft.retry = read_retry(value)
        case "queue":
            draft.queue = read_text(value, "a queue's name")
        case "priority":
            draft.priority = read_integer(value, least=0, most=MOST_PRIORITY)
        case "expires":
            draft.expires_us = read_duration(value)
        case "maxConcurrency":
            draft.max_concurrency = read_integer(value, least=1, most=MOST_CONCURRENT)
        case "paused":
            draft.paused = read_flag(value)
        case _:
            assert_never(key)


def _read_other_key(key: LocatedName, value: Node, draft: _Draft, *, keep: bool) -> None:
    findings = value.findings
    if key.text in REFUSED_KEYS:
        message = f"there is no key `{key.text}`: {instead_of(key.text)}"
        key.error(findings, "unsupported-key", message)
        return
    if keep or key.text.startswith(NOTE_PREFIX):
        draft.extras[key.text] = plain(value.value)
        likely = None if key.text.startswith(NOTE_PREFIX) else meant(key.text, TASK_KEYS)
        if likely is not None:
            message = f"`{key.text}` is kept and means nothing: did you mean `{likely}`?"
            key.warn(findings, "kept-key-typo", message)
        return
    instead = instead_of(key.text)
    if instead is not None:
        key.error(findings, "unknown-key", f"there is no key `{key.text}`: {instead}")
        return
    keys = f"the keys of a task are {listed(TASK_KEYS)}; your own begin with `{NOTE_PREFIX}`"
    key.error(findings, "unknown-key", unknown_key(key.text, TASK_KEYS, keys))


def _check_missing(name: LocatedName, values: Mapping[str, Node], draft: _Draft, findings: Findings) -> None:
    if "after" not in values:
        write = '`"after": []`, as `andEvery` is enough' if draft.every.name else '`"after": ["…"]`'
        name.error(findings, "missing-key", f"`after` is missing: write {write}")
    if "run" not in values:
        message = '`run` is missing: the registered name of a Celery task, `"run": "my_app.tasks.Report"`'
        name.error(findings, "missing-key", message)


def _check_after(values: Mapping[str, Node], draft: _Draft) -> None:
    after = draft.after
    empty = after is not None and after.clear and not after.root.members
    if empty and draft.every.clear and draft.every.name is None:
        message = (
            "nothing arrives that could start the task: name at least one trigger, here or in `andEvery`; "
            "to run it if something does *not* arrive, name the start of the wait here, the thing in "
            '`unless`, the time in `delay`: `{"after": ["a"], "unless": ["b"], "delay": "1h"}`; at a time '
            "of day, have cron or Celery beat fire a trigger"
        )
        values["after"].error("empty-after", message)


def _check_conditions(
    name: LocatedName,
    values: Mapping[str, Node],
    after: LocatedCondition,
    draft: _Draft,
    findings: Findings,
) -> None:
    """Report what is wrong with the conditions as wholes."""
    check_leaves(after, findings)
    check_leaves(draft.unless, findings)
    check_number_of_leaves(name, (after, draft.unless), findings)
    from_given = values.get("unlessFrom")
    if from_given is None or from_given.text == UnlessFrom.SESSION or from_given.is_null:
        check_unless(draft.unless, findings)
    if from_given is not None and from_given.text is not None and "unless" not in values:
        from_given.warn("no-effect", "has no effect without `unless`")


def _check_params(values: Mapping[str, Node], after: LocatedCondition) -> None:
    leaves = after.by_name
    given = values.get("withParams")
    for key, value in given.members() if given is not None else ():
        if key.text in leaves and not value.is_object:
            message = f"must be an object, not {value.kind}: it is merged under what `{key.text}` brings"
            value.error("wrong-type", message)


def _read_run(node: Node) -> LocatedName | None:
    run = read_text(node, "the registered name of a Celery task")
    if run is None:
        return None
    if run.startswith(CELERY_PREFIX):
        message = f"tasks beginning with `{CELERY_PREFIX}` are Celery's own and never dispatched"
        node.error("reserved-run", message)
    return LocatedName(text=run, at=node.at, path=node.path)


def _read_using(node: Node) -> None:
    if node.text is None:
        node.error("wrong-type", f"must be an executor's name, not {node.kind}")
    elif node.text not in EXECUTORS:
        message = f'there is no executor `{node.text}`: write `"celery"`, the only one, or leave the key out'
        node.error("unknown-executor", message)
