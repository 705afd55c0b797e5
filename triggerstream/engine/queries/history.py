"""All events of one session that the log holds, in their order, and the tasks files under which they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import Close, ConfigApplied, Erase, Event, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, JsonObject, SessionId
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.ports import Reader
from triggerstream.engine.rows import ConfigurationText
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


@dataclass(frozen=True, slots=True)
class _Applied:
    """A tasks file that took force at an offset of the session's partition."""

    offset: int
    line: JsonObject
    """The line with which a simulation applies it."""


_Found: TypeAlias = Event | Unread | _Applied


async def history(
    reader: Reader, session: SessionId, *, app: AppId, files: bool = False
) -> AsyncIterator[JsonObject | Unread]:
    """Each event of ``session`` as an object that a simulation reads.

    The events of a session that was erased begin with its last erasure. Each event has the ``app``. The first
    one has the ``generation`` in which the session was if earlier events are left out, or if the log has lost
    them. App and generation are part of every command's id; the ``offset`` is part of the state, and of its
    size. A record that a worker moved appears at its new position. Without an id, its ``rehomedfrom`` is its
    first position, by which a simulation counts its copies once. Outcomes and orders that became dead letters
    are left out.

    With ``files``, ``{"apply": text}`` stands before the first event for the tasks file that was in force
    then, and between events for each that took force between them, with its own offset and arrival. If
    no tasks file was in force, there is no such line.

    Raises:
        LogError: the log cannot be read.
        DecodeError: ``session`` is not a valid session id.
        UsageError: ``files``, and the tasks file of the first event is not known any more.
    """
    key = check_session(session)
    row = await reader.session(session)
    state = None if row is None else row.known()
    events, begin, generation = _events(reader, session, key, files=files), 0, None
    if state is not None and state.generation:
        read = [event async for event in events]
        begin, generation = await _begin(reader, session, state, read, app=app)
        events = _each(read)
    applied: list[_Applied] = []
    first = True
    async for event in events:
        if isinstance(event, _Applied):
            # Only the last one before the first event counts for the session.
            applied = [event] if first else [*applied, event]
            continue
        if event.offset < begin:
            continue
        if isinstance(event, Unread):
            yield event
            continue
        if files and first and not applied:
            applied = await _kept(reader, session, event.offset)
        for one in applied:
            yield one.line
        applied, first = [], False
        line = _line(event, session, app)
        if generation is not None:
            line["generation"], generation = generation, None
        yield line


def _line(event: Event, session: SessionId, app: AppId) -> JsonObject:
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
    return line


def _applied(text: str, *, offset: int, arrival_us: int) -> _Applied:
    return _Applied(offset, {"apply": text, "received": format_instant(arrival_us), "offset": offset})


async def _kept(reader: Reader, session: SessionId, offset: int) -> list[_Applied]:
    """The tasks file that was in force before the event at ``offset``, where the log does not have it.

    The engine keeps a tasks file until each session has met its successor. Empty: none was in force.

    Raises:
        UsageError: it is not known any more.
    """
    partition = await reader.partition(session)
    first = await reader.records(limit=1, partition=partition)
    if not first or first[0].offset == 0:
        return []
    known = await reader.configurations(partition=partition)
    before = [one for one in known if one.offset < offset]
    if before:
        return [_applied_text(before[-1])]
    if known and known[0].number != 1:
        raise UsageError(
            f"the tasks file in force at event {offset}, the session's first, is not known any more: the log "
            f"of partition {partition} begins at event {first[0].offset}, and engines keep a file only until "
            "each session has met the next one"
        )
    return []


def _applied_text(one: ConfigurationText) -> _Applied:
    return _applied(one.text, offset=one.offset, arrival_us=one.arrival_us)


async def _events(reader: Reader, session: SessionId, key: bytes, *, files: bool) -> AsyncIterator[_Found]:
    """The session's events, and with ``files`` the tasks files of its partition that took force."""
    partition = await reader.partition(session)
    after = -1
    while records := await reader.records(after=after, limit=_PAGE, partition=partition):
        after = records[-1].offset
        found = [one for record in records if (one := _read(record, session, key, files=files)) is not None]
        own = {one.offset for one in found if not isinstance(one, Unread) and not _is_trigger(one)}
        letters = await reader.dead_letters_at(own, partition=partition) if own else {}
        for one in found:
            letter = letters.get(one.offset)
            if letter is None:
                yield one
            elif isinstance(one, Event):
                yield Unread(offset=one.offset, reason=letter.reason)


def _is_trigger(one: Event | _Applied) -> bool:
    return isinstance(one, Event) and isinstance(one.body, Trigger)


def _read(record: Record, session: SessionId, key: bytes, *, files: bool) -> _Found | None:
    """The event of ``record``, or its tasks file; None if it is of another session."""
    if record.key and record.key != key:
        return None
    try:
        event = decode(record)
    except DecodeError as exc:
        return Unread(offset=record.offset, reason=str(exc)) if record.key else None
    if isinstance(event, ConfigApplied):
        if not files:
            return None
        return _applied(event.text, offset=record.offset, arrival_us=record.arrival_us)
    return event if event.session == session else None


class _Passed(NamedTuple):
    """The generation after a session's events, and its last erasure: the offset, the generation before it."""

    generation: int
    erased: tuple[int, int] | None


async def _each(events: Iterable[_Found]) -> AsyncIterator[_Found]:
    for event in events:
        yield event


async def _begin(
    reader: Reader,
    session: SessionId,
    state: SessionState,
    events: Iterable[_Found],
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
