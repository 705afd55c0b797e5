"""The number of partitions of an app, as its checkpoints state it, even if its topics have another.

A session's partition depends on this number, so it never changes. Kafka can add partitions to a topic but
cannot remove any: :mod:`triggerstream.adapters.kafka.rehome` appends records of added partitions to the app's
own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError

from triggerstream.adapters.kafka.cluster import Cluster, Topic, describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.fetches import TRIES, Unreadable, UnreadableError, refuse_unfit
from triggerstream.adapters.kafka.records import POLL_MS, read_range, readable_extents
from triggerstream.adapters.kafka.salvage import damaged_header_before, offset_after
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of, no_topic
from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import UnreadableEntriesError
from triggerstream.wire.marks import CHECKPOINT_KEY, CheckpointMark, Identity, decode_checkpoint

_WINDOW = 4
"""Offsets read at first: a checkpoint's mark is the last or nearly the last record of its transaction."""
_WIDER = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The existing topics of an app, and ``partitions``, the app's number of partitions.

    ``owners``: the owners topic; None: there is none, or it is not known. ``marked``: a checkpoint states the
    number; otherwise it is the smallest number of its topics.
    """

    cluster: Cluster
    events: Topic
    owners: Topic | None
    partitions: int
    marked: bool

    @property
    def identity(self) -> Identity:
        """The identity of the log that a checkpoint must match."""
        return Identity(
            cluster=self.cluster.id,
            topic=self.events.id,
            partitions=self.partitions,
            owners="" if self.owners is None else self.owners.id,
        )

    @property
    def added(self) -> range:
        """The partitions of the events topic that the app does not have."""
        return range(self.partitions, max(self.events.partitions, self.partitions))


async def layout_of(
    connection: Connection, app: AppId, *, partitions: int | None = None, timeout_s: float = TIMEOUT_S
) -> Layout:
    """The topics of ``app`` and its number of partitions; ``partitions`` is used if no checkpoint has one.

    Raises:
        UsageError: there is no events topic; or checkpoints have another number than ``partitions``.
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translate_errors(f"cannot look at {topics.events}", timeout_s=timeout_s):
        async with connection.client() as client:
            cluster = await describe(client, topics.all())
        events = cluster.topics.get(topics.events)
        if events is None:
            raise no_topic(topics.events, connection, app)
        marked = await marked_partitions(connection, cluster.topics.get(topics.changelog))
    if marked is not None and partitions not in {None, marked}:
        raise UsageError(f"the app has {marked} partitions, as its checkpoints say, and not {partitions}")
    number = marked or partitions or fewest_partitions(topics, cluster.topics)
    return Layout(
        cluster=cluster,
        events=events,
        owners=cluster.topics.get(topics.owners),
        partitions=number,
        marked=marked is not None,
    )


async def known_partitions(connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S) -> int | None:
    """The number of partitions of ``app``; None if it has no topics yet.

    Raises:
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translate_errors("cannot look at topics", timeout_s=timeout_s):
        async with connection.client() as client:
            found = (await describe(client, topics.partitioned())).topics
        marked = await marked_partitions(connection, found.get(topics.changelog))
    deciding = {name: topic for name, topic in found.items() if name != topics.dead_letters}
    return marked or (fewest_partitions(topics, deciding) if deciding else None)


def fewest_partitions(topics: Topics, found: Mapping[str, Topic]) -> int:
    """The number for an app without a checkpoint: the smallest, as a topic may have added partitions."""
    deciding = (topics.events, topics.commands, topics.changelog)
    return min(found[name].partitions for name in deciding if name in found)


async def placing_partitions(connection: Connection, app: AppId, client: AIOKafkaClient) -> int:
    """The number of partitions among which a producer of ``app`` chooses, as far as its account can read it.

    An account with write access only to the events topic uses that topic's number: records that are then in a
    wrong partition are re-homed.

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
    """The app's number of partitions from its checkpoints; None if there is none, or it cannot be read."""
    if changelog is None:
        return None
    try:
        async with connection.running(connection.reader(wait_ms=POLL_MS)) as reader:
            for partition in await _filled(reader, changelog):
                mark = await newest_mark(reader, TopicPartition(changelog.name, partition))
                if isinstance(mark, CheckpointMark):
                    return mark.identity.partitions
    except TopicAuthorizationFailedError:
        return None
    return None


