"""The timeline of a session: its events, and between them what was decided and what timers did."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from copy import copy
from typing import Final, NamedTuple, TypeAlias

from triggerstream.core.answers import Origin, ReasonToDecide, TimelineRow
from triggerstream.core.commands import MOST_CAUSES
from triggerstream.core.events import ENGINE_PREFIX, TYPES, Failed, Retried
from triggerstream.core.held import Ref, offset_of, place_of, record_before
from triggerstream.core.ids import (
    CommandId,
    Instant,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    instance_id,
    timeout_of,
)
from triggerstream.core.reruns import retry_notes
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Arrival, Instance, SessionState, Status
from triggerstream.core.tasks import Rules, Task
from triggerstream.core.time_sentences import expiry_words, has_expired
from triggerstream.core.timers import DueOf, due

_OF_RETRIES: Final = frozenset({TYPES[Failed], TYPES[Retried]})
"""Types of the events that make a retry. The timeline says of an operator's replay what is stored."""


class _Place(NamedTuple):
    """The place of a row: after that many events of the timeline; then by phase, time, order and number."""

    events: int
    phase: int = 0
    time_us: int = 0
    order: int = 0
    number: int = 0


_WITH_EVENT: Final = 1
"""Phase of a decision that the event before it caused."""
_BY_TIME: Final = 2
"""Phase of all that happened between that event and the next one."""
_EXPIRED, _FIRED, _DECIDED = range(3)

_Row: TypeAlias = tuple[_Place, TimelineRow]


def timeline(rules: Rules, session: SessionId, state: SessionState) -> list[TimelineRow]:
    """The timeline, oldest first: events as they came, decisions where they were made, what timers did.

    At most the last 50 events, and what happened since the first of them.
    """
    offsets = [entry[0] for entry in state.positions]
    first = offsets[0] if offsets else 0
    rows: list[_Row] = []
    retries = retry_notes(rules.current.config, state)
    for number, (offset, kind, time_us, note) in enumerate(state.positions, 1):
        inert, why, says = note if isinstance(note, tuple) else (None, None, note)
        if says is not None and kind in _OF_RETRIES:
            says = retries.get(says, says)
        row = TimelineRow(
            offset=offset,
            time_us=Instant(time_us),
            what=_what(kind) if inert is None else inert.value,
            type=kind,
            why=None if why is None else why.value,
            note=says,
        )
        rows.append((_Place(number), row))
    for name, record in state.tasks.items():
        task = rules.current.config.by_name.get(name)
        for instance in record.instances():
            decided_at = instance.decided_at
            if decided_at is not None and decided_at >= first:
                rows.append(_decision(rules, session, state, name, instance, task=task, offsets=offsets))
    if state.timeouts:
        rows += _expiries(state, offsets)
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _what(kind: str) -> str:
    if kind.startswith("triggerstream.task."):
        return "reported"
    return "ordered" if kind.startswith(ENGINE_PREFIX) else "arrived"


def _decision(
    rules: Rules,
    session: SessionId,
    state: SessionState,
    name: TaskName,
    instance: Instance,
    *,
    task: Task | None,
    offsets: list[int],
) -> _Row:
    decided_at, decided_us = instance.decided_at or 0, instance.decided_us or 0
    included = included_events(state, instance)
    due_of = None if task is None else timer_that_decided(task, instance)
    row = TimelineRow(
        offset=decided_at,
        time_us=Instant(decided_us),
        what="decided",
        instance=instance_id(name, instance.number),
        run=None if instance.sent is None else instance.sent.run,
        due_of=due_of,
        command=command_of(rules, session, state, name, instance),
        because=included[:MOST_CAUSES],
        included=len(included) if len(included) > MOST_CAUSES else None,
    )
    after = bisect_right(offsets, decided_at)
    timeout = None if due_of is not None else latest_timeout(state, instance)
    if timeout is not None and timeout.time_us == decided_us:
        after = bisect_right(offsets, record_before(timeout.offset))
    elif due_of is not None:
        after = bisect_left(offsets, decided_at)
    elif after and offsets[after - 1] == decided_at:
        return _Place(after, _WITH_EVENT, number=instance.number), row
    return _Place(after, _BY_TIME, decided_us, _DECIDED, instance.number), row


