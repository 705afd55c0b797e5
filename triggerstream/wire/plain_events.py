"""A faster way to read most events: msgspec reads exactly their form, and checks it in C.

Any record of another form is left to :func:`triggerstream.wire.events.decode_any`, which reads all forms and
words the errors. For each record that is read here, it would return the same event; a law checks this.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, Body, ConfigApplied, Event, Trigger
from triggerstream.core.ids import SessionId, TriggerName
from triggerstream.wire.bounds import EVENT_BYTES, INTEGER_LIMIT, SESSION_ID_BYTES, TRACE_CHARS
from triggerstream.wire.engine_events import read_body
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.records import Record

_Integer: TypeAlias = Annotated[int, Meta(ge=-INTEGER_LIMIT, le=INTEGER_LIMIT - 1)]
_DEPTH = 6
"""Most data is less deep than this. Types of msgspec cannot refer to themselves, so each level is a type."""


def _value_type() -> Any:  # noqa: ANN401 - a type for msgspec alone
    scalar: Any = None | bool | _Integer | float | str
    value = scalar
    for _ in range(_DEPTH):
        value = scalar | list[value] | dict[str, value]  # type: ignore[valid-type] # made for msgspec
    return value


class _PlainEvent(Struct, forbid_unknown_fields=True, gc=False):
    type: str
    data: dict[str, _value_type()] = {}  # type: ignore[valid-type] # made for msgspec
    id: str | None = None
    source: str | None = None
    time: str | None = None
    session: str | None = None
    traceparent: str | None = None
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: str | None = None
    subject: str | None = None


_DECODER = Decoder(_PlainEvent)


def decode_plain_event(record: Record) -> Event | None:
    """The event of ``record``; None if it has another form than most, or is a configuration."""
    key, value = record.key, record.value
    if value is None or not key or record.headers or len(value) > EVENT_BYTES:
        return None
    if len(key) > SESSION_ID_BYTES or key[0] == 0:
        return None
    try:
        found = _DECODER.decode(value)
        session: SessionId = key.decode()  # type: ignore[assignment]  # see ids.instance_id
        arrival_us = record.arrival_us
        time_us = arrival_us if found.time is None else parse_instant(found.time)
        kind, traceparent = found.type, found.traceparent
        body: Body
        if kind.startswith(ENGINE_PREFIX):
            engines = read_body(kind, found.data)
            if isinstance(engines, ConfigApplied):
                return None  # it must not have a key
            body = engines
        else:
            name: TriggerName = kind  # type: ignore[assignment]  # see ids.instance_id
            body = Trigger(name=name, data=found.data)
    except (MsgspecError, UnicodeDecodeError, DecodeError):
        return None
    if not kind or found.id == "":
        return None
    if found.session is not None and found.session != session:
        return None
    if traceparent is not None and len(traceparent) > TRACE_CHARS:
        traceparent = None
    return Event(
        session=session,
        offset=record.offset,
        arrival_us=arrival_us,
        time_us=time_us,
        type=kind,
        body=body,
        id=found.id,
        source=found.source,
        traceparent=traceparent,
    )
