"""Reads for all partitions of a process, with shared clients: ends, group offsets, aborts, changelogs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.changelogs import ChangelogReader
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.ends import PartitionEnds
from triggerstream.adapters.kafka.fetches import Unreadable, UnreadableError, unreadable_by_broker
from triggerstream.adapters.kafka.group import group_commits
from triggerstream.adapters.kafka.records import STUCK_READ_S
from triggerstream.adapters.kafka.request_batcher import RequestBatcher
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.adapters.kafka.transaction_ends import is_aborted_across, repeated
from triggerstream.core.ids import AppId

_COMPARE_S = 60.0
"""Several requests, which are each tried again after 10 s."""
_PARALLEL = 16
"""Requests under way to compare a changelog: each answer may have a MiB."""
_GROUP_S = 30.0
"""A cluster makes its coordinators when they are first asked for."""


class SharedReads:
    """Clients for the partitions of ``app`` in this process, which exist only while somebody waits.

    ``ends``: begin and end of partitions. ``group_commits``: offsets of the workers' group with their
    metadata, by partition of the events. ``aborted_across``: by partition and offset, whether a transaction
    that had begun before the offset was aborted after it, or None, see
    :func:`triggerstream.adapters.kafka.transaction_ends.is_aborted_across`, or the batch that the broker
    cannot read. ``changelogs``: reading fails
    after ``stuck_s`` without progress.
    """

    def __init__(self, connection: Connection, app: AppId, *, stuck_s: float = STUCK_READ_S) -> None:
        self._connection = connection
        self._app = app
        self.ends = PartitionEnds(connection)
        self.group_commits = RequestBatcher(self._group_commits)
        self.aborted_across = RequestBatcher(self._aborted_across)
        self.changelogs = ChangelogReader(connection, Topics.of(app).changelog, stuck_s=stuck_s)

    async def _group_commits(
        self, places: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        async with translate_errors("the group's offset is not known", timeout_s=_GROUP_S):
            return await group_commits(self._connection, worker_group(self._app), sorted(places))

    async def _aborted_across(
        self, questions: Collection[tuple[TopicPartition, int]]
    ) -> Mapping[tuple[TopicPartition, int], bool | Unreadable | None]:
        limit = asyncio.Semaphore(_PARALLEL)
        async with (
            translate_errors("the changelog cannot be compared", timeout_s=_COMPARE_S),
            self._connection.client() as client,
        ):

            async def ask(place: TopicPartition, offset: int) -> bool | Unreadable | None:
                async def search() -> tuple[bool | None, Unreadable | None]:
                    try:
                        async with limit:
                            return await is_aborted_across(client, place, offset), None
                    except CorruptRecordException:
                        return None, unreadable_by_broker(place, offset, tries=1)

                try:
                    return await repeated(search)
                except UnreadableError as exc:
                    return exc.batch

            answers = await asyncio.gather(*(ask(place, offset) for place, offset in questions))
        return dict(zip(questions, answers, strict=True))

    async def close(self) -> None:
        """Give up what is being asked and read, and close its connections. Who waits has an error."""
        await self.ends.close()
        await self.group_commits.close()
        await self.aborted_across.close()
        await self.changelogs.close()
