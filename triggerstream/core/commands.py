"""Decisions to be carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
)


# Commands and their causes are made on the path of an event; see core.events for why they are not frozen.
@dataclass(slots=True, kw_only=True)
class Cause:
    """An event that a command includes: its trigger, position in the partition, and id if it had one."""

    trigger: TriggerName
    offset: int
    id: str | None = None


@dataclass(slots=True, kw_only=True)
class Command:
    """Run ``run`` once for ``instance``.

    ``id`` is the same however often the command is handed over; ``attempt`` grows with each resend,
    ``retries`` with each retry of the task. ``kwargs`` maps a trigger to its arguments. ``decided_us`` is the
    session's clock at the decision; ``expires_us`` how long after the hand-over the executor may still start
    it.
    """

    id: CommandId
    session: SessionId
    task: TaskName
    instance: InstanceId
    run: str
    kwargs: JsonObject
    config: ConfigHash
    causes: list[Cause]
    decided_us: int
    attempt: int = 0
    retries: int = 0
    queue: str | None = None
    expires_us: int | None = None
    on_timeout: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Ask the executor to drop the command ``id``: its instance was cancelled."""

    id: CommandId
    session: SessionId
    task: TaskName
    instance: InstanceId


Decision: TypeAlias = Command | Revoke
