"""Touches idle sessions that prevent the deletion of old configurations.

A configuration is kept until every session has met its successor, which a session does at its next event.
If too many are kept, a touch is appended for sessions that are far behind. A touch decides nothing by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from triggerstream.core.events import Touch
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Rules
from triggerstream.wire import events
from triggerstream.wire.records import NewRecord

MOST_VERSIONS = 64
"""Length above which a history is shortened. A shorter one costs little, and most sessions get an event in
time."""
MOST_TEXT_BYTES = 16 * 1024 * 1024
"""Text size above which a history is shortened: half of ``CACHE_BYTES``. A session that is behind meets all
versions in a row; if they did not fit into the cache, each file would be parsed again for each session."""
TOUCHES = 100
"""Touches in one batch, and in one second: a few percent of the events that a worker folds."""
_TOUCH = events.encode(Touch(reason="configuration"))


def overdue_before(rules: Rules) -> int | None:
    """The offset of the configuration that every session should have met; None if the history is short."""
    size, following = 0, rules.current.offset
    seen: set[ConfigHash] = set()
    for kept, version in enumerate(reversed(rules.history), 1):
        if version.hash not in seen:
            seen.add(version.hash)
            size += version.size
        if kept > 1 and (kept > MOST_VERSIONS or size > MOST_TEXT_BYTES):
            return following
        following = version.offset
    return None


class Pace:
    """Rate limiter: at most ``TOUCHES`` touches in a second for all partitions of a process."""

    def __init__(self, *, second_s: float = 1.0) -> None:
        self._second_s = second_s
        self._turn = asyncio.Lock()

    async def touch(
        self, keys: Sequence[bytes], append: Callable[[Sequence[NewRecord]], Awaitable[int]]
    ) -> int:
        """Append a touch for each of ``keys``; return the offset after the last one, 0 if there is none."""
        after = 0
        for begin in range(0, len(keys), TOUCHES):
            some = keys[begin : begin + TOUCHES]
            async with self._turn:
                after = await append(touches(some))
                await asyncio.sleep(self._second_s * len(some) / TOUCHES)
        return after


def touches(keys: Iterable[bytes]) -> list[NewRecord]:
    """The records that touch the sessions with these keys."""
    return [NewRecord(key=key, value=_TOUCH) for key in keys]
