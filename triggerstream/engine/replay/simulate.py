"""Folds a list of events in memory: what a tasks file would have decided, without anything being run.

Events come in, commands and refusals go out; there is no I/O. A line is one of these:

- ``{"session": …, "type": …, "data": …, "id": …, "time": …, "received": …}``, of which only session and type
  are required. It arrives at ``received``, else ``time``, else with the line before; the first line at the
  epoch. An outcome without ``command`` is one of the command that its instance has. Lines of ``sessions
  export`` also have ``app`` and ``generation``, from which the ids of commands follow, and ``offset``. Lines
  with the same ``rehomedfrom`` are copies of one record and count once.
- ``{"apply": {tasks}, "received": …}``, which puts another tasks file in force, and touches the sessions for
  which it decides something, as engines do. With ``offset`` it comes from the log of an engine, which has the
  engine's touches.
- a string: an event in words (:mod:`triggerstream.wire.event_words`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from triggerstream.core.answers import ExplainedSession, ExplainedTask
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import OUTCOME_TYPES, Timer
from triggerstream.core.ids import (
    AppId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    command_id,
    instance_id,
)
from triggerstream.core.projections import explain
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Configuration
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.migration import touches
from triggerstream.engine.replay.simulated_engine import RefusedLine, SimulatedEngine
from triggerstream.engine.replay.simulated_log import SimulatedLog
from triggerstream.engine.replay.stray_outcomes import (
    OwnOutcome,
    StrayOutcome,
    named_outcome,
    own_outcome,
    why_no_command,
)
from triggerstream.wire.applied_texts import AppliedText, find_applied, read_applied
from triggerstream.wire.event_lines import EXPORT_ATTRIBUTES, Element, SourceLocation, read_elements
from triggerstream.wire.event_words import Advance, SetClock, read_words
from triggerstream.wire.events import encode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, dumps, kind_of, loads, optional_integer, text_of
from triggerstream.wire.records import Record

__all__ = ["RefusedLine", "Shown", "Simulation", "StrayOutcome", "instances_of"]

_BATCH = 256
"""Lines folded together: a session that several of them touch is decoded and encoded once."""


Shown: TypeAlias = Command | RefusedLine | StrayOutcome
"""A result of a simulation that is shown to people and programs."""


@dataclass(frozen=True, slots=True)
class _Line:
    place: SourceLocation
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
        self._app: AppId | None = None
        self._name = name
        self._assume_finished = assume_finished
        self._log = SimulatedLog()
        self._engine = SimulatedEngine(config, app=app, log=self._log, assume_finished=assume_finished)
        self._appeared: dict[SessionId, None] = {}
        self._waiting: list[_Line] = []
        self._batch = 1 if assume_finished else _BATCH
        self.applied = 0
        """Lines that apply a tasks file, whether or not it can be used."""

    # ---- for callers ----------------------------------------------------------------------------

    def run(self, lines: Iterable[bytes], *, name: str | None = None) -> Iterator[Shown]:
        """Fold ``lines``, or the one JSON array that they hold; ``name`` is that of their file.

        Yields each command in the order decided, and each refusal.

        Raises:
            DecodeError: a line is not an event of a session: ``events.jsonl:3:14: …``. Earlier lines are
                folded.
        """
        try:
            for element in read_elements(lines, name=self._name if name is None else name):
                yield from self._take_element(element)
        except DecodeError:
            yield from self._fold_waiting()
            raise
        yield from self._fold_waiting()

    def take(
        self, value: Json, *, place: SourceLocation, applied: AppliedText | None = None
    ) -> Iterator[Shown]:
        """Fold one value: an event, an event in words, or a configuration, whose text is ``applied``.

        Raises:
            DecodeError: it is none of them, with its place.
        """
        with _at(place):
            text = dumps(value)
        yield from self._take(value, text, place, applied)
        yield from self._fold_waiting()

    def wait_until(self, instant_us: int) -> Iterator[Shown]:
        """Let time pass until ``instant_us``: then a timer event arrives in every session.

        Raises:
            DecodeError: an event has arrived later.
        """
        yield from self._fold_waiting()
        self._log.wait_until(instant_us)
        timer = encode(Timer())
        records = [self._log.insert(session, timer) for session in self._engine.sessions()]
        if records:
            yield from self._engine.fold(records, {}, SourceLocation(name=format_instant(instant_us)))

    @property
    def now_us(self) -> int:
        """The latest arrival of all events."""
        return self._log.latest_us

    def sessions(self) -> Iterator[tuple[SessionId, SessionState | None]]:
        """Every session, in the order of its first line; None if none of its events was folded."""
        for session in self._appeared:
            yield session, self._engine.state(session)

    def explained(self) -> Iterator[ExplainedSession]:
        """Each session of which an event was folded: why its tasks were decided, or what they wait for."""
        for session, state in self.sessions():
            if state is not None:
                yield explain(self._engine.rules, session, state)

    def explain_task(self, session: SessionId, task: TaskName) -> ExplainedTask | None:
        """A task of a session, even without an instance; None if no event of the session was folded."""
        state = self._engine.state(session)
        return None if state is None else explain(self._engine.rules, session, state, task=task).tasks[0]

    # ---- reading a line -------------------------------------------------------------------------

    def _take_element(self, element: Element) -> Iterator[Shown]:
        text, place = element.text, element.place
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            line, column = _syntax_error(text, exc)
            raise DecodeError(f"{place.moved(line=line, column=column)}: not JSON: {exc.msg}") from exc
        applied = find_applied(text, place) if isinstance(value, dict) and "apply" in value else None
        yield from self._take(value, text.strip(), place, applied)
        if len(self._waiting) >= self._batch:
            yield from self._fold_waiting()

    def _take(
        self, value: Json, text: bytes, place: SourceLocation, applied: AppliedText | None
    ) -> Iterator[Shown]:
        if isinstance(value, str):
            with _at(place):
                words = read_words(value)
            if isinstance(words, Advance | SetClock):
                now_us = self._log.latest_us
                until = words.instant_us if isinstance(words, SetClock) else now_us + words.micros
                with _at(place):
                    yield from self.wait_until(until)
                return
            value, text = words, dumps(words)
        if applied is not None and isinstance(value, dict):
            yield from self._fold_waiting()
            yield from self._apply(value, place, applied)
            return
        if not isinstance(value, dict):
            raise DecodeError(f"{place}: must be an object with `session` and `type`, is {kind_of(value)}")
        if own_outcome(value) is not None:
            # Which command its instance has follows from the lines before.
            yield from self._fold_waiting()
        with _at(place):
            line = self._line(place, value, text)
        self._waiting.append(line)

    def _line(self, place: SourceLocation, line: JsonObject, value: bytes) -> _Line:
        try:
            session = SessionId(text_of(line, "session"))
            session.encode()
        except UnicodeEncodeError as exc:
            raise DecodeError("/session: must be valid Unicode") from exc
        kind = text_of(line, "type")
        self._log.arrive(line)
        if line.get("app") is not None:
            self._take_app(AppId(text_of(line, "app")))
            # An event may be as long as the engine takes it, without what the export adds.
            value = dumps({name: line[name] for name in line if name not in EXPORT_ATTRIBUTES})
        if line.get("generation") is not None:
            self._start_in(session, optional_integer(line, "generation") or 0)
        if line.get("offset") is not None and not self._assume_finished:
            self._log.take_offset(session, optional_integer(line, "offset") or 0)
        outcome = None
        own = own_outcome(line)
        if own is not None:
            value, outcome = self._with_own_command(place, session, own, value)
        elif kind in OUTCOME_TYPES:
            outcome = named_outcome(place, session, line.get("data"))
        self._appeared.setdefault(session)
        # The unchanged line of any other log: the engine checks its bytes, and ignores unknown attributes.
        return _Line(place, self._log.append(session, value, line), outcome)

    def _with_own_command(
        self, place: SourceLocation, session: SessionId, own: OwnOutcome, value: bytes
    ) -> tuple[bytes, StrayOutcome | None]:
        """An outcome that names no command, as one of the command that its instance has."""
        state = self._engine.state(session)
        command = command_id(
            self._engine.rules.app,
            session,
            generation=0 if state is None else state.instances_generation,
            task=own.task,
            number=own.number,
        )
        try:
            fields = as_object(loads(value), "")
        except DecodeError:
            return value, None  # the engine reports this error for the event itself
        value = dumps({**fields, "data": {**own.data, "command": command}})
        if self._engine.has_decided(command):
            return value, None
        named = instance_id(own.task, own.number)
        says = why_no_command(self._engine.rules, session, state, named, own.task)
        return value, StrayOutcome(place=place, session=session, instance=named, command=None, says=says)

    def _apply(self, line: JsonObject, place: SourceLocation, applied: AppliedText) -> Iterator[Shown]:
        """Put a tasks file in force. All lines before are folded."""
        self.applied += 1
        config = read_applied(applied, was_in_force=line.get("offset") is not None)
        self._engine.add_configuration(config)
        current = self._engine.rules.current
        # None: it is in force already.
        new = configuration_record(config, replaces=current.hash, number=current.number)
        with _at(place):
            record = self._log.apply(line, place, None if new is None else new.value)
        if record is None:
            return
        yield from self._engine.fold([record], {}, place)
        if line.get("offset") is None:
            yield from self._touch(place)

    def _touch(self, place: SourceLocation) -> Iterator[Shown]:
        """Touch the sessions for which a new configuration decides something, as engines do (R11.8)."""
        sessions = self._engine.to_touch()
        records = [
            self._log.insert(session, touch.value)
            for session, touch in zip(sessions, touches([one.encode() for one in sessions]), strict=True)
        ]
        if records:
            yield from self._engine.fold(records, {}, place)

    def _take_app(self, app: AppId) -> None:
        """Note the app that a line names.

        Raises:
            DecodeError: lines before it were of another one.
        """
        if app == self._app:
            return
        if self._appeared and app != self._engine.rules.app:
            raise DecodeError(f"/app: must be `{self._engine.rules.app}`, as in the lines before, is `{app}`")
        self._app = app
        self._engine.take_app(app)

    def _start_in(self, session: SessionId, generation: int) -> None:
        """Have ``session`` begin in ``generation``.

        Raises:
            DecodeError: it has begun.
        """
        if session in self._appeared or generation < 0:
            raise DecodeError(
                "/generation: must be an integer of at least 0 in the session's first line only"
            )
        self._engine.start_in(session, generation)

    # ---- folding --------------------------------------------------------------------------------

    def _fold_waiting(self) -> Iterator[Shown]:
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        # Exported lines of sessions in different partitions may have the same offset.
        places = {(line.record.key, line.record.offset): line.place for line in lines}
        yield from self._engine.fold([line.record for line in lines], places, lines[-1].place)
        for line in lines:
            outcome = line.outcome
            if outcome is not None and not self._engine.has_decided(outcome.command):
                yield outcome


@contextmanager
def _at(place: SourceLocation) -> Iterator[None]:
    """Add ``place`` to the message of an error."""
    try:
        yield
    except DecodeError as exc:
        raise DecodeError(f"{place}: {exc}") from exc


def _syntax_error(text: bytes, found: orjson.JSONDecodeError) -> tuple[int, int]:
    """Line and column at which ``text`` stops being JSON; orjson says 1:1 if it only ends too early."""
    try:
        json.loads(text.rstrip(b"\r\n"))
    except json.JSONDecodeError as exc:
        return exc.lineno, exc.colno
    except ValueError:
        pass
    return found.lineno, found.colno


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
