"""Tells what an engine does: a line for each decision and each outcome, in the order of the log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import assert_never

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    ConfigApplied,
    Event,
    Failed,
    Finished,
    Outcome,
    Retried,
    Revoked,
    Skipped,
    Started,
)
from triggerstream.core.ids import JsonObject
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter
from triggerstream.engine.ports import Reader
from triggerstream.wire.events import decode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.records import Record

_DETAILED = 200
"""Records up to which each is told of; of more that came meanwhile only the sum. Nobody reads faster."""

Tell = Callable[[JsonObject], None]


class Narrator:
    """Takes durable checkpoints, and prints their lines in a separate task."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._checkpoints: deque[Checkpoint] = deque()
        self._came = asyncio.Event()
        self._told: int | None = None

    def take(self, checkpoint: Checkpoint) -> None:
        """Note a checkpoint; returns at once."""
        self._checkpoints.append(checkpoint)
        self._came.set()

    async def run(self, reader: Reader, *, since: int) -> None:
        """Print the checkpoints beyond offset ``since``, until cancelled."""
        self._told = since
        while True:
            await self._came.wait()
            self._came.clear()
            while self._checkpoints:
                await self._tell_some(reader)

    async def _tell_some(self, reader: Reader) -> None:
        told = self._told or 0
        checkpoints = list(self._checkpoints)
        self._checkpoints.clear()
        end = checkpoints[-1].offset
        if end - told > _DETAILED:
            self._tell(
                {
                    "event": "sum",
                    "events": end - told,
                    "decided": sum(len(c.decided) for c in checkpoints),
                    "deadLetters": sum(len(c.dead_letters) for c in checkpoints),
                }
            )
            self._told = end
            return
        records = await reader.records(after=told - 1, limit=_DETAILED)
        for checkpoint in checkpoints:
            for record in records:
                if told <= record.offset < checkpoint.offset:
                    self._tell_outcome(record)
            told = max(told, checkpoint.offset)
            for decided in checkpoint.decided:
                self._tell(_decided(decided.decision))
            for letter in checkpoint.dead_letters:
                self._tell(_dead(letter))
        self._told = told

    def _tell_outcome(self, record: Record) -> None:
        try:
            event = decode(record)
        except DecodeError:
            return
        if not isinstance(event, ConfigApplied) and isinstance(event.body, Outcome):
            self._tell(_outcome(event, event.body))


def _decided(decision: Decision) -> JsonObject:
    said: JsonObject = {
        "event": "revoked" if isinstance(decision, Revoke) else "decided",
        "session": decision.session,
        "instance": decision.instance,
        "command": decision.id,
    }
    if isinstance(decision, Command):
        said["time"] = format_instant(decision.decided_us)
        said["run"] = decision.run
        said["because"] = [cause.trigger for cause in decision.causes]
        if decision.attempt:
            said["attempt"] = decision.attempt
    return said


def _outcome(event: Event, outcome: Outcome) -> JsonObject:
    said: JsonObject = {
        "event": type(outcome).__name__.lower(),
        "session": event.session,
        "instance": outcome.instance,
        "command": outcome.command,
        "time": format_instant(event.arrival_us),
    }
    match outcome:
        case Finished(result=result):
            said["result"] = result
        case Failed(error=error, reason=reason):
            said["error"] = error
            if reason is not None:
                said["reason"] = reason
        case Retried(after_us=after_us):
            said["after"] = after_us / 1_000_000
        case Started() | Skipped() | Revoked():
            pass
        case _:
            assert_never(outcome)
    return said


def _dead(letter: DeadLetter) -> JsonObject:
    record = letter.record
    return {
        "event": "dead letter",
        "session": None if record.key is None else record.key.decode(errors="backslashreplace"),
        "offset": record.offset,
        "time": format_instant(record.arrival_us),
        "reason": letter.reason,
    }
