"""Claims of partitions: how an assignment becomes the only owner of its partitions, and ceases to be it.

Each assignment has transactional ids of its own. The steps of its take-over have this order, and no other is
safe:

1. its ids are initialised (``Ledger.start``), once and never again
2. the process confirms that it is still a member of its group: which spares the present owner
3. one claim for each id is appended to the owners topic: the order of claims is the order of owners
4. the owners topic is read up to the own claims: every other claim of one of these partitions that is not
   released is that of a former owner, living or dead
5. the ids of the former owners are fenced: from here on they commit nothing, and what they left open is
   undone
6. their claims are forgotten, if everything that they wrote can be read
7. each partition is taken over: :mod:`triggerstream.engine.partitioned.takeover`

A crash after 1 leaves an id without a claim, which nobody heeds. A crash after 3, 4 or 5 leaves this claim
and those of the former owners: the next owner fences them all. To forget before the fence would leave a
former owner that nobody knows of. A claim stays under its own id until it is released, so a later claim hides
no earlier one.

Two assignments claim one partition: the later one reads the earlier one's claim and fences it before it asks
for the end of the changelog, so everything that was committed by the earlier one is below that end. Or it
finds the claim released, which is written only after the last commit was answered. Claims of several ids are
appended together, but those of two assignments may lie between each other: then each may fence some ids of
the other. The one with the last claim has fenced all of the other, and its successor the rest.

The hand-over: an owner appends its release only after its last transaction is committed, and as the last line
of a hand-over without errors. If anything is unknown, the claim stays and the next owner fences it. Brokers
may lose the end of a committed transaction, which only its own transactional id can end then: a claim also
stays where something cannot be read yet.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol
from uuid import uuid4

from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import failpoint
from triggerstream.wire.claims import Claim, OwnerId

logger = logging.getLogger(__name__)

READABLE_S = 5.0
"""How long a release waits until what was committed can be read: on a quiet broker 5 ms, p99 18 ms, more on a
busy one. Only where brokers have lost the end of a transaction is it never."""
FORGET_S = 0.1
"""How long a take-over waits for the same before it leaves a fenced claim to the next owner. All of a fenced
owner can be read at once; another partition that its claim names may have an owner in a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerOwner:
    """A fenced owner. ``earlier``: its partitions that others claimed before this assignment's first claim.

    Those owners first end lost transactions in ``earlier``: an id can have one transaction at a time. Two
    assignments never wait for each other.
    """

    id: OwnerId
    earlier: frozenset[int] = frozenset()


class OwnersTopic(Protocol):
    """The claims of an app, in the order in which they were appended. Any method raises LogError."""

    async def append(self, claims: Sequence[Claim]) -> int:
        """Append ``claims``; the offset after the last. They are durable when this returns.

        After an error the claims may be there, and their ids must never be used.
        """

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        """The claims below ``end`` that are not released below it, in the order of the ids' first claims."""

    async def forget(self, ids: Collection[OwnerId]) -> None:
        """Release the claims of ``ids``. It is durable when this returns."""


class Fencing(Protocol):
    """Fences transactional ids of the app, whoever has them. Any method raises LogError."""

    async def fence(self, ids: Collection[OwnerId]) -> None:
        """Fence ``ids``. When this returns their owners commit nothing, and nothing of them is under way.

        Idempotent, and several processes may fence one id at once.
        """

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:
        """Those of ``partitions`` in which all that was written before this call can be read by then.

        Returns as soon as all of them can be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """The process that claims."""

    host: str
    pid: int


def new_ids(app: AppId, *, count: int = 1, role: str = "w") -> Sequence[OwnerId]:
    """``count`` new transactional ids of an assignment."""
    assignment = uuid4().hex
    return [OwnerId(f"{app}-{role}-{assignment}-{number}") for number in range(count)]


@dataclass(slots=True, eq=False, kw_only=True)
class Claims:
    """The claims of one assignment: each of its ``partitions`` may commit under each of its ``ids``."""

    ids: Sequence[OwnerId]
    partitions: frozenset[int]
    owners: OwnersTopic
    fencing: Fencing
    claimant: Claimant
    since_us: int
    generation: int = -1
    readable_s: float = READABLE_S
    _claiming: bool = field(default=False, init=False)
    """True once the claims may be in the topic, also if the take-over was given up before it knew."""

    async def take(self) -> Mapping[int, Sequence[FormerOwner]]:
        """Take the steps 3 to 6 once the ids are initialised; the former owners by partition.

        Raises:
            TakeOverError, LogError: it is unknown who owns the partitions. The ids must never be used. After
                a TakeOverError, the claims of former owners must be repaired first.
        """
        own, ids = self.partitions, set(self.ids)
        self._claiming = True
        end = await self.owners.append([self._claim(id_) for id_ in self.ids])
        failpoint("takeover.claimed")
        found = await self.owners.read(end)
        failpoint("takeover.read")
        former = {id_: claim for id_, claim in found.items() if id_ not in ids and claim.names(own)}
        if not former:
            return {}
        await self.fencing.fence(former)
        failpoint("takeover.fenced")
        await self._forget_fenced(former)
        failpoint("takeover.forgotten")
        logger.info("former owners fenced", extra={"owners": len(former)})
        # Only those with a claim before the first own one: if claims of two assignments alternate, one waits.
        before = takewhile(lambda id_: id_ not in ids, found)
        others = [found[id_] for id_ in before if id_ not in former]
        named = own.union(*(claim.partitions for claim in others if claim.partitions)) - own
        return {
            partition: [
                FormerOwner(id=id_, earlier=named & (claim.partitions or named))
                for id_, claim in former.items()
                if claim.names((partition,))
            ]
            for partition in own
        }

    def _claim(self, id_: OwnerId) -> Claim:
        return Claim(
            id=id_,
            partitions=self.partitions,
            host=self.claimant.host,
            pid=self.claimant.pid,
            since_us=self.since_us,
            generation=self.generation,
        )

    async def _forget_fenced(self, former: Mapping[OwnerId, Claim]) -> None:
        """Forget the former owners that left nothing behind that only their ids can end."""
        known = {id_: claim.partitions for id_, claim in former.items() if claim.partitions is not None}
        named = frozenset[int]().union(*known.values())
        try:
            readable = set(await self.fencing.readable(named, within_s=FORGET_S))
        except LogError as exc:  # a partition of another owner may have no leader
            logger.warning("claims of former owners are left to the next owner", extra={"error": str(exc)})
            return
        await self.owners.forget([id_ for id_, partitions in known.items() if partitions.issubset(readable)])

    async def release(self) -> None:
        """Release the claims: the last commits of all partitions were answered.

        Call it last in a hand-over without errors, and in no ``finally``. The claims stay if not everything
        can be read in their partitions, or brokers do not say so: the next owner fences them.

        Raises:
            LogError: it is unknown whether they are released.
        """
        if not self._claiming:
            return
        failpoint("release.begun")
        try:
            readable = await self.fencing.readable(self.partitions, within_s=self.readable_s)
        except LogError as exc:  # nothing is released yet, so the process need not end
            logger.warning("claims are left to the next owner", extra={"error": str(exc)})
            return
        if not self.partitions.issubset(readable):
            logger.warning("claims are not released: not all can be read", extra={"owners": len(self.ids)})
            return
        await self.owners.forget(self.ids)
        failpoint("release.released")
