"""The words for an explained session and for orders, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

from triggerstream.core import advice, lacking
from triggerstream.core.answers import (
    ExplainedInstance,
    ExplainedSession,
    ExplainedTask,
    HandOverState,
    Origin,
    SeenTrigger,
    StoredInstance,
    TimelineRow,
)
from triggerstream.core.condition_tree import (
    ConditionTree,
    GroupKind,
    GroupTree,
    LeafTree,
    TakenEvent,
    TreeNode,
)
from triggerstream.core.durations import describe_duration, short_duration
from triggerstream.core.events import ENGINE_PREFIX, TYPES, Failed
from triggerstream.core.ids import TIMEOUT_SUFFIX, InstanceId, Instant
from triggerstream.core.state import WAITING, Status
from triggerstream.core.time_sentences import numbered
from triggerstream.core.timers import DueOf
from triggerstream.engine.clock_step import LARGEST_STEP_US
from triggerstream.wire.instants import format_instant

_NAMED = 10
"""Events, keys or instances that one sentence names."""
_SHORT_ERROR = 200
"""Characters of an error that a sentence on a page has; a longer one stands by itself."""
MOST_EVENTS = 20
"""Events of one leaf that people see; the JSON has all of them."""


class StatusKind(StrEnum):
    """The meaning of a status for people, shown by its colour."""

    WAITS = "waits"
    RUNS = "runs"
    FAILED = "failed"
    DONE = "done"
    PAST = "past"


def status_kind(status: Status) -> StatusKind:
    """The meaning of a status."""
    match status:
        case Status.UNSTARTED | Status.DELAYED | Status.HELD:
            return StatusKind.WAITS
        case Status.SCHEDULED | Status.RUNNING:
            return StatusKind.RUNS
        case Status.FAILED:
            return StatusKind.FAILED
        case Status.FINISHED | Status.SKIPPED:
            return StatusKind.DONE
        case Status.REPLAYED | Status.ABANDONED | Status.EXPIRED | Status.CANCELLED:
            return StatusKind.PAST
        case _:
            assert_never(status)


def status_meaning(instance: ExplainedInstance) -> str:
    """The meaning of a status, for people who do not know its name."""
    match instance.status:
        case Status.UNSTARTED:
            return "its condition is not satisfied yet"
        case Status.DELAYED:
            return "satisfied, and waits until it is due"
        case Status.HELD:
            return "satisfied, and waits for a place"
        case Status.SCHEDULED:
            return "decided: its command is for a worker, and none has started it"
        case Status.RUNNING:
            return "a worker runs it"
        case Status.FAILED:
            return "failed, and nothing has been done about it"
        case Status.FINISHED:
            return "its task has returned"
        case Status.SKIPPED:
            return "counts as done, without a result of its own"
        case Status.REPLAYED:
            return f"a later instance runs in its place (status {instance.status})"
        case Status.ABANDONED:
            return "its unless was fulfilled before it was decided"
        case Status.EXPIRED:
            return "too late: it is not run"
        case Status.CANCELLED:
            return "ended by an order, or because its task was removed"
        case _:
            assert_never(instance.status)


def event_number(offset: int | None) -> str:
    """The name of an event for people: its number in the log. An administrator need not know offsets.

    None: it is in no log, because a timer fired it.
    """
    return "a timer" if offset is None else f"event {offset}"


def event(row: TimelineRow) -> str:
    """A row of the timeline, without its time and kind."""
    if row.instance is not None and row.what == "expired":
        return f"{row.instance}: {row.note}"
    if row.instance is not None:
        named = [f"{one.trigger} ({event_number(one.by.offset)})" for one in row.because or ()]
        more = (row.included or len(named)) - _NAMED
        because = ", ".join(named[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{row.instance} runs {row.run}{_after_wait(row.due_of)}, because of {because}"
    if row.what == "fired":
        return f"{row.type} by a timer ({row.due_of})"
    kind = "" if row.type is None else row.type
    if kind.startswith(ENGINE_PREFIX):
        kind = kind.rpartition(".")[2]
    return f"{kind}: {row.note}" if row.note else kind


def _after_wait(due_of: DueOf | None) -> str:
    """The wait that was over when a command was decided; empty if there was none."""
    match due_of:
        case None:
            return ""
        case DueOf.RETRY:
            return " as a retry that was due"
        case DueOf.REPEAT:
            return " in a round that was due"
        case DueOf.DELAY:
            return " after its delay"
        case DueOf.DEBOUNCE:
            return " after its debounce"
        case DueOf.DEADLINE:
            return " at its deadline"
        case _:
            assert_never(due_of)


def status_word(instance: ExplainedInstance | StoredInstance) -> str:
    """The status of an instance; that of one which the engine ran again is not *replayed* to people."""
    return instance.status.value if instance.retried_as is None else "retried"


def rerun_kind(instance: ExplainedInstance) -> str:
    """How an instance that runs in place of another one came about."""
    return "Retry" if instance.retries else "Replay"


def rerun_of(instance: ExplainedInstance) -> str:
    """The instance that another one runs in place of, and the number of a retry: `t#0 (1 of 2)`."""
    if not instance.retries:
        return str(instance.clone_of)
    return f"{instance.clone_of} ({numbered(instance.retries, instance.max_retries)})"


def round_words(instance: ExplainedInstance, task: ExplainedTask, *, now_us: int | None) -> str:
    """The round that an instance is, and when the next one is due; empty if its task is not repeated."""
    if instance.round is None or instance.status is Status.DELAYED:
        return ""
    says = f"round {numbered(instance.round, instance.rounds)}"
    following = next((one for one in task.instances if one.repeat_of == instance.instance), None)
    if following is None or following.due_us is None:
        return says
    return f"{says} · next {due_in(following.due_us, now_us=now_us)}"


def due_in(due_us: Instant, *, now_us: int | None) -> str:
    """The time until an instant; the instant itself if the time now does not matter, as in the past."""
    if now_us is None:
        return f"at {milliseconds(due_us)}"
    if due_us > now_us:
        return f"in {short_duration(due_us - now_us)}"
    return f"overdue by {short_duration(now_us - due_us)}"


def due_short(due_us: Instant, *, now_us: int) -> str:
    """When a timer fires, relative to now and in whole seconds, for a list."""
    return f"{due_in(due_us, now_us=now_us)} ({seconds(due_us)})"


def due(due_us: Instant, due_of: DueOf | None, *, now_us: int | None) -> str:
    """When a timer fires, relative to now and as an instant."""
    at = milliseconds(due_us)
    if due_of is DueOf.DEADLINE:
        head = "expires" if now_us is None or due_us > now_us else "its deadline is"
    else:
        head = "" if now_us is not None and due_us <= now_us else "due"
    when = at if now_us is None else f"{due_in(due_us, now_us=now_us)} ({at})"
    return f"{head} {when}".lstrip()


def headline(found: ExplainedSession) -> list[InstanceId]:
    """The instances that failed and that nothing was done about: what a session's page begins with."""
    return [one.instance for task in found.tasks for one in task.instances if one.status is Status.FAILED]


