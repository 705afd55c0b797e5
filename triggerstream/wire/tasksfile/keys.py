"""Reads each key of a tasks file: which values it may hold, and what they become.

``schemas/tasks.schema.json`` says the same for editors and other languages; a test compares the two. What
is doubtful rather than malformed, or concerns several tasks, is in :mod:`triggerstream.wire.tasksfile.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal, TypeAlias, assert_never, get_args

from triggerstream.core.commands import CELERY_PREFIX
from triggerstream.core.conditions import Condition
from triggerstream.core.ids import JsonObject, TaskName
from triggerstream.core.tasks import MOST_DIGESTS, AppliesTo, Bounds, Retry, Task, UnlessFrom
from triggerstream.wire.durations import parse_duration
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
from triggerstream.wire.tasksfile.tree import Value, plain
from triggerstream.wire.tasksfile.tried_keys import instead_of

TaskKey: TypeAlias = Literal[
    "after",
    "run",
    "unless",
    "andEvery",
    "unlessFrom",
    "appliesTo",
    "withParams",
    "using",
    "retry",
    "queue",
    "expires",
]
TASK_KEYS: Final[tuple[TaskKey, ...]] = get_args(TaskKey)
UNSUPPORTED: Final = "is not supported by this version"
LATER_KEYS: Final = (
    "within",
    "deadline",
    "onTimeout",
    "delay",
    "debounce",
    "repeat",
    "maxConcurrency",
    "paused",
    "priority",
)
"""Keys of the condition language that this version does not know. They are refused even under ``$extras``:
one that is kept without a meaning would take on another with the next version."""
_KEPT_ONCE: Final = frozenset({"repeat", "priority"})
"""Those of ``LATER_KEYS`` that were kept under ``$extras`` once: a file that is in force may have them."""
_FOLDED_LATER: Final[Mapping[str, str]] = {key.lower(): key for key in LATER_KEYS}
TOP_KEYS: Final = ("$schema", "$extras", "$bounds")
RetryKey: TypeAlias = Literal["max", "backoff", "factor", "maxBackoff"]
RETRY_KEYS: Final[tuple[RetryKey, ...]] = get_args(RetryKey)
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
MOST_RETRIES: Final = 1_000_000
"""Far beyond use; JSON alone would allow numbers that no 64-bit integer holds."""


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
            value.error("wrong-type", f"must be an integer from 1 to {most}, not {_of_number(value)}")
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
    retry: Retry | None = None
    queue: str | None = None
    expires_us: int | None = None
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
        if key.text in TASK_KEYS:
            values[key.text] = value
            _read_key(key.text, value, draft)
        else:
            _read_other_key(key, value, draft, keep=keep)
    if node.is_object and node.is_whole:
        _check_missing(name, values, draft, findings)
    _check_after(values, draft)
    after, every = add_every(draft.after or LocatedCondition(clear=False), draft.every, findings)
    _check_conditions(name, values, after, draft, findings)
    _check_params(values, after)
    usable = findings.errors == errors_before and node.is_whole and draft.run is not None
    return Entry(
        name=name,
        after=after,
        unless=draft.unless,
        every=every,
        unless_from=draft.unless_from,
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
        retry=draft.retry,
        queue=draft.queue,
        expires_us=draft.expires_us,
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
            draft.unless_from = UnlessFrom(_read_choice(value, UnlessFrom) or draft.unless_from)
        case "appliesTo":
            draft.applies_to = AppliesTo(_read_choice(value, AppliesTo) or draft.applies_to)
        case "withParams":
            if not value.is_object:
                value.error("wrong-type", f"must be an object of trigger → arguments, not {value.kind}")
            draft.params = tuple(name for name, _ in value.members())
            draft.with_params = {name.text: plain(node.value) for name, node in value.members()}
        case "using":
            _read_using(value)
        case "retry":
            draft.retry = _read_retry(value)
        case "queue":
            draft.queue = _read_text(value, "a queue's name")
        case "expires":
            draft.expires_us = _read_duration(value)
        case _:
            assert_never(key)


def _read_other_key(key: LocatedName, value: Node, draft: _Draft, *, keep: bool) -> None:
    findings = value.findings
    if keep and key.text in _KEPT_ONCE:
        draft.extras[key.text] = plain(value.value)
        draft.reserved.append(key)
        return
    if key.text in LATER_KEYS:
        key.error(findings, "unsupported-key", f"`{key.text}` {UNSUPPORTED}")
        return
    if keep or key.text.startswith(NOTE_PREFIX):
        draft.extras[key.text] = plain(value.value)
        likely = None if key.text.startswith(NOTE_PREFIX) else meant(key.text, TASK_KEYS)
        if likely is not None:
            message = f"`{key.text}` is kept and means nothing: did you mean `{likely}`?"
            key.warn(findings, "kept-key-typo", message)
        return
    instead = instead_of(key.text)
    if instead is None and (later := _FOLDED_LATER.get(key.text.lower())) is not None:
        instead = f"`{later}` {UNSUPPORTED}"
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
            "for what does not arrive, have cron or Celery beat fire a trigger"
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


def _read_choice(node: Node, choices: Iterable[str]) -> str | None:
    """One of a few words."""
    words = [str(choice) for choice in choices]
    if node.text in words:
        return node.text
    shown = " or ".join(f'`"{word}"`' for word in words)
    if node.text is None:
        node.error("wrong-type", f"must be {shown}, not {node.kind}")
    else:
        node.error("wrong-value", f"must be {shown}, not `{node.text[:40]}`")
    return None


def _read_text(node: Node, of: str) -> str | None:
    if node.text is None:
        node.error("wrong-type", f"must be a string, {of}, not {node.kind}")
    elif not node.text:
        node.error("wrong-value", f"must not be empty: {of}")
    return node.text or None


def _read_run(node: Node) -> LocatedName | None:
    run = _read_text(node, "the registered name of a Celery task")
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


def _read_duration(node: Node) -> int | None:
    if node.text is None:
        seconds = node.number
        hint = f': write `"{seconds}s"` for seconds' if isinstance(seconds, int) and seconds > 0 else ""
        message = f"must be a duration such as `10s`, `5m`, `36h`, `40d` or `1h30m`, not {node.kind}{hint}"
        node.error("wrong-type", message)
        return None
    micros = parse_duration(node.text)
    if micros is None:
        message = (
            f"`{node.text[:40]}` is not a duration: write days, hours, minutes and seconds in order, as in "
            "`40d`, `1h30m` or `10s`; more than zero, and no more than a hundred years"
        )
        node.error("bad-duration", message)
    return micros


def _read_retry(node: Node) -> Retry | None:
    if not node.is_object:
        node.error("wrong-type", f'must be an object, `{{"max": 3, "backoff": "10s"}}`, not {node.kind}')
        return None
    most, backoff_us, factor = 0, 0, 1.0
    longest_us: int | None = None
    given: dict[str, Node] = {}
    for key, value in node.members():
        if key.text not in RETRY_KEYS:
            message = unknown_key(key.text, RETRY_KEYS, f"the keys of `retry` are {listed(RETRY_KEYS)}")
            key.error(node.findings, "unknown-key", message)
            continue
        if value.is_null and key.text != "max":
            continue  # equals leaving the key out
        given[key.text] = value
        match key.text:
            case "max":
                most = _read_max(value)
            case "backoff":
                backoff_us = _read_duration(value) or 0
            case "factor":
                factor = _read_factor(value)
            case "maxBackoff":
                longest_us = _read_duration(value)
            case _:
                assert_never(key.text)
    if "max" not in given and node.is_whole:
        node.error("missing-key", "`max` is missing: how many further attempts there may be")
    _check_retry(given, backoff_us=backoff_us, longest_us=longest_us)
    return Retry(max=most, backoff_us=backoff_us, factor=factor, max_backoff_us=longest_us)


def _read_max(node: Node) -> int:
    number = node.number
    if not isinstance(number, int):
        node.error("wrong-type", f"must be an integer, 0 or more, not {_of_number(node)}")
        return 0
    if not 0 <= number <= MOST_RETRIES:
        node.error("wrong-value", f"must be from 0 to {MOST_RETRIES}, not {number}")
    return number


def _read_factor(node: Node) -> float:
    number = node.number
    if number is None:
        node.error("wrong-type", f"must be a number, 1 or more, not {node.kind}")
        return 1.0
    if number < 1:
        node.error("wrong-value", f"must be 1 or more, not {number}: waits do not shrink")
    return float(number)


def _check_retry(given: Mapping[str, Node], *, backoff_us: int, longest_us: int | None) -> None:
    """Doubts about the members of a ``retry`` together."""
    if "backoff" not in given:
        for key in ("factor", "maxBackoff"):
            if key in given:
                given[key].warn("no-effect", "has no effect without `backoff`: every attempt is made at once")
    elif longest_us is not None and longest_us < backoff_us:
        given["maxBackoff"].warn("no-effect", "is shorter than `backoff`, so every wait is this long")


def _of_number(node: Node) -> str:
    return node.kind if node.number is None else f"{node.number}"
