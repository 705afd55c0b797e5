"""All events of one session that the log holds, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Event
from triggerstream.core.ids import JsonObject, SessionId
from triggerstream.engine.ports import Reader
from triggerstream.wire.events import REHOMED_FROM, check_session, decode, encode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, loads

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A record with the session's key that is not a valid event, and the reason."""

    offset: int
    reason: str


async def history(reader: Reader, session: SessionId) -> AsyncIterator[JsonObject | Unread]:
    """Each event of ``session`` as an object that a simulation reads.

    A record that a worker moved appears at its new position. If it has no id, its ``rehomedfrom`` is its
    first position, by which a simulation counts its copies once.

    Raises:
        LogError: the log cannot be read.
        DecodeError: ``session`` is not a valid session id.
    """
    key = check_session(session)
    place = await reader.partition(session)
    after = -1
    while records := await reader.records(after=after, limit=_PAGE, partition=place):
        after = records[-1].offset
        for record in records:
            if record.key is not None and record.key != key:
                continue
            try:
                event = decode(record)
            except DecodeError as exc:
                if record.key is not None:
                    yield Unread(offset=record.offset, reason=str(exc))
                continue
            if not isinstance(event, Event) or event.session != session:
                continue
            value = encode(
                event.body,
                id=event.id,
                source=event.source,
                time_us=event.time_us,
                session=session,
                traceparent=event.traceparent,
            )
            found = {**as_object(loads(value), ""), "received": format_instant(record.arrival_us)}
            yield found if event.origin is None else {**found, REHOMED_FROM: event.origin}
