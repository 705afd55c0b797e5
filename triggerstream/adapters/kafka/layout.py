"""How many partitions an app has. Its checkpoints say so, whatever became of its topics since.

Where a session is follows from that number, so that it never changes. Kafka can add partitions to a topic and
cannot remove any: what lies in added ones is appended to where the app has it by
:mod:`triggerstream.adapters.kafka.rehome`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError

from triggerstream.adapters.kafka.cluster import Cluster, Topic, describe
from triggerstream.adapters.kafka.connection import Connection, translated
from triggerstream.adapters.kafka.records import POLL_MS, pieces
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of, no_topic
from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.marks import CHECKPOINT_KEY, CheckpointMark, Identity, decode_checkpoint

_WINDOW = 64
"""A checkpoint's mark is the last or nearly the last record of its transaction."""
_WIDER = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The topics of an app that exist, and ``partitions``, how many the app has.

    ``marked``: a checkpoint says so; else it is the number that all its topics have at least.
    """

    cluster: Cluster
    events: Topic
    partitions: int
    marked: bool

    @property
    def identity(self) -> Identity:
        """What a checkpoint must find again."""
        return Identity(cluster=self.cluster.id, topic=self.events.id, partitions=self.partitions)

    @property
    def added(self) -> range:
        """The partitions of the events topic that the app does not have."""
        return range(self.partitions, max(self.events.partitions, self.partitions))


async def layout_of(
    connection: Connection, app: AppId, *, partitions: int | None = None, timeout_s: float = TIMEOUT_S
) -> Layout:
    """The topics of ``app`` and its number of partitions: ``partitions``, where no checkpoint says another.

    Raises:
        UsageError: there is no events topic; or checkpoints have another number than ``partitions``.
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translated(f"cannot look at {topics.events}", timeout_s=timeout_s):
        async with connection.client() as client:
            cluster = await describe(client, topics.all())
        events = cluster.topics.get(topics.events)
        if events is None:
            raise no_topic(topics.events, connection, app)
        marked = await marked_partitions(connection, cluster.topics.get(topics.changelog))
    if marked is not None and partitions not in {None, marked}:
        raise UsageError(f"the app has {marked} partitions, as its checkpoints say, and not {partitions}")
    number = marked or partitions or fewest_partitions(topics, cluster.topics)
    return Layout(cluster=cluster, events=events, partitions=number, marked=marked is not None)


async def known_partitions(connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S) -> int | None:
    """How many partitions ``app`` has; None: it has no topics yet.

    Raises:
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translated("cannot look at topics", timeout_s=timeout_s):
        async with connection.client() as client:
            found = (await describe(client, topics.all())).topics
        marked = await marked_partitions(connection, found.get(topics.changelog))
    deciding = {name: topic for name, topic in found.items() if name != topics.dead_letters}
    return marked or (fewest_partitions(topics, deciding) if deciding else None)


def fewest_partitions(topics: Topics, found: Mapping[str, Topic]) -> int:
    """The number of an app that has no checkpoint: partitions may have been added to one of its topics."""
    deciding = (topics.events, topics.commands, topics.changelog)
    return min(found[name].partitions for name in deciding if name in found)


async def placing_partitions(connection: Connection, app: AppId, client: AIOKafkaClient) -> int:
    """How many partitions events of ``app`` are placed over, as far as this account may know.

    One that may only write to the events topic takes their number: what then lies elsewhere is re-homed.

    Raises:
        UsageError: there is no events topic, or it has fewer partitions than the app.
        KafkaError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    events = (await describe(client, [topics.events])).topics.get(topics.events)
    if events is None:
        raise no_topic(topics.events, connection, app)
    try:
        others = (await describe(client, [topics.commands, topics.changelog])).topics
    except TopicAuthorizationFailedError:
        return events.partitions
    marked = await marked_partitions(connection, others.get(topics.changelog))
    number = marked or fewest_partitions(topics, {topics.events: events, **others})
    if number > events.partitions:
        raise UsageError(
            f"{events.name} has {events.partitions} partitions, and the app has {number}: "
            f"{advice.repair_topics(address_of(connection, app))}"
        )
    return number


async def marked_partitions(connection: Connection, changelog: Topic | None) -> int | None:
    """How many partitions the app has as its checkpoints say; None: there is none, or it may not be read."""
    if changelog is None:
        return None
    try:
        async with connection.running(connection.reader(wait_ms=POLL_MS)) as reader:
            for partition in await _filled(reader, changelog):
                mark = await _newest_mark(reader, TopicPartition(changelog.name, partition))
                if isinstance(mark, CheckpointMark):
                    return mark.identity.partitions
    except TopicAuthorizationFailedError:
        return None
    return None


async def newest_marks(
    connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S
) -> Mapping[int, CheckpointMark | DecodeError]:
    """The newest checkpoint of each partition that has one, or why it cannot be read.

    Raises:
        LogError: the changelog cannot be read.
    """
    name = Topics.of(app).changelog
    found: dict[int, CheckpointMark | DecodeError] = {}
    async with translated(f"cannot read {name}", timeout_s=timeout_s):
        async with connection.client() as client:
            changelog = (await describe(client, [name])).topics.get(name)
        if changelog is None:
            return {}
        async with connection.running(connection.reader(wait_ms=POLL_MS)) as reader:
            for partition in await _filled(reader, changelog):
                mark = await _newest_mark(reader, TopicPartition(name, partition))
                if mark is not None:
                    found[partition] = mark
    return found


async def _filled(reader: AIOKafkaConsumer, topic: Topic) -> list[int]:
    """The partitions of ``topic`` that have records."""
    places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
    firsts, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
    return [place.partition for place in places if firsts[place] < ends[place]]


async def _newest_mark(
    reader: AIOKafkaConsumer, place: TopicPartition
) -> CheckpointMark | DecodeError | None:
    """The newest mark, looked for from the end backwards, or why it cannot be read."""
    first = (await reader.beginning_offsets([place]))[place]
    end = (await reader.end_offsets([place]))[place]
    window = _WINDOW
    reader.assign([place])
    while end > first:
        begin = max(first, end - window)
        reader.seek(place, begin)
        newest: bytes | None = None
        async with aclosing(pieces(reader, place, begin, end)) as found:
            async for records, _ in found:
                for record in records:
                    if record.key == CHECKPOINT_KEY:
                        newest = record.value
        if newest is not None:
            try:
                return decode_checkpoint(newest)
            except DecodeError as exc:
                return exc
        end, window = begin, window * _WIDER
    return None
