"""Commands as bytes. ``schemas/command.schema.json`` is the published form."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from triggerstream.core.commands import Cause, Command, Decision, Revoke
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
from triggerstream.core.tasks import LONGEST_US, MOST_PRIORITY
from triggerstream.wire.bounds import COMMAND_DEPTH
from triggerstream.wire.instants import format_instant, parse_instant
from triggerstream.wire.json import (
    as_object,
    dumps,
    integer,
    loads,
    optional_integer,
    optional_object,
    optional_text,
    text_of,
)

_SECOND_US = 1_000_000
_LONGEST_S = LONGEST_US // _SECOND_US
_SHORTEST_S = 1 / _SECOND_US
_encoder = msgspec.json.Encoder()


def fields_of(decision: Decision) -> JsonObject:
    """``decision`` as a JSON object. Optional fields without a value are left out."""
    if isinstance(decision, Command):
        return _command_fields(decision, causes=msgspec.to_builtins(decision.causes))
    return {
        "kind": "revoke",
        "id": decision.id,
        "session": decision.session,
        "task": decision.task,
        "instance": decision.instance,
    }


def _command_fields(command: Command, *, causes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON, or a fragment
    """The fields of ``command``; ``causes`` as JSON values, or encoded already."""
    fields = {
        "kind": "run",
        "id": command.id,
        "session": command.session,
        "task": command.task,
        "instance": command.instance,
        "attempt": command.attempt,
        "retries": command.retries,
        "run": command.run,
        "kwargs": command.kwargs,
        "config": command.config,
        "causes": causes,
    }
    if command.cause_count is not None:
        fields["causeCount"] = command.cause_count
    fields["decided"] = format_instant(command.decided_us)
    if command.decided_at is not None:
        fields["decidedAt"] = command.decided_at
    if command.queue is not None:
        fields["queue"] = command.queue
    if command.priority is not None:
        fields["priority"] = command.priority
    if command.expires_us is not None:
        fields["expires"] = command.expires_us / _SECOND_US
    if command.traceparent is not None:
        fields["traceparent"] = command.traceparent
    return fields


def encode(decision: Decision) -> bytes:
    """``decision`` as a record's value.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    if isinstance(decision, Command):
        # msgspec writes texts and integers as orjson does, and needs no dict for each cause.
        try:
            causes = orjson.Fragment(_encoder.encode(decision.causes))
        except UnicodeEncodeError as exc:
            raise DecodeError(f"not a JSON value: {exc}") from exc
        return dumps(_command_fields(decision, causes=causes))
    return dumps(fields_of(decision))


def decode(value: bytes) -> Decision:
    """Decode a decision.

    Raises:
        DecodeError: it breaks the contract.
    """
    fields = as_object(loads(value, depth=COMMAND_DEPTH), "")
    kind = text_of(fields, "kind")
    if kind not in {"run", "revoke"}:
        message = f"/kind: must be `run` or `revoke`, is `{kind[:40]}`"
        raise DecodeError(message)
    command = CommandId(text_of(fields, "id"))
    session = SessionId(text_of(fields, "session"))
    instance = InstanceId(text_of(fields, "instance"))
    parts = split_instance_id(instance)
    task = TaskName(text_of(fields, "task"))
    if parts is None or parts[0] != task:
        message = f"/instance: must be `{task[:80]}#` and a number, is `{instance[:80]}`"
        raise DecodeError(message)
    if kind == "revoke":
        return Revoke(id=command, session=session, task=task, instance=instance)
    kwargs = optional_object(fields, "kwargs")
    if kwargs is None:
        raise DecodeError("/kwargs: must be an object, is missing")
    return Command(
        id=command,
        session=session,
        task=task,
        instance=instance,
        attempt=integer(fields, "attempt"),
        retries=integer(fields, "retries"),
        run=text_of(fields, "run"),
        kwargs=kwargs,
        config=ConfigHash(text_of(fields, "config")),
        causes=[_cause(item) for item in _array(fields.get("causes"))],
        cause_count=None if fields.get("causeCount") is None else integer(fields, "causeCount"),
        decided_us=parse_instant(text_of(fields, "decided"), path="/decided"),
        decided_at=None if fields.get("decidedAt") is None else integer(fields, "decidedAt"),
        queue=optional_text(fields, "queue"),
        priority=_priority(fields),
        expires_us=_expires(fields.get("expires")),
        traceparent=optional_text(fields, "traceparent"),
    )


def _priority(fields: JsonObject) -> int | None:
    priority = optional_integer(fields, "priority")
    if priority is not None and not 0 <= priority <= MOST_PRIORITY:
        raise DecodeError(f"/priority: must be an integer from 0 to {MOST_PRIORITY}, is {priority}")
    return priority


def _expires(value: Json) -> int | None:
    """Seconds on the wire, as Celery takes them."""
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (_SHORTEST_S <= value <= _LONGEST_S)
    ):
        message = f"/expires: must be a number of seconds from {_SHORTEST_S:.6f} to {_LONGEST_S:,}"
        raise DecodeError(message)
    return round(value * _SECOND_US)


def _array(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise DecodeError("/causes: must be an array")
    return value


def _cause(value: Json) -> Cause:
    fields = as_object(value, "/causes")
    return Cause(
        trigger=TriggerName(text_of(fields, "trigger", "/causes")),
        offset=optional_integer(fields, "offset", "/causes"),
        id=optional_text(fields, "id", "/causes"),
    )
