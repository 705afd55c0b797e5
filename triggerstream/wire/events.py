"""Events as bytes: a CloudEvents 1.0 JSON object of which only ``type`` is required.

``schemas/event.schema.json`` is the published form. Structured and binary (``ce_`` headers) content mode are
accepted; a ``content-type`` of CloudEvents makes a record structured, whatever other headers it has. Any
invalid event raises :class:`DecodeError`, and nothing else is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, TYPES, Body, ConfigApplied, Event, Trigger
from triggerstream.core.ids import JsonObject, SessionId, TriggerName
from triggerstream.core.printable import shorten
from triggerstream.wire.bounds import CONFIG_BYTES, EVENT_BYTES, SESSION_ID_BYTES, STATE_DEPTH, TRACE_CHARS
from triggerstream.wire.engine_events import data_of, read_body
from triggerstream.wire.instants import format_instant, parse_instant
from triggerstream.wire.json import dumps, dumps_short, kind_of, loads, optional_text, text_of
from triggerstream.wire.plain_events import decode_plain_event
from triggerstream.wire.records import Headers, Record, headers_bytes

ORIGIN_HEADER = "triggerstream-origin"
"""On a re-homed record: ``partition:offset:arrival`` of the record that it stands for."""
REHOMED_FROM = "rehomedfrom"
"""Attribute of an exported event without an id: the first position of a record that was re-homed."""
TRACE_HEADER = "traceparent"
BINARY_PREFIX = "ce_"
"""Prefix of headers that are attributes of an event in binary content mode."""
CONTENT_TYPE_HEADER = "content-type"
_STRUCTURED = "application/cloudevents"
_STRUCTURED_FORMS = frozenset({_STRUCTURED, f"{_STRUCTURED}+json"})

_REHOMED_BYTES = 64 * 1024
_OF_RECORDS = frozenset({ORIGIN_HEADER, TRACE_HEADER, "triggerstream-signature"})
_OF_RECORDS_BYTES = 4 * TRACE_CHARS
_ORIGIN = re.compile(rb"([0-9]{1,10}:[0-9]{1,19}):([0-9]{1,18})")


def decode(record: Record) -> Event | ConfigApplied:
    """Decode the event of ``record``.

    Raises:
        DecodeError: it is invalid; the message names the place and what would be right.
    """
    found = decode_plain_event(record)
    return decode_any(record) if found is None else found


def decode_any(record: Record) -> Event | ConfigApplied:
    """Decode the event of ``record``, whatever its form. Raises as :func:`decode`."""
    key, value = record.key, record.value
    headers = headers_by_name(record.headers) if record.headers else None
    binary = headers is not None and "ce_type" in headers
    if headers is not None and (content_type := _structured_type(headers)) is not None:
        check_structured(content_type)
        binary = False
    if value is None and not binary:
        raise DecodeError("no value: an event is a JSON object")
    size = event_bytes(record) if binary or value is None else len(value)
    if size > EVENT_BYTES and (key is not None or size > CONFIG_BYTES):
        raise DecodeError(_too_long(size))
    fields = _binary(headers, value) if headers is not None and binary else _structured(value or b"")
    get: Callable[[str], Any] = fields.get
    kind, data, event_id, source = get("type"), get("data"), get("id"), get("source")
    if type(kind) is not str or not kind:
        text_of(fields, "type")
    if type(data) is not dict:
        data = _odd_data(fields)
    if "specversion" in fields and fields["specversion"] != "1.0":
        raise DecodeError('/specversion: must be "1.0"')
    if event_id is not None and (type(event_id) is not str or not event_id):
        optional_text(fields, "id")
        raise DecodeError("/id: must be a non-empty string, or left out")
    if source is not None and type(source) is not str:
        optional_text(fields, "source")
    time_us, origin = record.arrival_us, None
    traceparent = optional_text(fields, "traceparent") if "traceparent" in fields else None
    if headers is not None:
        if traceparent is None and TRACE_HEADER in headers:
            traceparent = _header_text(headers, TRACE_HEADER)
        if ORIGIN_HEADER in headers:
            origin, time_us = _origin(headers[ORIGIN_HEADER])
    if traceparent is not None and len(traceparent) > TRACE_CHARS:
        traceparent = None
    if get("time") is not None:
        time_us = parse_instant(text_of(fields, "time"))
    if kind.startswith(ENGINE_PREFIX):
        body: Body | ConfigApplied = read_body(kind, data)
        if isinstance(body, ConfigApplied):
            _check_session(fields)
            if key is not None:
                raise DecodeError("a configuration has no key")
            return body
    else:
        body = Trigger(name=kind, data=data)
    if size > EVENT_BYTES:
        raise DecodeError(_too_long(size))
    return Event(
        session=_session(key, fields),
        offset=record.offset,
        arrival_us=record.arrival_us,
        time_us=time_us,
        type=kind,
        body=body,
        id=event_id,
        source=source,
        traceparent=traceparent,
        origin=origin if event_id is None else None,
    )


def is_structured(content_type: str) -> bool:
    """True if an event with this content type is in structured mode; False: other headers decide its mode."""
    return content_type.lower().startswith(_STRUCTURED)


def check_structured(content_type: str) -> None:
    """Check the form of an event in structured mode.

    Raises:
        DecodeError: it is another one than JSON.
    """
    form = _form(content_type)
    if form not in _STRUCTURED_FORMS:
        raise DecodeError(
            f"header {CONTENT_TYPE_HEADER}: must be {_STRUCTURED}+json, is `{form}`: an event is JSON"
        )


def _form(content_type: str) -> str:
    """``content_type`` without its parameters, shortened: no known form is so long."""
    return content_type.lower().partition(";")[0].strip()[:80]


def _structured_type(headers: dict[str, bytes]) -> str | None:
    """The content type of a record in structured mode; None: other headers decide its mode."""
    found = headers.get(CONTENT_TYPE_HEADER)
    text = "" if found is None else found.decode(errors="replace")
    return text if is_structured(text) else None


def event_bytes(record: Record) -> int:
    """The length of an event: its value, and its attributes if they are headers."""
    if _structured_type(headers_by_name(record.headers)) is not None:
        return len(record.value or b"")
    attributes = sum(len(name) + len(text or b"") for name, text in record.headers if is_attribute(name))
    return len(record.value or b"") + attributes


def _too_long(size: int) -> str:
    return f"{size:,} bytes: an event has at most {EVENT_BYTES:,}"


def encode(
    body: Body | ConfigApplied,
    *,
    id: str | None = None,  # noqa: A002 - the attribute's name
    source: str | None = None,
    time_us: int | None = None,
    session: SessionId | None = None,
    traceparent: str | None = None,
) -> bytes:
    """Encode ``body`` as the value of an event. ``session`` is only needed if the record has no key.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    if isinstance(body, Trigger):
        fields: JsonObject = {"type": body.name, "data": body.data}
    else:
        fields = {"type": TYPES[type(body)], "data": data_of(body)}
    optional = {
        "id": id,
        "source": source,
        "time": None if time_us is None else format_instant(time_us),
        "session": session,
        "traceparent": traceparent,
    }
    fields.update({name: value for name, value in optional.items() if value is not None})
    return dumps(fields)


