"""A hostile producer's process. Its arguments: KAFKA APP PLAN SESSIONS LEDGER.

It may read and append to the events topic, as an application may, and has no control key. Until its standard
input ends, it appends records of every kind into every partition, round after round: all kinds in the first
one, then a sample, with engine events that it has read in between. LEDGER gets a JSON line for each record:
where it is, and whether it must become a dead letter.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import TextIO

from aiokafka import ConsumerRecord, TopicPartition

from tests.acceptance.chain import hostile_records as records
from tests.acceptance.chain.hostile_records import Sent, Sessions
from tests.acceptance.chain.plan import Plan
from tests.support.kafka.raw import batch, produce
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fetches import fetched
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.signature import SIGNATURE_HEADER, ControlKey, ControlKeys

_ROOT = Path(__file__).resolve().parents[3]
_PAUSE_S = 1.0
_END_S = 120.0
_SAMPLE = 12
_LONG_EVERY = 10
_KEPT = 20
"""Captured events of a type that are remembered."""
_BATCH_RECORDS = 200
_LONG_BYTES = 20_000
"""Longer records have a batch each, so that no batch is longer than a record may be."""


@dataclass(kw_only=True)
class Hostile:
    """The producer."""

    connection: Connection
    app: AppId
    plan: Plan
    ledger: TextIO
    partitions: int
    chance: Random = field(default_factory=lambda: Random(1))
    captured: dict[str, deque[ConsumerRecord]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=_KEPT))
    )
    _own: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.topic = Topics.of(self.app).events
        self.stranger = ControlKeys([ControlKey(since_us=0, secret=self.chance.randbytes(32))])
        names = [self.plan.session(number) for number in range(self.plan.sessions)]
        self.planned = [
            [name for name in names if partition_of(name.encode(), self.partitions) == partition]
            for partition in range(self.partitions)
        ]

    async def run(self, ends: threading.Event) -> None:
        """Append until ``ends``."""
        async with self.connection.running(self.connection.reader()) as reader:
            places = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
            reader.assign(places)
            await reader.seek_to_beginning(*places)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._append_bombs())
                for turn in count():
                    self._capture(await fetched(reader, timeout_ms=100))
                    for partition in range(self.partitions):
                        await self._append(partition, list(self._made(partition, turn)))
                    if await asyncio.to_thread(ends.wait, _PAUSE_S):
                        return

    async def _append_bombs(self) -> None:
        for partition, data in enumerate(await asyncio.to_thread(lambda: list(records.bombs()))):
            offset = await produce(self.connection, self.topic, partition, data)
            self._note("bomb", partition, offset, refused=True, last=offset + 1)

    def _made(self, partition: int, turn: int) -> Iterator[Sent]:
        sessions = Sessions.of(partition, partitions=self.partitions)
        planned = self.chance.choice(self.planned[partition])
        yield from records.bound_breakers(sessions, turn)
        yield from records.folded(sessions, turn)
        yield from self._some(records.refused(sessions), turn)
        forged = records.unsigned(self.app, sessions, planned=planned, stranger=self.stranger)
        yield from self._some(forged, turn)
        for kind in self.captured.values():
            record = self.chance.choice(kind)
            if (record.partition, record.offset) not in self._own:
                yield from self._some(records.captured(record, sessions, planned=planned), turn, most=3)
        if turn % _LONG_EVERY == partition:
            yield from records.long_ones(sessions)

    def _some(self, found: Iterator[Sent], turn: int, *, most: int = _SAMPLE) -> list[Sent]:
        everything = list(found)
        return everything if turn < 1 else self.chance.sample(everything, min(most, len(everything)))

    def _capture(self, found: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        for some in found.values():
            for record in some:
                if any(name == SIGNATURE_HEADER for name, _ in record.headers):
                    kind = str(json.loads(record.value)["type"])
                    if (record.partition, record.offset) not in self._own:
                        self.captured[kind].append(record)

    async def _append(self, partition: int, sent: Sequence[Sent]) -> None:
        long = [one for one in sent if len(one.record.value or b"") + _name_bytes(one) > _LONG_BYTES]
        short = [one for one in sent if one not in long]
        groups = [short[at : at + _BATCH_RECORDS] for at in range(0, len(short), _BATCH_RECORDS)]
        for group in (*groups, *([one] for one in long)):
            data = batch([one.record for one in group])
            offset = await produce(self.connection, self.topic, partition, data)
            for number, one in enumerate(group):
                self._note(one.kind, partition, offset + number, refused=one.refused)

    def _note(
        self, kind: str, partition: int, offset: int, *, refused: bool | None, last: int | None = None
    ) -> None:
        self._own.add((partition, offset))
        line = {"kind": kind, "partition": partition, "offset": offset, "last": last, "refused": refused}
        self.ledger.write(json.dumps(line) + "\n")


def _name_bytes(sent: Sent) -> int:
    return sum(len(name) for name, _ in sent.record.headers)


@contextmanager
def hostile_producer(bootstrap: str, app: AppId, plan: Plan, *, ledger: Path) -> Iterator[None]:
    """Have the process append while the block runs; ``ledger`` is whole at the end."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.acceptance.chain.hostile"),
            *(bootstrap, app, plan.name, str(plan.sessions), str(ledger)),
        ],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield
        process.stdin.close()
        assert process.wait(_END_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def main(arguments: list[str]) -> None:
    """Append."""
    bootstrap, app, name, sessions, ledger = arguments
    ends = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ends.set()

    threading.Thread(target=listen, daemon=True).start()
    with Path(ledger).open("w") as stream:
        hostile = Hostile(
            connection=Connection(bootstrap=bootstrap),
            app=AppId(app),
            plan=Plan(name=name, sessions=int(sessions)),
            ledger=stream,
            partitions=4,
        )
        asyncio.run(hostile.run(ends))


if __name__ == "__main__":
    main(sys.argv[1:])
