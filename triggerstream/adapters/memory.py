"""Every port in memory: for tests, and for trying things out. Nothing outlasts the process.

A :class:`MemoryDatabase` stands for what is durable: an engine that is started again on it finds what the one
before made durable, and nothing else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from msgspec import structs

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId, CommandId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Stored
from triggerstream.engine.ports import (
    ConfigurationText,
    DeadLetterRow,
    OutboxRow,
    Progress,
    Refused,
    Rescheduled,
    Resumed,
    Sent,
    SessionRow,
    Unmigrated,
)
from triggerstream.wire.records import NewRecord, Record


class ManualClock:
    """A clock that stands still until it is told what time it is."""

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self._now_us = now_us
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose sleep is over. Negative: the clock steps back."""
        self._now_us += round(seconds * 1_000_000)
        while self._sleepers and self._sleepers[0][0] <= self._now_us:
            _, _, sleeper = heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by ``seconds``."""
        sleeper = asyncio.get_running_loop().create_future()
        self._slept += 1
        heappush(self._sleepers, (self._now_us + round(seconds * 1_000_000), self._slept, sleeper))
        await sleeper


@dataclass(slots=True)
class _Row:
    decision: Decision
    value: bytes
    sent_us: int | None = None
    settled: bool = False


@dataclass(slots=True)
class MemoryDatabase:
    """What is durable. ``dead_letters`` holds (record's offset or None, when, key, value, reason)."""

    records: list[Record] = field(default_factory=list)
    sessions: dict[SessionId, Stored] = field(default_factory=dict)
    outbox: dict[int, _Row] = field(default_factory=dict)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    configurations: tuple[ConfigurationText, ...] = ()
    offset: int = 0
    scanned: int = -1
    app: AppId | None = None
    owned: bool = False
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def append(self, records: Sequence[NewRecord], *, now_us: int) -> None:
        """Append ``records``; they arrive at ``now_us``, or with the last one if the clock stepped back."""
        if self.records:
            now_us = max(now_us, self.records[-1].arrival_us)
        for record in records:
            self.records.append(
                Record(
                    partition=0,
                    offset=len(self.records),
                    arrival_us=now_us,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                )
            )
        for appended in self.listeners:
            appended()

    def restarted(self) -> MemoryDatabase:
        """This database as the next process finds it: owned by no engine, heard by none."""
        return replace(
            self,
            records=list(self.records),
            sessions=dict(self.sessions),
            outbox={number: replace(row) for number, row in self.outbox.items()},
            dead_letters=list(self.dead_letters),
            owned=False,
            listeners=[],
        )


class MemoryLog:
    """Log and outcome log."""

    def __init__(self, database: MemoryDatabase | None = None, *, clock: ManualClock | None = None) -> None:
        self.database = database or MemoryDatabase()
        self._clock = clock or ManualClock()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append ``records`` in order."""
        self.database.append(records, now_us=self._clock.now_us())

    def report(self, session: SessionId, value: bytes) -> None:
        """Append one outcome event."""
        self.database.append([NewRecord(key=session.encode(), value=value)], now_us=self._clock.now_us())

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryStore:
    """The embedded engine's store."""

    def __init__(self, database: MemoryDatabase, *, app: AppId, clock: ManualClock | None = None) -> None:
        self._database = database
        self._app = app
        self._clock = clock or ManualClock()
        self._rung = asyncio.Event()
        self._woken = False
        self._open = False
        self._next_row = 1

    async def open(self) -> Resumed:
        """Take the store for this engine alone, until ``close``.

        Raises:
            UsageError: another engine has it, or it is another app's.
        """
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
        """Up to ``limit`` records from ``offset`` on, in order."""
        return self._database.records[offset : offset + limit]

    async def end(self) -> int:
        """The offset that the next record will take."""
        return len(self._database.records)

    async def wait(self, offset: int) -> None:
        """Return once the log holds a record at ``offset`` or beyond, or ``wake`` was called."""
        while True:
            self._rung.clear()
            if self._woken or len(self._database.records) > offset:
                self._woken = False
                return
            await self._rung.wait()

    def wake(self) -> None:
        """Have ``wait`` return: the one that waits now, else the next."""
        self._woken = True
        self._rung.set()

    async def load(self, expected: Collection[SessionId]) -> Callable[[SessionId], bytes | None]:  # noqa: ARG002
        """What returns a session's stored state."""

        def state_of(session: SessionId) -> bytes | None:
            stored = self._database.sessions.get(session)
            return None if stored is None else stored.state

        return state_of

    async def commit(self, checkpoint: Checkpoint, *, sent: Sequence[Sent] = ()) -> int:
        """Make ``checkpoint`` durable, all or nothing; the number of the first row that it decided."""
        database = self._database
        first = self._next_row
        self._note_sent(sent)
        database.sessions.update(checkpoint.states)
        for number, item in enumerate(checkpoint.decided, first):
            revokes = isinstance(item.decision, Revoke)
            for older in self._rows_of(item.decision.id):
                if not revokes or database.outbox[older].sent_us is None:
                    del database.outbox[older]
            database.outbox[number] = _Row(decision=item.decision, value=item.value)
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
            self._bury(letter)
        if checkpoint.rules is not None:
            last = database.configurations[-1].offset if database.configurations else -1
            database.configurations += tuple(
                ConfigurationText(
                    offset=applied.offset,
                    arrival_us=applied.arrival_us,
                    hash=applied.hash,
                    text=applied.config.text,
                    number=applied.number,
                )
                for applied in checkpoint.rules.history
                if applied.offset > last
            )
        database.offset = checkpoint.offset
        if checkpoint.rehomed:
            database.append(checkpoint.rehomed, now_us=self._clock.now_us())
        return first

    def _bury(self, letter: DeadLetter) -> None:
        record = letter.record
        row = DeadLetterRow(
            number=len(self._database.dead_letters) + 1,
            at_us=record.arrival_us,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            reason=letter.reason,
            left_out=letter.left_out,
        )
        self._database.dead_letters.append(row)

    def _rows_of(self, command: CommandId) -> list[int]:
        return [number for number, row in self._database.outbox.items() if row.decision.id == command]

    async def sent(self, sent: Sequence[Sent]) -> None:
        """Note what was handed over, between checkpoints."""
        self._note_sent(sent)

    def _note_sent(self, sent: Sequence[Sent]) -> None:
        for one in sent:
            row = self._database.outbox.get(one.number)
            if row is None:
                continue
            if row.settled or isinstance(row.decision, Revoke):
                del self._database.outbox[one.number]
            else:
                row.sent_us = one.sent_us

    async def refuse(self, refused: Refused) -> None:
        """Move a row to the dead letters and append the outcome that says why, all or nothing."""
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
        """Rows with a number greater than ``after``, in order."""
        return _outbox(self._database, after=after, limit=limit)

    async def unmigrated(
        self, config: int, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Unmigrated]:
        """Sessions that have not met the configuration at offset ``config``, by place, beyond ``after``."""
        found = [
            Unmigrated(place=(stored.config, number), session=session, state=stored.state)
            for number, (session, stored) in enumerate(self._database.sessions.items())
            if stored.config < config and (after is None or (stored.config, number) > after)
        ]
        return sorted(found, key=lambda one: one.place)[:limit]

    async def reschedule(self, sessions: Sequence[Rescheduled], *, scanned: int | None = None) -> None:
        """Set when timers are due; with ``scanned``, note that every session was looked at for it."""
        stored = self._database.sessions
        for one in sessions:
            stored[one.session] = structs.replace(stored[one.session], due_us=one.due_us, config=one.config)
        if scanned is not None:
            self._database.scanned = scanned

    async def forget(self, rules: Rules) -> Rules:
        """``rules`` without the configurations that every session is past; they leave the store as well."""
        oldest = min((s.config for s in self._database.sessions.values()), default=rules.current.offset)
        kept = rules.forget(oldest)
        self._database.configurations = tuple(
            c for c in self._database.configurations if c.offset >= kept.history[0].offset
        )
        return kept

    async def close(self) -> None:
        """Let go of the store, so that another engine may take it."""
        if self._open:
            self._database.owned = self._open = False
            self._database.listeners.remove(self._rung.set)


def _outbox(
    database: MemoryDatabase, *, after: int, limit: int, sent_before_us: int | None = None
) -> list[OutboxRow]:
    rows = [
        OutboxRow(
            number=number,
            command=row.decision.id,
            session=row.decision.session,
            value=row.value,
            sent_us=row.sent_us,
        )
        for number, row in sorted(database.outbox.items())
        if number > after
        and (sent_before_us is None or (row.sent_us is not None and row.sent_us < sent_before_us))
    ]
    return rows[:limit]


class MemoryReader:
    """The view for people."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def partition(self, session: SessionId) -> int:  # noqa: ARG002 - there is one
        """The partition of the log that holds ``session``."""
        return 0

    async def partitions(self) -> int:
        """The log's number of partitions."""
        return 1

    async def session(self, session: SessionId) -> SessionRow | None:
        """One session."""
        stored = self._database.sessions.get(session)
        return None if stored is None else SessionRow(id=session, state=stored.state, due_us=stored.due_us)

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        """Sessions whose id begins with ``prefix``, by id, beyond ``after``."""
        sessions = self._database.sessions
        ids = sorted(session for session in sessions if session.startswith(prefix))
        start = bisect_right(ids, after) if after is not None else 0
        return [
            SessionRow(id=i, state=sessions[i].state, due_us=sessions[i].due_us)
            for i in ids[start : start + limit]
        ]

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        """Dead letters with a number greater than ``after``, oldest first."""
        return [letter for letter in self._database.dead_letters if letter.number > after][:limit]

    async def dead_letter(self, offset: int, *, partition: int = 0) -> DeadLetterRow | None:  # noqa: ARG002 - there is one
        """The dead letter of the record at ``offset`` itself, not of a trigger that was left out."""
        letters = (letter for letter in self._database.dead_letters if letter.offset == offset)
        return next((letter for letter in letters if letter.left_out is None), None)

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:  # noqa: ARG002 - there is one
        """The configurations that some session may still have to meet, oldest first; the last is in force."""
        return self._database.configurations

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        """Decisions that are not settled; with ``sent_before_us``, only those handed over before it."""
        return _outbox(self._database, after=after, limit=limit, sent_before_us=sent_before_us)

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:  # noqa: ARG002 - there is one
        """One record of the log."""
        records = self._database.records
        return records[offset] if 0 <= offset < len(records) else None

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:  # noqa: ARG002 - there is one
        """Records beyond offset ``after``, in order."""
        return self._database.records[after + 1 : after + 1 + limit]

    async def progress(self, *, partition: int = 0) -> Progress:  # noqa: ARG002 - there is one
        """How far the engine is."""
        database = self._database
        return Progress(
            offset=database.offset,
            end=len(database.records),
            outbox=len(database.outbox),
            unsent=sum(row.sent_us is None for row in database.outbox.values()),
            dead_letters=len(database.dead_letters),
        )

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryDispatcher:
    """An executor that remembers what it was handed. ``answer``, if given, is asked first, and may raise.

    ``destination``: the destination of each decision.
    """

    def __init__(
        self,
        answer: Callable[[Decision], Awaitable[None]] | None = None,
        *,
        destination: Callable[[Decision], str | None] = lambda _: None,
    ) -> None:
        self._destination = destination
        self.dispatched: list[Decision] = []
        self.closed = False
        self._answer = answer
        self._changed = asyncio.Condition()

    async def dispatch(self, decision: Decision) -> None:
        """Take one decision."""
        if self._answer is not None:
            await self._answer(decision)
        self.dispatched.append(decision)
        async with self._changed:
            self._changed.notify_all()

    def destination(self, decision: Decision) -> str | None:
        """As the argument of that name says; None: not known."""
        return self._destination(decision)

    async def wait_for(self, count: int, *, timeout_s: float = 10.0) -> list[Decision]:
        """What was dispatched, once it is at least ``count`` decisions."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.dispatched) >= count)
        return self.dispatched

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class MemoryIndex:
    """A :class:`triggerstream.engine.queries.index.Index`. ``stamps`` is what outlasts it, by stamp."""

    def __init__(self, stamps: dict[str, dict[SessionId, frozenset[str]]] | None = None) -> None:
        self._stamps = {} if stamps is None else stamps
        self._marks: dict[SessionId, frozenset[str]] = {}

    def resume(self, stamp: str) -> bool:
        """Whether it was closed with that ``stamp``; else it is empty from now on."""
        known = self._stamps.get(stamp)
        self.clear()
        if known is not None:
            self._marks = known
        return known is not None

    def put(self, entries: Sequence[tuple[SessionId, frozenset[str]]]) -> None:
        """Take the marks of sessions in place of those that they had."""
        self._marks.update(entries)

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        """Sessions with each of the marks, by id, beyond ``after``."""
        names = (name for name, marks in self._marks.items() if marks.issuperset(wanted))
        return sorted(n for n in names if n.startswith(prefix) and (after is None or n > after))[:limit]

    def clear(self) -> None:
        """Forget everything."""
        self._marks = {}
        self._stamps.clear()

    def close(self, stamp: str | None) -> None:
        """Let go of it; with a ``stamp``, all that it holds is as the store is."""
        if stamp is not None:
            self._stamps[stamp] = self._marks
