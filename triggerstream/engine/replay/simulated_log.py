"""The log that a simulation makes of its lines: the offset and the arrival of each record."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject, SessionId
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.events import ORIGIN_HEADER, REHOMED_FROM, origin_of
from triggerstream.wire.instants import format_instant, parse_instant
from triggerstream.wire.json import optional_integer, text_of
from triggerstream.wire.records import Headers, Record
from triggerstream.wire.tasksfile.nodes import listed, unknown_key

_APPLY_KEYS = ("apply", "received", "time", "offset")


@dataclass(frozen=True, slots=True)
class _Applied:
    """The tasks file that was applied last."""

    place: SourceLocation
    arrival_us: int
    offset: int


class SimulatedLog:
    """Gives each line its offset and arrival.

    A line arrives at its ``received``, else its ``time``, else with the line before. It has its own offset if
    it names one, as exported lines do, else the one after all others.
    """

    def __init__(self) -> None:
        self.latest_us = 0
        """The latest arrival of all lines."""
        self._offset = 0
        self._arrival_us = 0
        self._applied: _Applied | None = None
        self._inserted = 0
        """The number of records without an offset of their own between lines that have one. It is added to
        the offsets of later lines."""
        self._last: dict[SessionId, int] = {}
        """The offset of each session's last line."""
        self._end = 0
        """The offset after the last of all lines."""

    def arrive(self, line: JsonObject) -> None:
        """Note when ``line`` arrives.

        Raises:
            DecodeError: it arrives before a tasks file that an earlier line has applied.
        """
        arrival_us = self._arrival(line)
        applied = self._applied
        # The offsets of an engine's log are in order; its clocks may have been set back.
        if applied is not None and line.get("offset") is None and arrival_us < applied.arrival_us:
            raise DecodeError(
                f"/received: must be {format_instant(applied.arrival_us)} or later, when the tasks file at "
                f"{applied.place} was applied, is {format_instant(arrival_us)}"
            )
        self._arrival_us = arrival_us
        self.latest_us = max(self.latest_us, arrival_us)

    def _arrival(self, line: JsonObject) -> int:
        if line.get("received") is not None:
            return parse_instant(text_of(line, "received"), path="/received")
        time = line.get("time")
        if isinstance(time, str):
            try:
                return parse_instant(time)
            except DecodeError:
                pass  # the engine reports this error for the event itself
        return self._arrival_us

    def take_offset(self, session: SessionId, offset: int) -> None:
        """Give the next record of ``session`` its own offset.

        Raises:
            DecodeError: ``offset`` is not greater than that of the line before. The event would count as
                included already.
        """
        own = offset + self._inserted
        if own <= self._last.get(session, -1):
            raise DecodeError(f"/offset: must be greater than in the session's line before, is {offset}")
        applied = self._applied
        if applied is not None and own <= applied.offset:
            raise DecodeError(
                f"/offset: must be greater than before the tasks file at {applied.place}, is {offset}"
            )
        self._offset = own

    def take_place(self, session: SessionId, place: int) -> None:
        """Give the next record of ``session`` the offset ``place``, or the one after its last record."""
        self._offset = max(place + self._inserted, self._last.get(session, -1) + 1)

    def append(self, session: SessionId, value: bytes, line: JsonObject | None = None) -> Record:
        """The next record, which arrives with the last line. ``line`` is the line that it represents."""
        record = Record(
            partition=0,
            offset=self._offset,
            arrival_us=self._arrival_us,
            key=session.encode(),
            value=value,
            headers=() if line is None else self._headers(line),
        )
        self._last[session] = self._offset
        self._offset = self._end = max(self._end, self._offset + 1)
        return record

    def insert(self, session: SessionId, value: bytes) -> Record:
        """The next record, which represents no line."""
        self._inserted += 1
        return self.append(session, value)

    def _headers(self, line: JsonObject) -> Headers:
        """The headers of a line that is a copy of another record."""
        origin = line.get(REHOMED_FROM)
        if not isinstance(origin, str):
            return ()
        header = (ORIGIN_HEADER, f"{origin}:{self._arrival_us}".encode(errors="replace"))
        return (header,) if origin_of((header,)) is not None else ()

    def wait_until(self, instant_us: int) -> None:
        """Have the next record arrive at ``instant_us``.

        Raises:
            DecodeError: a line has arrived later.
        """
        if instant_us < self.latest_us:
            raise DecodeError(
                f"{format_instant(instant_us)} is too early: an event before arrived at "
                f"{format_instant(self.latest_us)}"
            )
        self._arrival_us = self.latest_us = instant_us

    def apply(self, line: JsonObject, place: SourceLocation, value: bytes | None) -> Record | None:
        """The record of a tasks file that ``line`` applies; None if ``value`` is, as it is in force already.

        Raises:
            DecodeError: the line has another key, or an arrival or offset below that of a line before it.
        """
        for key in line:
            if key not in _APPLY_KEYS:
                raise DecodeError(unknown_key(key, _APPLY_KEYS, f"the keys are {listed(_APPLY_KEYS)}"))
        arrival_us = self._arrival(line) if {"received", "time"} & line.keys() else self.latest_us
        own = optional_integer(line, "offset")
        if own is None and arrival_us < self.latest_us:
            raise DecodeError(
                f"/received: must be {format_instant(self.latest_us)} or later, as an event before "
                f"arrived then, is {format_instant(arrival_us)}"
            )
        if own is None:
            self._inserted += 1
        elif own + self._inserted < self._end:
            raise DecodeError(f"/offset: must be greater than in the lines before, is {own}")
        offset = self._end if own is None else own + self._inserted
        self._arrival_us = arrival_us
        self.latest_us = max(self.latest_us, arrival_us)
        self._applied = _Applied(place, arrival_us, offset)
        self._offset = self._end = offset + 1
        if value is None:
            return None
        return Record(partition=0, offset=offset, arrival_us=arrival_us, key=None, value=value)
