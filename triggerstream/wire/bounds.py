"""The bounds that bytes must keep. What breaks one is not folded: it becomes a dead letter.

The bounds that the fold sees are in :class:`triggerstream.core.tasks.Bounds`.
"""

from __future__ import annotations

KEY_BYTES = 1024
EVENT_BYTES = 256 * 1024
JSON_DEPTH = 64
"""Arrays and objects in one another, in what comes from outside: 1 is an object of plain values."""
COMMAND_DEPTH = JSON_DEPTH + 2
"""A command holds an event's whole data two levels down, under ``kwargs`` and the trigger."""
STATE_DEPTH = JSON_DEPTH + 5
"""A state holds kwargs under tasks, task, open, instance, and is a level itself; events lie less deep."""
INTEGER_LIMIT = 2**63
"""Integers lie in [-2^63, 2^63): what every language's 64-bit integer holds."""
CONFIG_BYTES = 1024 * 1024
"""The event of a configuration holds a whole tasks file, so it may be as long as a command."""