def encode_trigger(trigger: Trigger, *, id: str, time_us: int) -> bytes:  # noqa: A002 - the attribute's name
    """Encode a trigger that follows from another event; it fits, because the other event was not too long."""
    value = encode(trigger, id=id, time_us=time_us)
    if len(value) <= EVENT_BYTES:
        return value
    return dumps_short(loads(value, depth=STATE_DEPTH))


def check_session(session: str) -> bytes:
    """The key of records of ``session``.

    Raises:
        DecodeError: it is not a session id: empty, longer than 1,024 bytes, no Unicode, or beginning with
            U+0000.
    """
    try:
        key = session.encode()
    except UnicodeEncodeError as exc:
        raise DecodeError("a session id must be valid Unicode") from exc
    _check_key(key)
    return key


def check_trigger_name(name: str) -> TriggerName:
    """``name`` as the name of a trigger that an application may fire.

    Raises:
        DecodeError: it is empty, or reserved for the engine's own events.
    """
    if not name or name.startswith(ENGINE_PREFIX):
        message = f"`{name}` is no trigger: a name is not empty and does not begin with `{ENGINE_PREFIX}`"
        raise DecodeError(message)
    return TriggerName(name)


# ---- the envelope -------------------------------------------------------------------------------


def _structured(value: bytes) -> JsonObject:
    """The attributes of an event in structured content mode, including its data."""
    fields = loads(value)
    if not isinstance(fields, dict):
        message = f"must be a JSON object with a `type`, is {kind_of(fields)}"
        raise DecodeError(message)
    return fields


def _odd_data(fields: JsonObject) -> JsonObject:
    """The kwargs of an event whose ``data`` is not an object, or is missing."""
    data = fields.get("data")
    if data is not None:
        message = f"/data: must be an object, is {kind_of(data)}"
        raise DecodeError(message)
    if "data_base64" in fields:
        raise DecodeError("/data_base64: must be `data`, a JSON object")
    return {}