def latest_captured(instance: Instance) -> tuple[TriggerName, Ref] | None:
    """The latest event that an instance captured."""
    return max(captured_refs(instance.captured), key=lambda event: place_of(event[1]), default=None)


def latest_timeout(state: SessionState, instance: Instance) -> Arrival | None:
    """The latest event that an instance captured, if a timer fired it."""
    latest = latest_captured(instance)
    return None if latest is None or latest[1] >= 0 else state.arrival(*latest)


def timer_that_decided(task: Task, instance: Instance) -> DueOf | None:
    """The key whose timer decided an instance, under the file in force; None if none did."""
    if instance.waits_from_us is None or instance.decided_us is None:
        return None
    then = copy(instance)
    then.status = Status.DELAYED
    timer = due(task, then)
    return timer.of if timer is not None and timer.us == instance.decided_us else None


# ---- what deadlines did ---------------------------------------------------------------------------


def _expiries(state: SessionState, offsets: list[int]) -> Iterator[_Row]:
    """The rows of instances that were not satisfied in time, and of the triggers that this fired."""
    first = offsets[0] if offsets else 0
    fired: dict[tuple[TriggerName, int], int] = {}
    for trigger, arrival in _timeouts(state):
        before = record_before(arrival.offset)
        if before < first:
            continue
        after = bisect_right(offsets, before)
        fired[trigger, arrival.time_us] = after
        place = _Place(after, _BY_TIME, arrival.time_us, _FIRED, place_of(arrival.offset))
        yield (
            place,
            TimelineRow(time_us=Instant(arrival.time_us), what="fired", type=trigger, due_of=DueOf.DEADLINE),
        )
    times = [entry[2] for entry in state.positions]
    for name, record in state.tasks.items():
        for instance in record.resolved.values():
            ended_us = instance.ended_us
            if ended_us is None or not has_expired(instance):
                continue
            # The state does not say after which record this was, unless it still has the event.
            near = next((n for n, time_us in enumerate(times) if time_us > ended_us), len(times))
            after = fired.get((timeout_of(name), ended_us), near)
            if after:
                yield (
                    _Place(after, _BY_TIME, ended_us, _EXPIRED, instance.number),
                    TimelineRow(
                        time_us=Instant(ended_us),
                        what="expired",
                        instance=instance_id(name, instance.number),
                        note=expiry_words(instance),
                        due_of=DueOf.DEADLINE,
                    ),
                )


def _timeouts(state: SessionState) -> Iterator[tuple[TriggerName, Arrival]]:
    """The events that timers fired, as far as the state still has them."""
    yield from ((name, arrival) for name, arrival in state.seen.items() if arrival.offset < 0)
    for name, earlier in state.needed_events().items():
        yield from ((name, arrival) for arrival in earlier.values() if arrival.offset < 0)


# ---- parts of rows --------------------------------------------------------------------------------


def included_events(state: SessionState, instance: Instance) -> list[ReasonToDecide]:
    """The events that a decided command includes, each once."""
    events = dict.fromkeys(captured_refs(instance.captured))
    return [reason_to_decide(state, event) for event in events]


def reason_to_decide(state: SessionState, event: tuple[TriggerName, Ref]) -> ReasonToDecide:
    """An event that an instance captured, as answers name it."""
    return ReasonToDecide(trigger=event[0], by=origin_of(state.arrival(*event)))


def origin_of(arrival: Arrival) -> Origin:
    """An event as answers name it."""
    return Origin(
        offset=offset_of(arrival.offset),
        time_us=Instant(arrival.time_us),
        id=arrival.id,
        source=arrival.source,
    )


def command_of(
    rules: Rules, session: SessionId, state: SessionState, name: TaskName, instance: Instance
) -> CommandId:
    """The id of an instance's command."""
    return command_id(
        rules.app,
        session,
        generation=state.instances_generation,
        task=name,
        number=instance.number,
    )
