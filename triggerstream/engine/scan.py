"""A look at all sessions of a partition: whose timers are due, who must be touched, what may be forgotten.

Most sessions are judged by a glance at their bytes; only those that wait for a timer, or have not met a
configuration and have something open, are decoded.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from operator import attrgetter

from triggerstream.core.fold import needs_touch, next_due
from triggerstream.core.ids import SessionId, TaskName
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules, Task
from triggerstream.engine.migration import touches
from triggerstream.engine.stored_states import SOMEWHERE, Keeper
from triggerstream.wire import state
from triggerstream.wire.marks import RESERVED
from triggerstream.wire.records import NewRecord

_HEAD = re.compile(
    rb'\{"version":1,"generation":\d+,"offset":-?\d+(?:,"clock":\d+)?(?:(,"config":)(-?\d+))?(?=[,}])'
)
"""How :mod:`triggerstream.wire.state` begins a state. What it does not match is decoded."""
_MAY_WAIT = b'"delayed"'
_UNJUDGED = b'"unjudged":true'
_MAY_BE_OPEN = b'"open":'


_CARRIED = frozenset({"run", "using", "with_params", "queue", "expires_us", "extras"})
"""Parts of a task that its decision contains but does not depend on."""
_DECISIVE = attrgetter(*(field.name for field in fields(Task) if field.name not in _CARRIED))


class Scan:
    """One pass over all sessions. ``oldest``: the oldest configuration met last by a session seen so far.

    ``scanned`` is the configuration for which the previous pass was completed.
    """

    def __init__(self, rules: Rules, *, scanned: int, keeper: Keeper = SOMEWHERE) -> None:
        self._keeper = keeper
        self._rules = rules
        self._touch = scanned < rules.current.offset
        self._changed = changed_tasks(rules, since=scanned)
        self._current = rules.current.offset
        self.oldest = rules.current.offset
        self._due: list[tuple[SessionId, int | None]] = []
        self._touches: list[bytes] = []

    def look(self, key: bytes, value: bytes) -> None:
        """Take one entry of the store into account."""
        if key.startswith(RESERVED):
            return
        head = _HEAD.match(value)
        waits = _MAY_WAIT in value or _UNJUDGED in value
        if head is not None and not waits:
            config = self._current if head[1] is None else int(head[2])
            if config >= self._current:
                return
            self.oldest = min(self.oldest, config)
            if not self._changed or _MAY_BE_OPEN not in value:
                return
        session = SessionId(key.decode())
        known = self._keeper.read(session, value)
        if known.is_empty():
            return
        self.oldest = min(self.oldest, known.config)
        if known.timer_count:
            self._due.append((session, next_due(self._rules, known)))
        if self._touch and may_decide(known, self._changed) and needs_touch(self._rules, known):
            self._touches.append(key)

    def take_due(self) -> list[tuple[SessionId, int | None]]:
        """When the timers of the sessions seen since the last call are due."""
        due, self._due = self._due, []
        return due

    def take_touches(self) -> list[NewRecord]:
        """The events that have sessions seen since the last call looked at again."""
        keys, self._touches = self._touches, []
        return touches(keys)


def changed_tasks(rules: Rules, *, since: int) -> frozenset[TaskName]:
    """The tasks whose conditions differ between the configuration ``since`` and any after it.

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
            if not same_bounds or _condition(before.by_name.get(name)) != _condition(after.by_name.get(name))
        )
        before = after
    return frozenset(changed)


def _condition(task: Task | None) -> tuple[object, ...] | None:
    return None if task is None else _DECISIVE(task)


def may_decide(known: SessionState, changed: frozenset[TaskName]) -> bool:
    """Whether a configuration that changed these tasks could decide something in a session."""
    return known.unjudged or known.timer_count > 0 or not changed.isdisjoint(known.tasks)


def met(value: bytes) -> int:
    """The offset of the last configuration that a session has met; beyond all offsets for an empty state."""
    head = _HEAD.match(value)
    if head is not None:
        return sys.maxsize if head[1] is None else int(head[2])
    known = state.decode(value)
    return sys.maxsize if known.is_empty() else known.config