def other_error(instance: ExplainedInstance, task: ExplainedTask) -> str | None:
    """The error of an instance whose sentence does not have it; None if there is none.

    If a later attempt failed with the same text, its name is enough.
    """
    if instance.error is None or instance.status is Status.FAILED:
        return None
    same = None
    later = instance
    reruns = {one.clone_of: one for one in task.instances if one.clone_of is not None}
    while (rerun := reruns.get(later.instance)) is not None:
        later = rerun
        if later.error == instance.error:
            same = later.instance
    return instance.error if same is None else f"the same as {same}"


def long_error(instance: ExplainedInstance) -> str | None:
    """The error of a failed instance if it is too long for a sentence on a page."""
    error = instance.error
    if error is None or instance.status is not Status.FAILED:
        return None
    return error if len(error) > _SHORT_ERROR or "\n" in error else None


def looks_failed(row: TimelineRow) -> bool:
    """True for a row of the timeline that says that something failed or was refused."""
    return row.what == "refused" or (row.what == "reported" and row.type == TYPES[Failed])


def aside(instance: ExplainedInstance, *, now_us: int | None = None) -> str:
    """A sentence about an instance; empty if it would only repeat the status.

    ``now_us``: the time now, if it matters.
    """
    if instance.says == instance.status:
        return ""
    if instance.due_us is not None:
        return f"{instance.says}; {due(instance.due_us, instance.due_of, now_us=now_us)}"
    hand_over = instance.hand_over
    if hand_over is None or hand_over.at_us is None:
        return instance.says
    when = "handed over at" if hand_over.state is HandOverState.HANDED_OVER else "tried at"
    return f"{instance.says} ({when} {milliseconds(hand_over.at_us)})"


