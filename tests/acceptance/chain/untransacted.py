"""`triggerstream worker` without transactions: the negative control, which shows that the oracle can fail.

Its ledger's producer sends what a checkpoint holds one by one, as a producer without transactions would, and
no owner is fenced. All else is the worker's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from triggerstream.__main__ import main
from triggerstream.adapters.kafka.connection import Connection

_producer = Connection.producer


class Untransacted(AIOKafkaProducer):  # type: ignore[misc] # aiokafka is not typed
    """An idempotent producer whose transactions are none."""

    async def begin_transaction(self) -> None:
        """Begin nothing."""

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None:
        """Leave the group's offset as it is: a worker continues from the mark in its changelog."""

    async def commit_transaction(self) -> None:
        """Commit nothing: it is all there."""


def producer(self: Connection, *, transactional_id: str | None = None, **_: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
    """In place of :meth:`Connection.producer`."""
    made = _producer(self)
    if transactional_id is not None:
        made.__class__ = Untransacted
    return made


if __name__ == "__main__":
    setattr(Connection, "producer", producer)  # noqa: B010 - mypy takes an assignment for a mistake
    main()
