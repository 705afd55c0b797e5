"""Protocols of a take-over and a hand-over, as lists of steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Step(Enum):
    """One step of a take-over or a hand-over. Each request of a step can be delayed without bound."""

    INIT = "InitProducerId for the own transactional id"
    CLAIM = "append a claim of the assignment's partitions"
    READ = "read the claims of others"
    FENCE = "InitProducerId for each id that was read"
    FORGET = "append a tombstone for each of these ids"
    SETTLED = "wait until no transaction holds an offset of the group"
    MEASURE = "ask for the end of each changelog"
    RECOVER = "read each changelog to that end"
    FINISH = "end the transaction that is open"
    RELEASE = "append a tombstone for the own id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The steps of a take-over and a hand-over, and the rules for claims, ids and ends."""

    name: str
    take_over: tuple[Step, ...]
    hand_over: tuple[Step, ...] = (Step.FINISH, Step.RELEASE)
    end_is_stable: bool = False
    """A changelog ends at its last stable offset; False: at its high watermark."""
    claim_per_partition: bool = False
    """Claims are keyed by partition: a claim replaces the former one. False: keyed by transactional id."""
    claims_in_changelog: bool = False
    """Claims are records of the changelog. False: of a topic that has no transactions."""
    claims_committed: bool = False
    """Claims in the changelog are read committed, up to the last stable offset; False: uncommitted."""
    id_per_partition: bool = False
    """One transactional id for the partition, which every owner initialises; False: one per assignment."""
    spare_id: bool = False
    """An assignment has a second id, with which it goes on when it parts from a transaction."""
    spare_claimed: bool = True
    """The second id is claimed with the first one."""
    renews_fenced: bool = False
    """An id from which the assignment has parted is initialised again whatever its epoch is, which lifts the
    fence of another owner; False: only if nobody else has initialised it."""
    sends_offsets: bool = False
    """Each transaction contains the group's offset (KIP-447)."""
    checks_generation: bool = False
    """The group refuses offsets of former members (TxnOffsetCommit from version 3 on)."""


_CLAIMS = (Step.CLAIM, Step.READ, Step.FENCE, Step.FORGET)
_END = (Step.MEASURE, Step.RECOVER)

CLAIM_FIRST = Protocol(name="claim first", take_over=(Step.INIT, *_CLAIMS, *_END))
"""The protocol of the engine."""

SPARE_ID = replace(CLAIM_FIRST, name="claim first, a spare id", spare_id=True)
"""The engine does so when one partition holds a transaction of several up."""
FENCE_FIRST = Protocol(
    name="fence first",
    take_over=(Step.INIT, Step.READ, Step.FENCE, Step.FORGET, Step.CLAIM, *_END),
)
ID_PER_PARTITION = Protocol(
    name="one id per partition", take_over=(Step.INIT, *_END), hand_over=(Step.FINISH,), id_per_partition=True
)
KIP_447 = Protocol(
    name="KIP-447",
    take_over=(Step.INIT, Step.SETTLED, *_END),
    hand_over=(Step.FINISH,),
    sends_offsets=True,
    checks_generation=True,
)
IN_CHANGELOG = replace(CLAIM_FIRST, name="claims in the changelog", claims_in_changelog=True)

SOUND = (
    CLAIM_FIRST,
    replace(CLAIM_FIRST, name="no tombstones by who fenced", take_over=(Step.INIT, *_CLAIMS[:3], *_END)),
    ID_PER_PARTITION,
    replace(ID_PER_PARTITION, name="one id per partition, last stable offset", end_is_stable=True),
    IN_CHANGELOG,
    KIP_447,
    replace(KIP_447, name="KIP-447, offsets not awaited", take_over=(Step.INIT, *_END)),
)

BROKEN = (
    FENCE_FIRST,
    replace(FENCE_FIRST, name="fence first, last stable offset", end_is_stable=True),
    replace(CLAIM_FIRST, name="last stable offset", end_is_stable=True),
    replace(
        FENCE_FIRST,
        name="claim after the mark is read",
        take_over=(Step.INIT, Step.READ, Step.FENCE, Step.FORGET, *_END, Step.CLAIM),
    ),
    replace(
        CLAIM_FIRST,
        name="newest claim only",
        take_over=(Step.INIT, *_CLAIMS[:3], *_END),
        claim_per_partition=True,
    ),
    replace(
        CLAIM_FIRST,
        name="claim before the own init",
        take_over=(Step.CLAIM, Step.READ, Step.INIT, *_CLAIMS[2:], *_END),
    ),
    replace(
        CLAIM_FIRST,
        name="forget before the fence",
        take_over=(Step.INIT, Step.CLAIM, Step.READ, Step.FORGET, Step.FENCE, *_END),
    ),
    replace(
        CLAIM_FIRST,
        name="end before the fence",
        take_over=(Step.INIT, Step.CLAIM, Step.READ, Step.MEASURE, Step.FENCE, Step.FORGET, Step.RECOVER),
    ),
    replace(CLAIM_FIRST, name="release before the last commit", hand_over=(Step.RELEASE, Step.FINISH)),
    replace(SPARE_ID, name="a spare id that is not claimed", spare_claimed=False),
    replace(SPARE_ID, name="a spare id whose fence is lifted", renews_fenced=True),
    replace(CLAIM_FIRST, name="no fence", take_over=(Step.INIT, Step.CLAIM, *_END)),
    replace(IN_CHANGELOG, name="claims in the changelog, read committed", claims_committed=True),
    replace(
        ID_PER_PARTITION,
        name="one id per partition, end before the fence",
        take_over=(Step.MEASURE, Step.INIT, Step.RECOVER),
    ),
    replace(KIP_447, name="KIP-447, last stable offset", end_is_stable=True),
    replace(
        KIP_447,
        name="KIP-447, offsets not awaited, last stable offset",
        take_over=(Step.INIT, *_END),
        end_is_stable=True,
    ),
    replace(KIP_447, name="KIP-447, generation not checked", checks_generation=False),
)
"""Each has one fault. The search must find all of them: they show that it can."""
