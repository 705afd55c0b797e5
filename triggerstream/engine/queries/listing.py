"""Lists of sessions in pages, by id: range reads of the store, and of the index if there is a filter.

The shown data is always read from the store. An index that lags behind may omit a session, but never shows
one that does not pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge

from triggerstream.core.answers import ListedSession, SessionsPage
from triggerstream.core.ids import SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.queries.index import Indexer, States
from triggerstream.engine.queries.inspector import Query, listed
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder

_FOLLOW_S = 0.05
"""Maximum time for which a filtered list waits for the index to catch up."""
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
    """The answer of ``Inspector.sessions``."""
    loop = asyncio.get_running_loop()
    filtered = [] if query.filter.is_empty() else parts
    for part in filtered:
        if part.indexer is not None:
            await part.indexer.work(part.states, slice_s=_FOLLOW_S / len(parts))
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
