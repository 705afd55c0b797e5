"""Folds lines of events in memory: what a tasks file would have decided, without anything being run.

Pure: lines come in, commands and refusals go out. A line is
``{"session": …, "type": …, "data": …, "id": …, "time": …, "received": …}``, of which only session and type
are required. It arrives at ``received``, else ``time``, else with the line before; the first at the epoch.
``app``, ``generation`` and ``offset`` are there in lines of ``sessions export``: the ids of commands follow
from the first two.
Lines with the same ``rehomedfrom``, which ``sessions export`` writes, are copies of one record and count
once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, get_args

import orjson

from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import TYPES, Finished, Outcome
from triggerstream.core.ids import AppId, Json, JsonObject, SessionId, instance_id
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.processor import Processor
from triggerstream.wire import state as states
from triggerstream.wire.events import ORIGIN_HEADER, REHOMED_FROM, encode, origin_of
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import BYTE_ORDER_MARK, dumps, kind_of, optional_integer, text_of
from triggerstream.wire.records import Headers, Record

_ADDED = frozenset({"app", "generation", "offset", "received", "session", REHOMED_FROM})
"""Attributes that an export adds to an event; the record's key is the session."""
_OUTCOMES = frozenset(TYPES[kind] for kind in get_args(Outcome))
_BATCH = 256
"""Lines folded together: a session that several of them touch is decoded and encoded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line whose event the engine would put into the dead letters, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayOutcome:
    """A line with an outcome of a command that the simulation has not decided."""

    line: int
    session: SessionId
    instance: str
    command: str


Shown: TypeAlias = Command | RefusedLine | StrayOutcome


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    record: Record
    outcome: StrayOutcome | None
    """Message shown when the line's command was not decided; None if the line is no outcome."""


class Simulation:
    """One run over a log.

    ``app`` is that of lines that name none. With ``assume_finished``, every command finishes at once with an
    empty result: that is folded right after the event that decided it, breadth first, before the next line.
    """

    def __init__(
        self, config: Configuration, *, app: AppId, name: str, assume_finished: bool = False
    ) -> None:
        self._history = (AppliedConfiguration(config=config, offset=-1, arrival_us=0),)
        self._app: AppId | None = None
        self._begin(app)
        self._name = name
        self._assume_finished = assume_finished
        self._offset = 0
        self._arrival_us = 0
        self._stored: dict[SessionId, Stored] = {}
        self._appeared: dict[SessionId, None] = {}
        self._decided: set[str] = set()
        self._last: dict[SessionId, int] = {}
        """The offset of each session's last line."""
        self._end = 0
        """The offset after the last of all lines."""

    def _begin(self, app: AppId) -> None:
        self._rules = Rules(app=app, history=self._history)
        self._processor = Processor(app=app)

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
                one = self._line(number, line)
            except DecodeError as exc:
                yield from self._fold(waiting)
                column, _, reason = str(exc).partition(" ")
                raise DecodeError(f"{self._name}:{number}:{column}: {reason}") from exc
            waiting.append(one)
            if len(waiting) >= size:
                yield from self._fold(waiting)
                waiting = []
        yield from self._fold(waiting)

    def sessions(self) -> Iterator[tuple[SessionId, SessionState | None]]:
        """Every session, in the order of its first line; None if none of its events was folded."""
        for session in self._appeared:
            stored = self._stored.get(session)
            yield session, None if stored is None else states.decode(stored.state)

    def _line(self, number: int, text: bytes) -> _Line:
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise DecodeError(f"{_column(text, exc)} not JSON: {exc.msg}") from exc
        if not isinstance(line, dict):
            raise DecodeError(f"1 must be an object with `session` and `type`, is {kind_of(line)}")
        value = text.strip()
        try:
            session = SessionId(text_of(line, "session"))
            kind = text_of(line, "type")
            self._arrival_us = self._arrival(line)
            key = session.encode()
            if line.get("app") is not None:
                self._take_app(AppId(text_of(line, "app")))
                # An event may be as long as the engine takes it, without what the export adds.
                value = dumps({name: line[name] for name in line if name not in _ADDED})
            if line.get("generation") is not None:
                self._start_in(session, optional_integer(line, "generation") or 0)
            if line.get("offset") is not None and not self._assume_finished:
                self._take_offset(session, optional_integer(line, "offset") or 0)
        except DecodeError as exc:
            raise DecodeError(f"1 {exc}") from exc
        except UnicodeEncodeError as exc:
            raise DecodeError("1 /session: must be valid Unicode") from exc
        self._appeared.setdefault(session)
        # The unchanged line of any other log: the engine checks its bytes, and ignores unknown attributes.
        return _Line(
            number,
            self._next(key, value, self._headers(line)),
            _outcome(number, session, kind, line.get("data")),
        )

    def _take_app(self, app: AppId) -> None:
        """Note the app that a line names.

        Raises:
            DecodeError: lines before it were of another one.
        """
        if app == self._app:
            return
        if self._appeared and app != self._rules.app:
            raise DecodeError(f"/app: must be `{self._rules.app}`, as in the lines before, is `{app}`")
        self._app = app
        self._begin(app)

    def _start_in(self, session: SessionId, generation: int) -> None:
        """Have ``session`` begin in ``generation``.

        Raises:
            DecodeError: it has begun.
        """
        if session in self._appeared or generation < 0:
            raise DecodeError(
                "/generation: must be an integer of at least 0 in the session's first line only"
            )
        known = states.encode(SessionState(generation=generation))
        self._stored[session] = Stored(state=known, due_us=None, config=-1)

    def _take_offset(self, session: SessionId, offset: int) -> None:
        """Give the line of ``session`` its own offset.

        Raises:
            DecodeError: it is not greater than that of the line before: the event would count as included.
        """
        if offset <= self._last.get(session, -1):
            raise DecodeError(f"/offset: must be greater than in the session's line before, is {offset}")
        self._offset = offset

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
        self._last[SessionId(key.decode())] = self._offset
        self._offset = self._end = max(self._end, self._offset + 1)
        return record

    def _fold(self, lines: list[_Line]) -> Iterator[Shown]:
        if not lines:
            return
        # Exported lines of sessions in different partitions may have the same offset.
        numbers = {(line.record.key, line.record.offset): line.number for line in lines}
        queue = deque([[line.record for line in lines]])
        while queue:
            records = queue.popleft()
            checkpoint = self._process(records)
            for letter in checkpoint.dead_letters:
                number = numbers.get((letter.record.key, letter.record.offset), lines[-1].number)
                yield RefusedLine(line=number, reason=letter.reason)
            for decided in checkpoint.decided:
                command = decided.decision
                if isinstance(command, Command):
                    self._decided.add(command.id)
                    yield command
                    if self._assume_finished:
                        queue.append([self._finish(command)])
        for line in lines:
            if line.outcome is not None and line.outcome.command not in self._decided:
                yield line.outcome

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


def _outcome(number: int, session: SessionId, kind: str, data: Json) -> StrayOutcome | None:
    if kind not in _OUTCOMES or not isinstance(data, dict):
        return None
    instance, command = data.get("instance"), data.get("command")
    if not isinstance(instance, str) or not isinstance(command, str):
        return None
    return StrayOutcome(line=number, session=session, instance=instance, command=command)


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
            found[instance_id(task, instance.number)] = {
                "status": instance.status.value,
                "kwargs": state.stored_kwargs(instance),
            }
    return found
