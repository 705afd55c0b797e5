"""Reads the changelogs of many partitions with one consumer.

A worker takes hundreds of partitions over at once. A consumer for each took most of the time, and each has
buffers of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fetches import UnreadableError
from triggerstream.adapters.kafka.records import STUCK_READ_S, read_chunks, reader_of
from triggerstream.core.errors import LogError

_FETCH_BYTES = 16 * 1024 * 1024
"""Bytes of one answer for all partitions together. A second one is under way while it is read."""
_PARTITION_BYTES = 1024 * 1024
"""The most bytes of one partition in an answer: aiokafka's default."""
_MOST = 2_000
"""Records that are made of an answer at once: some 5 ms in which the event loop serves nothing else."""
_CHUNKS = 4
"""The most chunks of all partitions that are read and not yet written to a store: some 6 MB."""

Chunk = tuple[list[Any], int]
"""Records of a partition, and the position after them."""


@dataclass(slots=True, eq=False)
class _Reading:
    """A read of ``place`` from ``position`` to before ``end``. ``chunks``: the next one, or an error.

    ``room`` limits the chunks of all reads together; this read holds ``held`` of them.
    """

    place: TopicPartition
    position: int
    end: int
    room: asyncio.Semaphore
    held: int = 0
    chunks: asyncio.Queue[Chunk | Exception] = field(default_factory=lambda: asyncio.Queue(1))
    is_over: bool = False

    async def hand_over(self, chunk: Chunk | Exception) -> None:
        """Put ``chunk`` into the queue once there is room, and the caller has taken the one before."""
        if not self.is_over:
            await self.room.acquire()
            await self._put(chunk)

    async def _put(self, chunk: Chunk | Exception) -> None:
        self.held += 1
        if self.is_over:
            self.release()
        else:
            await self.chunks.put(chunk)

    def release(self, count: int = 1) -> None:
        """Give the room of ``count`` chunks back."""
        self.held -= count
        for _ in range(count):
            self.room.release()

    def fail(self, error: Exception) -> None:
        """Replace the chunk that the caller has not taken yet by an error."""
        if not self.is_over:
            self.give_up()
            self.chunks.put_nowait(error)

    def give_up(self) -> None:
        """Drop the chunks: the caller has left, and the reader must not wait for room."""
        self.is_over = True
        while not self.chunks.empty():
            self.chunks.get_nowait()
        self.release(self.held)


class ChangelogReader:
    """Reads committed records of ``topic``. Reads that are asked for during others share the next consumer.

    If a partition makes no progress for ``stuck_s`` after the others are read, every caller that still waits
    gets the error. A batch that cannot be read is an error for the readers of its partition only.
    """

    def __init__(self, connection: Connection, topic: str, *, stuck_s: float = STUCK_READ_S) -> None:
        self._connection = connection
        self._topic = topic
        self._stuck_s = stuck_s
        self._waiting: list[_Reading] = []
        self._working: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(_CHUNKS)

    async def read(self, partition: int, begin: int, end: int) -> AsyncGenerator[Chunk]:
        """The committed records from ``begin`` to before ``end``, in chunks with the position after each.

        A chunk may be empty.

        Raises:
            UnreadableError: a batch cannot be read, even after repeated fetches.
            LogError: as :func:`triggerstream.adapters.kafka.records.read_range`.
        """
        if begin >= end:
            return
        reading = _Reading(TopicPartition(self._topic, partition), begin, end, self._room)
        self._waiting.append(reading)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            while True:
                chunk = await reading.chunks.get()
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
                reading.release()
                if chunk[1] >= end:
                    return
        finally:
            reading.give_up()

    async def _work(self) -> None:
        """Serve the waiting reads, those of the same moment with one consumer."""
        readings: dict[TopicPartition, _Reading] = {}
        try:
            while True:
                await asyncio.sleep(0)
                readings = self._next()
                if not readings:
                    return
                try:
                    await self._read(readings)
                except UnreadableError as exc:
                    for batch in (exc.batch, *exc.others):
                        reading = readings.pop(TopicPartition(batch.topic, batch.partition))
                        await reading.hand_over(UnreadableError(batch))
                    # The others go on with another consumer: this one may have taken more of their records.
                    rest = [reading for reading in readings.values() if reading.position < reading.end]
                    self._waiting[:0] = rest
                except Exception as exc:  # noqa: BLE001 - raised for each caller
                    for reading in readings.values():
                        await reading.hand_over(exc)
        except BaseException:  # closed, or a client was cancelled: callers would wait for ever
            for reading in (*readings.values(), *self._waiting):
                reading.fail(LogError(f"{self._topic} is not read any more"))
            self._waiting.clear()
            raise

    def _next(self) -> dict[TopicPartition, _Reading]:
        """The waiting reads, one for each partition; a second one of a partition waits longer."""
        readings: dict[TopicPartition, _Reading] = {}
        left = []
        for reading in self._waiting:
            if reading.is_over:
                continue
            if readings.setdefault(reading.place, reading) is not reading:
                left.append(reading)
        self._waiting = left
        return readings

    async def _read(self, readings: dict[TopicPartition, _Reading]) -> None:
        ranges = {place: (one.position, one.end) for place, one in readings.items()}
        async with reader_of(self._connection, self._topic, most_bytes=_FETCH_BYTES, parsed=True) as reader:
            if len(ranges) * _PARTITION_BYTES <= _FETCH_BYTES:
                # aiokafka fetches nothing for 0.1 s while a part of an answer is not read.
                reader._fetcher._prefetch_backoff = 0.0  # noqa: SLF001 - nothing public
            chunks = read_chunks(reader, ranges, most=_MOST, stuck_s=self._stuck_s)
            async with aclosing(chunks) as found:
                async for place, records, after in found:
                    reading = readings[place]
                    if records or after > reading.position:
                        reading.position = max(after, reading.position)
                        await reading.hand_over((records, after))
                    if all(one.is_over for one in readings.values()):
                        return

    async def close(self) -> None:
        """Give up the reads under way, and close the connections. Callers that wait get a LogError."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
