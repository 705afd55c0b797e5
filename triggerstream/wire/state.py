"""A session's state as bytes. ``schemas/session-state.schema.json`` is the published form.

The version is in every state. An older version is upcast when it is read; a newer one is refused.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import cast

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import ConfigHash, Json, JsonObject, TaskName, TriggerName
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    Instance,
    Position,
    Sent,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.wire.bounds import STATE_DEPTH
from triggerstream.wire.json import (
    as_object,
    dumps,
    flag,
    integer,
    loads,
    optional_integer,
    optional_object,
    optional_text,
    text_of,
)

VERSION = 1


def encode(state: SessionState) -> bytes:
    """``state`` as it is stored. What says nothing is left out: an erased session is three numbers."""
    fields: dict[str, object] = {
        "version": VERSION,
        "generation": state.generation,
        "offset": state.offset,
    }
    if state.clock_us:
        fields["clock"] = state.clock_us
    if not state.is_empty():
        fields["config"] = state.config
    if state.closed:
        fields["closed"] = True
    if state.unjudged:
        fields["unjudged"] = True
    if state.refused:
        fields["refused"] = state.refused
    if state.seen:
        fields["seen"] = {name: _arrival_fields(arrival) for name, arrival in state.seen.items()}
    if state.tasks:
        fields["tasks"] = {name: _record_fields(record) for name, record in state.tasks.items()}
    if state.digests:
        fields["digests"] = {name: b64encode(value).decode() for name, value in state.digests.items()}
    if state.positions:
        fields["positions"] = state.positions
    return dumps(fields)


def decode(value: bytes) -> SessionState:
    """The state that ``value`` holds.

    Raises:
        DecodeError: it is no state, or of a version that this release does not know.
    """
    fields = as_object(loads(value, depth=STATE_DEPTH), "")
    version = integer(fields, "version", minimum=1)
    if version > VERSION:
        message = f"/version: {version} is newer than this release, which reads up to {VERSION}"
        raise DecodeError(message)
    state = SessionState(
        generation=integer(fields, "generation"),
        offset=integer(fields, "offset", minimum=-1),
        clock_us=optional_integer(fields, "clock") or 0,
        closed=flag(fields, "closed"),
        unjudged=flag(fields, "unjudged"),
        refused=optional_integer(fields, "refused") or 0,
    )
    for name, item in _object(fields, "seen").items():
        state.seen[TriggerName(name)] = _arrival(item)
    for name, item in _object(fields, "tasks").items():
        record = _record(as_object(item, "/tasks"))
        state.tasks[TaskName(name)] = record
        state.open_count += len(record.open)
        for instance in record.open.values():
            if instance.status is Status.DELAYED:
                state.timer_count += 1
    if state.is_empty():
        optional_integer(fields, "config", minimum=-1)
    else:
        state.config = integer(fields, "config", minimum=-1)
    for name, item in _object(fields, "digests").items():
        state.digests[TriggerName(name)] = _digests(item)
    positions = fields.get("positions")
    if positions is not None:
        state.positions = _positions(positions)
    return state


# ---- writing ------------------------------------------------------------------------------------


def _arrival_fields(arrival: Arrival) -> dict[str, object]:
    fields: dict[str, object] = {
        "data": arrival.data,
        "offset": arrival.offset,
        "time": arrival.time_us,
    }
    if arrival.id is not None:
        fields["id"] = arrival.id
    if arrival.source is not None:
        fields["source"] = arrival.source
    return fields


def _record_fields(record: TaskRecord) -> dict[str, object]:
    fields: dict[str, object] = {"next": record.next}
    if record.open:
        fields["open"] = [_instance_fields(instance) for instance in record.open.values()]
    if record.resolved:
        fields["resolved"] = [_instance_fields(instance) for instance in record.resolved.values()]
    return fields


def _instance_fields(instance: Instance) -> dict[str, object]:
    fields: dict[str, object] = {
        "number": instance.number,
        "status": instance.status,
        "created": instance.created_us,
        "changed": instance.changed_us,
    }
    if instance.captured:
        fields["captured"] = {name: _arrival_fields(arrival) for name, arrival in instance.captured.items()}
    if instance.noted:
        fields["noted"] = instance.noted
    if instance.attempt:
        fields["attempt"] = instance.attempt
    if instance.retries:
        fields["retries"] = instance.retries
    if instance.decided_us is not None:
        fields["decided"] = instance.decided_us
        fields["decidedAt"] = instance.decided_at
    if instance.started_us is not None:
        fields["started"] = instance.started_us
    if instance.ended_us is not None:
        fields["ended"] = instance.ended_us
    if instance.sent is not None:
        fields["sent"] = _sent_fields(instance.sent)
    for key, value in (
        ("kwargs", instance.kwargs),
        ("cloneOf", instance.clone_of),
        ("waitsFrom", instance.waits_from_us),
        ("waits", instance.waits_us),
        ("reason", instance.reason),
        ("result", instance.result),
        ("error", instance.error),
        ("metadata", instance.metadata),
    ):
        if value is not None:
            fields[key] = value  # noqa: PERF403 - adds to what is there
    return fields


def _sent_fields(sent: Sent) -> dict[str, object]:
    fields: dict[str, object] = {"run": sent.run, "config": sent.config}
    if sent.params:
        fields["params"] = sent.params
    if sent.queue is not None:
        fields["queue"] = sent.queue
    if sent.expires_us is not None:
        fields["expires"] = sent.expires_us
    return fields


# ---- reading ------------------------------------------------------------------------------------


def _object(fields: JsonObject, key: str, path: str = "") -> JsonObject:
    return optional_object(fields, key, path) or {}


def _arrival(value: Json) -> Arrival:
    fields = as_object(value, "/arrival")
    data = fields.get("data")
    offset = fields.get("offset")
    time_us = fields.get("time")
    # Two of these are read for each event that a session has had: the plain test first, the words after.
    if type(data) is not dict or type(offset) is not int or offset < 0 or type(time_us) is not int:
        data = as_object(data, "/arrival/data")
        offset = integer(fields, "offset", "/arrival")
        time_us = integer(fields, "time", "/arrival", minimum=-(2**63))
    return Arrival(
        data=data,
        offset=offset,
        time_us=time_us,
        id=optional_text(fields, "id", "/arrival"),
        source=optional_text(fields, "source", "/arrival"),
    )


def _record(fields: JsonObject) -> TaskRecord:
    record = TaskRecord(next=integer(fields, "next", "/tasks"))
    for key, held, resolved in (("open", record.open, False), ("resolved", record.resolved, True)):
        for item in _array(fields.get(key), f"/tasks/{key}"):
            instance = _instance(as_object(item, "/instance"))
            number = instance.number
            if number >= record.next or number in record.open or number in record.resolved:
                message = f"/instance/number: {number} is not below `next`, or stands twice"
                raise DecodeError(message)
            if (instance.status in RESOLVED) is not resolved:
                message = f"/tasks/{key}: an instance there cannot be {instance.status}"
                raise DecodeError(message)
            held[number] = instance
    return record


def _instance(fields: JsonObject) -> Instance:
    try:
        status = Status(text_of(fields, "status", "/instance"))
    except ValueError as exc:
        raise DecodeError("/instance/status: must be a known status") from exc
    sent = optional_object(fields, "sent", "/instance")
    instance = Instance(
        number=integer(fields, "number", "/instance"),
        status=status,
        created_us=integer(fields, "created", "/instance"),
        changed_us=integer(fields, "changed", "/instance"),
        captured={
            TriggerName(name): _arrival(item)
            for name, item in _object(fields, "captured", "/instance").items()
        },
        noted={
            TriggerName(name): _offset(item) for name, item in _object(fields, "noted", "/instance").items()
        },
        kwargs=optional_object(fields, "kwargs", "/instance"),
        attempt=optional_integer(fields, "attempt", "/instance") or 0,
        retries=optional_integer(fields, "retries", "/instance") or 0,
        clone_of=optional_integer(fields, "cloneOf", "/instance"),
        waits_from_us=optional_integer(fields, "waitsFrom", "/instance"),
        waits_us=optional_integer(fields, "waits", "/instance"),
        decided_us=optional_integer(fields, "decided", "/instance"),
        decided_at=optional_integer(fields, "decidedAt", "/instance"),
        started_us=optional_integer(fields, "started", "/instance"),
        ended_us=optional_integer(fields, "ended", "/instance"),
        sent=None if sent is None else _sent(sent),
        reason=optional_text(fields, "reason", "/instance"),
        result=fields.get("result"),
        error=optional_text(fields, "error", "/instance"),
        metadata=optional_object(fields, "metadata", "/instance"),
    )
    if status is Status.DELAYED and instance.waits_from_us is None:
        raise DecodeError("/instance/waitsFrom: a delayed instance says since when it waits")
    return instance


def _offset(value: Json) -> int:
    if type(value) is not int or value < 0:
        raise DecodeError("/instance/noted: must map triggers to offsets")
    return value


def _sent(fields: JsonObject) -> Sent:
    return Sent(
        run=text_of(fields, "run", "/sent"),
        config=ConfigHash(text_of(fields, "config", "/sent")),
        params=_object(fields, "params", "/sent"),
        queue=optional_text(fields, "queue", "/sent"),
        expires_us=optional_integer(fields, "expires", "/sent", minimum=1),
    )


def _array(value: Json, path: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        message = f"{path}: must be an array"
        raise DecodeError(message)
    return value


def _digests(value: Json) -> bytes:
    try:
        digests = b64decode(value if isinstance(value, str) else "!", validate=True)
    except ValueError as exc:
        raise DecodeError("/digests: must be base64") from exc
    if len(digests) % 8:
        raise DecodeError("/digests: must be whole digests of 8 bytes")
    return digests


def _positions(value: Json) -> list[Position]:
    positions: list[Position] = []
    for item in _array(value, "/positions"):
        match item:
            case [int(offset), str(), int(time_us), str() | None] if (
                offset >= 0 and not isinstance(offset, bool) and not isinstance(time_us, bool)
            ):
                positions.append(cast("Position", tuple(item)))
            case _:
                raise DecodeError("/positions: must hold [offset, type, time, note]")
    return positions
