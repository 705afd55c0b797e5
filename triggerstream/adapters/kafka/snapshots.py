"""Snapshots of the stored sessions of an app on Kafka, a partition each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.records import first_record, readable_extents, reader_of
from triggerstream.adapters.kafka.shared_reads import SharedReads
from triggerstream.adapters.kafka.topics import Topics, address_of
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.ports import StateStore
from triggerstream.engine.queries.snapshots import ChangelogSnapshot
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.wire.marks import Identity


async def snapshots_of(
    connection: Connection, app: AppId, *, open_store: Callable[[], StateStore]
) -> Sequence[ChangelogSnapshot]:
    """Snapshots of all partitions of ``app``. Each opens a store of its own with ``open_store``.

    Raises:
        UsageError: there is no events topic.
        LogError: the cluster cannot be reached.
    """
    configurations, reads = ConfigurationCache(), SharedReads(connection, app)
    identity = (await layout_of(connection, app)).identity
    return [
        snapshot_of(
            connection,
            app,
            number=number,
            identity=identity,
            open_store=open_store,
            configurations=configurations,
            reads=reads,
        )
        for number in range(identity.partitions)
    ]


def snapshot_of(
    connection: Connection,
    app: AppId,
    *,
    number: int,
    identity: Identity,
    open_store: Callable[[], StateStore],
    configurations: ConfigurationCache | None = None,
    reads: SharedReads | None = None,
) -> ChangelogSnapshot:
    """A snapshot of partition ``number`` of the log ``identity``."""
    topics = Topics.of(app)
    reads = reads or SharedReads(connection, app)
    return ChangelogSnapshot(
        app=app,
        number=number,
        identity=identity,
        ledger=KafkaLedger(connection=connection, app=app, topics=topics, partition=number, reads=reads),
        open_store=open_store,
        closed=reads.close,
        has_events=partial(_has_events, connection, TopicPartition(topics.events, number)),
        decoder=StateDecoder(
            name=f"{topics.changelog}, partition {number}", address=address_of(connection, app)
        ),
        configurations=configurations or ConfigurationCache(),
    )


async def _has_events(connection: Connection, place: TopicPartition, begin: int, end: int) -> bool:
    """True if there is a record from ``begin`` to before ``end``, also one that cannot be read yet."""
    async with reader_of(connection, place.topic) as reader:
        try:
            _, stable = (await readable_extents(reader, [place]))[place]
            return stable < end or await first_record(reader, place, begin, end) is not None
        except LogError:
            return True
