"""Port: what the administrator of an app with topics asks, and has changed.

An embedded engine has a database and needs no administration: its addresses have none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from triggerstream.core.answers import OwnerRow
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Configuration
from triggerstream.engine.rows import ConfigurationText


class Severity(StrEnum):
    """``ERROR``: a worker refuses to start. ``WARNING``: it runs, and somebody should decide."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFinding:
    """An error or warning about a topic. ``repair`` is the command, or the step, that removes it."""

    severity: Severity
    topic: str
    message: str
    repair: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.topic}: {self.message}: {self.repair}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Result of an apply: ``hash`` replaced ``replaced`` (None: nothing) at ``offsets``, by partition.

    ``number`` and ``replaced`` are those of the first changed partition.
    """

    hash: ConfigHash
    number: int
    replaced: ConfigHash | None
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehomed:
    """Result of a rehome: records of the ``added`` partitions that were (or would be) copied."""

    partitions: int
    added: Sequence[int]
    records: int
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member of a group. ``name``: its static name, if it has one. ``host``: the host it connects from.

    ``partitions``: its partitions of the requested topic. The broker does not report when it last heard from
    a member: a killed process stays a member until its session times out. ``url``: the address of its pages,
    if it announces one.
    """

    name: str | None
    id: str
    client: str
    host: str
    partitions: tuple[int, ...]
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOfMembers:
    """The group of the app's workers or bridges: ``kind`` is ``worker`` or ``bridge``.

    ``seen``: names that members had in the last day, with the time of their last commit in Unix seconds, as
    far as it is known.
    """

    kind: str
    state: str
    members: Sequence[GroupMember]
    seen: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedCluster:
    """A cluster that answers."""

    cluster: str
    brokers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnhandedCommands:
    """Commands before a bridge: ``left`` offsets, at most. ``held``: later ones were handed over already."""

    left: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedRecords:
    """Records of ``topic`` that nobody can read, because a transaction is open that began before them.

    ``since_us`` is the arrival of the oldest. ``producer`` and ``epoch`` identify the transaction; None: it
    ended meanwhile.
    """

    topic: str
    partition: int
    begin: int
    records: int
    since_us: int
    producer: int | None
    epoch: int | None


class Administration(Protocol):
    """The administration of one app. Any method raises LogError if the cluster does not answer in time."""

    @property
    def address(self) -> str:
        """The app's address."""

    @property
    def servers(self) -> str:
        """The servers that the address names."""

    # ---- tasks files ------------------------------------------------------------------------------

    async def apply(self, configuration: Configuration) -> Change | None:
        """Bring a tasks file into force, in every partition or in none; None: it is in force already."""

    async def in_force(self) -> ConfigurationText | None:
        """The tasks file in force; None if no file was applied."""

    # ---- topics -----------------------------------------------------------------------------------

    async def create_topics(self, *, partitions: int | None, replicas: int | None) -> Sequence[str]:
        """Create missing topics; their names.

        Raises:
            UsageError: the app has another number of partitions.
        """

    async def repair_topics(self) -> Sequence[str]:
        """Correct settings, and add missing partitions; the names of the changed topics."""

    async def check_topics(self) -> Sequence[TopicFinding]:
        """Everything that is wrong or doubtful with the topics."""

    async def rehome(self, *, partitions: int | None, dry_run: bool) -> Rehomed:
        """Append records of added partitions to the app's own partitions."""

    # ---- processes --------------------------------------------------------------------------------

    async def groups(self) -> Sequence[GroupOfMembers]:
        """The groups of workers and of bridges."""

    async def remove_member(self, name: str) -> Sequence[str]:
        """Remove a static member from the app's groups; the groups that it was a member of."""

    async def owners(self) -> Sequence[OwnerRow]:
        """The processes that have claimed partitions and not released them, the oldest first."""

    # ---- health -----------------------------------------------------------------------------------

    async def reach(self) -> ReachedCluster:
        """The cluster, once it answers."""

    async def partitions(self) -> int:
        """The app's number of partitions."""

    def unusable_checkpoints(self) -> AsyncIterator[str]:
        """Each reason why workers would refuse a partition, with its repair."""

    async def blocked(self) -> Sequence[BlockedRecords]:
        """Records of the events and the commands that wait for the end of an open transaction."""

    async def not_handed_over(self) -> UnhandedCommands | None:
        """Commands that are not handed over yet; None if no bridge has ever committed an offset."""
