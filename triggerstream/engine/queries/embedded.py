"""The inspector of the embedded engine, which has all of a log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId, SessionId, TaskName
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.health.rates import SAMPLE_S, Rates
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder, ReaderSource, append_orders
from triggerstream.engine.ports import Log, Reader
from triggerstream.engine.queries.answers import (
    DeadLettersPage,
    Overview,
    PartitionRow,
    ShownConfiguration,
    WorkerRow,
)
from triggerstream.engine.queries.index import Indexer, States, keep
from triggerstream.engine.queries.inspector import (
    Query,
    described,
    explained,
    letters,
)
from triggerstream.engine.queries.listing import Part, listing
from triggerstream.engine.queries.past import Moment, PastSessions
from triggerstream.engine.queries.view import View
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder


class ReaderStates:
    """A :class:`triggerstream.engine.queries.listing.States` on a reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        rows = await self._reader.sessions(prefix=prefix, after=after, limit=limit)
        return [(row.id, row.state) for row in rows]

    async def some(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, bytes]:
        rows = await self._reader.some(sessions)
        return {session: row.state for session, row in rows.items()}


class EmbeddedInspector:
    """An :class:`triggerstream.engine.queries.inspector.Inspector` of an embedded engine.

    ``log`` is what orders are appended to.
    """

    def __init__(
        self,
        reader: Reader,
        log: Log,
        *,
        app: AppId,
        indexer: Indexer | None = None,
        decoder: StateDecoder = SOMEWHERE,
        configurations: ConfigurationCache | None = None,
    ) -> None:
        self._decoder = decoder
        self._reader = reader
        self._log = log
        self._app = app
        self._view = View(reader, app=app, configurations=configurations)
        self._past = PastSessions(reader, app=app, configurations=configurations)
        self._orders = ReaderSource(reader)
        self._rates = Rates()
        self._rules: tuple[tuple[int, ...], Rules] | None = None
        self.states: States = ReaderStates(reader)
        self._indexer = indexer

    async def run(self) -> None:
        """Keep up with the engine until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sample())
            if self._indexer is not None:
                indexer = self._indexer
                tasks.create_task(keep(lambda: [(indexer, self.states)]))

    async def _sample(self) -> None:
        while True:
            with suppress(LogError):
                self._rates.note(time.monotonic(), {0: (await self._reader.progress()).offset})
            await asyncio.sleep(SAMPLE_S)

    async def overview(self) -> Overview:
        """The only partition."""
        progress = await self._reader.progress()
        row = PartitionRow(
            partition=0,
            owner=None,
            own=True,
            phase="ready",
            recovered=100,
            lag=progress.lag,
            events=progress.offset,
            events_per_second=self._rates.of(0),
            dead_letters=progress.dead_letters,
            outbox=progress.outbox,
        )
        worker = WorkerRow(url=None, own=True, says=None)
        return Overview(app=self._app, workers=[worker], partitions=[row])

    async def session(
        self, session: SessionId, *, task: TaskName | None = None, at: Moment | None = None
    ) -> ExplainedSession | None:
        if at is not None:
            return await self._past.explain(session, at, task=task)
        row = await self._reader.session(session)
        if row is None:
            return None
        return await explained(
            await self.rules(),
            session,
            row.state,
            reader=self._reader,
            retired=self._reader,
            partition=0,
            task=task,
            decoder=row.decoder,
        )

    async def sessions(self, query: Query) -> SessionsPage:
        part = Part(
            states=self.states, rules=await self.rules(), indexer=self._indexer, decoder=self._decoder
        )
        return await listing([part], query)

    async def configuration(self) -> ShownConfiguration | None:
        return described((await self.rules()).current)

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        return letters(await self._reader.dead_letters(after=after, limit=limit), limit=limit)

    async def dead_letter(self, position: LogPosition) -> str | None:
        return (await self._orders.dead_letters([position])).get(position)

    async def progress(self, partition: int) -> int:
        return await self._orders.progress(partition)

    async def append(self, to: AddressedOrder) -> LogPosition:
        (position,) = await append_orders(self._log, self._reader, [to])
        return position

    async def rules(self) -> Rules:
        """The configurations that some session may have to meet; read again only after a change."""
        rows = await self._reader.configurations()
        places = tuple(row.offset for row in rows)
        if self._rules is None or self._rules[0] != places:
            self._rules = places, await self._view.rules()
        return self._rules[1]
