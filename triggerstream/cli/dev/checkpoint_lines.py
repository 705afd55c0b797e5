"""Output lines of `dev` for each decision, outcome and dead letter, in the order of the log."""

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
"""The most records that are printed one by one; if more have come meanwhile, only their sums are printed:
nobody can read faster."""


class CheckpointLines:
    """A queue of durable checkpoints, and the task that writes their lines with ``write_event``."""

    def __init__(self, write_event: Callable[[JsonObject], None]) -> None:
        self._write_event = write_event
        self._checkpoints: deque[Checkpoint] = deque()
        self._came = asyncio.Event()

    def take(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint to the queue; returns at once."""
        self._checkpoints.append(checkpoint)
        self._came.set()

    async def run(self, reader: Reader, *, since: int) -> None:
        """Write the lines of the checkpoints beyond offset ``since``, until cancelled."""
        written = since
        while True:
            await self._came.wait()
            self._came.clear()
            while self._checkpoints:
                written = await self._write_waiting(reader, written)

    async def _write_waiting(self, reader: Reader, written: int) -> int:
        """Write the lines of all waiting checkpoints beyond offset ``written``; return the offset reached."""
        checkpoints = list(self._checkpoints)
        self._checkpoints.clear()
        end = checkpoints[-1].offset
        if end - written > _DETAILED:
            self._write_event(
                {
                    "event": "sum",
                    "events": end - written,
                    "decided": sum(len(c.decided) for c in checkpoints),
                    "deadLetters": sum(len(c.dead_letters) for c in checkpoints),
                }
            )
            return end
        records = await reader.records(after=written - 1, limit=_DETAILED)
        for checkpoint in checkpoints:
            for record in records:
                if written <= record.offset < checkpoint.offset:
                    self._write_outcome(record)
            written = max(written, checkpoint.offset)
            for decided in checkpoint.decided:
                self._write_event(_decision_fields(decided.decision))
            for letter in checkpoint.dead_letters:
                self._write_event(_dead_letter_fields(letter))
        return written

    def _write_outcome(self, record: Record) -> None:
        try:
            event = decode(record)
        except DecodeError:
            return
        if not isinstance(event, ConfigApplied) and isinstance(event.body, Outcome):
            self._write_event(_outcome_fields(event, event.body))


def _decision_fields(decision: Decision) -> JsonObject:
    fields: JsonObject = {
        "event": "revoked" if isinstance(decision, Revoke) else "decided",
        "session": decision.session,
        "instance": decision.instance,
        "command": decision.id,
    }
    if isinstance(decision, Command):
        fields["time"] = format_instant(decision.decided_us)
        fields["run"] = decision.run
        fields["because"] = [cause.trigger for cause in decision.causes]
        if decision.attempt:
            fields["attempt"] = decision.attempt
    return fields


def _outcome_fields(event: Event, outcome: Outcome) -> JsonObject:
    fields: JsonObject = {
        "event": type(outcome).__name__.lower(),
        "session": event.session,
        "instance": outcome.instance,
        "command": outcome.command,
        "time": format_instant(event.arrival_us),
    }
    match outcome:
        case Finished(result=result):
            fields["result"] = result
        case Failed(error=error, reason=reason):
            fields["error"] = error
            if reason is not None:
                fields["reason"] = reason
        case Retried(after_us=after_us):
            fields["after"] = after_us / 1_000_000
        case Started() | Skipped() | Revoked():
            pass
        case _:
            assert_never(outcome)
    return fields


def _dead_letter_fields(letter: DeadLetter) -> JsonObject:
    record = letter.record
    return {
        "event": "dead letter",
        "session": None if record.key is None else record.key.decode(errors="backslashreplace"),
        "offset": record.offset,
        "time": format_instant(record.arrival_us),
        "reason": letter.reason,
    }
