"""All events of one session that the log holds, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Close, Erase, Event, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, JsonObject, SessionId
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.ports import Reader
from triggerstream.wire.events import REHOMED_FROM, check_session, decode, encode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, loads
from triggerstream.wire.records import Record

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A record with the session's key that is not a valid event, and the reason."""

    offset: int
    reason: str


async def history(reader: Reader, session: SessionId, *, app: AppId) -> AsyncIterator[JsonObject | Unread]:
    """Each event of ``session`` as an object that a simulation reads.

    The events of a session that was erased begin with its last erasure. Each event has the ``app``. The first
    one has the ``generation`` in which the session was if earlier events are left out, or if the log has lost
    them. App and generation are part of every command's id; the ``offset`` is part of the state, and of its
    size. A record that a worker moved appears at its new position. Without an id, its ``rehomedfrom`` is its
    first position, by which a simulation counts its copies once. Outcomes and orders that became dead letters
    are left out.

    Raises:
        LogError: the log cannot be read.
        DecodeError: ``session`` is not a valid session id.
    """
    key = check_session(session)
    row = await reader.session(session)
    state = None if row is None else row.known()
    events, begin, generation = _events(reader, session, key), 0, None
    if state is not None and state.generation:
        read = [event async for event in events]
        begin, generation = await _begin(reader, session, state, read, app=app)
        events = _each(read)
    async for event in events:
        if event.offset < begin:
            continue
        if isinstance(event, Unread):
            yield event
            continue
        value = encode(
            event.body,
            id=event.id,
            source=event.source,
            time_us=None if event.time_us == event.arrival_us else event.time_us,
            session=session,
            traceparent=event.traceparent,
        )
        line = {**as_object(loads(value), ""), "received": format_instant(event.arrival_us), "app": app}
        line["offset"] = event.offset
        if event.origin is not None:
            line[REHOMED_FROM] = event.origin
        if generation is not None:
            line["generation"], generation = generation, None
        yield line


async def _events(reader: Reader, session: SessionId, key: bytes) -> AsyncIterator[Event | Unread]:
    place = await reader.partition(session)
    after = -1
    while records := await reader.records(after=after, limit=_PAGE, partition=place):
        after = records[-1].offset
        found = [one for record in records if (one := _read(record, session, key)) is not None]
        own = {one.offset for one in found if isinstance(one, Event) and not isinstance(one.body, Trigger)}
        letters = await reader.dead_letters_at(own, partition=place) if own else {}
        for one in found:
            letter = letters.get(one.offset)
            yield one if letter is None else Unread(offset=one.offset, reason=letter.reason)


def _read(record: Record, session: SessionId, key: bytes) -> Event | Unread | None:
    """The event of ``record``; None if it is of another session."""
    if record.key and record.key != key:
        return None
    try:
        event = decode(record)
    except DecodeError as exc:
        return Unread(offset=record.offset, reason=str(exc)) if record.key else None
    return event if isinstance(event, Event) and event.session == session else None


class _Passed(NamedTuple):
    """The generation after a session's events, and its last erasure: the offset, the generation before it."""

    generation: int
    erased: tuple[int, int] | None


async def _each(events: Iterable[Event | Unread]) -> AsyncIterator[Event | Unread]:
    for event in events:
        yield event


async def _begin(
    reader: Reader,
    session: SessionId,
    state: SessionState,
    events: Iterable[Event | Unread],
    *,
    app: AppId,
) -> tuple[int, int | None]:
    """The offset of the first event to show, and the generation before it; None: there was none before.

    The generation before the first event in the log is 0, unless the log has lost its beginning. Then it is
    the one from which the closings and erasures in the log lead to the stored generation. Where past
    configurations are gone, it may not be known which erasures took effect: then all events are shown.
    """
    partition = await reader.partition(session)
    first = await reader.records(limit=1, partition=partition)
    if not first:
        return 0, None
    own = [event for event in events if isinstance(event, Event) and event.offset <= state.offset]
    applied = await reader.configurations(partition=partition)
    rules = rules_of(app, applied, ConfigurationCache())
    starts: Iterable[int | None] = [None]
    if lost := first[0].offset > 0:
        endings = sum(isinstance(event.body, Close | Erase) for event in own)
        starts = range(max(state.generation - endings, 0), state.generation)
    for start in starts:
        passed = _passed(rules, own, start)
        if passed.generation == state.generation:
            return passed.erased or (0, start or None)
    return 0, state.generation if lost else None


def _passed(rules: Rules, own: Iterable[Event], generation: int | None) -> _Passed:
    """A session after its events, if it was in ``generation`` before them; None: it was unknown."""
    state = None
    if generation is not None:
        state = SessionState(generation=generation, config=rules.history[0].offset)
    erased = None
    for event in own:
        folded = step(rules, state, event)
        if isinstance(folded, Folded):
            if (
                isinstance(event.body, Erase)
                and state is not None
                and folded.state.generation > state.generation
            ):
                erased = event.offset, state.generation
            state = folded.state
    return _Passed(0 if state is None else state.generation, erased)
