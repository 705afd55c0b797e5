"""Builds records from an application's triggers and events, and refuses what the engine would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, Trigger
from triggerstream.core.ids import JsonObject
from triggerstream.core.printable import shorten
from triggerstream.wire.events import check_session, check_trigger_name, decode, encode
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import dumps, optional_text, text_of
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.values import DATA_DEPTH, object_to_json

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
    key = check_session(_text("/session", session))
    name = check_trigger_name(_text("/trigger", trigger))
    kwargs = {} if data is None else object_to_json(data, place="/data", depth=DATA_DEPTH)
    time_us = None if time is None else _instant(time)
    value = encode(
        Trigger(name=name, data=kwargs),
        id=None if id is None else _text("/id", id),
        source=None if source is None else _text("/source", source),
        time_us=time_us,
    )
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
    if event.get("data") is not None and "data_base64" in event:
        raise DecodeError(
            "/data_base64: must be left out where there is `data`, which is the one that is folded"
        )
    return _checked(NewRecord(key=check_session(named), value=dumps(event)))


def _checked(new: NewRecord) -> NewRecord:
    decode(Record(partition=0, offset=0, arrival_us=0, key=new.key, value=new.value))
    return new


def _text(place: str, value: object) -> str:
    """``value``, which an application's code gave as a string."""
    if isinstance(value, str):
        # A member of `class S(str, Enum)` counts as its value.
        return str.__str__(value)
    if value is None:
        raise DecodeError(f"{place}: must be a string, is missing")
    if isinstance(value, bytes | bytearray):
        # str() of bytes is their literal, with the b and the quotes.
        raise DecodeError(f"{place}: must be a string, is {_shown(value)}: use its decode()")
    raise DecodeError(f"{place}: must be a string, is {_shown(value)}: use str(…) of it")


def _instant(time: object) -> int:
    if isinstance(time, str):
        return parse_instant(time)
    if not isinstance(time, datetime):
        advice = "; datetime.fromtimestamp(…, UTC) makes one of seconds" if _is_number(time) else ""
        raise DecodeError(
            "/time: must be an RFC 3339 instant such as 2026-03-01T12:00:00Z, or a datetime with a time zone,"
            f" is {_shown(time)}{advice}"
        )
    if time.tzinfo is None:
        raise DecodeError("/time: must have a time zone: datetime.now(UTC), not datetime.now()")
    return (time - _EPOCH) // timedelta(microseconds=1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return f"{shorten(repr(value), 40)} ({type(value).__name__})"
