"""A partition with its changelog, its owners topic and a coordinator, whose every answer waits for its turn.

The ports of the engine for the owners of one partition. A scheduler decides whose request is answered next,
so a test can try any order, and repeat it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from triggerstream.adapters.memory import MemoryOwnersTopic, MemoryPartition
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ports import Commit, Extent, FencedError, HighWatermark
from triggerstream.wire.claims import Claim, OwnerId

COORDINATOR = "coordinator"


@dataclass(slots=True, eq=False)
class Transaction:
    """A transaction of the changelog. ``committed``: None while it is open. ``marked``: it has its marker."""

    id: OwnerId
    committed: bool | None = None
    marked: bool = False


@dataclass(slots=True)
class Cluster:
    """Everything that outlasts the owners. ``requests``: each that was answered, with who asked."""

    log: MemoryPartition = field(default_factory=MemoryPartition)
    topic: MemoryOwnersTopic = field(default_factory=MemoryOwnersTopic)
    changelog: list[tuple[bytes, bytes | None, Transaction]] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    epochs: dict[OwnerId, int] = field(default_factory=dict)
    decided: list[bytes] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    waiting: dict[str, list[tuple[asyncio.Future[None], Callable[[], bool]]]] = field(default_factory=dict)

    async def turn(self, who: str, what: str, until: Callable[[], bool] = lambda: True) -> None:
        """Wait until the scheduler answers a request of ``who``; it does so only if ``until`` is true."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = answered, until
        self.waiting.setdefault(who, []).append(entry)
        try:
            await answered
        finally:
            if entry in self.waiting[who]:
                self.waiting[who].remove(entry)
        self.requests.append((who, what))

    def enabled(self) -> list[str]:
        """The names of those who have a request that can be answered now."""
        found = [who for who, asked in self.waiting.items() if any(until() for _, until in asked)]
        return [*sorted(found), *([COORDINATOR] if self.unmarked() else [])]

    def answer(self, who: str) -> None:
        """Answer the oldest request of ``who`` that can be answered; COORDINATOR: write a marker."""
        if who == COORDINATOR:
            self.unmarked()[0].marked = True
            self.requests.append((COORDINATOR, "marker"))
            return
        entry = next(entry for entry in self.waiting[who] if entry[1]())
        self.waiting[who].remove(entry)
        entry[0].set_result(None)

    def unmarked(self) -> list[Transaction]:
        """Transactions that have ended and have no marker yet."""
        return [one for one in self.transactions if one.committed is not None and not one.marked]

    def stable_end(self) -> int:
        """The changelog's last stable offset."""
        opened = [at for at, (_, _, transaction) in enumerate(self.changelog) if not transaction.marked]
        return opened[0] if opened else len(self.changelog)

    def settled(self, id_: OwnerId) -> bool:
        """True if the coordinator has nothing to do for ``id_``."""
        return all(one.marked for one in self.transactions if one.id == id_)

    def initialise(self, id_: OwnerId) -> int:
        """The effect of InitProducerId."""
        for transaction in self.transactions:
            if transaction.id == id_ and transaction.committed is None:
                transaction.committed = False
        self.epochs[id_] = self.epochs.get(id_, -1) + 1
        return self.epochs[id_]

    def check(self, id_: OwnerId, epoch: int) -> None:
        """Raise FencedError if another has initialised ``id_`` since."""
        if self.epochs[id_] != epoch:
            raise FencedError("another process has taken the partition over")


class TurnLedger:
    """A :class:`triggerstream.engine.partitioned.ports.Ledger` on a :class:`Cluster`."""

    def __init__(self, cluster: Cluster, who: str, id_: OwnerId) -> None:
        self.cluster, self.who, self.id = cluster, who, id_
        self.epoch = -1

    async def start(self) -> None:
        await self.cluster.turn(self.who, "start")
        self.epoch = self.cluster.initialise(self.id)

    async def fence_old_release(self) -> OwnerId:
        """No older release is at work."""
        id_ = OwnerId("test-0")
        self.cluster.initialise(id_)
        return id_

    async def extent(self) -> Extent:
        await self.cluster.turn(self.who, "extent")
        end = len(self.cluster.changelog)
        log_end = HighWatermark(len(self.cluster.log.log))
        return Extent(begin=0, end=HighWatermark(end), log_begin=0, log_end=log_end)

    async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
        """Brokers lose nothing here."""

    async def is_undone(self, position: int) -> bool:  # noqa: ARG002 - by the port
        """No copy of the changelog is kept."""
        return False

    async def committed(self) -> int | None:
        """None: an owner may end before its first group offset, which is committed once a second at most."""

    async def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        """The committed entries, once the last stable offset has reached ``end``."""
        await self.cluster.turn(self.who, "changelog", lambda: self.cluster.stable_end() >= end)
        entries = self.cluster.changelog[begin:end]
        yield {key: value for key, value, transaction in entries if transaction.committed}, end

    async def rebuilt(self, end: int) -> int:  # noqa: ARG002 - by the port
        """Nothing is rebuilt here."""
        return -1

    async def commit(self, commit: Commit) -> int:
        cluster = self.cluster
        await cluster.turn(self.who, "send", lambda: cluster.settled(self.id))
        cluster.check(self.id, self.epoch)
        transaction = Transaction(self.id)
        cluster.transactions.append(transaction)
        entries = {**commit.states, **commit.marks}
        cluster.changelog += [(key, value, transaction) for key, value in entries.items()]
        await cluster.turn(self.who, "commit")
        cluster.check(self.id, self.epoch)
        transaction.committed = True
        cluster.decided += [one.value for one in commit.decided]
        return len(cluster.changelog)

    async def close(self) -> None:
        """There is no connection."""


@dataclass(slots=True)
class TurnOwnersTopic:
    """An :class:`triggerstream.engine.partitioned.claims.OwnersTopic` on a :class:`Cluster`."""

    cluster: Cluster
    who: str

    async def append(self, claims: Sequence[Claim]) -> int:
        await self.cluster.turn(self.who, "claim")
        return await self.cluster.topic.append(claims)

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        await self.cluster.turn(self.who, "read")
        return await self.cluster.topic.read(end)

    async def forget(self, ids: Collection[OwnerId]) -> None:
        await self.cluster.turn(self.who, "forget")
        await self.cluster.topic.forget(ids)


@dataclass(slots=True)
class TurnFencing:
    """A :class:`triggerstream.engine.partitioned.claims.Fencing` on a :class:`Cluster`."""

    cluster: Cluster
    who: str

    async def fence(self, ids: Collection[OwnerId]) -> None:
        for id_ in ids:
            await self._fence(id_)

    async def _fence(self, id_: OwnerId) -> None:
        await self.cluster.turn(self.who, "fence")
        self.cluster.initialise(id_)
        await self.cluster.turn(self.who, "fenced", lambda: self.cluster.settled(id_))
        self.cluster.initialise(id_)

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:  # noqa: ARG002
        await self.cluster.turn(self.who, "readable")
        return partitions if self.cluster.stable_end() == len(self.cluster.changelog) else ()
