"""The offsets of a bridge's group: where it begins, what it commits, and where it continues."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, OffsetMetadataTooLargeError
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.commands_topic import CommandsTopic, where_to_begin
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.progress import metadata_of, reached_in, topic_in, topic_metadata
from triggerstream.adapters.kafka.records import read_range, reader_of
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, bridge_group, no_topic
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.handover.first_offset import FirstOffset
from triggerstream.engine.handover.shared_log import HandOverProgress, PartitionProgress
from triggerstream.engine.loglimit import RecurringLines

logger = logging.getLogger(__name__)


class GroupOffsets:
    """The group's offsets, through a consumer that is a member of the group."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: CommandsTopic) -> None:
        self._consumer = consumer
        self._topic = topic
        self._lines = RecurringLines(logger)
        self._records_gaps = True
        """False once the brokers have refused metadata as too long."""

    async def read(self, place: TopicPartition) -> tuple[int, HandOverProgress | None]:
        """The offset at which to continue in ``place``, and the progress that was committed with it.

        Raises:
            UsageError: the group has no offset there; or the topic was deleted or recreated.
            LogError: the brokers cannot be asked.
        """
        # aiokafka's public methods do not take metadata.
        at = (await self._consumer._coordinator.fetch_committed_offsets([place])).get(place)  # noqa: SLF001
        if at is None or at.offset < 0:
            return await self._begin_added(place), None
        if topic_in(at.metadata) not in {"", self._topic.id}:
            await self._topic.check()
        return at.offset, reached_in(at.offset, at.metadata)

    async def commit(self, partitions: Iterable[PartitionProgress], *, holds: bool) -> None:
        """Commit the progress of ``partitions``; ``holds``: commands wait for a destination that is refused.

        If another process has the partitions, or will have them, nothing is committed.
        """
        moved: dict[PartitionProgress, HandOverProgress] = {}
        offsets: dict[TopicPartition, tuple[int, str]] = {}
        plain: dict[TopicPartition, tuple[int, str]] = {}
        for progress in partitions:
            position = progress.position
            if (holds or progress.resuming) and progress.changed:
                reached = progress.reached()
            elif position > progress.committed:
                reached = HandOverProgress(position=position, upto=position, begun=progress.begun)
            else:
                continue
            place = TopicPartition(self._topic.name, progress.partition)
            plain[place] = offsets[place] = (position, topic_metadata(self._topic.id, progress.begun))
            if self._records_gaps:
                metadata, reached = metadata_of(self._topic.id, reached)
                offsets[place] = (position, metadata)
            moved[progress] = reached
        if not moved:
            return
        try:
            await self._commit_offsets(offsets, plain)
        except (CommitFailedError, IllegalStateError) as exc:
            # Another process has the partitions, or will have them. It continues from the previous commit.
            self._lines.write("offsets not committed", extra={"error": str(exc)})
            return
        for progress, reached in moved.items():
            progress.commit(reached)

    async def _commit_offsets(
        self,
        offsets: Mapping[TopicPartition, tuple[int, str]],
        plain: Mapping[TopicPartition, tuple[int, str]],
    ) -> None:
        """Commit ``offsets``; ``plain``, with short metadata, if the brokers refuse theirs as too long."""
        consumer = self._consumer
        try:
            await consumer.commit(offsets)
        except OffsetMetadataTooLargeError:
            # An end must not wait for a refused destination, so commands may be repeated.
            logger.warning(
                "the brokers take less than 4 KiB with an offset: while a destination is refused, a restart "
                "hands over again what was handed over since",
                extra={"setting": "offset.metadata.max.bytes"},
            )
            self._records_gaps = False
            await consumer.commit(plain)

    async def _begin_added(self, place: TopicPartition) -> int:
        """The first offset of a partition without a committed offset, after the bridge has begun.

        Raises:
            UsageError: other partitions have no offset either, so it is unknown what was handed over.
        """
        consumer = self._consumer
        places = [
            TopicPartition(place.topic, number)
            for number in consumer.partitions_for_topic(place.topic) or {place.partition}
        ]
        if place not in _added({one: await consumer.committed(one) for one in places}):
            await self._topic.check()
            raise UsageError(where_to_begin(self._topic.app, f"partition {place.partition} has none"))
        offset: int = (await consumer.beginning_offsets([place]))[place]
        logger.warning(
            "partition was added: it begins at its first command",
            extra={"topic": place.topic, "partition": place.partition, "offset": offset},
        )
        return offset


