"""What is put into Kafka for a measurement, and what a reader of committed records sees come out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks.peers.arguments import PARTS
from triggerstream.adapters.kafka.config import apply
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire import tasksfile

TASKS = '{"t_report": {"after": ["t1", "t2", "t3", "t4"], "run": "bench.tasks.report"}}'
SESSIONS_AT_ONCE = 500
"""How many sessions' events lie interleaved in the log."""
_BATCH_BYTES = 16 * 1024
"""As most producers have it."""
_READ_AT_ONCE = 1_000
_READ_S = 0.2
_DOUBLES_S = 1.0
"""How long to look for more commands after the last that is due."""


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


def events(sessions: int) -> Iterator[tuple[bytes, bytes]]:
    """Four events for each session, those of 500 sessions interleaved."""
    for first in range(0, sessions, SESSIONS_AT_ONCE):
        for part in range(len(PARTS)):
            for session in range(first, min(first + SESSIONS_AT_ONCE, sessions)):
                yield key(session), event(session, part)


async def prepare(bootstrap: str, app: AppId, *, partitions: int, configured: bool) -> None:
    """Make the topics; ``configured``: with the rule in force, which is an event for ours alone."""
    connection = Connection(bootstrap=bootstrap)
    await create(connection, app, partitions=partitions)
    if configured:
        await apply(connection, app, tasksfile.read(TASKS, name="tasks.json"))


async def append(
    bootstrap: str, app: AppId, records: Iterable[tuple[bytes, bytes]], *, partitions: int
) -> None:
    """Append ``records`` where their keys belong. They are durable when this returns."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    topic = Topics.of(app).events
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        for name, value in records:
            place = partition_of(name, partitions)
            if batches[place].append(key=name, value=value, timestamp=None) is None:
                await producer.send_batch(batches[place], topic, partition=place)
                batches[place] = producer.create_batch()
                batches[place].append(key=name, value=value, timestamp=None)
        for place, batch in enumerate(batches):
            if batch.record_count():
                await producer.send_batch(batch, topic, partition=place)
        await producer.flush()
    finally:
        await producer.stop()


@dataclass(slots=True)
class Seen:
    """Commands as they are committed. ``at``: when the first of each session was seen."""

    at: dict[bytes, float] = field(default_factory=dict)
    count: int = 0
    last_at: float = 0.0

    @property
    def doubles(self) -> int:
        """Commands beyond one a session."""
        return self.count - len(self.at)

    def verdict(self, sessions: int) -> str:
        """Empty where each session has one command."""
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
        """Take what there is; how many commands that was."""
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
            seen.last_at = now
        return count

    def read_all(self, sessions: int, *, idle_s: float) -> Seen:
        """Read until every session has its command or none came for ``idle_s``; then a second for doubles."""
        heard = time.monotonic()
        while len(self.seen.at) < sessions and time.monotonic() - heard < idle_s:
            if self.read():
                heard = time.monotonic()
        last_at = self.seen.last_at
        end = time.monotonic() + _DOUBLES_S
        while time.monotonic() < end:
            self.read()
        self.seen.last_at = last_at
        return self.seen

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()
