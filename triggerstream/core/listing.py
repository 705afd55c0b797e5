"""The row of a session in a list, and the filters of a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from triggerstream.core.answers import CountedSession, FailedInstance
from triggerstream.core.blocks import counted_shapes, instances_where, shapes_of
from triggerstream.core.errors import DecodeError
from triggerstream.core.fold import next_due
from triggerstream.core.ids import Instant, SessionId, TaskName, TriggerName, instance_id
from triggerstream.core.projections import last_event_us, waits_for
from triggerstream.core.state import DECIDED, WAITING, Instance, SessionState, Status
from triggerstream.core.tasks import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFilter:
    """Instances of ``task`` in one of ``statuses`` that last changed before ``changed_before_us``.

    None: any.
    """

    task: TaskName | None = None
    statuses: frozenset[Status] | None = None
    changed_before_us: int | None = None

    def is_empty(self) -> bool:
        """True if every instance passes."""
        return self.task is None and self.statuses is None and self.changed_before_us is None

    def find(self, state: SessionState) -> Iterator[tuple[TaskName, Instance]]:
        """The instances of a session that pass, task by task in the order in which the session met them."""
        for name, record in state.tasks.items():
            if self.task is None or name == self.task:
                for instance in record.instances():
                    if self._passes(instance):
                        yield name, instance

    def _passes(self, instance: Instance) -> bool:
        if self.statuses is not None and instance.status not in self.statuses:
            return False
        return self.changed_before_us is None or instance.changed_us < self.changed_before_us

    def has_one(self, state: SessionState) -> bool:
        """True if an instance of a session passes, or the filter is empty."""
        return self.is_empty() or next(self.find(state), None) is not None


def stuck_since(
    before_us: int, *, task: TaskName | None = None, status: Status | None = None
) -> InstanceFilter:
    """Filter for instances whose command was handed over before ``before_us``, without news since then."""
    statuses = DECIDED if status is None else DECIDED & {status}
    return InstanceFilter(task=task, statuses=statuses, changed_before_us=before_us)


def in_status(status: Status | None) -> frozenset[Status] | None:
    """The statuses of an :class:`InstanceFilter` for one status; None: any."""
    return None if status is None else frozenset({status})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Filter for sessions with an instance of ``task`` in ``status`` that waits for ``waits_for``.

    ``due_by_us``: whose next timer is due at that instant or before. Such a list is sorted by due time.
    """

    task: TaskName | None = None
    status: Status | None = None
    waits_for: TriggerName | None = None
    due_by_us: int | None = None

    def is_empty(self) -> bool:
        """True if every session passes."""
        return self == Filter()

    def passes(self, rules: Rules, session: SessionId, state: SessionState) -> bool:
        """True if a session passes."""
        instances = InstanceFilter(task=self.task, statuses=in_status(self.status))
        if not instances.has_one(state):
            return False
        if self.waits_for is not None and self.waits_for not in waits_for(rules, state, session):
            return False
        if self.due_by_us is None:
            return True
        due_us = next_due(rules, state)
        return due_us is not None and due_us <= self.due_by_us

    def tags(self) -> tuple[str, ...]:
        """The tags that a session must have; see :func:`tags_of`. The index knows due times beside them."""
        found = []
        if self.task is not None or self.status is not None:
            found.append(_status_tag(self.task, self.status))
        if self.waits_for is not None:
            found.append(_WAITS + self.waits_for)
        if self.due_by_us is not None:
            found.append(_HAS_TIMER)
        return tuple(found)


_WAITS = "waits\0"
_HAS_TIMER = "timer\0"


def _status_tag(task: TaskName | None, status: Status | None) -> str:
    return f"is\0{status.value if status is not None else ''}\0{task if task is not None else ''}"


def tags_of(rules: Rules, session: SessionId, state: SessionState) -> frozenset[str]:
    """The tags of a session in the index: a session passes a filter if it has each of the filter's."""
    found: set[str] = {_WAITS + name for name in waits_for(rules, state, session)}
    for name, record in state.tasks.items():
        for instance in (*shapes_of(record.open), *record.resolved.values()):
            found.add(_status_tag(name, None))
            found.add(_status_tag(None, instance.status))
            found.add(_status_tag(name, instance.status))
    if next_due(rules, state) is not None:
        found.add(_HAS_TIMER)
    return frozenset(found)


class DuePlace(NamedTuple):
    """The place of a session in a list by due time."""

    due_us: int
    session: SessionId


def due_cursor(place: DuePlace) -> SessionId:
    """The ``after`` of a page by due time that ends at ``place``."""
    return SessionId(f"{place.due_us} {place.session}")


def read_due_cursor(cursor: SessionId | None) -> DuePlace | None:
    """The place that :func:`due_cursor` has written; None at the beginning.

    Raises:
        DecodeError: it was written by nothing of the kind.
    """
    if not cursor:
        return None
    due_us, space, session = cursor.partition(" ")
    if not (space and due_us.isascii() and due_us.isdigit() and len(due_us) < _DIGITS):
        raise DecodeError("after: of a list by due time, it is what the page before says")
    return DuePlace(int(due_us), SessionId(session))


_DIGITS = 20


def count(session: SessionId, state: SessionState) -> CountedSession:
    """The numbers of instances of a session that wait, run, failed and are done, its clock and last event."""
    waiting = running = failed = done = 0
    for record in state.tasks.values():
        for shape, number in counted_shapes(record.open):
            if shape.status in WAITING:
                waiting += number
            elif shape.status in DECIDED:
                running += number
            else:
                failed += number
        done += record.next - len(record.open)
    return CountedSession(
        session=session,
        waiting=waiting,
        running=running,
        failed=failed,
        done=done,
        closed=state.closed,
        clock_us=Instant(state.clock_us) if state.clock_us else None,
        last_event_us=last_event_us(state),
    )


def failures(state: SessionState) -> list[FailedInstance]:
    """The failed instances of a session, each with its error."""
    return [
        FailedInstance(
            instance=instance_id(name, instance.number),
            error=instance.error,
            reason=None if instance.reason is None else instance.reason.value,
            changed_us=Instant(instance.changed_us),
        )
        for name, record in state.tasks.items()
        for instance in instances_where(record.open, lambda shape: shape.status is Status.FAILED)
    ]
