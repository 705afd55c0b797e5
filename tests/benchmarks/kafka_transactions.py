"""How long a checkpoint's transaction takes: ``python -m tests.benchmarks.kafka_transactions HOST:PORT``.

A transaction is what the engine makes of a checkpoint: a command, a state, the group's offset. The paces are
those of a partition at low load and of one that has always something to do.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddOffsetsToTxnRequest, AddPartitionsToTxnRequest
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId

_CONCURRENT_TRANSACTIONS = 51
_NOT_ENOUGH_REPLICAS = 19

_Send = Callable[[AIOKafkaProducer, Topics, AppId, int], Awaitable[Any]]


async def _at_once(producer: AIOKafkaProducer, topics: Topics, app: AppId, number: int) -> None:
    await asyncio.gather(_records(producer, topics), _offset(producer, topics, app, number))


async def _offset_last(producer: AIOKafkaProducer, topics: Topics, app: AppId, number: int) -> None:
    await _records(producer, topics)
    await _offset(producer, topics, app, number)


async def _offset_first(producer: AIOKafkaProducer, topics: Topics, app: AppId, number: int) -> None:
    await _offset(producer, topics, app, number)
    await _records(producer, topics)


async def _no_offset(producer: AIOKafkaProducer, topics: Topics, app: AppId, number: int) -> None:
    del app, number
    await _records(producer, topics)


_VARIANTS: dict[str, _Send] = {
    "records and offset at once": _at_once,
    "records, then offset": _offset_last,
    "offset, then records": _offset_first,
    "no offset": _no_offset,
}


async def measure(bootstrap: str) -> None:
    """Print the figures."""
    connection = Connection(bootstrap=bootstrap)
    app = AppId(f"bench-{uuid.uuid4().hex[:8]}")
    await create(connection, app, partitions=4)
    topics = Topics.of(app)
    producer = connection.producer(transactional_id=f"{app}-0")
    await producer.start()
    codes = _watch(producer)
    for name, send in _VARIANTS.items():
        await _transactions(producer, topics, app, send, count=50, pause_s=0.0)
        for pace, count, pause_s in (("20 a second", 200, 0.05), ("back to back", 300, 0.0)):
            codes.clear()
            total, end = await _transactions(producer, topics, app, send, count=count, pause_s=pause_s)
            print(
                f"{name:26} {pace:12} begin to commit p50 {_ms(total, 0.5)} p99 {_ms(total, 0.99)} ms, "
                f"of it EndTxn p50 {_ms(end, 0.5)} p99 {_ms(end, 0.99)} ms; of 100 transactions "
                f"{100 * codes['begin'] // count} waited for the markers of the last, "
                f"{100 * codes['produce'] // count} produced too early"
            )
    await stop(producer)


async def _records(producer: AIOKafkaProducer, topics: Topics) -> None:
    await asyncio.gather(
        producer.send_and_wait(topics.commands, b"{}" * 200, key=b"s", partition=0),
        producer.send_and_wait(topics.changelog, b"{}" * 500, key=b"s", partition=0),
    )


async def _offset(producer: AIOKafkaProducer, topics: Topics, app: AppId, number: int) -> None:
    place = TopicPartition(topics.events, 0)
    await producer.send_offsets_to_transaction({place: OffsetAndMetadata(number, "")}, app)


async def _transactions(
    producer: AIOKafkaProducer, topics: Topics, app: AppId, send: _Send, *, count: int, pause_s: float
) -> tuple[list[float], list[float]]:
    total, end = [], []
    for number in range(count):
        begun = time.perf_counter()
        await producer.begin_transaction()
        await send(producer, topics, app, number)
        sent = time.perf_counter()
        await producer.commit_transaction()
        done = time.perf_counter()
        total.append(done - begun)
        end.append(done - sent)
        await asyncio.sleep(pause_s)
    return total, end


def _watch(producer: AIOKafkaProducer) -> Counter[str]:
    """Counts the answers that have aiokafka wait and try again.

    ``begin``: the last transaction is not over for the coordinator. ``produce``: the coordinator is busy with
    a change of this transaction, so the broker cannot learn from it that the partition belongs to it. Older
    clients are told NOT_ENOUGH_REPLICAS then, which they know to try again.
    """
    codes: Counter[str] = Counter()
    send = producer.client.send

    async def watched(node: int, request: Any, **how: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        answer = await send(node, request, **how)
        if isinstance(request, AddPartitionsToTxnRequest):
            told = {code for _, partitions in answer.errors for _, code in partitions}
            codes["begin"] += _CONCURRENT_TRANSACTIONS in told
        elif isinstance(request, AddOffsetsToTxnRequest):
            codes["begin"] += answer.error_code == _CONCURRENT_TRANSACTIONS
        elif isinstance(request, ProduceRequest):
            told = {partition[1] for _, partitions in answer.topics for partition in partitions}
            codes["produce"] += _NOT_ENOUGH_REPLICAS in told
        return answer

    producer.client.send = watched
    return codes


def _ms(values: list[float], share: float) -> str:
    return f"{sorted(values)[int(len(values) * share)] * 1000:.1f}"


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    asyncio.run(measure(sys.argv[1]))
