"""Folds lines of events in memory: what a tasks file would have decided, without anything being run.

Pure: lines come in, commands and refusals go out. A line is
``{"session": …, "type": …, "data": …, "id": …, "time": …, "received": …}``, of which only session and type
are required. It arrives at ``received``, else ``time``, else with the line before; the first at the epoch.
Lines with the same ``rehomedfrom``, which ``sessions export`` writes, are copies of one record and count
once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Finished
from triggerstream.core.ids import AppId, JsonObject, SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.processor import Processor
from triggerstream.wire import state as states
from triggerstream.wire.events import ORIGIN_HEADER, REHOMED_FROM, encode, origin_of
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import BYTE_ORDER_MARK, kind_of, text_of
from triggerstream.wire.records import Headers, Record

_BATCH = 256
"""Lines folded together: a session that several of them touch is decoded and encoded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line whose event the engine would put into the dead letters, and why."""

    line: int
    reason: str


Shown: TypeAlias = Command | RefusedLine


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    record: Record


class Simulation:
    """One run over a log.

    With ``assume_finished``, every command finishes at once with an empty result: that is folded right after
    the event that decided it, breadth first, before the next line.
    """

    def __init__(
        self, config: Configuration, *, app: AppId, name: str, assume_finished: bool = False
    ) -> None:
        self._rules = Rules(app=app, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=0),))
        self._processor = Processor(app=app)
        self._name = name
        self._assume_finished = assume_finished
        self._offset = 0
        self._arrival_us = 0
        self._stored: dict[SessionId, Stored] = {}
        self._appeared: dict[SessionId, None] = {}

    def run(self, lines: Iterable[bytes]) -> Iterator[Shown]:
        """Fold ``lines``; yields each command in the order decided, and each refusal.

        Raises:
            DecodeError: a line is not an event of a session: ``events.jsonl:3:14: …``. Earlier lines are
                folded.
        """
        waiting: list[_Line] = []
        size = 1 if self._assume_finished else _BATCH
        for number, text in enumerate(lines, start=1):
            line = text.removeprefix(BYTE_ORDER_MARK)
            if not line.strip():
                continue
            try:
                record = self._record(line)
            except DecodeError as exc:
                yield from self._fold(waiting)
                column, _, reason = str(exc).partition(" ")
                raise DecodeError(f"{self._name}:{number}:{column}: {reason}") from exc
            waiting.append(_Line(number, record))
            if len(waiting) >= size:
                yield from self._fold(waiting)
                waiting = []
        yield from self._fold(waiting)

    def sessions(self) -> Iterator[tuple[SessionId, SessionState | None]]:
        """Every session, in the order of its first line; None if none of its events was folded."""
        for session in self._appeared:
            stored = self._stored.get(session)
            yield session, None if stored is None else states.decode(stored.state)

    def _record(self, text: bytes) -> Record:
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise DecodeError(f"{_column(text, exc)} not JSON: {exc.msg}") from exc
        if not isinstance(line, dict):
            raise DecodeError(f"1 must be an object with `session` and `type`, is {kind_of(line)}")
        try:
            session = SessionId(text_of(line, "session"))
            text_of(line, "type")
            self._arrival_us = self._arrival(line)
            key = session.encode()
        except DecodeError as exc:
            raise DecodeError(f"1 {exc}") from exc
        except UnicodeEncodeError as exc:
            raise DecodeError("1 /session: must be valid Unicode") from exc
        self._appeared.setdefault(session)
        # The unchanged line: the engine checks its bytes, and ignores unknown attributes.
        return self._next(key, text.strip(), self._headers(line))

    def _headers(self, line: JsonObject) -> Headers:
        """The headers of a line that is a copy of another record."""
        origin = line.get(REHOMED_FROM)
        if not isinstance(origin, str):
            return ()
        header = (ORIGIN_HEADER, f"{origin}:{self._arrival_us}".encode(errors="replace"))
        return (header,) if origin_of((header,)) is not None else ()

    def _arrival(self, line: JsonObject) -> int:
        if line.get("received") is not None:
            try:
                return parse_instant(text_of(line, "received"))
            except DecodeError as exc:
                raise DecodeError(str(exc).replace("/time", "/received", 1)) from exc
        time = line.get("time")
        if isinstance(time, str):
            try:
                return parse_instant(time)
            except DecodeError:
                pass  # the engine reports this error for the event itself
        return self._arrival_us

    def _next(self, key: bytes, value: bytes, headers: Headers = ()) -> Record:
        record = Record(
            partition=0,
            offset=self._offset,
            arrival_us=self._arrival_us,
            key=key,
            value=value,
            headers=headers,
        )
        self._offset += 1
        return record

    def _fold(self, lines: list[_Line]) -> Iterator[Shown]:
        if not lines:
            return
        numbers = {line.record.offset: line.number for line in lines}
        queue = deque([[line.record for line in lines]])
        while queue:
            records = queue.popleft()
            checkpoint = self._process(records)
            for letter in checkpoint.dead_letters:
                number = numbers.get(letter.record.offset, lines[-1].number)
                yield RefusedLine(line=number, reason=letter.reason)
            for decided in checkpoint.decided:
                command = decided.decision
                if isinstance(command, Command):
                    yield command
                    if self._assume_finished:
                        queue.append([self._finish(command)])

    def _process(self, records: list[Record]) -> Checkpoint:
        checkpoint = self._processor.process(self._rules, records, self._load)
        self._stored.update(checkpoint.states)
        return checkpoint

    def _load(self, session: SessionId) -> bytes | None:
        stored = self._stored.get(session)
        return None if stored is None else stored.state

    def _finish(self, command: Command) -> Record:
        finished = Finished(instance=command.instance, command=command.id, result={})
        return self._next(command.session.encode(), encode(finished))


def _column(text: bytes, found: orjson.JSONDecodeError) -> int:
    """The position at which ``text`` stops being JSON; orjson says column 1 if it only ends too early."""
    try:
        json.loads(text.rstrip(b"\r\n"))
    except json.JSONDecodeError as exc:
        return exc.colno
    except ValueError:
        pass
    return found.colno


def instances_of(state: SessionState | None) -> JsonObject:
    """``{"t#0": {"status": …, "kwargs": …}}``; the kwargs are those stored, before ``withParams``."""
    found: JsonObject = {}
    if state is None:
        return found
    for task, record in state.tasks.items():
        for instance in record.instances():
            found[f"{task}#{instance.number}"] = {
                "status": instance.status.value,
                "kwargs": state.stored_kwargs(instance),
            }
    return found
