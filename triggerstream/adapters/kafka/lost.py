"""Unreadable ranges of the log that an operator has declared lost, read from the dead letters."""

from __future__ import annotations

from contextlib import aclosing

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.deadletters import read_dead_letter
from triggerstream.adapters.kafka.records import read_range, readable_extents, reader_of
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId
from triggerstream.engine.checkpoint import LostRange


class LostRanges:
    """Lost ranges of one partition. The dead letters are read when first needed.

    ``topic``: the topic with the lost ranges; None: the events topic.
    """

    def __init__(
        self, connection: Connection, app: AppId, partition: int, *, topic: str | None = None
    ) -> None:
        self._connection = connection
        self._dead_letters = Topics.of(app).dead_letters
        self._topic = topic or Topics.of(app).events
        self._partition = partition
        self._found: list[LostRange] | None = None

    async def after(self, offset: int) -> int | None:
        """The next readable offset after the unreadable ``offset``; None if no operator has declared it lost.

        Raises:
            LogError: the dead letters cannot be read.
        """
        if self._found is None:
            self._found = await self._read()
        ends = [one.last + 1 for one in self._found if one.first <= offset <= one.last]
        return max(ends, default=None)

    async def _read(self) -> list[LostRange]:
        place = TopicPartition(self._dead_letters, self._partition)
        found: list[LostRange] = []
        async with reader_of(self._connection, place.topic) as reader:
            begin, end = (await readable_extents(reader, [place]))[place]
            async with aclosing(read_range(reader, place, begin, end)) as read:
                async for records, _ in read:
                    for record in records:
                        try:
                            letter = read_dead_letter(record.value, key=record.key, headers=record.headers)
                        except DecodeError:
                            continue
                        if letter.last is not None and letter.topic == self._topic:
                            first = letter.record.offset
                            found.append(LostRange(partition=self._partition, first=first, last=letter.last))
        return found