def _check_session(fields: JsonObject) -> None:
    """Refuse a ``session`` or ``subject`` of a wrong type, even if the key decides the session."""
    if fields.get("session") is not None:
        text_of(fields, "session")
    optional_text(fields, "subject")


def _session(key: bytes | None, fields: JsonObject) -> SessionId:
    named = fields.get("session")
    if named is not None or "subject" in fields:
        _check_session(fields)
    if not key:
        # Some clients write an empty key for no key.
        named = named or fields.get("subject")
        if not isinstance(named, str) or not named:
            found = "no key" if key is None else "an empty key"
            raise DecodeError(f"{found}, and no `session`: an event belongs to a session")
        check_session(named)
        return SessionId(named)
    if len(key) > SESSION_ID_BYTES or key[0] == 0:
        _check_key(key)
    try:
        session = key.decode()
    except UnicodeDecodeError as exc:
        message = f"the key must be UTF-8: byte {exc.start} is not"
        raise DecodeError(message) from exc
    if named is not None and named != session:
        message = f"/session: must equal the key `{shorten(session)}`, is `{shorten(str(named))}`"
        raise DecodeError(message)
    return SessionId(session)


def _check_key(key: bytes) -> None:
    if not key:
        raise DecodeError("/session: an empty session id: write the session's, such as `survey-42`")
    if len(key) > SESSION_ID_BYTES:
        message = f"a session id of {len(key):,} bytes: it has at most {SESSION_ID_BYTES:,}"
        raise DecodeError(message)
    if key[0] == 0:
        raise DecodeError("a session id must not begin with U+0000")


def headers_by_name(headers: Headers) -> dict[str, bytes]:
    """The effective values of headers: the last one of each name; headers without a value are ignored."""
    return {name: text for name, text in headers if text is not None}


def is_attribute(name: str) -> bool:
    """True if a header is an attribute of a CloudEvent. A name that was not UTF-8 never is."""
    return name.startswith(BINARY_PREFIX) and "\\" not in name


def _header_text(headers: dict[str, bytes], name: str) -> str:
    try:
        return headers[name].decode()
    except UnicodeDecodeError as exc:
        message = f"header {name}: must be UTF-8"
        raise DecodeError(message) from exc


def _binary(headers: dict[str, bytes], value: bytes | None) -> JsonObject:
    """The attributes of a CloudEvent in binary content mode, with its data."""
    fields: JsonObject = {
        name[len(BINARY_PREFIX) :]: _header_text(headers, name) for name in headers if is_attribute(name)
    }
    if value:
        fields["data"] = loads(value)
    return fields


def _origin(value: bytes) -> tuple[str, int]:
    """The position of the record's original, and when that arrived."""
    match = _ORIGIN.fullmatch(value)
    if match is None:
        message = f"header {ORIGIN_HEADER}: must be partition:offset:arrival"
        raise DecodeError(message)
    place, arrival = match.groups()
    return place.decode(), int(arrival)


def origin_of(headers: Headers) -> tuple[int, int] | None:
    """The original partition and offset of a re-homed record; None if the record is not re-homed."""
    for name, text in headers:
        if name == ORIGIN_HEADER and text is not None:
            match = _ORIGIN.fullmatch(text)
            if match is None:
                return None
            partition, offset = match.group(1).split(b":")
            return int(partition), int(offset)
    return None


def rehomed_headers(record: Record) -> Headers:
    """The headers of the copy of ``record`` in its right partition.

    If they are so long that there may be no room for another one, headers that do not affect decisions are
    left out.
    """
    headers = record.headers
    if headers and headers_bytes(headers) > _REHOMED_BYTES:
        content_type = _structured_type(headers_by_name(headers))
        # Attributes count as bytes of the event, so together they are no longer than an event.
        headers = tuple(
            header for header in headers if _decides(*header, structured=content_type is not None)
        )
        if content_type is not None:
            # Written anew: the producer's may have parameters of any length.
            headers = (*headers, (CONTENT_TYPE_HEADER, _form(content_type).encode()))
    if any(name == ORIGIN_HEADER and text is not None for name, text in headers):
        return headers
    origin = f"{record.partition}:{record.offset}:{record.arrival_us}".encode()
    return (*headers, (ORIGIN_HEADER, origin))


def _decides(name: str, text: bytes | None, *, structured: bool) -> bool:
    if name in _OF_RECORDS:
        return len(text or b"") <= _OF_RECORDS_BYTES
    return not structured and is_attribute(name)
