"""The archives of an app's partitions on Kafka, for replays, and partitions that the app does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triggerstream.adapters.kafka import check, rehome
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.lost import LostRanges
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic, new_claims
from triggerstream.adapters.kafka.replay import (
    REPLAY_TRANSACTION_S,
    KafkaRecords,
    refuse_members,
    refuse_wrong_topics,
)
from triggerstream.adapters.kafka.shared_reads import SharedReads
from triggerstream.adapters.kafka.topics import Topics, address_of
from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.operations.administration import TopicFinding
from triggerstream.engine.partitioned.claims import Claims, new_ids
from triggerstream.engine.replay.archive import Archive, HistoryLog, RecordReader
from triggerstream.engine.replay.changelog import ChangelogArchive

_ROLE = "rebuild"
"""In the transactional ids of a rebuild, where those of a worker have another word."""


async def archives_of(
    connection: Connection, app: AppId, *, to_rebuild: bool, partitions: int | None
) -> Sequence[Archive]:
    """Archives of all partitions of ``app``; ``partitions``: their number, if no checkpoint has it.

    Raises:
        UsageError: the topics are wrong; with ``to_rebuild``, also if workers run.
        LogError: the cluster cannot be reached.
    """
    await refuse_wrong_topics(connection, app)
    if to_rebuild:
        await refuse_members(connection, app)
    configurations = ConfigurationCache()
    topics, log = Topics.of(app), (await layout_of(connection, app, partitions=partitions)).identity

    fencing, reads = KafkaFencing(connection, app), SharedReads(connection, app)
    topic = KafkaOwnersTopic(connection, app, topic_id=log.owners)
    shared = _SharedClients(topic, reads, users=log.partitions)
    ids = new_ids(app, count=log.partitions, role=_ROLE)

    def log_of(number: int) -> KafkaRecords:
        lost = LostRanges(connection, app, number)
        return KafkaRecords(connection, topic=topics.events, partition=number, lost=lost)

    def commands_of(number: int) -> KafkaRecords:
        return KafkaRecords(connection, topic=topics.commands, partition=number, shows_unreadable=True)

    def claims(number: int) -> Claims:
        return new_claims([ids[number]], [number], owners=topic, fencing=fencing)

    return [
        ChangelogArchive(
            app=app,
            number=number,
            identity=log,
            ledger=KafkaLedger(
                connection=connection,
                app=app,
                topics=topics,
                partition=number,
                id_=ids[number],
                fencing=fencing,
                reads=reads,
                transaction_s=REPLAY_TRANSACTION_S,
            ),
            log=log_of(number),
            commands=commands_of(number),
            claims=claims(number) if to_rebuild else None,
            closed=shared.leave,
            address=address_of(connection, app),
            control=connection.security.control,
            configurations=configurations,
        )
        for number in range(log.partitions)
    ]


class _SharedClients:
    """The owners topic and the reads of several archives, closed with the last of them."""

    def __init__(self, topic: KafkaOwnersTopic, reads: SharedReads, *, users: int) -> None:
        self._topic = topic
        self._reads = reads
        self._users = users

    async def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            await self._reads.close()
            await self._topic.close()


async def histories_of(connection: Connection, app: AppId) -> Sequence[HistoryLog]:
    """The logs of all partitions of ``app``, to be read only.

    Raises:
        UsageError: there is no log.
        LogError: the cluster cannot be reached.
    """
    layout = await layout_of(connection, app)
    topic, partitions = Topics.of(app).events, layout.identity.partitions
    return [
        HistoryLog(
            app=app,
            number=number,
            partitions=partitions,
            control=connection.security.control,
            reader=KafkaRecords(
                connection,
                topic=topic,
                partition=number,
                lost=LostRanges(connection, app, number, topic=topic),
            ),
            close=_nothing_to_close,
        )
        for number in range(partitions)
    ]


async def _nothing_to_close() -> None:
    """Do nothing: a reader is stopped when its records are read."""


async def find_misplaced(
    connection: Connection, app: AppId, *, partitions: int | None
) -> TopicFinding | None:
    """Finding about records in partitions that were added to the log; None if there are none.

    Raises:
        UsageError: there is no log.
        LogError: the cluster cannot be reached.
    """
    layout = await layout_of(connection, app, partitions=partitions)
    found = await rehome.count_misplaced(connection, app, layout)
    return check.added_partitions(layout, found, address_of(connection, app)) if found.records else None


async def added_partitions(connection: Connection, app: AppId) -> Mapping[int, RecordReader]:
    """Readers of partitions beyond the app's, if no checkpoint gives the app's number.

    Raises:
        UsageError: there is no log.
        LogError: the cluster cannot be reached.
    """
    layout = await layout_of(connection, app)
    if layout.marked:
        return {}
    return {
        number: KafkaRecords(connection, topic=layout.events.name, partition=number)
        for number in layout.added
    }
