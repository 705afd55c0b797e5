"""The events of a measurement on Kafka: which sessions, and in which order they lie in the log.

A load has two halves. The first warms the process up; the second is measured.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import Protocol, Self

from tests.benchmarks.peers.arguments import PARTS
from triggerstream.core.placement import partition_of

SESSIONS_AT_ONCE = 500
"""Number of sessions whose events lie interleaved in the log, in bursts."""
_SHUFFLE = 2_654_435_761
"""A prime: multiplied by it, successive numbers are far from one another. Sessions in the order of their keys
would find one another's states in the same blocks of a store."""

Pair = tuple[bytes, bytes]


def key(session: int) -> bytes:
    """The key of a session's events."""
    return b"survey-%09d" % session


def event(session: int, part: int) -> bytes:
    """The ``part``-th event of a session."""
    number = session * len(PARTS) + part
    return b'{"type":"%s","id":"%032x","data":{"score":%d,"by":"module"}}' % (
        PARTS[part].encode(),
        number,
        number,
    )


class Load(Protocol):
    """Events in the order of the log. After the last event of a half, all of its commands are due."""

    @property
    def name(self) -> str:
        """Description in a few words, for rows."""

    @property
    def warm_up_commands(self) -> int:
        """The number of sessions that the first half completes."""

    @property
    def commands(self) -> int:
        """The number of sessions that the second half completes."""

    @property
    def events(self) -> int:
        """The number of events in the second half."""

    def resized(self, events: int) -> Load:
        """A load of the same kind with about ``events`` in both halves together."""

    def warm_up(self) -> Iterator[Pair]:
        """Keys and values of the first half."""

    def measured(self) -> Iterator[Pair]:
        """Those of the second half."""


def in_bursts(sessions: range) -> Iterator[Pair]:
    """Four events for each session, those of 500 sessions interleaved."""
    for first in range(sessions.start, sessions.stop, SESSIONS_AT_ONCE):
        for part in range(len(PARTS)):
            for session in range(first, min(first + SESSIONS_AT_ONCE, sessions.stop)):
                yield key(session), event(session, part)


def shuffled(number: int, count: int) -> int:
    """A number below ``count`` for each below ``count``, none twice."""
    factor = _SHUFFLE
    while gcd(factor, count) != 1:
        factor += 1
    return number * factor % count


def in_passes(sessions: range, parts: range) -> Iterator[Pair]:
    """An event of each session in turn, then the next of each: no two of a session are near one another."""
    for part in parts:
        for number in range(len(sessions)):
            session = sessions[shuffled(number, len(sessions))]
            yield key(session), event(session, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """``sessions`` in each half, with all of their events."""

    sessions: int

    @property
    def warm_up_commands(self) -> int:
        return self.sessions

    @property
    def commands(self) -> int:
        return self.sessions

    @property
    def events(self) -> int:
        return self.sessions * len(PARTS)

    def resized(self, events: int) -> Self:
        return replace(self, sessions=events // len(PARTS) // 2)

    def warm_up(self) -> Iterator[Pair]:
        return self._events(range(self.sessions))

    def measured(self) -> Iterator[Pair]:
        return self._events(range(self.sessions, 2 * self.sessions))

    @abstractmethod
    def _events(self, sessions: range) -> Iterator[Pair]:
        """All events of ``sessions``."""


class Bursts(_Whole):
    """``sessions`` in each half, 500 of them interleaved."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return f"2 x {self.events:,} events, {SESSIONS_AT_ONCE} sessions at once"

    def _events(self, sessions: range) -> Iterator[Pair]:
        return in_bursts(sessions)


class Scattered(_Whole):
    """``sessions`` in each half, in turn: each event is of another session than the one before."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return f"2 x {self.events:,} events, scattered over {self.sessions:,} sessions each"

    def _events(self, sessions: range) -> Iterator[Pair]:
        return in_passes(sessions, range(len(PARTS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Returning:
    """``sessions`` begin in the first half; every ``stride``-th of them gets its other events in the second.

    At the end of the first half, one more session is completed in each of the ``partitions``: their commands
    say that all before them is folded.
    """

    sessions: int
    stride: int
    partitions: int

    @property
    def name(self) -> str:
        return f"{self.sessions:,} sessions, {self.events:,} scattered events for {self.commands:,} of them"

    @property
    def warm_up_commands(self) -> int:
        return self.partitions

    @property
    def commands(self) -> int:
        return len(range(0, self.sessions, self.stride))

    @property
    def events(self) -> int:
        return self.commands * (len(PARTS) - 1)

    def resized(self, events: int) -> Returning:
        return replace(self, sessions=events)

    def warm_up(self) -> Iterator[Pair]:
        for session in range(self.sessions):
            yield key(session), event(session, 0)
        yield from last_of_each_partition(self.sessions, self.partitions)

    def measured(self) -> Iterator[Pair]:
        return in_passes(range(0, self.sessions, self.stride), range(1, len(PARTS)))


def last_of_each_partition(sessions: int, partitions: int) -> Iterator[Pair]:
    """All events of one session more for each partition."""
    found: dict[int, int] = {}
    session = sessions
    while len(found) < partitions:
        found.setdefault(partition_of(key(session), partitions), session)
        session += 1
    for chosen in found.values():
        for part in range(len(PARTS)):
            yield key(chosen), event(chosen, part)
