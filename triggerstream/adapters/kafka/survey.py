"""The cluster's description of itself, and the progress of an app's bridge."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.cluster import describe, open_transactions
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.group import group_commits, group_offsets
from triggerstream.adapters.kafka.layout import Layout, UnreadableMarkError, newest_marks
from triggerstream.adapters.kafka.progress import reached_in
from triggerstream.adapters.kafka.records import POLL_MS, first_record
from triggerstream.adapters.kafka.seen_members import KEPT_S, seen_in
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of, bridge_group, worker_group
from triggerstream.core import advice
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId
from triggerstream.engine.operations.administration import BlockedRecords, ReachedCluster, UnhandedCommands
from triggerstream.wire.marks import IdentityError, check_identity


async def reach(connection: Connection) -> ReachedCluster:
    """The cluster.

    Raises:
        LogError: it does not answer.
    """
    async with translate_errors("cannot reach Kafka", timeout_s=TIMEOUT_S), connection.client() as client:
        found = await describe(client, [])
    return ReachedCluster(cluster=found.id, brokers=found.brokers)


async def unusable(connection: Connection, app: AppId, layout: Layout) -> AsyncIterator[str]:
    """Each reason why workers would refuse a partition, with its repair.

    Raises:
        LogError: the cluster does not answer.
    """
    marks = await newest_marks(connection, app)
    repair = advice.rebuild(address_of(connection, app))
    lacking: dict[str, list[int]] = {}
    lost = []
    for number, mark in sorted(marks.items()):
        if isinstance(mark, DecodeError):
            lasting = not isinstance(mark, UnreadableMarkError) or mark.batch.lasting
            advised = advice.rebuild_unreadable(address_of(connection, app), lasting=lasting)
            lacking.setdefault(f"its checkpoint cannot be read ({mark}); {advised}", []).append(number)
            continue
        try:
            check_identity(mark, layout.identity, place="", repair=f"; {repair}")
        except IdentityError as exc:
            lacking.setdefault(str(exc).removeprefix(": "), []).append(number)
    missing = [number for number in range(layout.partitions) if number not in marks]
    if missing:
        topic = Topics.of(app).events
        async with translate_errors(f"cannot look at {topic}", timeout_s=TIMEOUT_S):
            offsets = await group_offsets(connection, worker_group(app))
        read = {place.partition for place, offset in offsets.items() if place.topic == topic and offset > 0}
        lost = [number for number in missing if number in read]
    if lost:
        lacking[f"the changelog has no checkpoint, and workers have read the log; {repair}"] = lost
    for text, numbers in lacking.items():
        yield f"partition {', '.join(map(str, numbers))}: {text}"


async def seen_members(connection: Connection, app: AppId) -> Mapping[str, int]:
    """The names of workers of the last day, with the time of their last commit in Unix seconds.

    Raises:
        LogError: the cluster does not answer.
    """
    group = worker_group(app)
    async with translate_errors(f"cannot look at the group {group}", timeout_s=TIMEOUT_S):
        commits = await group_commits(connection, group)
    found: dict[str, int] = {}
    for at in commits.values():
        for name, at_s in seen_in(at.metadata).items():
            if time.time() - at_s <= KEPT_S:
                found[name] = max(at_s, found.get(name, 0))
    return found


async def blocked(connection: Connection, app: AppId, partitions: int) -> Sequence[BlockedRecords]:
    """Records of the events and the commands that wait for the end of an open transaction.

    Raises:
        LogError: the cluster does not answer.
    """
    topics = Topics.of(app)
    places = [
        TopicPartition(topic, number)
        for topic in (topics.events, topics.commands)
        for number in range(partitions)
    ]
    found = []
    async with (
        translate_errors("cannot look for open transactions", timeout_s=TIMEOUT_S),
        connection.running(connection.reader()) as committed,
        connection.running(connection.reader(committed=False, wait_ms=POLL_MS)) as reader,
        connection.client() as client,
    ):
        stable, high = await committed.end_offsets(places), await reader.end_offsets(places)
        for place in places:
            if stable[place] >= high[place]:
                continue
            open_ = await open_transactions(client, place.topic, place.partition)
            if not open_:
                continue  # a checkpoint, which is over by now
            oldest = await first_record(reader, place, stable[place], high[place])
            found.append(
                BlockedRecords(
                    topic=place.topic,
                    partition=place.partition,
                    begin=stable[place],
                    records=high[place] - stable[place],
                    since_us=0 if oldest is None else oldest.timestamp * 1000,
                    producer=open_[0].producer,
                    epoch=open_[0].epoch,
                )
            )
    return found


async def not_handed_over(connection: Connection, app: AppId, partitions: int) -> UnhandedCommands | None:
    """The number of commands that the app's bridge has not handed over; None if it never committed an offset.

    Transaction markers have offsets too, so the number is an upper limit.

    Raises:
        LogError: the cluster does not answer.
    """
    topic = Topics.of(app).commands
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    async with (
        translate_errors(f"cannot look at {topic}", timeout_s=TIMEOUT_S),
        connection.running(connection.reader()) as reader,
    ):
        commits = await group_commits(connection, bridge_group(app))
        ends = await reader.end_offsets(places)
        first = await reader.beginning_offsets(places)
    if not commits:
        return None
    left, held = 0, False
    for place in places:
        at = commits.get(place)
        reached = reached_in(first[place], None) if at is None else reached_in(at.offset, at.metadata)
        left += max(ends[place] - reached.upto, 0) + len(reached.open)
        held = held or bool(reached.open)
    return UnhandedCommands(left=left, held=held)
