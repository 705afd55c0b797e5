"""The embedded engine's store, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from msgspec import structs

from triggerstream.adapters.memory.clock import ManualClock
from triggerstream.adapters.memory.database import MemoryDatabase, OutboxEntry, outbox_rows
from triggerstream.core.commands import Command, Revoke
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId, CommandId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter
from triggerstream.engine.rows import (
    ConfigurationText,
    DeadLetterRow,
    OutboxRow,
    PublishedRow,
    RefusedRow,
    RescheduledRow,
    Resumed,
    SentRow,
    Unmigrated,
)
from triggerstream.wire.records import Record


class MemoryStore:
    """A :class:`triggerstream.engine.ports.Store` on a database."""

    def __init__(self, database: MemoryDatabase, *, app: AppId, clock: ManualClock | None = None) -> None:
        self._database = database
        self._app = app
        self._clock = clock or ManualClock()
        self._rung = asyncio.Event()
        self._woken = False
        self._open = False
        self._next_row = 1

    async def open(self) -> Resumed:
        database = self._database
        if database.owned:
            raise UsageError("another engine runs on this database")
        if database.app not in {None, self._app}:
            raise UsageError(f"this database belongs to the app `{database.app}`, not to `{self._app}`")
        database.app = self._app
        database.owned = self._open = True
        database.listeners.append(self._rung.set)
        last_row = max(database.outbox, default=0)
        self._next_row = last_row + 1
        return Resumed(
            offset=database.offset,
            configurations=database.configurations,
            outbox=last_row,
            due={
                session: stored.due_us
                for session, stored in database.sessions.items()
                if stored.due_us is not None
            },
            scanned=database.scanned,
        )

    async def read(self, offset: int, *, limit: int) -> Sequence[Record]:
        return self._database.records[offset : offset + limit]

    async def end(self) -> int:
        return len(self._database.records)

    async def wait(self, offset: int) -> None:
        while True:
            self._rung.clear()
            if self._woken or len(self._database.records) > offset:
                self._woken = False
                return
            await self._rung.wait()

    def wake(self) -> None:
        self._woken = True
        self._rung.set()

    async def load(self, expected: Collection[SessionId]) -> Callable[[SessionId], bytes | None]:  # noqa: ARG002
        def state_of(session: SessionId) -> bytes | None:
            stored = self._database.sessions.get(session)
            return None if stored is None else stored.state

        return state_of

    async def commit(self, checkpoint: Checkpoint, *, sent: Sequence[SentRow] = ()) -> int:
        database = self._database
        first = self._next_row
        self._note_sent(sent)
        database.sessions.update(checkpoint.states)
        for key, entry in checkpoint.retired.items():
            if entry is None:
                database.retired.pop(key, None)
            else:
                database.retired[key] = entry
        for number, item in enumerate(checkpoint.decided, first):
            revokes = isinstance(item.decision, Revoke)
            for older in self._rows_of(item.decision.id):
                if not revokes or database.outbox[older].sent_us is None:
                    del database.outbox[older]
            database.outbox[number] = OutboxEntry(decision=item.decision, value=item.value)
        self._next_row = first + len(checkpoint.decided)
        for command in checkpoint.settled:
            for number in self._rows_of(command):
                row = database.outbox[number]
                if isinstance(row.decision, Command):
                    if row.sent_us is None:
                        row.settled = True
                    else:
                        del database.outbox[number]
        for letter in checkpoint.dead_letters:
            self._add_dead_letter(letter)
        if checkpoint.rules is not None:
            last = database.configurations[-1].offset if database.configurations else -1
            database.configurations += tuple(
                ConfigurationText.of(applied) for applied in checkpoint.rules.history if applied.offset > last
            )
        database.offset = checkpoint.offset
        if checkpoint.rehomed:
            database.append(checkpoint.rehomed, now_us=self._clock.now_us())
        return first

    def _add_dead_letter(self, letter: DeadLetter) -> None:
        record = letter.record
        row = DeadLetterRow(
            number=len(self._database.dead_letters) + 1,
            at_us=record.arrival_us,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            reason=letter.reason,
            last=letter.last,
            left_out=letter.left_out,
        )
        self._database.dead_letters.append(row)

    def _rows_of(self, command: CommandId) -> list[int]:
        return [number for number, row in self._database.outbox.items() if row.decision.id == command]

    async def sent(self, sent: Sequence[SentRow]) -> None:
        self._note_sent(sent)

    def _note_sent(self, sent: Sequence[SentRow]) -> None:
        for one in sent:
            row = self._database.outbox.get(one.number)
            if row is None:
                continue
            if row.settled or isinstance(row.decision, Revoke):
                del self._database.outbox[one.number]
            else:
                row.sent_us = one.sent_us

    async def published(self, published: Sequence[PublishedRow]) -> None:
        for one in published:
            if one.number in self._database.outbox:
                self._database.outbox[one.number].published_us = one.published_us

    async def refuse(self, refused: RefusedRow) -> None:
        database = self._database
        row = database.outbox.pop(refused.number, None)
        if row is None:
            return
        database.dead_letters.append(
            DeadLetterRow(
                number=len(database.dead_letters) + 1,
                at_us=self._clock.now_us(),
                offset=None,
                key=row.decision.session.encode(),
                value=row.value,
                headers=(),
                reason=refused.reason,
            )
        )
        if refused.failed is not None:
            database.append([refused.failed], now_us=self._clock.now_us())

    async def outbox(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return outbox_rows(self._database, after=after, limit=limit)

    async def unmigrated(
        self, config: int, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Unmigrated]:
        found = [
            Unmigrated(place=(stored.config, number), session=session, state=stored.state)
            for number, (session, stored) in enumerate(self._database.sessions.items())
            if stored.config < config and (after is None or (stored.config, number) > after)
        ]
        return sorted(found, key=lambda one: one.place)[:limit]

    async def reschedule(self, sessions: Sequence[RescheduledRow], *, scanned: int | None = None) -> None:
        stored = self._database.sessions
        for one in sessions:
            stored[one.session] = structs.replace(stored[one.session], due_us=one.due_us, config=one.config)
        if scanned is not None:
            self._database.scanned = scanned

    async def forget(self, rules: Rules) -> Rules:
        oldest = min((s.config for s in self._database.sessions.values()), default=rules.current.offset)
        kept = rules.forget(oldest)
        self._database.configurations = tuple(
            c for c in self._database.configurations if c.offset >= kept.history[0].offset
        )
        return kept

    async def close(self) -> None:
        if self._open:
            self._database.owned = self._open = False
            self._database.listeners.remove(self._rung.set)
