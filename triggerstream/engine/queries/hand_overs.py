"""Facts beside a session's state for its explanation: how far its commands were handed over, and the time."""

from __future__ import annotations

import time

from triggerstream.core.ids import SessionId
from triggerstream.core.projections import Seen, silent_commands
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.ports import Reader


async def seen_beside(
    reader: Reader, rules: Rules, session: SessionId, state: SessionState, *, partition: int
) -> Seen:
    """The facts for :func:`triggerstream.core.projections.explain`. ``state`` was read before."""
    now_us = time.time_ns() // 1000
    silent = silent_commands(rules, session, state)
    if not silent:
        return Seen({}, now_us)
    found = await reader.hand_overs(silent, partition=partition)
    return Seen({one.instance: found[one.command] for one in silent if one.command in found}, now_us)
