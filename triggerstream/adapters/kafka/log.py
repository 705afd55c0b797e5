"""The events topic, as applications, operators and intakes append to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from triggerstream.adapters.kafka.connection import Connection, gather_all, translate_errors
from triggerstream.adapters.kafka.layout import placing_partitions
from triggerstream.adapters.kafka.stopping import retrieve_error, stop
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.records import NewRecord


class KafkaLog:
    """A :class:`triggerstream.engine.ports.Log`: one idempotent producer, for one event loop.

    The first append starts it.

    A producer is not used again after a failure: after a refused batch, aiokafka does not reuse its sequence
    number, so the broker refuses all later batches for that partition as out of order.
    """

    def __init__(self, connection: Connection, app: AppId, *, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._app = app
        self._topic = Topics.of(app).events
        self._timeout_s = timeout_s
        self._starting: asyncio.Task[tuple[AIOKafkaProducer, int]] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append ``records``; a session's stay in order. They are durable when this returns.

        If it fails, some records may be in the log or be appended later: of each session, the first ones.

        Raises:
            LogError: not all are known to be durable. Safe to call again for events that carry an id.
            UsageError: there is no events topic; or a record has no key: a configuration goes to every
                partition, with :func:`triggerstream.adapters.kafka.config.apply`.
        """
        if not records:
            return
        if any(record.key is None for record in records):
            raise UsageError(f"a configuration goes to every partition: {advice.apply_file()}")
        async with translate_errors(f"{self._topic} did not take an event", timeout_s=self._timeout_s):
            starting = self._starting or self._begin()
            producer, partitions = await asyncio.shield(starting)
            try:
                await self._send(producer, partitions, records)
            except KafkaError:
                self._leave(starting)
                raise

    async def _send(self, producer: AIOKafkaProducer, partitions: int, records: Sequence[NewRecord]) -> None:
        # Appends at the same time share batches this way, as they would not with producer.send_batch.
        sent = []
        for record in (self._connection.signed(self._app, record) for record in records):
            answer = await producer.send(
                self._topic,
                record.value,
                key=record.key,
                partition=partition_of(record.key or b"", partitions),
                headers=list(record.headers),
            )
            answer.add_done_callback(retrieve_error)
            sent.append(answer)
        await gather_all(sent)

    def _begin(self) -> asyncio.Task[tuple[AIOKafkaProducer, int]]:
        self._starting = starting = asyncio.create_task(self._start())
        starting.add_done_callback(self._started)
        return starting

    def _started(self, starting: asyncio.Task[tuple[AIOKafkaProducer, int]]) -> None:
        """Start the producer. After a failure, the next append tries again."""
        if self._starting is starting and (starting.cancelled() or starting.exception() is not None):
            self._starting = None

    async def _start(self) -> tuple[AIOKafkaProducer, int]:
        producer = self._connection.producer()
        async with translate_errors("cannot reach Kafka", timeout_s=self._timeout_s):
            await self._connection.start(producer)
        try:
            return producer, await self._partitions(producer)
        except BaseException:
            await stop(producer)
            raise

    async def _partitions(self, producer: AIOKafkaProducer) -> int:
        async with translate_errors("cannot reach Kafka", timeout_s=self._timeout_s):
            # aiokafka's request would make a broker create the topic with default settings.
            return await placing_partitions(self._connection, self._app, producer.client)

    def _leave(self, starting: asyncio.Task[tuple[AIOKafkaProducer, int]]) -> None:
        """Make the next append start another producer. The old one may finish its pending sends."""
        if self._starting is starting:
            self._starting = None
            leaving = asyncio.create_task(stop(starting.result()[0]))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Close the connections."""
        starting, self._starting = self._starting, None
        if starting is not None:
            started = (await asyncio.gather(starting, return_exceptions=True))[0]
            if not isinstance(started, BaseException):
                await stop(started[0])
        if self._leaving:
            await asyncio.gather(*self._leaving)
