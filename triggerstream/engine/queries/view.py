"""Sessions from a reader, as values explained under the configurations in force."""

from __future__ import annotations

from collections.abc import AsyncIterator

from triggerstream.core.answers import ExplainedSession
from triggerstream.core.ids import AppId, SessionId, TaskName, TriggerName
from triggerstream.core.projections import explain
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.ports import Reader
from triggerstream.engine.queries.hand_overs import seen_beside
from triggerstream.engine.queries.past import Moment, explain_past
from triggerstream.engine.whole_sessions import whole_session

_PAGE = 500


class View:
    """Reads the current stored data for each question; only parsed tasks files are cached."""

    def __init__(
        self, reader: Reader, *, app: AppId, configurations: ConfigurationCache | None = None
    ) -> None:
        self.reader = reader
        self._app = app
        self._configurations = configurations or ConfigurationCache()

    async def rules(self, *, partition: int = 0) -> Rules:
        """The configurations that some session of ``partition`` may have to meet; the last is in force."""
        stored = await self.reader.configurations(partition=partition)
        return rules_of(self._app, stored, self._configurations)

    async def state(self, session: str) -> SessionState | None:
        """The state of one session, with all its instances; None if it is unknown."""
        row = await self.reader.session(SessionId(session))
        if row is None:
            return None
        return await whole_session(self.reader, row.id, row.known(), decoder=row.decoder)

    async def states(self, *, prefix: str = "") -> AsyncIterator[tuple[SessionId, SessionState, int | None]]:
        """Sessions whose id begins with ``prefix``, by id, with the time of their next timer."""
        after: SessionId | None = None
        while True:
            rows = await self.reader.sessions(prefix=prefix, after=after, limit=_PAGE)
            for row in rows:
                yield row.id, row.known(), row.due_us
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    async def seen(self) -> tuple[int, set[TriggerName]]:
        """The number of sessions, and all triggers that one of them has seen."""
        count, names = 0, set[TriggerName]()
        async for _, state, _ in self.states():
            count += 1
            names.update(state.seen)
        return count, names

    async def explain(
        self, session: str, *, task: str | None = None, at: Moment | None = None
    ) -> ExplainedSession | None:
        """A session's conditions, leaf by leaf, and its timeline; None if it is unknown.

        ``at``: as it was then.
        """
        if at is not None:
            return await explain_past(
                self.reader,
                SessionId(session),
                at,
                app=self._app,
                task=None if task is None else TaskName(task),
                configurations=self._configurations,
            )
        state = await self.state(session)
        if state is None:
            return None
        named = SessionId(session)
        partition = await self.reader.partition(named)
        rules = await self.rules(partition=partition)
        beside = await seen_beside(self.reader, rules, named, state, partition=partition)
        return explain(rules, named, state, task=None if task is None else TaskName(task), beside=beside)
