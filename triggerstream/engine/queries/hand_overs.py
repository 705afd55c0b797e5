"""Facts beside a session's state for its explanation: how far its commands were handed over, and the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import CommandId, SessionId
from triggerstream.core.projections import Seen, SilentCommand, silent_commands
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.ports import Reader

_ANSWER_S = 5.0
"""A page waits at most this long. All that it shows besides is in the state."""


async def seen_beside(
    reader: Reader, rules: Rules, session: SessionId, state: SessionState, *, partition: int
) -> Seen:
    """The facts for :func:`triggerstream.core.projections.explain`. ``state`` was read before.

    If ``reader`` fails or does not answer in time, the hand-overs are "not known", with the reason.
    """
    now_us = time.time_ns() // 1000
    silent = silent_commands(rules, session, state)
    if not silent:
        return Seen({}, now_us)
    try:
        async with asyncio.timeout(_ANSWER_S):
            found = await reader.hand_overs(silent, partition=partition)
    except TimeoutError:
        found = _unknown(silent, f"no answer within {_ANSWER_S:g} s")
    except TriggerstreamError as exc:
        found = _unknown(silent, str(exc))
    return Seen({one.instance: found[one.command] for one in silent if one.command in found}, now_us)


def _unknown(silent: Sequence[SilentCommand], why: str) -> Mapping[CommandId, HandOver]:
    unknown = HandOver(state=HandOverState.UNKNOWN, why=why)
    return {one.command: unknown for one in silent}
