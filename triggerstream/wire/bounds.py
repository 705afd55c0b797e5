"""Bounds for encoded data. A record that exceeds one is not folded: it becomes a dead letter.

The bounds that the fold sees are in :class:`triggerstream.core.tasks.Bounds`.
"""

from __future__ import annotations

from triggerstream.core.sizes import TEXT_BYTES
from triggerstream.core.tasks import Bounds

SESSION_ID_BYTES = 1024
EVENT_BYTES = 256 * 1024
JSON_DEPTH = 64
"""Arrays and objects in one another, in what comes from outside: 1 is an object of plain values."""
COMMAND_DEPTH = JSON_DEPTH + 2
"""A command holds an event's whole data two levels down, under ``kwargs`` and the trigger."""
STATE_DEPTH = JSON_DEPTH + 5
"""A state holds kwargs under tasks, task, open, instance, and is a level itself; events lie less deep."""
INTEGER_LIMIT = 2**63
"""Integers lie in [-2^63, 2^63): what every language's 64-bit integer holds."""
TRACE_CHARS = 512
"""A W3C trace context has 55. A longer one is no trace, and would go along with every command and outcome."""
CONFIG_BYTES = 1024 * 1024
"""The event of a configuration holds a whole tasks file, so it may be as long as a command."""


_BOOKKEEPING_BYTES = 512
"""Bytes that outcomes, orders and timers add to an instance beside texts: instants, counts, a failure
reason."""


def longest_state(bounds: Bounds | None = None) -> int:
    """Size in bytes of the longest state that any log can produce.

    A trigger is folded only within the state's bound. Outcomes, orders and timers are always folded: they may
    add an error to each open instance, and a note to each entry of the timeline. The resolved instances are
    added, with the names of the events that they captured counted again.
    """
    bounds = bounds or Bounds()
    return (
        bounds.state_bytes
        + 2 * bounds.resolved_bytes
        + bounds.unresolved_instances * (TEXT_BYTES + _BOOKKEEPING_BYTES)
        + bounds.positions * (TEXT_BYTES + _BOOKKEEPING_BYTES)
        + _BOOKKEEPING_BYTES
    )


def most_decisions(bounds: Bounds | None = None) -> int:
    """Maximum number of commands that one record can decide.

    Each open instance is decided once, and the bound limits their number. An order can decide one more
    command, for an instance that time has decided in the same fold: a resend, or a forced replay.
    """
    return (bounds or Bounds()).unresolved_instances + 1
