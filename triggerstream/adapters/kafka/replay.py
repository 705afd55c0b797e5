"""Kafka's part of a replay beside the ledger: the records of a partition, and the members of the group."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.check import check
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.fetches import Unreadable
from triggerstream.adapters.kafka.group import members_of
from triggerstream.adapters.kafka.lost import LostRanges
from triggerstream.adapters.kafka.records import extents, read_range, reader_of, record_of
from triggerstream.adapters.kafka.salvage import Gap, salvage
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of, worker_group
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.operations.administration import Severity
from triggerstream.wire.records import Record, UnreadableBatch

REPLAY_TRANSACTION_S = 300.0
"""A partition's states are written in one transaction: some 10 GB in this time. A broker allows 15 minutes
unless configured (``transaction.max.timeout.ms``)."""
_PIECE = 1_000
"""Records that are folded at once."""


class KafkaRecords:
    """A :class:`triggerstream.engine.replay.archive.RecordReader` of a partition of ``topic``.

    ``lost``: ranges that an operator has declared lost, which are skipped. With ``shows_unreadable``, a
    batch that cannot be read is returned as one record with ``unreadable``, after all that can be read;
    batches that only a later attempt reads come out of order. Otherwise it is an error.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        topic: str,
        partition: int,
        lost: LostRanges | None = None,
        shows_unreadable: bool = False,
    ) -> None:
        self._connection = connection
        self._place = TopicPartition(topic, partition)
        self._lost = lost
        self._shows_unreadable = shows_unreadable

    async def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        place = self._place
        async with reader_of(self._connection, place.topic) as reader:
            if self._shows_unreadable:
                async with aclosing(salvage(reader, place, begin, end, most=_PIECE)) as pieces:
                    async for one in pieces:
                        if isinstance(one, Gap):
                            yield [_unreadable(one.batch, last=one.end - 1)]
                        else:
                            yield [record_of(record) for record in one.records]
                return
            after_lost = None if self._lost is None else self._lost.after
            found = read_range(reader, place, begin, end, most=_PIECE, after_lost=after_lost)
            async with aclosing(found):
                async for records, _ in found:
                    if records:
                        yield [record_of(record) for record in records]

    async def since(self, arrival_us: int) -> tuple[int, int]:
        """The first offset of records of this time or later, and the high watermark.

        Raises:
            LogError: the log cannot be read.
        """
        place = self._place
        async with (
            translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S),
            self._connection.running(self._connection.reader(committed=False)) as consumer,
        ):
            _, end = (await extents(self._connection, [place]))[place]
            found = (await consumer.offsets_for_times({place: max(arrival_us // 1000, 0)}))[place]
        return (end if found is None else found.offset), end


def _unreadable(batch: Unreadable, *, last: int) -> Record:
    return Record(
        partition=batch.partition,
        offset=last,
        arrival_us=0,
        key=None,
        value=None,
        unreadable=UnreadableBatch(first=batch.offset, reason=batch.reason),
    )


async def refuse_wrong_topics(connection: Connection, app: AppId) -> None:
    """Raise if a worker would refuse the topics of ``app``.

    Raises:
        UsageError: a topic is wrong; the message has the repair.
        LogError: the cluster cannot be reached.
    """
    for finding in await check(connection, app):
        if finding.severity is Severity.ERROR:
            raise UsageError(str(finding))


async def refuse_members(connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S) -> None:
    """Raise if workers of ``app`` are running.

    Raises:
        UsageError: its group has members.
        LogError: the cluster cannot be reached.
    """
    _, members = await members_of(
        connection, worker_group(app), topic=Topics.of(app).events, timeout_s=timeout_s
    )
    if not members:
        return
    named = ", ".join(f"{member.name or member.client} at {member.host}" for member in members)
    dead = next((member.name for member in members if member.name is not None), "NAME")
    raise UsageError(
        f"the group {app} has {len(members)} member{'s' if len(members) > 1 else ''} ({named}): stop all "
        "workers first; one that was killed stays a member until its session times out: "
        f"{advice.remove_member(address_of(connection, app), dead)}"
    )
