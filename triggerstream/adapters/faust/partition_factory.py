"""Makes the partitions of a worker and their claims, on Kafka and RocksDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.faust.settings import WorkerSettings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.ledger import KafkaAppender, KafkaLedger
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic, new_claims
from triggerstream.adapters.kafka.shared_reads import SharedReads
from triggerstream.adapters.kafka.topics import Topics, address_of
from triggerstream.adapters.kafka.transaction_group import PRODUCERS, SPARES, TransactionGroup
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.migration import Pace
from triggerstream.engine.partitioned.claims import new_ids
from triggerstream.engine.partitioned.ownership import Assignment
from triggerstream.engine.partitioned.partition import TRANSACTIONS, Partition
from triggerstream.engine.partitioned.turns import TransactionTurns
from triggerstream.engine.processor import Processor
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.wire.marks import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionFactory:
    """Makes partitions, which share memory, parsed tasks files, and limits of transactions and touches."""

    settings: WorkerSettings
    connection: Connection
    appender: KafkaAppender
    owners: KafkaOwnersTopic
    fencing: KafkaFencing
    reads: SharedReads
    identity: Identity
    changelog_id: str
    fail: Callable[[BaseException], None]
    on_room: Callable[[], None]
    answered_at: Callable[[], float]
    memory: SharedRocksMemory = field(default_factory=SharedRocksMemory)
    configurations: ConfigurationCache = field(default_factory=ConfigurationCache)
    pace: Pace = field(default_factory=Pace)
    transactions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRANSACTIONS))
    turns: TransactionTurns = field(default_factory=lambda: TransactionTurns(most=PRODUCERS))

    def assignment(self, numbers: Sequence[int], generation: int) -> Assignment:
        """The assignment of the partitions ``numbers``; nothing is claimed or opened yet."""
        app = self.settings.app
        ids = new_ids(app, count=PRODUCERS + SPARES)
        group = TransactionGroup(
            connection=self.connection, app=app, fencing=self.fencing, ids=ids, partitions=numbers
        )
        return Assignment(
            claims=new_claims(ids, numbers, owners=self.owners, fencing=self.fencing, generation=generation),
            make=lambda number: self._partition(number, group),
        )

    def _partition(self, number: int, group: TransactionGroup) -> Partition:
        settings, topics = self.settings, Topics.of(self.settings.app)
        address = address_of(self.connection, settings.app)
        return Partition(
            processor=Processor(
                app=settings.app,
                partition=number,
                partitions=self.identity.partitions,
                control=self.connection.security.control,
                configurations=self.configurations,
                decoder=StateDecoder(name=f"{topics.changelog}, partition {number}", address=address),
            ),
            ledger=KafkaLedger(
                connection=self.connection,
                app=settings.app,
                topics=topics,
                partition=number,
                group=group,
                fencing=self.fencing,
                reads=self.reads,
                member=settings.instance_id if settings.lasting else None,
            ),
            open_store=lambda: self._open_store(number),
            appender=self.appender,
            clock=SystemClock(),
            identity=self.identity,
            fail=self.fail,
            on_room=self.on_room,
            answered_at=self.answered_at,
            transactions=self.transactions,
            turns=self.turns,
            pace=self.pace,
            timing=settings.timing,
            address=address,
        )

    async def _open_store(self, number: int) -> RocksStore:
        path = self.settings.directory / f"{self.settings.app}-sessions" / str(number)
        changelog = f"{self.identity.cluster}/{self.changelog_id}"
        return await RocksStore.open(path, changelog=changelog, memory=self.memory)
