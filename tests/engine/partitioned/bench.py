"""A bench for one owned partition: a durable side, a ledger with gates, a store, and what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from triggerstream.adapters.memory import (
    ManualClock,
    MemoryAppender,
    MemoryFencing,
    MemoryLedger,
    MemoryOwnersTopic,
    MemoryPartition,
    MemoryStateStore,
)
from triggerstream.core.ids import AppId, ConfigHash
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.partitioned.claims import Claimant, Claims, FormerOwner, new_ids
from triggerstream.engine.partitioned.ownership import Assignment
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.partitioned.ports import Commit, Extent, UnreadableEntriesError
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.partitioned.turns import TransactionTurns
from triggerstream.engine.processor import Processor
from triggerstream.wire import tasksfile
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    RESERVED,
    Identity,
    decode_checkpoint,
    encode_checkpoint,
)
from triggerstream.wire.records import NewRecord

APP = AppId("test")
IDENTITY = Identity(cluster="c", topic="t", partitions=1, owners="o")
TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'


@dataclass(slots=True)
class Durable(MemoryPartition):
    """What outlasts an owner, and which calls its ledgers had."""

    calls: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """The bytes of commands and states of each commit."""
    unfinished: int | None = None
    """The changelog offset from which on the entries are those of a transaction whose end was lost."""
    ended: bool | None = None
    """How it had ended, if other partitions show it."""
    undone: tuple[int, int] | None = None
    """The first changelog offset of a transaction that was aborted, and that of its marker."""
    unreadable: range = range(0)
    """The changelog offsets of a batch that cannot be read."""
    lasting: bool = True
    """True if another attempt will not read it either."""
    newest_unreadable: UnreadableEntriesError | None = None
    """The error of a later batch, after the newest checkpoint that can be read."""
    log_begin: int = 0
    """The log's first offset that is left, for ledgers: retention has deleted the records before it."""

    def unreadable_entries(self, offset: int) -> UnreadableEntriesError:
        """The error of the batch that cannot be read, from ``offset`` on."""
        return UnreadableEntriesError(
            f"the batch at {offset} cannot be read",
            offset=offset,
            last=self.unreadable[-1],
            lasting=self.lasting,
        )

    def add(self, *records: NewRecord) -> None:
        """Append ``records``; each arrives at its offset."""
        for record in records:
            self.append([record], now_us=len(self.log))


class BenchLedger(MemoryLedger):
    """A ledger that waits at its gates, and notes the calls."""

    def __init__(self, durable: Durable) -> None:
        super().__init__(durable)
        self.durable = durable
        self.begun = 0
        self.started = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.fence_gate = asyncio.Event()
        self.fence_gate.set()
        self.extent_gate = asyncio.Event()
        self.extent_gate.set()

    async def start(self) -> None:
        """Start, and fence every former owner, as one who has claimed the partition does."""
        if self.started:
            return
        await self.fence_gate.wait()
        self.durable.calls.append("fence")
        self.durable.transactions.fence_all()
        await super().start()
        self.started = True

    async def fence_old_release(self) -> OwnerId:
        self.durable.calls.append("fence the older release")
        return await super().fence_old_release()

    async def extent(self) -> Extent:
        await self.extent_gate.wait()
        self.durable.calls.append("extent")
        durable = self.durable
        return replace(
            await super().extent(),
            log_begin=durable.log_begin,
            unfinished=durable.unfinished,
            ended=durable.ended,
        )

    async def is_undone(self, position: int) -> bool:
        undone = self.durable.undone
        return undone is not None and undone[0] < position <= undone[1]

    async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:  # noqa: ARG002
        durable, begin = self.durable, self.durable.unfinished
        assert begin is not None
        durable.calls.append("commit what is unfinished" if commit else "abort what is unfinished")
        durable.unfinished = None
        if not commit:
            gone = len(durable.changelog) - begin
            durable.changelog[begin:] = [(RESERVED + b"aborted", None)] * gone  # offsets do not come back

    async def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        self.durable.calls.append(f"changelog {begin}-{end}")
        lost = [offset for offset in self.durable.unreadable if begin <= offset < end]
        async for chunk in super().changelog(begin, min(lost, default=end)):
            yield chunk
        if lost:
            raise self.durable.unreadable_entries(lost[0])

    async def salvage(
        self, begin: int, end: int
    ) -> Sequence[dict[bytes, bytes | None] | UnreadableEntriesError]:
        parts = list[dict[bytes, bytes | None] | UnreadableEntriesError]()
        while begin < end:
            entries = dict[bytes, bytes | None]()
            parts.append(entries)
            try:
                async for found, _ in self.changelog(begin, end):
                    entries.update(found)
                break
            except UnreadableEntriesError as exc:
                parts.append(exc)
                begin = end if exc.last is None else exc.last + 1
        return parts

    async def rebuilt(self, end: int) -> int:
        self.durable.calls.append("rebuilt")
        marks = [n for n, (key, _) in enumerate(self.durable.changelog[:end]) if key == CHECKPOINT_KEY]
        is_hidden = marks and marks[-1] < self.durable.unreadable.stop
        if self.durable.newest_unreadable is not None:
            raise self.durable.newest_unreadable
        if is_hidden:
            raise self.durable.unreadable_entries(self.durable.unreadable[0])
        return await super().rebuilt(end)

    async def commit(self, commit: Commit) -> int:
        self.begun += 1
        await self.gate.wait()
        position = await super().commit(commit)
        written = [*(item.value for item in commit.decided), *commit.states.values()]
        self.durable.sizes.append(sum(len(value or b"") for value in written))
        return position

    async def close(self) -> None:
        self.durable.calls.append("close")


