"""Failpoints: named points at which a test kills or stops the process.

``TRIGGERSTREAM_FAILPOINT=name`` kills the process (SIGKILL) when it reaches ``name``; ``name:3`` the third
time; ``name:1:STOP`` sends SIGSTOP instead, for a process that pauses there and wakes up later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from triggerstream import variables

CHECKPOINT = (
    "checkpoint.begun",
    "checkpoint.rehomed",
    "checkpoint.opened",
    "checkpoint.sent",
    "checkpoint.acknowledged",
    "checkpoint.committed",
    "checkpoint.stored",
)
"""The points of a checkpoint, in their order."""
TAKEOVER = (
    "takeover.begun",
    "takeover.started",
    "takeover.claimed",
    "takeover.read",
    "takeover.fenced",
    "takeover.forgotten",
    "takeover.measured",
    "takeover.recovering",
    "takeover.recovered",
    "takeover.ready",
)
"""The points of a take-over, in their order. ``takeover.fenced`` and ``takeover.forgotten`` are passed only
where there is a former owner that has not released its claim."""
RELEASE = ("release.begun", "release.released")
"""The points of an orderly hand-over, after the last transaction."""
BRIDGE = ("bridge.published", "bridge.dead_letter_appended", "bridge.reported")
"""The points of a bridge: a command is confirmed and its offset not committed; a refused command is a dead
letter; its outcome is in the log as well."""
REBUILD = (
    "rebuild.fenced",
    "rebuild.folded",
    "checkpoint.sent",
    "checkpoint.acknowledged",
    "rebuild.replaced",
)
"""The points of a rebuild, in their order; all but the first are passed in each partition."""


class _Armed:
    """The failpoint that is armed in this process. ``left``: how many more times it must be reached."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name, _, rest = environment.get(variables.FAILPOINT, "").partition(":")
        times, _, action = rest.partition(":")
        self.name = name
        self.left = int(times or 1)
        self.signal = signal.SIGSTOP if action == "STOP" else signal.SIGKILL

    def reach(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


_ARMED = _Armed(os.environ)


def failpoint(name: str) -> None:
    """End the process here if a test has armed ``name``. Otherwise it costs one comparison of strings."""
    if name == _ARMED.name:
        _ARMED.reach()
