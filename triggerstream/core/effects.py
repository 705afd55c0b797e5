"""The effect of an event on its session: the closed union :data:`Effect`, and the engine's reasons.

Reasons are codes, so that no program has to read a sentence. The sentence for people stands beside the code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, final

from msgspec import Struct


class Why(StrEnum):
    """Why an event changed nothing in its session (docs/semantics.md, R2.4)."""

    NOT_RECORDED = "not recorded"
    """The state was written by a release that kept the sentence only."""
    DUPLICATE = "duplicate"
    """An event of the same source and id is included already."""
    UNKNOWN_INSTANCE = "unknown instance"
    """The session has no such instance, or keeps it no longer."""
    OVER = "over"
    """The instance was resolved before the newest ones of its task: it has left the session's state."""
    OTHER_COMMAND = "other command"
    """The outcome names a command that is not the instance's."""
    OTHER_GENERATION = "other generation"
    """The order was given for another generation of the session."""
    OTHER_ATTEMPT = "other attempt"
    """The instance's command was sent again since, or not as often."""
    WRONG_STATUS = "wrong status"
    """The instance, or the session, is not in a status in which this applies."""
    TASK_REMOVED = "task removed"
    """The tasks file in force has no such task."""
    SESSION_CLOSED = "session closed"
    UNLESS = "unless"
    """The instance's `unless` has been fulfilled."""
    BOUND = "bound"
    """A bound of the tasks file forbids it."""


class Reason(StrEnum):
    """Why the engine ended an instance, or left it failed; those of a worker are ``FailureReason``'s."""

    BOUND = "bound"
    """A bound of the tasks file forbids its command, or one more try."""
    UNLESS = "unless"
    """It is not tried again, because its `unless` has been fulfilled."""
    TASK_REMOVED = "task removed"
    SESSION_CLOSED = "session closed"
    DEADLINE = "deadline"
    """Its `after` was not satisfied in time."""
    REVOKED = "revoked"
    """The worker dropped its command, because `expires` had passed or it was revoked."""
    NOT_DISPATCHABLE = "not dispatchable"
    TASK_UNKNOWN = "task unknown"
    MESSAGE_REJECTED = "message rejected"
    WORKER_LOST = "worker lost"
    TIME_LIMIT = "time limit"
    TERMINATED = "terminated"
    RESULT_NOT_REPORTABLE = "result not reportable"


class Applied(Struct, frozen=True):
    """The event counts. ``says`` is a sentence for the timeline if the type alone is not enough."""

    says: str | None = None


class Refused(Struct, frozen=True):
    """An outcome or order that does not apply; it is counted, and ``says`` why in a sentence."""

    why: Why
    says: str


class Ignored(Struct, frozen=True):
    """An event that the state already includes."""

    why: Why
    says: str


@final
class Nothing(Struct, frozen=True):
    """The event leaves no trace in the timeline."""


Effect: TypeAlias = Applied | Refused | Ignored | Nothing

APPLIED = Applied()
NOTHING = Nothing()
