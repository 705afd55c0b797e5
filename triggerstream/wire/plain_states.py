"""A faster way to write and to read most states: those with few events and instances, all in the head.

Also a faster way to read a state with many triggers and few instances, whose events are lines.

The code for lines, columns and places costs such a state a fifth more instructions. Any other
state is left to :mod:`triggerstream.wire.state` and :class:`triggerstream.wire.state_reader.StateReader`,
which take all states and word the errors. For each state that is taken here, the result is the same; a law
checks this.
"""

from __future__ import annotations

from msgspec import UNSET

from triggerstream.core.by_place import CapturedByPlace, DigestsByPlace, MarkedTriggers
from triggerstream.core.ids import DIGEST_BYTES, LeafName, TaskName, TriggerName
from triggerstream.core.number_ranges import are_valid
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    Instance,
    SessionState,
    Status,
    TaskRecord,
    TimelineEntry,
)
from triggerstream.core.timeline_lines import Timeline
from triggerstream.wire import blocks
from triggerstream.wire.latest_events import read_latest
from triggerstream.wire.shared_sent import share_sent
from triggerstream.wire.stored_state import STATE_VERSION, Lines, StoredRecord, StoredState
from triggerstream.wire.timeline_lines import read_timeline

_LAST_US = 2**63 - 1
"""The latest due time that the stored form can hold."""
_DELAYED = Status.DELAYED


def build_plain_head(state: SessionState) -> StoredState | None:
    """The head of a state that needs no lines; None if it has many events or instances, or earlier events."""
    seen, digests, positions, most = state.seen, state.digests, state.positions, blocks.MOST_INLINE
    if (
        not isinstance(positions, list)
        or not isinstance(seen, dict)
        or not isinstance(digests, dict)
        or state.kept
        or state.recent
        or state.remembered
        or len(seen) > most
        or len(positions) > most
    ):
        return None
    tasks: dict[TaskName, StoredRecord] = {}
    for name, record in state.tasks.items():
        open_, resolved = record.open, record.resolved
        if not isinstance(open_, dict) or len(open_) > most:
            return None
        tasks[name] = stored = StoredRecord(
            record.next,
            [*open_.values()],
            [*resolved.values()],
            record.removed,
            [],
            record.retired,
            record.undecided,
        )
        if len(open_) + len(resolved) > 1:
            share_sent(stored)
    return build_head(state, seen, tasks, digests, positions)


def build_head(
    state: SessionState,
    seen: dict[TriggerName, Arrival],
    tasks: dict[TaskName, StoredRecord],
    digests: dict[TriggerName, bytes],
    positions: list[TimelineEntry],
) -> StoredState:
    """The head of ``state`` with these parts. The caller adds lines, and events that leaves remember."""
    # A call with more than 15 keywords passes them in a dict, which takes twice as long as all else here.
    return StoredState(
        version=STATE_VERSION,
        generation=state.generation,
        offset=state.offset,
        clock_us=state.clock_us,
        config=state.config if state.tasks or state.seen else UNSET,
        due_us=None if state.due_us is None else min(state.due_us, _LAST_US),
        closed=state.closed,
        unjudged=state.unjudged,
        refused=state.refused,
        seen=seen,
        tasks=tasks,
        digests=digests,
        timeouts=state.timeouts,
        holds=state.holds,
        positions=positions,
    )


