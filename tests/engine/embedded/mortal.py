"""A world in memory whose engine dies before or after any of its effects, and is started again.

What outlives a death: the database, the executor's queue, and the worker, which is a process of its own. What
an engine has not made durable is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryLog, MemoryStore
from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import UndispatchableError
from triggerstream.core.events import Failed, Finished, Started
from triggerstream.core.ids import AppId, CommandId, SessionId, split_instance_id
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.rows import (
    OutboxRow,
    PublishedRow,
    RefusedRow,
    RescheduledRow,
    Resumed,
    SentRow,
    Unmigrated,
)
from triggerstream.wire import state
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord, Record

APP = AppId("app")
_T = TypeVar("_T")

REFUSED_RUN = "app.not_on_the_list"
FAILING_RUN = "app.fails_first"
"""Its instance 0 fails, later ones finish."""

Step = tuple[NewRecord, ...] | float
"""Records that arrive together, or seconds that pass."""


class Death(BaseException):
    """The process is gone: nothing may catch this and go on."""


class Fuse:
    """Burns down by one before and by one after each effect; at 0 the process is dead."""

    def __init__(self, length: int | None = None) -> None:
        self.left = length
        self.burnt = 0

    async def effect(self, make: Callable[[], Awaitable[_T]]) -> _T:
        """Make an effect, unless dead."""
        self._burn()
        result = await make()
        self._burn()
        return result

    def _burn(self) -> None:
        if self.left is not None and self.burnt >= self.left:
            raise Death
        self.burnt += 1


class MortalLog:
    """The engine's own way to append."""

    def __init__(self, log: MemoryLog, fuse: Fuse) -> None:
        self._log = log
        self._fuse = fuse

    async def append(self, records: Sequence[NewRecord]) -> None:
        await self._fuse.effect(lambda: self._log.append(records))

    async def close(self) -> None:
        pass


class MortalStore:
    """A store that reads as ever, and dies around what it writes."""

    def __init__(self, store: MemoryStore, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    async def open(self) -> Resumed:
        return await self._store.open()

    async def read(self, offset: int, *, limit: int) -> Sequence[Record]:
        return await self._store.read(offset, limit=limit)

    async def end(self) -> int:
        return await self._store.end()

    async def wait(self, offset: int) -> None:
        await self._store.wait(offset)

    def wake(self) -> None:
        self._store.wake()

    async def load(self, expected: Collection[SessionId]) -> Callable[[SessionId], bytes | None]:
        return await self._store.load(expected)

    async def commit(self, checkpoint: Checkpoint, *, sent: Sequence[SentRow] = ()) -> int:
        return await self._fuse.effect(lambda: self._store.commit(checkpoint, sent=sent))

    async def sent(self, sent: Sequence[SentRow]) -> None:
        await self._fuse.effect(lambda: self._store.sent(sent))

    async def published(self, published: Sequence[PublishedRow]) -> None:
        await self._fuse.effect(lambda: self._store.published(published))

    async def refuse(self, refused: RefusedRow) -> None:
        await self._fuse.effect(lambda: self._store.refuse(refused))

    async def outbox(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return await self._store.outbox(after=after, limit=limit)

    async def unmigrated(
        self, config: int, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Unmigrated]:
        return await self._store.unmigrated(config, after=after, limit=limit)

    async def reschedule(self, sessions: Sequence[RescheduledRow], *, scanned: int | None = None) -> None:
        await self._fuse.effect(lambda: self._store.reschedule(sessions, scanned=scanned))

    async def forget(self, rules: Rules) -> Rules:
        return await self._fuse.effect(lambda: self._store.forget(rules))

    async def close(self) -> None:
        await self._store.close()


@dataclass
class World:
    """All that goes on while engines die. ``handed`` is every hand-over, repeats included."""

    clock: ManualClock = field(default_factory=ManualClock)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    handed: list[Decision] = field(default_factory=list)
    done: set[CommandId] = field(default_factory=set)
    effects: int = 0
    """How often an effect could be cut before or after, over all lives."""

    async def live(self, script: list[Step], fuse: Fuse) -> bool:
        """One life of the engine, which takes the steps off ``script``; False if it died."""
        store = MemoryStore(self.database, app=APP, clock=self.clock)
        engine = EmbeddedEngine(
            app=APP,
            log=MortalLog(self._log(), fuse),
            store=MortalStore(store, fuse),
            dispatcher=_Queue(self, fuse),
            clock=self.clock,
        )
        life = asyncio.create_task(_unless_dead(engine))
        await self._quiet(life)
        while script and not life.done():
            step = script.pop(0)
            if isinstance(step, float):
                self.clock.advance(step)
            else:
                await self._log().append(step)
            await self._quiet(life)
        if not life.done():
            engine.stop()
            await self._quiet(life)
        survived = await life
        self.effects += fuse.burnt
        self.database = self.database.restarted()
        return survived

    async def live_through(self, script: Sequence[Step], deaths: Sequence[int]) -> None:
        """Live to the end of ``script``; the first lives end after so many halves of effects."""
        left = list(script)
        for length in deaths:
            await self.live(left, Fuse(length))
        # The end: whatever waits for time gets it.
        assert await self.live([*left, 1.0, 60.0, 60.0, 60.0, 1.0], Fuse())

    def commands(self) -> set[CommandId]:
        """The ids of all commands that were handed over."""
        return {one.id for one in self.handed if isinstance(one, Command)}

    def statuses(self) -> dict[str, dict[str, str]]:
        """Each instance's status, by session."""
        return {
            session: {
                f"{task}#{i.number}": i.status.value
                for task, record in sorted(state.decode(stored.state).tasks.items())
                for i in record.instances()
            }
            for session, stored in sorted(self.database.sessions.items())
        }

    def take(self, decision: Decision) -> None:
        """The executor's queue and its worker, whose guard lets a repeated command take effect once."""
        self.handed.append(decision)
        if isinstance(decision, Revoke) or decision.id in self.done:
            return
        self.done.add(decision.id)
        outcome: Finished | Failed = Finished(instance=decision.instance, command=decision.id)
        parts = split_instance_id(decision.instance)
        if decision.run == FAILING_RUN and parts is not None and parts[1] == 0:
            outcome = Failed(instance=decision.instance, command=decision.id, error="no")
        log = self._log()
        log.report(decision.session, encode(Started(instance=decision.instance, command=decision.id)))
        log.report(decision.session, encode(outcome))

    def _log(self) -> MemoryLog:
        return MemoryLog(self.database, clock=self.clock)

    async def _quiet(self, life: asyncio.Task[bool]) -> None:
        """Return once nothing goes on any more but waiting for the log or the clock."""
        seen, same = (-1, -1, -1), 0
        while same < 25 and not life.done():
            await asyncio.sleep(0)
            now = (len(self.database.records), self.database.offset, len(self.handed))
            same = same + 1 if now == seen else 0
            seen = now


class _Queue:
    def __init__(self, world: World, fuse: Fuse) -> None:
        self._world = world
        self._fuse = fuse

    async def dispatch(self, decision: Decision) -> None:
        if isinstance(decision, Command) and decision.run == REFUSED_RUN:
            raise UndispatchableError("not on the list")

        async def hand_over() -> None:
            self._world.take(decision)

        await self._fuse.effect(hand_over)

    def destination(self, decision: Decision) -> str | None:  # noqa: ARG002 - the port's signature
        return None

    async def close(self) -> None:
        pass


async def _unless_dead(engine: EmbeddedEngine) -> bool:
    try:
        await engine.run()
    except Death:
        return False
    return True