def group(node: GroupTree) -> str:
    """The line above the members of a group, in the words of a tasks file."""
    says = _group_words(node)
    return f"{says}: {node.have} of {node.need}" if node.need > 1 else says


def _group_words(node: GroupTree) -> str:
    match node.kind:
        case GroupKind.ALL:
            return "all of"
        case GroupKind.ANY:
            return "any of"
        case GroupKind.AT_LEAST:
            return f"at least {node.need} of"
        case GroupKind.SEQUENCE:
            return "in this order"
        case _ as never:
            assert_never(never)


def mark(node: TreeNode) -> str:
    """The sign before a node: whether it is met."""
    return "✓" if node.met else "○"


def list_members(root: TreeNode) -> list[TreeNode]:
    """The members of the list that a condition is in the file."""
    return root.members if isinstance(root, GroupTree) and root.kind is GroupKind.ALL else [root]


def is_list_of_plain_leaves(tree: ConditionTree) -> bool:
    """True if the condition is a list of triggers."""
    return all(
        isinstance(node, LeafTree) and takes_one(node) and node.where is None
        for node in list_members(tree.root)
    )


def takes_one(leaf: LeafTree) -> bool:
    """True if one event is enough for the leaf."""
    return leaf.need == 1 and not leaf.missing and all(event.key is None for event in leaf.by)


def leaf_title(leaf: LeafTree) -> str:
    """The name of a leaf: its trigger, and its own name where that differs."""
    return lacking.leaf_title(leaf.leaf, leaf.trigger)


def leaf_progress(leaf: LeafTree, status: Status) -> str:
    """How far a leaf is; empty for one that takes one event, and has it."""
    if takes_one(leaf):
        return "" if leaf.met else _missing(leaf, status)
    if leaf.need is None:
        return f"{leaf.have} so far, and its list has not arrived"
    lacks = f"; lacks {_some(leaf.missing)}" if leaf.missing else ""
    return f"{leaf.have} of {leaf.need}{lacks}"


def leaf_remarks(leaf: LeafTree, status: Status) -> list[str]:
    """Why a leaf that is not met did not take its trigger's latest event; what became of its task."""
    if leaf.met:
        return []
    remarks = []
    if (why := _not_counted(leaf, status)) is not None:
        remarks.append(why)
    if leaf.became:
        # One that was run again says nothing about the task any more.
        last = [one for one in leaf.became if one.status is not Status.REPLAYED] or leaf.became
        remarks.append(", ".join(f"{one.instance}: {one.status.value}" for one in last[-_NAMED:]))
    elif leaf.became is not None:
        remarks.append(f"task {leaf.trigger.removesuffix(TIMEOUT_SUFFIX)} has no instance yet")
    return remarks


def _not_counted(leaf: LeafTree, status: Status) -> str | None:
    """Why the latest event of a leaf's trigger does not count; None if none has come in time."""
    last = leaf.last
    if last is None or last.late:
        return None
    verb = "does" if status in WAITING else "did"
    named = "the event of a timer" if last.offset is None else event_number(last.offset)
    return f"{named} {verb} not count: {last.says}"


def more_events(leaf: LeafTree) -> str:
    """The number of events of a leaf beyond those that are shown; empty if there are none."""
    more = len(leaf.by) - MOST_EVENTS
    return f"and {more} more" if more > 0 else ""


def unless(leaf: LeafTree, status: Status) -> str:
    """A trigger of an ``unless`` that is a list of triggers, for an instance in ``status``."""
    if leaf.met:
        numbers = "".join(f" ({event_number(event.offset)})" for event in leaf.by)
        return f"unless {leaf_title(leaf)}: arrived{numbers}"
    return f"unless {leaf_title(leaf)}: {_not_counted(leaf, status) or _missing(leaf, status)}"


def unless_head(tree: ConditionTree, status: Status) -> str:
    """The line above an ``unless`` that is more than a list of triggers."""
    if tree.met:
        return "unless: fulfilled"
    return "unless: not fulfilled" if status in WAITING else "unless: was not fulfilled"


def taken(event: TakenEvent) -> str:
    """An event that a leaf holds, with its key."""
    key = "" if event.key is None else f"{event.key}: "
    return key + _origin_words(event)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _missing(leaf: LeafTree, status: Status) -> str:
    """The remark about a leaf without an event. One whose event came too late had none when it mattered."""
    waits = status in WAITING
    if _not_counted(leaf, status) is not None:
        return "no event counts yet" if waits else "no event counted"
    return "not arrived" if waits and leaf.last is None else "had not arrived"


