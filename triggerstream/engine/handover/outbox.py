"""Hands decisions over to the executor, in the order in which they were decided."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.ids import CommandId
from triggerstream.engine.checkpoint import Decided
from triggerstream.engine.handover.destinations import RefusedDestination
from triggerstream.engine.handover.pacing import Pacing, PendingDecision, not_dispatchable
from triggerstream.engine.loglimit import RecurringLines
from triggerstream.engine.ports import Clock, Dispatcher, Store
from triggerstream.engine.rows import PublishedRow, RefusedRow, SentRow
from triggerstream.wire import commands

logger = logging.getLogger(__name__)

_QUEUED = 5_000
"""Rows kept in memory; beyond that they wait in the store until it is their turn."""
_WAITING = 1_000
"""Rows that may wait for refused destinations while more are read from the store."""
_PAGE = 1_000
_RECORD_S = 0.25
"""Hand-overs are recorded with the next checkpoint, or together after this time."""
_DRAIN_S = 5.0
"""Maximum time that a stop waits for confirmations. The next start hands unconfirmed commands over again."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Row(PendingDecision):
    decision: Decision
    noted: bool = False
    """True once the store knows that it was published without a confirmation."""
    dropped: bool = False
    """True once a revocation or a resend has taken its place."""

    @property
    def fields(self) -> Mapping[str, object]:
        return {"command": self.decision.id}


class Outbox:
    """Reads the rows of ``store`` from the first on, and hands each over until it is confirmed.

    :class:`triggerstream.engine.handover.pacing.Pacing` decides the order and how many at once. A command
    that is revoked or sent again before its hand-over is dropped.
    """

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock, last: int) -> None:
        self._store = store
        self._clock = clock
        self._read = 0
        """All rows up to this number were taken from the store, or were in memory before they were there."""
        self._last = last
        self._rows: dict[CommandId, _Row] = {}
        """The newest row in memory of each command, until it needs nothing more."""
        self._pacing: Pacing[_Row] = Pacing(
            dispatcher=dispatcher,
            clock=clock,
            confirmed=self._confirmed,
            refuse=self._refuse,
            ended=self._ended,
            refill=self._refill,
        )
        self._lines = RecurringLines(logger)
        self._sent: list[SentRow] = []
        self._published: list[PublishedRow] = []
        self._to_record = asyncio.Event()
        self.handed_over = 0
        self.refused = 0

    def add(self, first: int, decided: Sequence[Decided]) -> None:
        """Add the rows of a checkpoint, which is durable. ``first`` is the number of the first row."""
        pacing = self._pacing
        in_memory = (
            self._read >= self._last
            and pacing.queued + len(decided) <= _QUEUED
            and pacing.destinations.count < _WAITING
        )
        for number, item in enumerate(decided, first):
            decision = item.decision
            if isinstance(decision, Revoke) or decision.attempt:
                older = self._rows.pop(decision.id, None)
                if older is not None:
                    older.dropped = True
                    if pacing.destinations:
                        pacing.destinations.forget_dropped()
            if in_memory:
                self._push(number, decision)
        self._last = first + len(decided) - 1
        if in_memory:
            self._read = self._last
        pacing.wake()

    def refused_destinations(self) -> tuple[RefusedDestination, ...]:
        """Destinations that the executor's broker refuses, those with the most waiting commands first."""
        return self._pacing.destinations.report()

    def take_sent(self) -> list[SentRow]:
        """The rows handed over since the last call, for the next checkpoint to note."""
        sent, self._sent = self._sent, []
        return sent

    async def run(self) -> None:
        """Hand over until cancelled; then wait a short time for open confirmations."""
        self._pacing.start(self._record_sent())
        await self._pacing.run(drain_s=_DRAIN_S)

    def _push(self, number: int, decision: Decision) -> None:
        row = _Row(number=number, decision=decision)
        self._pacing.add(row)
        if isinstance(decision, Command):
            self._rows[decision.id] = row

    async def _refill(self) -> None:
        """Queue more rows of the store, if there are any and not too many wait."""
        last = self._last
        if self._read >= last or self._pacing.destinations.count >= _WAITING:
            return
        rows = await self._store.outbox(after=self._read, limit=_PAGE)
        for row in rows:
            self._push(row.number, commands.decode(row.value))
        self._read = rows[-1].number if len(rows) == _PAGE else max(last, rows[-1].number if rows else 0)

    def _confirmed(self, row: _Row, _took_s: float) -> None:
        self.handed_over += 1
        self._note(row)

    def _ended(self, row: _Row, done: bool) -> None:  # noqa: FBT001 - a callback
        if done and self._rows.get(row.decision.id) is row:
            del self._rows[row.decision.id]
        if row.unconfirmed and not (done or row.noted):
            row.noted = True
            self._published.append(PublishedRow(number=row.number, published_us=self._clock.now_us()))
            self._to_record.set()

    def _note(self, row: _Row) -> None:
        self._sent.append(SentRow(number=row.number, sent_us=self._clock.now_us()))
        self._to_record.set()

    async def _refuse(self, row: _Row, reason: str) -> None:
        decision = row.decision
        self._lines.write(
            "command cannot be handed over",
            key=decision.run if isinstance(decision, Command) else None,
            level=logging.ERROR,
            extra={"command": decision.id, "error": reason},
        )
        if isinstance(decision, Revoke):
            self._note(row)
            return
        failed = not_dispatchable(decision, reason)
        await self._store.refuse(RefusedRow(number=row.number, reason=reason, failed=failed))
        self.refused += 1

    async def _record_sent(self) -> None:
        while True:
            await self._to_record.wait()
            self._to_record.clear()
            await self._clock.sleep(_RECORD_S)
            published, self._published = self._published, []
            if published:
                await self._store.published(published)
            if sent := self.take_sent():
                await self._store.sent(sent)
