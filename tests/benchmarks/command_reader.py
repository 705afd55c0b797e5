"""Reads an app's committed commands, and counts lost and doubled ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId

_READ_AT_ONCE = 1_000
_READ_S = 0.05
_DOUBLES_S = 1.0
"""Time in which more commands may come after the last one that is due."""


@dataclass(slots=True)
class Seen:
    """Commands as they are committed. ``at``: when the first of each session was seen."""

    at: dict[bytes, float] = field(default_factory=dict)
    count: int = 0

    @property
    def doubles(self) -> int:
        """Commands beyond one a session."""
        return self.count - len(self.at)

    def verdict(self, sessions: int) -> str:
        """The numbers of lost and doubled commands as text; empty if each session has one command."""
        lost = sessions - len(self.at)
        parts = [f"{lost:,} LOST"] if lost else []
        parts += [f"{self.doubles:,} DOUBLED"] if self.doubles else []
        return ", ".join(parts)


class CommandReader:
    """Reads an app's commands from the beginning, committed ones alone."""

    def __init__(self, bootstrap: str, app: AppId, *, partitions: int) -> None:
        self.seen = Seen()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{app}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        topic = Topics.of(app).commands
        self._consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(partitions)])

    def read(self, timeout_s: float = _READ_S) -> int:
        """Take the commands that are there, and return their number."""
        found = self._consumer.consume(num_messages=_READ_AT_ONCE, timeout=timeout_s)
        return self._take(found)

    def read_next(self, timeout_s: float = _READ_S) -> None:
        """Take one command as soon as there is one."""
        message = self._consumer.poll(timeout_s)
        self._take([] if message is None else [message])

    def _take(self, found: list) -> int:  # type: ignore[type-arg] # confluent_kafka is not typed
        now = time.monotonic()
        seen = self.seen
        count = 0
        for message in found:
            if message.error() is None:
                count += 1
                seen.at.setdefault(message.key(), now)
        if count:
            seen.count += count
        return count

    def read_all(self, sessions: int, *, idle_s: float) -> Seen:
        """Read until every session has its command or none came for ``idle_s``; then look for doubles."""
        heard = time.monotonic()
        while len(self.seen.at) < sessions and time.monotonic() - heard < idle_s:
            if self.read():
                heard = time.monotonic()
        self.read_doubles()
        return self.seen

    def read_doubles(self) -> None:
        """Read for one more second, for commands that come twice."""
        end = time.monotonic() + _DOUBLES_S
        while time.monotonic() < end:
            self.read()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