def unused(seen: SeenTrigger) -> str:
    """The remark about a trigger that no task uses."""
    return "no task uses it" + ("" if seen.nearest is None else f"; the nearest name is {seen.nearest}")


def no_instance(*, arrived: bool, clock: Instant | None, generation: int) -> str:
    """Why a session has no instance. ``arrived``: a trigger has; ``clock`` is that of the session."""
    if arrived:
        return "no task uses what has arrived"
    return "nothing has arrived" if clock or not generation else f"erased, generation {generation}"


def undecided(found: ExplainedSession) -> list[str]:
    """The things that a session waits for: each instance without a command, and triggers that no task uses.

    Empty if every instance has its command.
    """
    instances = [one for task in found.tasks for one in task.instances]
    lines = [
        f"{one.instance} {aside(one, now_us=found.clock_us) or one.status}"
        for one in instances
        if one.command is None
    ]
    lines += [f"{task.task}: {task.says}" for task in found.tasks if task.says is not None]
    if not found.tasks:
        arrived = bool(found.seen)
        says = no_instance(arrived=arrived, clock=found.clock_us, generation=found.generation)
        lines.append(f"no instance: {says}")
    return lines + _unused(found)


def _unused(found: ExplainedSession) -> list[str]:
    return [f"{seen.trigger}: {unused(seen)}" for seen in found.seen if seen.unused]


def why_not_decided(found: ExplainedSession | None, named: str, task: ExplainedTask | None) -> str:
    """Why an instance has no command.

    ``found`` is its session, None if nothing has arrived for it; ``task`` is its task there.
    """
    if found is None:
        return f"{named}: nothing has arrived for its session"
    instance = found.find(InstanceId(named))
    if instance is not None:
        return f"{named} {aside(instance) or instance.status}"
    if task is not None and task.says is not None:
        return "; ".join((f"{named}: {task.says}", *_unused(found)))
    return "; ".join((f"{named}: there is no such instance", *undecided(found)))


def why_decided(found: ExplainedSession | None, named: str) -> str:
    """The events that fulfilled the condition of an instance."""
    rows = () if found is None else found.timeline
    row = next((row for row in rows if row.instance == named and row.because is not None), None)
    return f"{named} is decided" if row is None else event(row)


def by(origin: Origin | None) -> str:
    """The event that brought a trigger."""
    return "" if origin is None else _origin_words(origin)


def _origin_words(event: Origin | TakenEvent) -> str:
    """An event with its time, id and source, as far as they are known."""
    when = "" if event.time_us is None else f", {milliseconds(event.time_us)}"
    named = f", id {event.id}" if event.id is not None else ""
    source = f", from {event.source}" if event.source is not None else ""
    return f"{event_number(event.offset)}{when}{named}{source}"


def seconds(instant: int | str | None) -> str:
    """An instant for people: whole seconds."""
    return "" if instant is None else _text(instant).replace("T", " ").split(".")[0].removesuffix("Z") + "Z"


def last_event(last: Instant | None, clock: Instant | None, *, now_us: int) -> str:
    """Time of a session's last event: whole seconds, and how far ahead its clock is if it is far ahead.

    A session that was erased has no last event.
    """
    if not clock:
        return "erased"
    ahead_us = clock - now_us
    ahead = f" (clock {describe_duration(ahead_us)} ahead)" if ahead_us > LARGEST_STEP_US else ""
    return seconds(last or clock) + ahead


def clock(last: Instant | None, clock: Instant | None) -> str:
    """The session's clock, where that is not simply the time of its last event; else empty."""
    shown = seconds(clock) if clock else ""
    return "" if not clock or shown == seconds(last or clock) else f"its clock: {shown}"


def ahead(clock: Instant | None, *, now_us: int) -> str | None:
    """Warning about a session's clock that is far ahead; None if it is not."""
    if not clock or clock - now_us <= LARGEST_STEP_US:
        return None
    return (
        f"its clock is {describe_duration(clock - now_us)} ahead, because an event arrived while a clock was "
        f"wrong: timers that start now are due after {seconds(clock)}; {advice.release_instance()}"
    )


def milliseconds(instant: int | str) -> str:
    """An instant for people who compare instants: milliseconds."""
    whole, _, fraction = _text(instant).replace("T", " ").removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:3].ljust(3, '0')}Z"


def _text(instant: int | str) -> str:
    return instant if isinstance(instant, str) else format_instant(instant)
