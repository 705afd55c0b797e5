"""Transactions that no marker ends and no coordinator knows, as a restart of brokers may leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.stopping import stop

ALLOWED = {"transaction.partition.verification.enable": "false"}
"""Settings of brokers that take records of a transaction without asking its coordinator."""


async def leave_open(
    connection: Connection,
    transactional_id: str,
    partition: int,
    records: Mapping[str, Sequence[tuple[bytes, bytes]]],
) -> None:
    """Append ``records``, keys and values by topic, in a transaction that its coordinator does not know."""
    producer = connection.producer(transactional_id=transactional_id)
    await producer.start()
    try:
        await producer.begin_transaction()
        for topic, found in records.items():
            producer._txn_manager.txn_partitions.add(TopicPartition(topic, partition))  # noqa: SLF001 - else it would tell the coordinator
            for key, value in found:
                await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await stop(producer)
