"""Decisions to be carried out."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct

from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
)

CELERY_PREFIX: Final = "celery."
"""Celery's own tasks, such as ``celery.chord``, begin so. They can run any task: no command runs them."""


MOST_CAUSES: Final = 100
"""Events that a command names: a thousand of them would be 60 kB."""


class Cause(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a command includes: its trigger, position in the partition, and id if it had one.

    An event that a timer fired has no position. The field names are those of the JSON, and their
    order is its order.
    """

    trigger: TriggerName
    offset: int | None = None
    id: str | None = None


class _InstanceDecision(Struct, frozen=True):
    """A decision for an instance, and the id of its command.

    Its fields may be positional: see where :mod:`triggerstream.core.deciding` makes a command.
    """

    id: CommandId
    session: SessionId
    task: TaskName
    instance: InstanceId


class Command(_InstanceDecision, frozen=True, kw_only=True):
    """Run ``run`` once for ``instance``.

    ``id`` is the same however often the command is handed over; ``attempt`` grows with each resend,
    ``retries`` with each retry of the task. ``kwargs`` maps a leaf to its arguments. ``cause_count`` is the
    number of causes, if ``causes`` does not have them all. ``decided_us`` is the session's clock at the
    decision, ``decided_at`` the offset of the event in whose fold this record of the command was decided: a
    resend has its order's. ``priority`` is Celery's, from 0 to 9. ``expires_us`` is the time after the
    hand-over within which the executor may start it.
    """

    run: str
    kwargs: JsonObject
    config: ConfigHash
    causes: list[Cause]
    cause_count: int | None = None
    decided_us: int
    decided_at: int | None = None
    attempt: int = 0
    retries: int = 0
    queue: str | None = None
    priority: int | None = None
    expires_us: int | None = None
    traceparent: str | None = None


class Revoke(_InstanceDecision, frozen=True):
    """Ask the executor to drop the command ``id``: its instance was cancelled."""


Decision: TypeAlias = Command | Revoke
