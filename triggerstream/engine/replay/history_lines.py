"""Reads a list of events, as ``simulate`` takes it, as the history of a backtest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import OUTCOME_TYPES
from triggerstream.core.ids import AppId, Json, JsonObject, SessionId
from triggerstream.engine.replay.backtest import OWN_COMMAND
from triggerstream.engine.replay.session_logs import Choice, SessionLogs
from triggerstream.engine.replay.simulated_log import SimulatedLog
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.event_lines import EXPORT_ATTRIBUTES, SourceLocation, read_elements
from triggerstream.wire.event_words import Advance, SetClock, read_words
from triggerstream.wire.events import REHOMED_FROM
from triggerstream.wire.json import (
    BYTE_ORDER_MARK,
    dumps,
    kind_of,
    loads,
    optional_integer,
    text_of,
)

_EXPORTED = re.compile(
    rb',"session":"([^"\\]+)"(?:,"traceparent":"[^"\\]*")?'
    rb',"received":"([^"\\]+)","app":"([^"\\]+)","offset":([0-9]{1,18})\}\s*',
)
"""The end of a line of ``sessions export``. Its last brace ends the object: these are its members."""
_GENERATION, _REHOMED, _APPLY = b'"generation"', f'"{REHOMED_FROM}"'.encode(), b'"apply"'
"""Members with which a line is read as JSON, wherever they stand in it."""
_OUTCOME, _COMMAND = b'"triggerstream.task.', b'"command":'
_REPORTED = 10_000
"""Lines after which progress is reported."""


class HistoryLines:
    """Reads lines into ``logs``, those of the sessions that ``choice`` has. ``app`` is that of the lines.

    A line of another share is only read if the arrival of a later line follows from it.
    """

    def __init__(self, choice: Choice, *, name: str, default_app: AppId) -> None:
        self._choice = choice
        self._name = name
        self._log = SimulatedLog()
        self._app: AppId | None = None
        self._default_app = default_app
        self._skipped: bytes | None = None
        self._logs = SessionLogs(choice, app=default_app, name=name)

    @property
    def app(self) -> AppId:
        """The app of the lines."""
        return self._app or self._default_app

    @property
    def logs(self) -> SessionLogs:
        """The records of the lines read so far."""
        return self._logs

    @property
    def latest_us(self) -> int:
        """The latest arrival of the lines read so far."""
        return self._log.latest_us

    def read(self, lines: Iterable[bytes], on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Read all lines, or the one JSON array that they hold. ``on_progress`` gets numbers of lines.

        Raises:
            DecodeError: a line is not an event of a session, with its place.
            UsageError: a line moves the clock.
        """
        number, reported = 0, 0
        first, rest = _first_line(lines)
        if first is not None and first[1].lstrip().startswith(b"["):
            elements = read_elements(_with_lines_before(first, rest), name=self._name)
            for index, element in enumerate(elements):
                self._take_value(element.text, element.place, index)
            return
        numbered = chain(() if first is None else (first,), rest)
        for number, text in numbered:
            if not self._take_exported(number, text) and text.strip():
                self._take_value(text, SourceLocation(name=self._name, line=number), number - 1)
            if number - reported >= _REPORTED:
                on_progress(number - reported)
                reported = number
        on_progress(number - reported)

    def _take_exported(self, number: int, line: bytes) -> bool:
        """Take a line of an export without reading all of it; False if it is not such a line."""
        found = _find_exported(line)
        if found is None or _GENERATION in line or _REHOMED in line or _APPLY in line:
            return False
        if _OUTCOME in line and _COMMAND not in line:
            return False
        key, received, app, offset = found.groups()
        if len(line) > EVENT_BYTES or app.decode(errors="replace") != self._app:
            return False
        if not self._choice.has(key):
            self._skipped = line
            return True
        try:
            session = SessionId(key.decode())
            self._log.arrive({"received": received.decode()})
            self._log.take_offset(session, int(offset))
        except DecodeError as exc:
            raise DecodeError(f"{SourceLocation(name=self._name, line=number)}: {exc}") from exc
        except UnicodeDecodeError:
            return False
        self._logs.add(self._log.append(session, line))
        return True

    def _take_value(self, text: bytes, place: SourceLocation, index: int) -> None:
        try:
            self._take(loads(text), text.strip(), place, index)
        except DecodeError as exc:
            raise DecodeError(f"{place}: {exc}") from exc

    def _take(self, value: Json, text: bytes, place: SourceLocation, index: int) -> None:
        if isinstance(value, str):
            words = read_words(value)
            if isinstance(words, Advance | SetClock):
                raise UsageError(f"{place}: events have their arrivals here: only `simulate` moves the clock")
            value, text = words, dumps(words)
        if not isinstance(value, dict):
            raise DecodeError(f"must be an object with `session` and `type`, is {kind_of(value)}")
        if "apply" in value:
            # Each file is in force from the beginning; but time passes.
            self._arrive(value)
            self._logs.counts.configurations += self._choice.share == 0
            return
        self._take_event(value, text, index)

    def _take_event(self, line: JsonObject, text: bytes, index: int) -> None:
        session = SessionId(text_of(line, "session"))
        try:
            key = session.encode()
        except UnicodeEncodeError as exc:
            raise DecodeError("/session: must be valid Unicode") from exc
        kind = text_of(line, "type")
        self._arrive(line)
        if line.get("app") is not None:
            self._take_app(AppId(text_of(line, "app")))
            if len(text) > EVENT_BYTES:
                # An event may be as long as the engine takes it, without what the export adds.
                text = dumps({name: line[name] for name in line if name not in EXPORT_ATTRIBUTES})
        if not self._choice.has(key):
            return
        if line.get("generation") is not None:
            self._logs.start_in(session, optional_integer(line, "generation") or 0)
        if line.get("offset") is not None:
            self._log.take_offset(session, optional_integer(line, "offset") or 0)
        else:
            # Not the one after all others: another process may fold these.
            self._log.take_place(session, index)
        data = line.get("data")
        if kind in OUTCOME_TYPES and isinstance(data, dict) and data.get("command") is None:
            text = dumps({**line, "data": {**data, "command": OWN_COMMAND}})
        self._logs.add(self._log.append(session, text, line))

    def _arrive(self, line: JsonObject) -> None:
        """Note when ``line`` arrives: perhaps with the line before, although that is of another share."""
        if self._skipped is not None:
            found = _find_exported(self._skipped)
            assert found is not None  # noqa: S101 - only exported lines are skipped
            self._log.arrive({"received": found[2].decode()})
            self._skipped = None
        self._log.arrive(line)

    def _take_app(self, app: AppId) -> None:
        if app == self._app:
            return
        if self._logs.records and app != self.app:
            raise DecodeError(f"/app: must be `{self.app}`, as in the lines before, is `{app}`")
        self._app = app


def _find_exported(line: bytes) -> re.Match[bytes] | None:
    """Session, arrival, app and offset at the end of a line of ``sessions export``; None for another line."""
    return _EXPORTED.fullmatch(line, max(line.rfind(b',"session":"'), 0))


def _first_line(lines: Iterable[bytes]) -> tuple[tuple[int, bytes] | None, Iterator[tuple[int, bytes]]]:
    """The first line that is not blank, without a byte-order mark, and the further ones."""
    numbered = enumerate(lines, start=1)
    for number, text in numbered:
        line = text.removeprefix(BYTE_ORDER_MARK)
        if line.strip():
            return (number, line), numbered
    return None, numbered


def _with_lines_before(first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """All lines from the first one on, after as many blank ones as were before it."""
    number, text = first
    yield from (b"\n" for _ in range(number - 1))
    yield text
    for _, line in rest:
        yield line
