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
from triggerstream.adapters.kafka.records import STUCK_READ_S, read_chunks, reader_of
from triggerstream.core.errors import LogError

_FETCH_BYTES = 16 * 1024 * 1024
"""Bytes of one answer for all partitions together. A second one is under way while it is read."""
_MOST = 2_000
"""Records that are made of an answer at once: some 5 ms in which the event loop serves nothing else."""

Chunk = tuple[list[Any], int]
"""Records of a partition, and the position after them."""


@dataclass(slots=True, eq=False)
class _Reading:
    """Who reads ``place`` from ``position`` to before ``end``, and the next chunk for it, or the error."""

    place: TopicPartition
    position: int
    end: int
    chunks: asyncio.Queue[Chunk | Exception] = field(default_factory=lambda: asyncio.Queue(1))
    is_over: bool = False

    async def hand_over(self, chunk: Chunk | Exception) -> None:
        """Give it a chunk once it has taken the one before."""
        if not self.is_over:
            await self.chunks.put(chunk)

    def fail(self, error: Exception) -> None:
        """Give it an error in place of a chunk that it has not taken yet."""
        if not self.is_over:
            self.give_up()
            self.chunks.put_nowait(error)

    def give_up(self) -> None:
        """Take no more chunks, so that nobody waits for their place."""
        self.is_over = True
        while not self.chunks.empty():
            self.chunks.get_nowait()


class ChangelogReader:
    """Reads committed records of ``topic``. Partitions that are asked for meanwhile are read together next.

    A partition that does not move for ``stuck_s`` after the others are read is the error of all that wait.
    """

    def __init__(self, connection: Connection, topic: str, *, stuck_s: float = STUCK_READ_S) -> None:
        self._connection = connection
        self._topic = topic
        self._stuck_s = stuck_s
        self._waiting: list[_Reading] = []
        self._working: asyncio.Task[None] | None = None

    async def read(self, partition: int, begin: int, end: int) -> AsyncGenerator[Chunk]:
        """The committed records from ``begin`` to before ``end``, in chunks with the position after each.

        A chunk may be empty.

        Raises:
            LogError: as :func:`triggerstream.adapters.kafka.records.read_range`.
        """
        if begin >= end:
            return
        reading = _Reading(TopicPartition(self._topic, partition), begin, end)
        self._waiting.append(reading)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            while True:
                chunk = await reading.chunks.get()
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
                if chunk[1] >= end:
                    return
        finally:
            reading.give_up()

    async def _work(self) -> None:
        """Read what is asked for: what was asked for in the same moment at the same time."""
        readings: dict[TopicPartition, _Reading] = {}
        try:
            while True:
                await asyncio.sleep(0)
                readings = self._next()
                if not readings:
                    return
                try:
                    await self._read(readings)
                except Exception as exc:  # noqa: BLE001 - each of those who wait has the error
                    for reading in readings.values():
                        await reading.hand_over(exc)
        except BaseException:  # it is closed, or a client was cancelled: nobody else would read
            for reading in (*readings.values(), *self._waiting):
                reading.fail(LogError(f"{self._topic} is not read any more"))
            self._waiting.clear()
            raise

    def _next(self) -> dict[TopicPartition, _Reading]:
        """Those who wait, one for each partition; another one of the same partition waits longer."""
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
        async with reader_of(self._connection, self._topic, most_bytes=_FETCH_BYTES) as reader:
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
        """Give up what is being read, and close its connections. Who waits for records has an error."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