def read_plain(stored: StoredState) -> SessionState | None:
    """Read a state that has only a head; None if it has lines or earlier events, or breaks a rule."""
    if (
        stored.seen_lines is not None
        or stored.position_lines is not None
        or stored.kept
        or stored.kept_lines
        or stored.remembered
        or stored.timeouts
        or stored.holds
    ):
        return None
    for digests in stored.digests.values():
        if len(digests) % DIGEST_BYTES:
            return None
    seen, config, due_us = stored.seen, stored.config, stored.due_us
    captured: set[LeafName] = set()
    tasks: dict[TaskName, TaskRecord] = {}
    open_count = 0
    for name, record in stored.tasks.items():
        if record.open_lines or record.retired:
            return None
        end, sent = record.next, record.sent
        open_: dict[int, Instance] = {}
        resolved: dict[int, Instance] = {}
        for instances, group in ((record.open, open_), (record.resolved, resolved)):
            for instance in instances:
                number, status, held = instance.number, instance.status, instance.captured
                if (
                    number >= end
                    or number in open_
                    or number in resolved
                    or (status in RESOLVED) is (group is open_)
                    or instance.captured_at
                ):
                    return None
                for leaf, holding in held.items():
                    latest = seen.get(leaf)  # type: ignore[call-overload]  # it may have its trigger's name
                    if latest is None or latest.offset != holding:
                        return None
                if status is _DELAYED:
                    if instance.waits_from_us is None:
                        return None
                    if due_us is None:
                        due_us = 0  # an earlier release stored no due time
                if sent is not None and instance.sent is None and instance.decided_us is not None:
                    instance.sent = sent
                captured.update(held)
                group[number] = instance
        open_count += len(open_)
        tasks[name] = TaskRecord(
            next=end, open=open_, resolved=resolved, removed=record.removed, undecided=record.undecided
        )
    if seen or tasks:
        if config is UNSET:
            return None
    else:
        config = -1
    return SessionState(
        generation=stored.generation,
        offset=stored.offset,
        clock_us=stored.clock_us,
        config=config,
        closed=stored.closed,
        unjudged=stored.unjudged,
        refused=stored.refused,
        seen=seen,
        tasks=tasks,
        digests=stored.digests,
        positions=stored.positions,
        open_count=open_count,
        due_us=due_us,
        latest_captured=frozenset(captured),  # type: ignore[arg-type]  # these leaves have their triggers' names
    )


def read_plain_of_many(stored: StoredState, lines: Lines) -> SessionState | None:
    """Read a state whose latest events are ``lines``, and whose open instances captured them by place.

    None if it has other lines, earlier events or resolved instances, or breaks a rule; then ``stored`` and
    ``lines`` are unchanged.

    Raises:
        DecodeError: its columns and lines do not agree.
    """
    columns, config, positions = stored.seen_lines, stored.config, stored.positions
    if columns is None or config is UNSET or stored.seen or stored.kept or stored.kept_lines:
        return None
    if stored.remembered or stored.timeouts or stored.holds:
        return None
    if stored.position_lines is not None and positions:
        return None
    for digests in stored.digests.values():
        if len(digests) % DIGEST_BYTES:
            return None
    tasks: dict[TaskName, TaskRecord] = {}
    instances: list[Instance] = []
    for name, record in stored.tasks.items():
        if record.open_lines or record.retired or record.resolved or record.sent is not None:
            return None
        end = record.next
        open_: dict[int, Instance] = {}
        for instance in record.open:
            number, status, places = instance.number, instance.status, instance.captured_at
            if number >= end or number in open_ or status in RESOLVED or status is _DELAYED:
                return None
            if instance.captured or not places or not are_valid(places, below=columns.count):
                return None
            open_[number] = instance
            instances.append(instance)
        tasks[name] = TaskRecord(next=end, open=open_, removed=record.removed, undecided=record.undecided)
    seen = read_latest(columns, lines)
    timeline: Timeline = positions
    if stored.position_lines is not None:
        timeline = read_timeline(stored.position_lines, lines)
    lines.end()
    block = seen.blocks[0]
    by_place = tuple([CapturedByPlace(block, instance.captured_at, {}) for instance in instances])
    for instance, captured in zip(instances, by_place, strict=True):
        instance.captured, instance.captured_at = captured, ()
    none: frozenset[TriggerName] = frozenset()
    return SessionState(
        generation=stored.generation,
        offset=stored.offset,
        clock_us=stored.clock_us,
        config=config,
        closed=stored.closed,
        unjudged=stored.unjudged,
        refused=stored.refused,
        seen=seen,
        tasks=tasks,
        digests=DigestsByPlace(block, stored.digests),
        positions=timeline,
        open_count=len(instances),
        due_us=stored.due_us,
        latest_captured=MarkedTriggers(none, by_place) if by_place else none,
    )
