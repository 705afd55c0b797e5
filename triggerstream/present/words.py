"""The words for an explained session and for orders, the same on a terminal and on a page."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from triggerstream.core.answers import (
    ExplainedInstance,
    ExplainedSession,
    ExplainedTask,
    HandOverState,
    Origin,
    OwnerRow,
    SeenTrigger,
    StoredInstance,
    TimelineRow,
)
from triggerstream.core.condition_tree import (
    TakenEvent,
)
from triggerstream.core.events import ENGINE_PREFIX, TYPES, Failed
from triggerstream.core.ids import InstanceId, Instant
from triggerstream.core.printable import ranges
from triggerstream.core.state import Status
from triggerstream.core.time_sentences import numbered
from triggerstream.core.timers import DueOf
from triggerstream.present.time_words import due, due_in, milliseconds
from triggerstream.wire.instants import format_instant

_NAMED = 10
"""Events that one sentence names."""
_HELD = 3
"""Held instances that a page names at its top."""
_SHORT_ERROR = 200
"""Characters of an error that a sentence on a page has; a longer one stands by itself."""


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
    """The origin of an instance that runs in place of another one: a retry, or an operator's replay."""
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


def headline(found: ExplainedSession) -> list[InstanceId]:
    """The instances that failed and that nothing was done about: what a session's page begins with."""
    return [one.instance for task in found.tasks for one in task.instances if one.status is Status.FAILED]


def held(found: ExplainedSession) -> list[str]:
    """The reasons why instances of a session are held; beyond the first few, only their number."""
    instances = [one for task in found.tasks for one in task.instances if one.status is Status.HELD]
    says = [f"{one.instance} {one.says}" for one in instances[:_HELD]]
    more = len(instances) - len(says)
    return [*says, f"and {more:,} more {'is' if more == 1 else 'are'} held"] if more else says


def is_failure(instance: ExplainedInstance) -> bool:
    """True if the error of an instance is that of its run, and not what a bound prevented beside it."""
    return instance.status in {Status.FAILED, Status.REPLAYED, Status.SKIPPED}


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
    return "" if origin is None else origin_words(origin)


def origin_words(event: Origin | TakenEvent) -> str:
    """An event with its time, id and source, as far as they are known."""
    when = "" if event.time_us is None else f", {milliseconds(event.time_us)}"
    named = f", id {event.id}" if event.id is not None else ""
    source = f", from {event.source}" if event.source is not None else ""
    return f"{event_number(event.offset)}{when}{named}{source}"


def owner(row: OwnerRow) -> str:
    """A process that has claimed partitions: ``worker-0, process 77: partitions 0-3, since …``."""
    numbers = ranges(row.partitions)
    which = f"partition {numbers}" if len(row.partitions) == 1 else f"partitions {numbers}"
    return f"{row.host}, process {row.pid}: {which}, since {format_instant(row.since_us)}"