async def begin(
    connection: Connection, app: AppId, start: FirstOffset | None, *, agreed: bool = False
) -> str:
    """Ensure that the group has a usable offset for each partition, before any command is handed over.

    ``start`` is used for partitions without an offset, with one outside of the log, or with one of a deleted
    topic of this name. It is committed at once. ``agreed``: stored commands may be skipped. Partitions that
    were added to the topic always begin at their first command (:meth:`GroupOffsets.read`). Returns the id of
    the topic, which is committed with each offset.

    Raises:
        UsageError: a partition has no offset and there is no ``start``; or commands would be skipped without
            ``agreed``; or the topic is missing.
        LogError: the cluster cannot be reached, or another bridge came between.
    """
    topic = Topics.of(app).commands
    async with translate_errors(f"cannot look at {topic}", timeout_s=TIMEOUT_S):
        async with connection.client() as client:
            found = (await describe(client, [topic])).topics.get(topic)
        if found is None:
            raise no_topic(topic, connection, app)
        places = [TopicPartition(topic, partition) for partition in range(found.partitions)]
        async with connection.running(_outsider(connection, app)) as consumer:
            consumer.assign(places)
            first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            # aiokafka's public methods take no metadata, and do not wait for a coordinator that is starting.
            committed = await consumer._coordinator.fetch_committed_offsets(places)  # noqa: SLF001
    lacking = {
        place: why
        for place in places
        if (why := _lack(committed.get(place), first[place], end[place], topic=found.id)) is not None
    }
    known = {place: at.offset for place, at in committed.items() if at.offset >= 0}
    for place in _added({place: known.get(place) for place in places}):
        del lacking[place]  # its owner begins it
    if not lacking:
        return found.id
    if start is None:
        place, why = next(iter(lacking.items()))
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise UsageError(where_to_begin(app, f"partition {place.partition} of {topic} {why}{more}"))
    begins = {place: _first(start, first[place], end[place]) for place in lacking}
    if not agreed:
        passed = {place: (first[place], offset) for place, offset in begins.items() if offset > first[place]}
        if count := await _count(connection, passed):
            raise UsageError(advice.agree_to_pass_over(count))
    async with (
        translate_errors(f"cannot begin in {topic}", timeout_s=TIMEOUT_S),
        connection.running(_outsider(connection, app)) as consumer,
    ):
        consumer.assign(places)
        await consumer.commit(
            {
                place: (offset, topic_metadata(found.id, offset if offset > first[place] else 0))
                for place, offset in begins.items()
            }
        )
    return found.id


def _added(offsets: Mapping[TopicPartition, int | None]) -> Sequence[TopicPartition]:
    """The partitions that a topic did not have when the group began.

    A first start commits an offset for every partition, and Kafka deletes a group's offsets together. So the
    partitions after the last one with an offset are new.
    """
    known = [place.partition for place, offset in offsets.items() if offset is not None]
    return [place for place in offsets if known and place.partition > max(known)]


async def _count(connection: Connection, spans: Mapping[TopicPartition, tuple[int, int]]) -> int:
    """The number of committed records in ``spans``: marks of transactions have offsets as well."""
    count = 0
    if not spans:
        return count
    topic = next(iter(spans)).topic
    async with reader_of(connection, topic) as reader:
        for place, (begin, end) in spans.items():
            async with aclosing(read_range(reader, place, begin, end)) as found:
                async for records, _ in found:
                    count += len(records)
    return count


def _lack(at: OffsetAndMetadata | None, first: int, end: int, *, topic: str) -> str | None:
    """Why the bridge cannot continue at the committed ``at`` with the id of its topic; None: it can."""
    if at is None or at.offset < 0:
        return "has none"
    offset = at.offset
    if topic_in(at.metadata) not in {"", topic}:
        return f"has {offset}, of a topic that had this name before: it was deleted and made again"
    if offset < first:
        return f"has {offset}, but begins at {first}: commands were deleted that nobody handed over"
    if offset > end:
        return f"has {offset}, but ends at {end}: the topic is another one, or records were lost"
    return None


def _first(start: FirstOffset, first: int, end: int) -> int:
    if start == "earliest":
        return first
    return end if start == "latest" else min(max(start, first), end)


def _outsider(connection: Connection, app: AppId) -> AIOKafkaConsumer:
    """A consumer that may commit offsets of the group while the group has no members."""
    return connection.member(bridge_group(app))
