"""An :class:`triggerstream.engine.operations.administration.Administration` of an app in Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from triggerstream.adapters.kafka import check, config, layout, rehome, survey, topics
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.group import leave, members_of
from triggerstream.adapters.kafka.layout import Layout
from triggerstream.adapters.kafka.owners_topic import read_owners
from triggerstream.adapters.kafka.topics import Topics, bridge_group, worker_group
from triggerstream.core.answers import OwnerRow
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Configuration
from triggerstream.engine.operations.administration import (
    BlockedRecords,
    Change,
    GroupOfMembers,
    ReachedCluster,
    Rehomed,
    TopicFinding,
    UnhandedCommands,
)
from triggerstream.engine.operations.rehome import MisplacedRecords
from triggerstream.engine.queries.owners import owner_rows
from triggerstream.engine.rows import ConfigurationText

_GROUPS_S = 30.0


class KafkaAdministration:
    """The administration of ``app``. It holds no connections between two calls."""

    def __init__(self, connection: Connection, app: AppId) -> None:
        self._connection = connection
        self._app = app
        self.address = topics.address_of(connection, app)
        self.servers = connection.bootstrap

    async def apply(self, configuration: Configuration) -> Change | None:
        """Bring a tasks file into force, in every partition or in none; None: it is in force already."""
        return await config.apply(self._connection, self._app, configuration)

    async def in_force(self) -> ConfigurationText | None:
        """The tasks file in force; None if no file was applied."""
        return await config.in_force(self._connection, self._app)

    async def create_topics(self, *, partitions: int | None, replicas: int | None) -> Sequence[str]:
        """Create missing topics; their names.

        Raises:
            UsageError: the app has another number of partitions.
        """
        own = await layout.known_partitions(self._connection, self._app)
        if own is not None and partitions not in {None, own}:
            raise UsageError(
                f"{self.address} has {own} partitions, not {partitions}: their number never changes"
            )
        count = own or partitions or topics.DEFAULT_PARTITIONS
        return await topics.create(self._connection, self._app, partitions=count, replicas=replicas)

    async def repair_topics(self) -> Sequence[str]:
        """Correct settings, and add missing partitions; the names of the changed topics."""
        return await check.repair(self._connection, self._app)

    async def check_topics(self) -> Sequence[TopicFinding]:
        """Errors and warnings about the topics."""
        return await check.check(self._connection, self._app, count_misplaced=self._count_misplaced)

    async def _count_misplaced(self, layout: Layout) -> MisplacedRecords:
        return await rehome.count_misplaced(self._connection, self._app, layout)

    async def rehome(self, *, partitions: int | None, dry_run: bool) -> Rehomed:
        """Append records of added partitions to the app's own partitions."""
        return await rehome.rehome(self._connection, self._app, partitions=partitions, dry_run=dry_run)

    async def groups(self) -> Sequence[GroupOfMembers]:
        """The groups of workers and of bridges."""
        names = Topics.of(self._app)
        found = []
        for kind, group, topic in (
            ("worker", worker_group(self._app), names.events),
            ("bridge", bridge_group(self._app), names.commands),
        ):
            state, members = await members_of(self._connection, group, topic=topic, timeout_s=_GROUPS_S)
            seen = await survey.seen_members(self._connection, self._app) if kind == "worker" else {}
            found.append(GroupOfMembers(kind=kind, state=state, members=members, seen=seen))
        return found

    async def remove_member(self, name: str) -> Sequence[str]:
        """Remove a static member from the app's groups; the groups that it was a member of."""
        return [
            group
            for group in (worker_group(self._app), bridge_group(self._app))
            if await leave(self._connection, group, name=name, timeout_s=_GROUPS_S)
        ]

    async def owners(self) -> Sequence[OwnerRow]:
        """The processes that have claimed partitions and not released them, the oldest first."""
        return owner_rows(await read_owners(self._connection, self._app))

    async def reach(self) -> ReachedCluster:
        """The cluster, once it answers."""
        return await survey.reach(self._connection)

    async def partitions(self) -> int:
        """The app's number of partitions."""
        return (await layout.layout_of(self._connection, self._app)).partitions

    async def unusable_checkpoints(self) -> AsyncIterator[str]:
        """Each reason why workers would refuse a partition, with its repair."""
        found = await layout.layout_of(self._connection, self._app)
        async for reason in survey.unusable(self._connection, self._app, found):
            yield reason

    async def blocked(self) -> Sequence[BlockedRecords]:
        """Records of the events and the commands that wait for the end of an open transaction."""
        return await survey.blocked(self._connection, self._app, await self.partitions())

    async def not_handed_over(self) -> UnhandedCommands | None:
        """Commands that are not handed over yet; None if no bridge has ever committed an offset."""
        return await survey.not_handed_over(self._connection, self._app, await self.partitions())
