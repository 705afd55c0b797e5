"""The records of a history, session by session, in as little memory as possible."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

import msgspec

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ConfigApplied, Event
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.engine.replay.backtest import Backtest, SizedEvent
from triggerstream.engine.replay.backtest_counts import BacktestCounts
from triggerstream.wire import events
from triggerstream.wire.records import Headers, Record
from triggerstream.wire.signature import ControlKeys

_HEAD = Struct("<qqiI")
"""Offset, arrival, and the lengths of the value and the headers, which follow. Length -1: no value."""
_KEYLESS = 1 << 31
"""Added to the length of the headers of a record whose session is not its key."""
_REPORTED = 1_000
"""Sessions after which progress is reported."""
_headers_decoder = msgspec.msgpack.Decoder(Headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The part of a history that is folded: sessions that match ``patterns``, from an arrival on.

    The matching sessions are split into ``shares``; this part has those of ``share``. ``patterns``: ids in
    which ``*`` stands for any characters; without patterns, all sessions match.
    """

    patterns: tuple[str, ...] = ()
    since_us: int | None = None
    share: int = 0
    shares: int = 1

    def has(self, key: bytes) -> bool:
        """True if the session with this key belongs to it."""
        if self.shares > 1 and crc32(key) % self.shares != self.share:
            return False
        return not self.patterns or _matches(self.patterns, key.decode(errors="replace"))


def _matches(patterns: tuple[str, ...], session: str) -> bool:
    return any(_is_like(pattern.split("*"), session) for pattern in patterns)


def _is_like(parts: list[str], session: str) -> bool:
    """True if ``session`` has ``parts`` one after the other, from its beginning to its end."""
    first, *middle, last = parts if len(parts) > 1 else (*parts, "")
    if len(parts) == 1:
        return session == first
    if not session.startswith(first) or len(session) < len(first) + len(last) or not session.endswith(last):
        return False
    at, end = len(first), len(session) - len(last)
    for part in middle:
        found = session.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class SessionLogs:
    """Collects the records of the chosen sessions, to be folded session by session.

    ``partition`` is that of the records, one of ``partitions``. ``name``: the file that messages name, if
    the records come from one.

    A record takes its bytes and 24 more. ``counts`` has the numbers that are known before the folding.
    """

    def __init__(
        self,
        choice: Choice,
        *,
        app: AppId,
        control: ControlKeys | None = None,
        partition: int = 0,
        partitions: int = 1,
        name: str = "",
    ) -> None:
        self._choice = choice
        self._partition = partition
        self._partitions = partitions
        self._name = name or f"partition {partition}"
        self._app = app
        self._control = control
        self._logs: dict[bytes, bytearray] = {}
        self._generations: dict[bytes, int] = {}
        self.counts = BacktestCounts()
        self.records = 0
        """The number of records that were collected."""

    def add(self, record: Record) -> None:
        """Collect a record, which follows those before it."""
        since_us = self._choice.since_us
        if since_us is not None and record.arrival_us < since_us:
            return
        key, keyless = record.key, 0
        if not key:
            found = self._session_of(record)
            if found is None:
                return
            key, keyless = found, _KEYLESS
        log = self._logs.get(key)
        if log is None:
            if not self._choice.has(key):
                return
            log = self._logs[key] = bytearray()
        value = record.value
        headers = msgspec.msgpack.encode(record.headers) if record.headers else b""
        length = -1 if value is None else len(value)
        log += _HEAD.pack(record.offset, record.arrival_us, length, len(headers) | keyless)
        if value:
            log += value
        log += headers
        self.records += 1

    def start_in(self, session: SessionId, generation: int) -> None:
        """Have ``session`` begin in ``generation``.

        Raises:
            DecodeError: it has begun.
        """
        key = session.encode()
        if key in self._logs or generation < 0:
            message = "/generation: must be an integer of at least 0 in the session's first line only"
            raise DecodeError(message)
        self._generations[key] = generation

    def _session_of(self, record: Record) -> bytes | None:
        """The key of the session of a record without a key; None if it belongs to no session."""
        share_counts = self._choice.share == 0  # such a record is read by every share
        try:
            event = self._decode(record)
        except DecodeError as exc:
            if share_counts and not self._choice.patterns:
                self.counts.note_unreadable(self._reason(record, exc))
            return None
        if isinstance(event, ConfigApplied):
            self.counts.configurations += share_counts
            return None
        return event.session.encode()

    def _reason(self, record: Record, exc: DecodeError) -> str:
        return f"{self._name}, event {record.offset}: {exc}"

    def _decode(self, record: Record) -> Event | ConfigApplied:
        event = events.decode(record)
        return event if self._control is None else self._control.authenticate(self._app, record, event)

    def fold(self, backtest: Backtest, on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Fold all that was collected, session by session, and free the memory of each session after it.

        Records of sessions that belong to other partitions are left out: those partitions have copies.
        ``on_progress`` is called with the number of records folded since the last call.
        """
        backtest.counts.add(self.counts)
        done = 0
        for number, key in enumerate([*self._logs], start=1):
            log = self._logs.pop(key)
            records = [*_unpacked(key, log, self._partition)]
            done += len(records)
            self._fold_session(backtest, key, records)
            if number % _REPORTED == 0:
                on_progress(done)
                done = 0
        on_progress(done)

    def _fold_session(self, backtest: Backtest, key: bytes, records: list[Record]) -> None:
        found: list[SizedEvent] = []
        counts = backtest.counts
        for record in records:
            try:
                event = self._decode(record)
            except DecodeError as exc:
                counts.note_unreadable(self._reason(record, exc))
                continue
            if isinstance(event, ConfigApplied):
                continue
            length = events.event_bytes(record) if record.headers else len(record.value or b"")
            found.append((event, length))
        if not found:
            return
        if self._partitions > 1 and partition_of(key, self._partitions) != self._partition:
            counts.misplaced += len(found)
            return
        backtest.compare(found[0][0].session, found, generation=self._generations.get(key, 0))


def _unpacked(key: bytes, log: bytearray, partition: int) -> Iterator[Record]:
    at, end = 0, len(log)
    held = bytes(log)
    while at < end:
        offset, arrival_us, length, more = _HEAD.unpack_from(held, at)
        at += _HEAD.size
        value = None
        if length >= 0:
            value = held[at : at + length]
            at += length
        headers: Headers = ()
        if headers_length := more & ~_KEYLESS:
            headers = _headers_decoder.decode(held[at : at + headers_length])
            at += headers_length
        yield Record(
            partition=partition,
            offset=offset,
            arrival_us=arrival_us,
            key=None if more & _KEYLESS else key,
            value=value,
            headers=headers,
        )
