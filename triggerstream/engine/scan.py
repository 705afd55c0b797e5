"""A look at all sessions of a partition: whose timers are due, who must be touched, what may be forgotten.

Most sessions are judged by a glance at their bytes; only those that wait for a timer, or have not met a
configuration and have something open, are decoded.
"""

from __future__ import annotations

import re

from triggerstream.core.events import Touch
from triggerstream.core.fold import needs_touch, next_due
from triggerstream.core.ids import SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.marks import RESERVED
from triggerstream.wire import events, state
from triggerstream.wire.records import NewRecord

_TOUCH = events.encode(Touch(reason="configuration"))
_HEAD = re.compile(
    rb'\{"version":1,"generation":\d+,"offset":-?\d+(?:,"clock":\d+)?(?:(,"config":)(-?\d+))?(?=[,}])'
)
"""How :mod:`triggerstream.wire.state` begins a state. What it does not match is decoded."""
_MAY_WAIT = b'"delayed"'
_UNJUDGED = b'"unjudged":true'
_MAY_BE_OPEN = b'"open":'


class Scan:
    """One pass. ``oldest`` is the configuration that some session seen so far has met last."""

    def __init__(self, rules: Rules, *, touch: bool) -> None:
        self._rules = rules
        self._touch = touch
        self._current = rules.current.offset
        self.oldest = rules.current.offset
        self._due: list[tuple[SessionId, int | None]] = []
        self._touches: list[NewRecord] = []

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
            if not self._touch or _MAY_BE_OPEN not in value:
                return
        known = state.decode(value)
        if known.is_empty():
            return
        self.oldest = min(self.oldest, known.config)
        session = SessionId(key.decode())
        if known.timer_count:
            self._due.append((session, next_due(self._rules, known)))
        if self._touch and needs_touch(self._rules, known):
            self._touches.append(NewRecord(key=key, value=_TOUCH))

    def take_due(self) -> list[tuple[SessionId, int | None]]:
        """When the timers of the sessions seen since the last call are due."""
        due, self._due = self._due, []
        return due

    def take_touches(self) -> list[NewRecord]:
        """The events that have sessions seen since the last call looked at again."""
        touches, self._touches = self._touches, []
        return touches
