"""Makes the checkpoints of a partition durable, through its ports.

The steps of a transaction, in this order:

1. records that belong to other partitions are appended there; after a crash they are appended again, and the
   second copies have no effect because they have the same origin
2. ``Ledger.commit``: commands, states, dead letters and the mark, all or nothing
3. the store is written; after a crash before this, the next owner restores the store from the changelog
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.partitioned.configurations import PartitionConfigurations
from triggerstream.engine.partitioned.ports import Appender, Commit, Ledger
from triggerstream.engine.partitioned.session_states import PartitionStates
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.wire.marks import CHECKPOINT_KEY, CheckpointMark, encode_checkpoint, in_force
from triggerstream.wire.records import NewRecord
from triggerstream.wire.retired import encode_key


@dataclass(slots=True, eq=False, kw_only=True)
class CheckpointWriter:
    """Writes checkpoints, configurations that were forgotten, and the group offset for lag monitors."""

    ledger: Ledger
    appender: Appender
    states: PartitionStates
    configurations: PartitionConfigurations
    mark: CheckpointMark
    """The mark with which the partition was taken over."""
    partitions: int
    timing: PartitionTiming
    _group_offset: int = 0
    """The group offset committed last; older than what is durable while its time has not come."""
    _group_offset_due: float = 0.0
    """Time of the loop's clock at which a new group offset is committed."""
    _keep_alive_due: float = field(init=False)
    """Time at which the group offset is committed even if it is unchanged."""

    def __post_init__(self) -> None:
        self._keep_alive_due = asyncio.get_running_loop().time() + self.timing.keep_alive_s

    async def write(self, checkpoints: Sequence[Checkpoint], rules: Rules) -> Mapping[SessionId, Stored]:
        """Make ``checkpoints`` durable in one transaction; ``rules`` are those after them.

        Returns the states that they have changed.
        """
        await self._rehome(checkpoints)
        failpoint("checkpoint.rehomed")
        states: dict[SessionId, Stored] = {}
        retired: dict[bytes, bytes | None] = {}
        for checkpoint in checkpoints:
            states.update(checkpoint.states)
            retired.update({encode_key(key): entry for key, entry in checkpoint.retired.items()})
        offset = checkpoints[-1].offset
        history = self.configurations.entries(rules)
        marks: dict[bytes, bytes | None] = {CHECKPOINT_KEY: self._encoded_mark(offset, rules), **history}
        entries = {session.encode(): stored.state for session, stored in states.items()}
        with_group_offset = asyncio.get_running_loop().time() >= self._group_offset_due
        position = await self.ledger.commit(
            Commit(
                decided=[decided for checkpoint in checkpoints for decided in checkpoint.decided],
                states={**entries, **retired} if retired else entries,
                dead_letters=[letter for checkpoint in checkpoints for letter in checkpoint.dead_letters],
                marks=marks,
                offset=offset if with_group_offset else None,
            )
        )
        failpoint("checkpoint.committed")
        if with_group_offset:
            self._note_group_offset(offset)
        self.states.write(entries, {**marks, **retired}, position=position)
        await self.states.make_room()
        if history:
            self.configurations.unload_past(rules)
        failpoint("checkpoint.stored")
        return states

    async def _rehome(self, checkpoints: Sequence[Checkpoint]) -> None:
        elsewhere: dict[int, list[NewRecord]] = {}
        for checkpoint in checkpoints:
            for record in checkpoint.rehomed:
                target = partition_of(record.key or b"", self.partitions)
                elsewhere.setdefault(target, []).append(record)
        if elsewhere:
            await asyncio.gather(*(self.appender.append(p, records) for p, records in elsewhere.items()))

    async def trim(self, offset: int, rules: Rules, history: Mapping[bytes, bytes | None]) -> None:
        """Delete configurations from the changelog that ``rules`` no longer have, without an event.

        ``offset`` is the next one after what is durable, ``history`` the changes.
        """
        marks = {CHECKPOINT_KEY: self._encoded_mark(offset, rules), **history}
        position = await self.ledger.commit(
            Commit(decided=(), states={}, dead_letters=(), marks=marks, offset=None)
        )
        self.states.write({}, marks, position=position)
        await self.states.make_room()
        self.configurations.unload_past(rules)

    def _encoded_mark(self, offset: int, rules: Rules) -> bytes:
        scanned = self.configurations.scanned
        mark = replace(self.mark, offset=offset, configuration=in_force(rules), scanned=scanned)
        return encode_checkpoint(mark)

    async def commit_group_offset(self, durable: int) -> None:
        """Commit the group offset alone."""
        await self.ledger.commit(Commit(decided=(), states={}, dead_letters=(), marks={}, offset=durable))
        self._note_group_offset(durable)

    def _note_group_offset(self, offset: int) -> None:
        now = asyncio.get_running_loop().time()
        self._group_offset = offset
        every_s = self.timing.group_offset_every_s
        # The same moments for all partitions of a process, so that one transaction has the offsets of all.
        self._group_offset_due = (now // every_s + 1) * every_s
        self._keep_alive_due = now + self.timing.keep_alive_s

    def group_offset_lags(self, durable: int) -> bool:
        """True if the group offset is older than what is durable."""
        return self._group_offset < durable

    def group_offset_due(self, durable: int) -> float:
        """Time of the loop's clock at which the group offset is committed next."""
        if self.group_offset_lags(durable):
            return min(self._group_offset_due, self._keep_alive_due)
        return self._keep_alive_due
