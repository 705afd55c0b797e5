"""The limit: aiokafka's consumer and producer, whole batches, no state. Every fourth trigger is a command."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks.peers.arguments import PARTS, Arguments, arguments

_POLL_MS = 1_000
_AT_ONCE = 1_000


async def run(told: Arguments) -> None:
    """Consume and produce until SIGTERM."""
    consumer = AIOKafkaConsumer(
        told.events,
        bootstrap_servers=told.bootstrap,
        group_id=told.app,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=told.bootstrap, enable_idempotence=True, max_batch_size=512 * 1024
    )
    await producer.start()
    await consumer.start()
    sent = set()
    while True:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
        for place, records in fetched.items():
            batch = producer.create_batch()
            for record in records:
                event = orjson.loads(record.value)
                if event["type"] == PARTS[-1]:
                    command = orjson.dumps({"session": record.key.decode(), "last": event["data"]})
                    batch.append(key=record.key, value=command, timestamp=None)
            if batch.record_count():
                future = await producer.send_batch(batch, told.commands, partition=place.partition)
                sent.add(future)
                future.add_done_callback(sent.discard)


async def main() -> None:
    """Run until SIGTERM."""
    running = asyncio.create_task(run(arguments()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    asyncio.run(main())
