"""The message header that ties a Celery message to its command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from triggerstream.core.commands import Cause, Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
)
from triggerstream.wire.commands import fields_of
from triggerstream.wire.json import flag, integer, optional_text, text_of

HEADER = "triggerstream"
"""One header, an object: Celery carries it over its own retries as it is."""

PUT_BACK = "putBack"
"""In the header: how often the message was put back."""

BEGUN = "begun"
"""In the header: true once `started` of this very message is in the log."""

STARTS = "triggerstream-starts"
"""A header of its own: how many deliveries of the message may have begun to run and had no end."""

_NOT_IN_HEADER = frozenset({"kind", "run", "kwargs", "queue", "expires", "decided"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Which command a Celery message stands for.

    ``retries`` are the command's, not those of Celery's ``self.retry``; ``starts`` is what :data:`STARTS`
    says.
    """

    command: CommandId
    session: SessionId
    task: TaskName
    instance: InstanceId
    attempt: int
    retries: int
    config: ConfigHash
    causes: tuple[Cause, ...]
    on_timeout: bool
    traceparent: str | None
    put_back: int
    begun: bool
    starts: int


def header_of(command: Command) -> JsonObject:
    """What the message of ``command`` has under :data:`HEADER`."""
    return {name: value for name, value in fields_of(command).items() if name not in _NOT_IN_HEADER}


def delivery_of(headers: Mapping[str, object] | None) -> Delivery | None:
    """The command that a message with ``headers`` stands for; None where it is not one of ours."""
    fields = None if headers is None else headers.get(HEADER)
    if headers is None or not isinstance(fields, dict):
        return None
    try:
        return Delivery(
            command=CommandId(text_of(fields, "id")),
            session=SessionId(text_of(fields, "session")),
            task=TaskName(text_of(fields, "task")),
            instance=InstanceId(text_of(fields, "instance")),
            attempt=integer(fields, "attempt"),
            retries=integer(fields, "retries"),
            config=ConfigHash(optional_text(fields, "config") or ""),
            causes=tuple(_cause(item) for item in fields.get("causes") or () if isinstance(item, dict)),
            on_timeout=flag(fields, "onTimeout"),
            traceparent=optional_text(fields, "traceparent"),
            put_back=integer(fields, PUT_BACK) if PUT_BACK in fields else 0,
            begun=flag(fields, BEGUN),
            starts=integer(cast("JsonObject", headers), STARTS) if STARTS in headers else 0,
        )
    except DecodeError:
        return None


def _cause(fields: JsonObject) -> Cause:
    return Cause(
        trigger=TriggerName(text_of(fields, "trigger")),
        offset=integer(fields, "offset"),
        id=optional_text(fields, "id"),
    )
