"""The message header that ties a Celery message to its command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from msgspec.structs import replace

from triggerstream.core.commands import Cause, Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    split_instance_id,
)
from triggerstream.wire.commands import fields_of
from triggerstream.wire.events import check_session
from triggerstream.wire.json import (
    as_object,
    dumps,
    flag,
    integer,
    loads,
    optional_integer,
    optional_text,
    text_of,
)

HEADER = "triggerstream"
"""One header, an object: Celery carries it over its own retries as it is."""

PUT_BACK = "putBack"
"""In the header: how often the message was put back."""

BEGUN = "begun"
"""Field of the header: true once `started` of this same message is in the log."""

STARTS = "triggerstream-starts"
"""Separate header: how many deliveries of the message may have started without an outcome."""

HEADER_BYTES = 64 * 1024
"""RabbitMQ closes the connection of a message whose headers take more than a frame of 128 KiB."""
_ID_CHARS = 256

_NOT_IN_HEADER = frozenset({"kind", "run", "kwargs", "queue", "priority", "expires", "decided"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The command that a Celery message carries.

    ``retries`` are the command's, not those of Celery's ``self.retry``; ``starts`` is the value of the
    header :data:`STARTS`.
    """

    command: CommandId
    session: SessionId
    task: TaskName
    instance: InstanceId
    attempt: int
    retries: int
    config: ConfigHash
    causes: tuple[Cause, ...]
    traceparent: str | None
    put_back: int
    begun: bool
    starts: int


def header_of(command: Command) -> JsonObject:
    """The value of :data:`HEADER` in the message of ``command``.

    Ids of events come from applications, and each may be as long as an event. Causes only inform a task why
    it runs. If they would make the header too long, they are left out: long ids first, then all causes.
    """
    header = {name: value for name, value in fields_of(command).items() if name not in _NOT_IN_HEADER}
    if len(dumps(header)) > HEADER_BYTES:
        short = [replace(one, id=None) if len(one.id or "") > _ID_CHARS else one for one in command.causes]
        header["causes"] = fields_of(replace(command, causes=short))["causes"]
    if len(dumps(header)) > HEADER_BYTES:
        header["causes"] = []
    return header


def delivery_of(headers: Mapping[str, object] | None) -> Delivery | None:
    """The command of a message with ``headers``; None if the message is not triggerstream's."""
    try:
        return read_delivery(headers)
    except DecodeError:
        return None


def read_delivery(headers: Mapping[str, object] | None) -> Delivery | None:
    """The command of a message with ``headers``; None if it has none of triggerstream's headers.

    Raises:
        DecodeError: such a header has another form than a bridge writes.
    """
    if headers is None or headers.get(HEADER) is None:
        return None
    # Celery's JSON parser accepts values that no event can hold, such as half of a surrogate pair.
    fields = as_object(loads(dumps(headers[HEADER])), "")
    command, session, instance = (text_of(fields, name) for name in ("id", "session", "instance"))
    check_session(session)
    if split_instance_id(instance) is None:
        raise DecodeError(f"/instance: must be task#number, is `{instance[:80]}`")
    return Delivery(
        command=CommandId(command),
        session=SessionId(session),
        task=TaskName(text_of(fields, "task")),
        instance=InstanceId(instance),
        attempt=integer(fields, "attempt"),
        retries=integer(fields, "retries"),
        config=ConfigHash(optional_text(fields, "config") or ""),
        causes=_causes(fields.get("causes")),
        traceparent=optional_text(fields, "traceparent"),
        put_back=integer(fields, PUT_BACK) if PUT_BACK in fields else 0,
        begun=flag(fields, BEGUN),
        starts=integer(cast("JsonObject", headers), STARTS) if STARTS in headers else 0,
    )


def _causes(value: Json) -> tuple[Cause, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DecodeError("/causes: must be an array")
    items = [as_object(item, f"/causes/{at}") for at, item in enumerate(value)]
    return tuple(
        Cause(
            trigger=TriggerName(text_of(item, "trigger", f"/causes/{at}")),
            offset=optional_integer(item, "offset", f"/causes/{at}"),
            id=optional_text(item, "id", f"/causes/{at}"),
        )
        for at, item in enumerate(items)
    )
