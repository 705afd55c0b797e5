"""Lists of sessions in pages, by id or by due time: range reads of the store, with a filter of the index.

The shown data is always read from the store. An index that lags behind may omit a session, but never shows
one that does not pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge, nsmallest

from triggerstream.core.answers import ListedSession, SessionsPage
from triggerstream.core.fold import next_due
from triggerstream.core.ids import SessionId
from triggerstream.core.listing import DuePlace, due_cursor, read_due_cursor
from triggerstream.core.tasks import Rules
from triggerstream.engine.queries.index import Indexer, States
from triggerstream.engine.queries.inspector import Query, listed
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder

_FOLLOW_S = 0.05
"""Maximum time for which a filtered list waits for the index to catch up."""
_PAGE = 500
_LOOK_S = 0.15
"""A page that has looked so long for sessions that pass shows what it has found, and where to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The sessions of a partition, with its rules. Without an index, filters read all sessions."""

    states: States
    rules: Rules
    indexer: Indexer | None = None
    decoder: StateDecoder = SOMEWHERE


async def listing(parts: Sequence[Part], query: Query) -> SessionsPage:
    """The answer of ``Inspector.sessions``.

    Raises:
        DecodeError: ``after`` is not that of a page of such a list.
    """
    loop = asyncio.get_running_loop()
    filtered = [] if query.filter.is_empty() else parts
    for part in filtered:
        if part.indexer is not None:
            await part.indexer.work(part.states, slice_s=_FOLLOW_S / len(parts))
    if query.filter.due_by_us is not None:
        return await _listing_by_due(parts, query, query.filter.due_by_us)
    until = loop.time() + _LOOK_S
    rows: list[ListedSession] = []
    after = query.after
    while True:
        some, end = await _candidates(parts, query, after)
        for session, part, value in some:
            row = listed(part.rules, session, value, wanted=query.filter, decoder=part.decoder)
            if row is not None:
                rows.append(row)
            after = session
            if len(rows) == query.limit:
                break
        else:
            if end is None:
                after = None
                break
            after = end
        if len(rows) == query.limit or loop.time() > until:
            break
    complete = all(part.indexer is None or part.indexer.complete for part in filtered)
    return SessionsPage(sessions=rows, after=after, complete=complete)


async def _listing_by_due(parts: Sequence[Part], query: Query, due_by_us: int) -> SessionsPage:
    """A page of a list by due time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LOOK_S
    rows: list[ListedSession] = []
    after = read_due_cursor(query.after)
    while True:
        found: list[list[tuple[DuePlace, Part, bytes]]] = []
        bounds: list[DuePlace] = []
        for part in parts:
            places = await _due_places(part, query, due_by_us, after)
            states = await part.states.some([place.session for place in places])
            if len(places) == query.limit:
                bounds.append(places[-1])
            found.append(
                [(place, part, states[place.session]) for place in places if place.session in states]
            )
        end = min(bounds, default=None)
        for place, part, value in merge(*found, key=lambda item: item[0]):
            if end is not None and place > end:
                break
            row = listed(part.rules, place.session, value, wanted=query.filter, decoder=part.decoder)
            if row is not None:
                rows.append(row)
            after = place
            if len(rows) == query.limit:
                break
        else:
            after = end
        if after is None or end is None or len(rows) == query.limit or loop.time() > until:
            break
    if end is None and len(rows) < query.limit:
        after = None
    complete = all(part.indexer is None or part.indexer.complete for part in parts)
    return SessionsPage(sessions=rows, after=None if after is None else due_cursor(after), complete=complete)


async def _due_places(part: Part, query: Query, due_by_us: int, after: DuePlace | None) -> Sequence[DuePlace]:
    """The next sessions of a part by due time; without an index, all of its sessions are read."""
    limit = query.limit
    if part.indexer is not None:
        return part.indexer.find_due(
            query.filter.tags(), prefix=query.prefix, after=after, until_us=due_by_us, limit=limit
        )
    places: list[DuePlace] = []
    last: SessionId | None = None
    while True:
        page = await part.states.page(prefix=query.prefix, after=last, limit=_PAGE)
        for session, value in page:
            state = part.decoder.read(session, value)
            due_us = next_due(part.rules, state)
            if due_us is not None and query.filter.passes(part.rules, session, state):
                places.append(DuePlace(due_us, session))
        if len(page) < _PAGE:
            return nsmallest(limit, (place for place in places if after is None or place > after))
        last = page[-1][0]


async def _candidates(
    parts: Sequence[Part], query: Query, after: SessionId | None
) -> tuple[list[tuple[SessionId, Part, bytes]], SessionId | None]:
    """The next sessions that may pass, by id, and the id up to which these are complete; None: to the end."""
    limit = query.limit
    found: list[list[tuple[SessionId, Part, bytes]]] = []
    bounds: list[SessionId] = []
    for part in parts:
        if part.indexer is None or query.filter.is_empty():
            rows = await part.states.page(prefix=query.prefix, after=after, limit=limit)
            names: Sequence[SessionId] = [name for name, _ in rows]
        else:
            names = part.indexer.find(query.filter.tags(), prefix=query.prefix, after=after, limit=limit)
            states = await part.states.some(names)
            rows = [(name, states[name]) for name in names if name in states]
        if len(names) == limit:
            bounds.append(names[-1])
        found.append([(session, part, value) for session, value in rows])
    end = min(bounds) if bounds else None
    return [item for item in merge(*found, key=lambda item: item[0]) if end is None or item[0] <= end], end