async def newest_marks(
    connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S
) -> Mapping[int, CheckpointMark | DecodeError]:
    """The newest checkpoint of each partition that has one, or the reason why it cannot be read.

    Raises:
        LogError: the changelog cannot be read.
    """
    name = Topics.of(app).changelog
    found: dict[int, CheckpointMark | DecodeError] = {}
    async with translate_errors(f"cannot read {name}", timeout_s=timeout_s):
        async with connection.client() as client:
            changelog = (await describe(client, [name])).topics.get(name)
        if changelog is None:
            return {}
        async with connection.running(connection.reader(wait_ms=POLL_MS)) as reader:
            for partition in await _filled(reader, changelog):
                mark = await newest_mark(reader, TopicPartition(name, partition))
                if mark is not None:
                    found[partition] = mark
    return found


async def _filled(reader: AIOKafkaConsumer, topic: Topic) -> list[int]:
    """The non-empty partitions of ``topic``."""
    places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
    extents = await readable_extents(reader, places)
    return [place.partition for place, (first, end) in extents.items() if first < end]


class UnreadableMarkError(DecodeError):
    """The newest mark may be in ``batch``, which cannot be read."""

    def __init__(self, batch: Unreadable) -> None:
        super().__init__(batch.fault)
        self.batch = batch


async def newest_mark(
    reader: AIOKafkaConsumer, place: TopicPartition, *, end: int | None = None, given_up: Container[int] = ()
) -> CheckpointMark | DecodeError | None:
    """The newest committed mark in a partition of a changelog, or the reason why it cannot be read.

    It is searched backwards from ``end``; None: from the first open transaction, or the end. A batch that
    cannot be read may have a newer mark than those before it, so none of them is returned, but an
    :class:`UnreadableMarkError`. ``given_up``: offsets of batches that have had all their attempts before.
    """
    first, readable = (await readable_extents(reader, [place]))[place]
    end, window = readable if end is None else end, _WINDOW
    while end > first:
        begin = max(first, end - window)
        newest = await _last_mark(reader, place, begin, end, first=first, given_up=given_up)
        if newest is not None:
            try:
                return newest if isinstance(newest, DecodeError) else decode_checkpoint(newest)
            except DecodeError as exc:
                return exc
        end, window = begin, window * _WIDER
    return None


async def newest_rebuild(
    reader: AIOKafkaConsumer, place: TopicPartition, *, end: int | None = None, given_up: Container[int] = ()
) -> int:
    """The position at which the newest rebuild of a changelog began; arguments as for :func:`newest_mark`.

    Raises:
        UnreadableEntriesError: as :meth:`triggerstream.engine.partitioned.ports.Ledger.rebuilt`.
    """
    mark = await newest_mark(reader, place, end=end, given_up=given_up)
    if isinstance(mark, UnreadableMarkError):
        raise unreadable_entries(mark.batch)
    return mark.rebuilt if isinstance(mark, CheckpointMark) else -1


def unreadable_entries(batch: Unreadable) -> UnreadableEntriesError:
    """The error for a reader of a changelog that needs the entries of ``batch``."""
    return UnreadableEntriesError(
        batch.fault,
        place=batch.place,
        offset=batch.offset,
        last=batch.last,
        lasting=batch.lasting,
    )


async def _last_mark(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    *,
    first: int,
    given_up: Container[int],
) -> bytes | DecodeError | None:
    """The last mark from ``begin`` to before ``end``, or the batch after it that cannot be read.

    Only that batch has all its attempts: others before it do not matter, and each would take four seconds.
    """
    while True:
        newest = await _read_last_mark(reader, place, begin, end, tries=1)
        if not isinstance(newest, UnreadableMarkError) or newest.batch.lasting:
            return newest
        if newest.batch.last is None and newest.batch.offset == begin:
            # The broker finds no batch here because of a damaged header before it: name that one.
            at = await damaged_header_before(reader, place, newest.batch, first)
            newest = UnreadableMarkError(replace(newest.batch, offset=at))
        if newest.batch.offset in given_up:
            return UnreadableMarkError(replace(newest.batch, tries=TRIES))
        last = await _read_last_mark(reader, place, newest.batch.offset, end, tries=TRIES)
        if last is not None:
            return last
        end = newest.batch.offset  # a later attempt has read it, and there is no mark in it


async def _read_last_mark(
    reader: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, *, tries: int
) -> bytes | DecodeError | None:
    """As :func:`_last_mark`, but each batch has ``tries`` attempts."""
    newest: bytes | DecodeError | None = None
    while begin < end:
        try:
            async with aclosing(read_range(reader, place, begin, end, tries=tries)) as found:
                async for records, _ in found:
                    for record in records:
                        if record.key == CHECKPOINT_KEY:
                            newest = record.value
                        elif record.key is None:
                            refuse_unfit([record], place)
            break
        except UnreadableError as exc:
            newest, batch = UnreadableMarkError(exc.batch), exc.batch
            begin = await offset_after(reader, place, batch, end)
    return newest
