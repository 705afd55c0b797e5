"""Builds records from an application's triggers and events, and refuses what the engine would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, Trigger
from triggerstream.core.ids import JsonObject
from triggerstream.wire.events import check_session, check_trigger_name, decode, encode
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import as_object, check_value, dumps, optional_text, text_of
from triggerstream.wire.records import NewRecord, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def trigger_record(
    session: str,
    trigger: str,
    data: Mapping[str, Any] | None,
    *,
    id: str | None,  # noqa: A002 - the attribute's name in CloudEvents
    source: str | None,
    time: datetime | str | None,
) -> NewRecord:
    """The record of one trigger that an application fires.

    Raises:
        DecodeError: the engine would refuse it; the message says what would be right.
    """
    key = check_session(session)
    name = check_trigger_name(trigger)
    kwargs = {} if data is None else as_object(check_value(dict(data)), "/data")
    time_us = None if time is None else _instant(time)
    value = encode(Trigger(name=name, data=kwargs), id=id, source=source, time_us=time_us)
    return _checked(NewRecord(key=key, value=value))


def event_record(event: JsonObject) -> NewRecord:
    """The record of one event whose ``session`` or ``subject`` names its session.

    Raises:
        DecodeError: the engine would refuse it, or its type is one of the engine's own.
    """
    if text_of(event, "type").startswith(ENGINE_PREFIX):
        raise DecodeError(
            f"/type: names that begin with `{ENGINE_PREFIX}` are the engine's own: no application fires them"
        )
    named = optional_text(event, "session") or optional_text(event, "subject")
    if not named:
        raise DecodeError("/session: must be a non-empty string, is missing")
    return _checked(NewRecord(key=check_session(named), value=dumps(event)))


def _checked(new: NewRecord) -> NewRecord:
    decode(Record(partition=0, offset=0, arrival_us=0, key=new.key, value=new.value))
    return new


def _instant(time: datetime | str) -> int:
    if isinstance(time, str):
        return parse_instant(time)
    if time.tzinfo is None:
        raise DecodeError("/time: must have a time zone: datetime.now(UTC), not datetime.now()")
    return (time - _EPOCH) // timedelta(microseconds=1)