class BenchPartition(Partition):
    """A partition that is opened without an owner, too."""

    async def open(self, former: Sequence[FormerOwner] = ()) -> int:
        await self.start()
        return await super().open(former)


class BenchStore(MemoryStateStore):
    """A store that the next owner finds open."""

    async def close(self) -> None:
        """Stay open."""


class BenchAppender(MemoryAppender):
    """An appender that waits at its gate. Records arrive at their offsets."""

    def __init__(self, durable: Durable) -> None:
        super().__init__([durable])
        self._durable = durable
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        assert partition == 0
        await self.gate.wait()
        self._durable.add(*records)
        return len(self._durable.log)


def claims_of(
    durables: Mapping[int, MemoryPartition], topic: MemoryOwnersTopic
) -> Callable[[Sequence[int], int], Claims]:
    """Makes claims of ``durables`` in ``topic``."""

    def make(numbers: Sequence[int], generation: int) -> Claims:
        return Claims(
            ids=new_ids(APP),
            partitions=frozenset(numbers),
            owners=topic,
            fencing=MemoryFencing(durables),
            claimant=Claimant(host="here", pid=1),
            since_us=0,
            generation=generation,
        )

    return make


def assigns(
    durables: Mapping[int, MemoryPartition], make: Callable[[int], Partition]
) -> Callable[[Sequence[int], int], Assignment]:
    """Makes assignments of ``durables``, with an owners topic of their own, for an owner."""
    claims = claims_of(durables, MemoryOwnersTopic())
    return lambda numbers, generation: Assignment(claims=claims(numbers, generation), make=make)


@dataclass
class Bench:
    """A durable side, a store, and the failures that would have ended the process."""

    durable: Durable = field(default_factory=Durable)
    store: BenchStore = field(default_factory=BenchStore)
    failures: list[BaseException] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    configuration: ConfigHash | None = None
    configured: int = 0

    def partition(
        self,
        *,
        identity: Identity = IDENTITY,
        timing: PartitionTiming | None = None,
        turns: TransactionTurns | None = None,
        store: BenchStore | None = None,
    ) -> Partition:
        async def opened() -> BenchStore:
            return store or self.store

        return BenchPartition(
            processor=Processor(app=APP, partition=0, partitions=1),
            ledger=BenchLedger(self.durable),
            open_store=opened,
            appender=BenchAppender(self.durable),
            clock=self.clock,
            identity=identity,
            fail=self.failures.append,
            timing=timing or PartitionTiming(),
            turns=turns or TransactionTurns(gather_s=0.0, wait_s=0.0),
        )

    def configure(self, text: str = TASKS) -> None:
        config = tasksfile.read(text, name="t")
        record = configuration_record(config, replaces=self.configuration, number=self.configured)
        assert record is not None
        self.durable.add(record)
        self.configuration, self.configured = config.hash, self.configured + 1

    def fire(self, session: str, *names: str) -> None:
        self.durable.add(*(NewRecord(key=session.encode(), value=dumps({"type": n})) for n in names))

    def rebuilt_mark(self) -> bytes:
        """The mark of a rebuild that begins at the end of the changelog."""
        mark = decode_checkpoint(self.store.entries[CHECKPOINT_KEY])
        return encode_checkpoint(replace(mark, rebuilt=len(self.durable.changelog)))

    def rebuild_changelog(self) -> None:
        """Write the entries of the store again, as a rebuild does."""
        entries = {**self.store.entries, CHECKPOINT_KEY: self.rebuilt_mark()}
        self.durable.changelog += entries.items()

    async def live(self) -> Partition:
        """A partition that was opened, has folded the log, and is closed before it appends anything."""
        partition = self.partition()
        assert isinstance(partition.appender, BenchAppender)
        partition.appender.gate.clear()
        await partition.open()
        await self.fold(partition)
        await partition.close()
        return partition

    async def fold(self, partition: Partition) -> None:
        """Fold what is in the log and is not yet, and wait until it is durable."""
        records = self.durable.log[partition.next :]
        if records:
            partition.take()
            partition.fold(records)
            await partition.reached(records[-1].offset + 1)
