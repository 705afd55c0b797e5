"""The scan of all sessions after a configuration: it finds timers, sessions to touch, and old configurations.

For most sessions it reads only the header of the stored state, which has the due time. It decodes those that
are not judged yet, and those that have not met a configuration and have a due time or something open that the
configuration may concern, or an event for a task that applies to existing sessions. A file that only changes
how many instances may run concerns those that are held.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from triggerstream.core.changes import decisive_parts, judging_parts
from triggerstream.core.fold import needs_touch, next_due
from triggerstream.core.ids import SessionId, TaskName
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules, Task
from triggerstream.engine.migration import touches
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire.marks import RESERVED
from triggerstream.wire.records import NewRecord
from triggerstream.wire.state import HELD_MARK, read_header, trigger_marks

SLICE_S = 0.01
"""Time after which a scan lets the folding go on. Decoding a state of 1 MB takes 6 ms; a page has hundreds
of states."""


class Scanned(NamedTuple):
    """A session that a scan has found: when its next timer is due, and the configuration that it met last.

    ``config`` is None for an empty session, which needs no configuration.
    """

    session: SessionId
    due_us: int | None
    config: int | None


class Scan:
    """One pass over all sessions. ``oldest``: the oldest configuration met last by a session seen so far.

    ``scanned`` is the configuration for which the previous pass was completed; if it is the one in force, no
    session is touched.
    """

    def __init__(self, rules: Rules, *, scanned: int, decoder: StateDecoder = SOMEWHERE) -> None:
        self._decoder = decoder
        self._rules = rules
        self._touch = scanned < rules.current.offset
        self._changed = changed_tasks(rules, since=scanned)
        self._judges = bool(changed_tasks(rules, since=scanned, parts=judging_parts))
        beginning = tasks_for_existing(rules, since=scanned)
        self._beginning = frozenset(task.name for task in beginning)
        self._marks = trigger_marks({trigger for task in beginning for trigger in task.needs})
        self._current = rules.current.offset
        self.oldest = rules.current.offset
        self._found: list[Scanned] = []
        self._touches: list[bytes] = []

    def look(self, key: bytes, value: bytes) -> None:
        """Take one entry of the store into account: a session's key and state, or a reserved key.

        Raises:
            UnreadableStateError: the state cannot be read.
        """
        if key.startswith(RESERVED):
            return
        seen = read_header(value)
        if seen is not None and not seen.is_unsettled:
            if seen.config is None:
                self._found.append(Scanned(SessionId(key.decode()), None, None))
                return
            if seen.config >= self._current:
                if seen.due_us is not None:
                    self._found.append(Scanned(SessionId(key.decode()), seen.due_us, seen.config))
                return
            self.oldest = min(self.oldest, seen.config)
            may_concern_open = seen.may_be_open and self._may_concern_open(seen.config, value)
            may_change = seen.due_us is not None or may_concern_open
            if not may_change and not any(mark in value for mark in self._marks):
                return
        session = SessionId(key.decode())
        known = self._decoder.read(session, value)
        if known.is_empty():
            self._found.append(Scanned(session, None, None))
            return
        self.oldest = min(self.oldest, known.config)
        due_us = next_due(self._rules, known)
        self._found.append(Scanned(session, due_us, known.config))
        may = may_decide(known, self._changed, self._beginning)
        if self._touch and may and needs_touch(self._rules, session, known):
            self._touches.append(key)

    def _may_concern_open(self, met: int, value: bytes) -> bool:
        """True if a configuration after ``met`` may judge or decide an open instance, or make it due."""
        if self._judges or met < self._last_with_deadline:
            return True
        return bool(self._changed) and HELD_MARK in value

    @cached_property
    def _last_with_deadline(self) -> int:
        """The latest configuration that starts timers in sessions that have none; -2 if there is none."""
        return max((one.offset for one in self._rules.history if one.config.starts_timers), default=-2)

    def take_found(self) -> list[Scanned]:
        """The sessions seen since the last call, without those that have no timer and nothing to note."""
        found, self._found = self._found, []
        return found

    def take_touches(self) -> list[NewRecord]:
        """The events that make sessions seen since the last call meet the configuration."""
        keys, self._touches = self._touches, []
        return touches(keys)


def changed_tasks(
    rules: Rules, *, since: int, parts: Callable[[Task], object] = decisive_parts
) -> frozenset[TaskName]:
    """The tasks whose ``parts`` differ between the configuration ``since`` and any after it.

    A session without instances of these tasks has the same conditions as under ``since``, for which it was
    evaluated. This check is cheaper than letting it meet all configurations that it missed.
    """
    changed: set[TaskName] = set()
    before = rules.met(since).config
    for version in rules.missed(since):
        after = version.config
        names = before.by_name.keys() | after.by_name.keys()
        same_bounds = before.bounds == after.bounds
        changed.update(
            name
            for name in names
            if not same_bounds or _differ(before.by_name.get(name), after.by_name.get(name), parts)
        )
        before = after
    return frozenset(changed)


def tasks_for_existing(rules: Rules, *, since: int) -> tuple[Task, ...]:
    """The tasks that apply to existing sessions, of the configurations after ``since``."""
    return tuple(task for version in rules.missed(since) for task in version.config.for_existing)


def _differ(before: Task | None, after: Task | None, parts: Callable[[Task], object]) -> bool:
    if before is None or after is None:
        return before is not after
    return parts(before) != parts(after)


def may_decide(
    known: SessionState, changed: frozenset[TaskName], beginning: frozenset[TaskName] = frozenset()
) -> bool:
    """True if a configuration that changed some tasks could decide something in a session.

    Tasks that are ``beginning`` apply to existing sessions.
    """
    if known.unjudged or known.due_us is not None or not changed.isdisjoint(known.tasks):
        return True
    return not beginning <= known.tasks.keys()


def has_met(key: bytes, value: bytes, config: int, *, decoder: StateDecoder = SOMEWHERE) -> bool:
    """True if a session has met the configuration at offset ``config``; an empty one needs none.

    Raises:
        UnreadableStateError: the state cannot be read.
    """
    seen = read_header(value)
    if seen is not None:
        return seen.config is None or seen.config >= config
    known = decoder.read(SessionId(key.decode()), value)
    return known.is_empty() or known.config >= config
