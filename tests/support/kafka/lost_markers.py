"""Transactions that no marker ends and no coordinator knows, as a restart of brokers may leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.stopping import stop

ALLOWED = {"transaction.partition.verification.enable": "false"}
"""Settings of brokers that take records of a transaction without asking its coordinator."""


Entries = Mapping[str, Sequence[tuple[bytes | None, bytes | None]]]
"""Keys and values by topic."""


async def leave_open(
    connection: Connection,
    transactional_id: str,
    partition: int,
    records: Entries,
    *,
    ended: Mapping[str, bool] | None = None,
    begun: Entries | None = None,
) -> None:
    """Append ``records`` in a transaction that its coordinator does not know.

    ``ended``: the topics in which it has ended all the same; True: it is committed there. ``begun``: what the
    same producer appends in its next transaction, which its coordinator knows and which stays open.
    """
    producer = connection.producer(transactional_id=transactional_id)
    await producer.start()
    try:
        known = producer._txn_manager.txn_partitions  # noqa: SLF001 - else it would tell the coordinator
        await producer.begin_transaction()
        known.update(TopicPartition(topic, partition) for topic in records)
        await _send(producer, partition, records)
        for topic, commit in (ended or {}).items():
            known.clear()
            await _end(producer, TopicPartition(topic, partition), commit=commit)
        if begun is not None:
            if ended is not None:
                await producer.begin_transaction()
            known.clear()
            await _send(producer, partition, begun)
    finally:
        await stop(producer)


async def _send(producer: AIOKafkaProducer, partition: int, records: Entries) -> None:
    for topic, found in records.items():
        for key, value in found:
            await producer.send_and_wait(topic, value, key=key, partition=partition)


async def _end(producer: AIOKafkaProducer, place: TopicPartition, *, commit: bool) -> None:
    """Have the coordinator end a transaction of ``producer`` that has ``place`` alone."""
    if not producer._txn_manager.is_in_transaction():  # noqa: SLF001 - nothing public
        await producer.begin_transaction()
    producer._txn_manager.maybe_add_partition_to_txn(place)  # noqa: SLF001 - nothing public
    await (producer.commit_transaction() if commit else producer.abort_transaction())
