"""One owned partition of a shared log, on a ledger, store and log in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from tests.engine.partitioned.bench import (
    APP,
    IDENTITY,
    TASKS,
    Bench,
    BenchAppender,
    BenchLedger,
    BenchStore,
    Durable,
    assigns,
)
from tests.support.waiting import eventually
from triggerstream.adapters.memory import MemoryAppender, MemoryPartition
from triggerstream.core import advice
from triggerstream.core import tasks as core_tasks
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.tasks import PastConfiguration, Rules
from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.migration import MOST_VERSIONS, Pace
from triggerstream.engine.partitioned import in_flight
from triggerstream.engine.partitioned import partition as partitions
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.in_flight import IN_FLIGHT
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase
from triggerstream.engine.partitioned.ports import (
    Extent,
    FencedError,
    TakeOverError,
    UnreadableEntriesError,
)
from triggerstream.engine.partitioned.takeover import Recovery
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.partitioned.turns import TransactionTurns
from triggerstream.engine.partitioned.versions import FORMER_KEY, TEXT_PREFIX, VERSIONS_KEY, history_texts
from triggerstream.engine.processor import FoldVersionError, Processor
from triggerstream.wire import events
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    RESERVED,
    CheckpointMark,
    Identity,
    IdentityError,
    InForce,
    decode_checkpoint,
    encode_checkpoint,
)
from triggerstream.wire.records import NewRecord, Record


def bound_parts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have batches folded in parts of ``size`` bytes."""
    for module in (partitions, in_flight):
        monkeypatch.setattr(module, "PART_BYTES", size)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_take_over_fences_before_it_measures_and_measures_before_it_reads(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    await bench.live()
    bench.durable.calls.clear()
    second = bench.partition(store=BenchStore())
    assert await second.open() == 3
    assert bench.durable.calls == ["fence", "extent", f"changelog 0-{len(bench.durable.changelog)}"]
    await second.close()


async def test_a_store_that_is_up_to_date_reads_nothing_again(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    await bench.live()
    bench.durable.calls.clear()
    second = bench.partition()
    await second.open()
    assert bench.durable.calls == ["fence", "extent"]
    assert second.rules.current.config.text == TASKS
    await second.close()


async def lose_the_end_of_the_last_transaction(bench: Bench) -> int:
    """Have a second checkpoint whose transaction is open again; where it begins in the changelog."""
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    begin = len(bench.durable.changelog)
    bench.fire("s", "b")
    await bench.live()
    bench.durable.unfinished = begin
    bench.durable.calls.clear()
    return begin


FENCED_AGAIN = ["fence", "extent", "fence the older release", "extent"]
"""The calls up to the point where only an end that brokers have lost can explain an open transaction."""


async def test_a_transaction_without_an_end_that_the_store_has_is_committed(bench: Bench) -> None:
    await lose_the_end_of_the_last_transaction(bench)
    second = bench.partition()
    assert await second.open() == 3
    assert bench.durable.calls == [*FENCED_AGAIN, "commit what is unfinished", "extent"]
    await second.close()


async def test_a_transaction_without_an_end_is_aborted_and_its_events_are_folded_again(bench: Bench) -> None:
    await lose_the_end_of_the_last_transaction(bench)
    commands = list(bench.durable.commands)
    bench.durable.commands.clear()  # they are aborted as well
    second = bench.partition(store=BenchStore())
    assert await second.open() == 2
    assert bench.durable.calls[:6] == [*FENCED_AGAIN, "abort what is unfinished", "extent"]
    await bench.fold(second)
    assert bench.durable.commands == commands
    await second.close()


async def test_a_store_with_a_part_of_an_aborted_transaction_is_wiped_before_it_is_aborted(
    bench: Bench,
) -> None:
    begin = await lose_the_end_of_the_last_transaction(bench)
    bench.durable.commands.clear()
    positions: list[int | None] = []

    class Ledger(BenchLedger):
        async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
            positions.append(bench.store.position())
            await super().finish(former, commit=commit)

    bench.store.write({b"s": b"of a transaction that is aborted"}, position=begin + 1)
    second = bench.partition()
    second.ledger = Ledger(bench.durable)
    assert await second.open() == 2
    assert positions == [None]
    assert f"changelog 0-{len(bench.durable.changelog)}" in bench.durable.calls
    await bench.fold(second)
    assert len(bench.durable.commands) == 1
    await second.close()


async def test_a_transaction_without_an_end_in_the_commands_alone_is_committed(bench: Bench) -> None:
    await lose_the_end_of_the_last_transaction(bench)
    bench.durable.unfinished = len(bench.durable.changelog)
    second = bench.partition(store=BenchStore())
    assert await second.open() == 3
    assert bench.durable.calls[:6] == [*FENCED_AGAIN, "commit what is unfinished", "extent"]
    await second.close()


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
@pytest.mark.parametrize("readable", [True, False], ids=["changelog ended", "changelog open"])
async def test_a_transaction_without_an_end_ends_as_other_partitions_show(
    bench: Bench,
    commit: bool,  # noqa: FBT001
    readable: bool,  # noqa: FBT001
) -> None:
    begin = await lose_the_end_of_the_last_transaction(bench)
    bench.durable.ended = commit
    if readable:
        bench.durable.unfinished = len(bench.durable.changelog)
    store = BenchStore()
    store.write(dict(bench.durable.changelog[:begin]), position=begin)
    second = bench.partition(store=store)
    await second.open()
    how = "commit" if commit else "abort"
    assert bench.durable.calls[:6] == [*FENCED_AGAIN, f"{how} what is unfinished", "extent"]
    await second.close()


async def test_a_store_with_a_transaction_that_was_undone_is_read_again_from_the_beginning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    begin = await lose_the_end_of_the_last_transaction(bench)
    durable = bench.durable
    commands = list(durable.commands)
    durable.commands.clear()
    durable.unfinished = None
    position = len(durable.changelog)
    assert bench.store.position() == position, "its owner was told that it is committed"
    durable.changelog[begin:] = [(RESERVED + b"aborted", None)] * (position - begin + 1)
    durable.undone = begin, position
    second = bench.partition()
    assert await second.open() == 2
    assert f"changelog 0-{position + 1}" in durable.calls
    assert "store has a transaction that was undone" in caplog.text
    await bench.fold(second)
    assert durable.commands == commands
    await second.close()
    third = bench.partition()
    assert await third.open() == 3
    await third.close()


class NotingStore(BenchStore):
    """A store that notes the progress of a take-over before each write, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.recovery: Recovery | None = None
        self.progress: list[tuple[int, int]] = []
        self.closed = False

    def write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        if self.recovery is not None:
            self.progress.append((self.recovery.total, self.recovery.left))
        super().write(entries, position=position)

    async def close(self) -> None:
        self.closed = True


async def test_a_take_over_reports_its_progress(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    total = len(bench.durable.changelog)
    store = NotingStore()
    partition = bench.partition(store=store)
    store.recovery = partition.recovery
    await partition.open()
    assert store.progress == [(total, left) for left in range(total, 0, -1)]
    assert partition.recovery == Recovery(total=total, left=0)
    await partition.close()
    half = NotingStore()
    half.write(dict(bench.durable.changelog[:2]), position=2)
    partition = bench.partition(store=half)
    half.recovery = partition.recovery
    await partition.open()
    assert half.progress == [(total - 2, left) for left in range(total - 2, 0, -1)]
    await partition.close()
    assert (store.closed, half.closed) == (True, True)


class LosingStore(NotingStore):
    """A store that loses, when its process dies, what a restore has written and not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: tuple[dict[bytes, bytes], int | None] = {}, None

    async def end_restore(self) -> None:
        self.kept = dict(self.entries), self.position()

    def die(self) -> None:
        """Be as the next process finds it."""
        entries, position = self.kept
        self.wipe()
        if position is not None:
            self.write(dict(entries), position=position)


async def test_what_a_take_over_has_read_is_kept_before_it_goes_on(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    store = LosingStore()
    first = bench.partition(store=store)
    assert await first.open() == 2
    entries = dict(store.entries)
    store.die()
    assert store.entries == entries
    assert store.position() == len(bench.durable.changelog)
    await first.close()


async def test_what_a_take_over_has_read_is_not_read_again_by_the_next(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    store = BenchStore()
    first = bench.partition(store=store)
    await first.open()
    await first.close()
    bench.durable.calls.clear()
    second = bench.partition(store=store)
    assert await second.open() == 2
    assert bench.durable.calls == ["fence", "extent"]
    await second.close()


async def test_a_store_of_after_a_rebuild_reads_only_what_is_new(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    mark = decode_checkpoint(bench.store.entries[CHECKPOINT_KEY])
    rebuilt = replace(mark, rebuilt=len(bench.durable.changelog))
    bench.durable.changelog.append((CHECKPOINT_KEY, encode_checkpoint(rebuilt)))
    store = BenchStore()
    first = bench.partition(store=store)
    await first.open()
    await first.close()
    known = len(bench.durable.changelog)
    bench.fire("s", "b")
    await bench.live()
    bench.durable.calls.clear()
    second = bench.partition(store=store)
    assert await second.open() == 3
    assert bench.durable.calls == ["fence", "extent", f"changelog {known}-{len(bench.durable.changelog)}"]
    await second.close()


async def test_a_refused_take_over_closes_its_store(bench: Bench) -> None:
    bench.durable.group_offset = 5
    store = NotingStore()
    with pytest.raises(TakeOverError):
        await bench.partition(store=store).open()
    assert store.closed


async def test_a_store_at_the_begin_of_a_compacted_changelog_is_kept(bench: Bench) -> None:
    class CompactedLedger(BenchLedger):
        async def extent(self) -> Extent:
            extent = await super().extent()
            return replace(extent, begin=extent.end)

    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    states = states_of(bench)
    partition = bench.partition()
    partition.ledger = CompactedLedger(bench.durable)
    assert await partition.open() == 2
    assert states_of(bench) == states != {}
    await partition.close()


async def test_a_store_ahead_of_the_changelog_is_wiped(bench: Bench) -> None:
    bench.store.write({b"ghost": b"{}"}, position=99)
    partition = bench.partition()
    await partition.open()
    assert b"ghost" not in bench.store.entries
    await partition.close()


@pytest.mark.parametrize("behind", [0, 1], ids=["up to date", "behind"])
async def test_a_store_of_before_a_rebuild_is_read_anew(bench: Bench, behind: int) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    states = dict(bench.store.entries)
    bench.store.write({b"ghost": b"{}"}, position=len(bench.durable.changelog) - behind)
    mark = decode_checkpoint(states[CHECKPOINT_KEY])
    rebuilt = replace(mark, rebuilt=len(bench.durable.changelog))
    bench.durable.changelog += [(b"s", states[b"s"]), (CHECKPOINT_KEY, encode_checkpoint(rebuilt))]
    second = bench.partition()
    await second.open()
    assert bench.store.entries == states | {CHECKPOINT_KEY: encode_checkpoint(rebuilt)}
    bench.fire("s", "b")
    await bench.fold(second)
    await second.close()
    assert decode_checkpoint(bench.store.entries[CHECKPOINT_KEY]).rebuilt == rebuilt.rebuilt
    bench.durable.calls.clear()
    third = bench.partition()
    await third.open()
    assert bench.durable.calls == ["fence", "extent"]
    await third.close()


@pytest.mark.parametrize("lasting", [True, False], ids=["for ever", "perhaps on this replica alone"])
async def test_entries_that_cannot_be_read_refuse_a_take_over_that_needs_them(
    bench: Bench, *, lasting: bool
) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    behind = BenchStore()
    behind.write({}, position=1)
    bench.durable.unreadable, bench.durable.lasting = range(1, 2), lasting
    for store in (BenchStore(), behind):
        with pytest.raises(TakeOverError if lasting else LogError) as refused:
            await bench.partition(store=store).open()
        said = str(refused.value)
        assert said.startswith("its changelog: the batch at 1 cannot be read; ")
        assert said.endswith(advice.rebuild(advice.ANY_APP))
    # A store that ends after them does not need them.
    partition = bench.partition()
    assert await partition.open() == 2
    await partition.close()


@pytest.mark.parametrize("kept", [0, 1, 3], ids=["no store", "a store before them", "a store after them"])
async def test_entries_that_cannot_be_read_are_passed_over_once_they_are_rebuilt(
    bench: Bench, kept: int
) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    states = dict(bench.store.entries)
    bench.durable.unreadable = range(1, 2)
    bench.rebuild_changelog()
    store = BenchStore()
    if kept:
        store.write({b"ghost": b"{}"}, position=kept)
    partition = bench.partition(store=store)
    assert await partition.open() == 2
    assert store.entries.keys() == states.keys()
    assert store.entries[b"s"] == states[b"s"]
    bench.fire("s", "b")
    await bench.fold(partition)
    await partition.close()
    assert len(bench.durable.commands) == 1


@pytest.mark.parametrize("lasting", [True, False], ids=["for ever", "perhaps on this replica alone"])
async def test_a_batch_that_hides_whether_there_was_a_rebuild_is_named_instead_of_an_older_one(
    bench: Bench, *, lasting: bool
) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    bench.durable.unreadable, bench.durable.lasting = range(1, 2), not lasting
    bench.rebuild_changelog()
    bench.durable.newest_unreadable = UnreadableEntriesError(
        "the batch at 9 cannot be read", offset=9, last=9, lasting=lasting
    )
    with pytest.raises(LogError if not lasting else TakeOverError) as refused:
        await bench.partition(store=BenchStore()).open()
    assert str(refused.value).startswith("its changelog: the batch at 9 cannot be read; ")


async def test_entries_of_after_a_rebuild_that_cannot_be_read_refuse_a_take_over(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    begun = len(bench.durable.changelog)
    bench.rebuild_changelog()
    bench.fire("s", "b")
    await bench.live()
    for lost in (begun, begun + 1):
        bench.durable.unreadable = range(lost, lost + 1)
        with pytest.raises(TakeOverError, match=f"the batch at {lost} cannot be read"):
            await bench.partition(store=BenchStore()).open()


async def test_the_former_owner_cannot_commit_and_is_told_so(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    former = bench.partition()
    await former.open()
    current = bench.partition(store=BenchStore())
    await current.open()
    former.take()
    former.fold(bench.durable.log)
    await failed(bench)
    assert isinstance(bench.failures[0], FencedError)
    assert bench.durable.changelog == []
    await current.close()


async def test_checkpoints_that_wait_share_a_transaction_and_the_fold_sees_their_states(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.gate.clear()
    for name in "aab":
        bench.fire("s", name)
        partition.take()
        partition.fold(bench.durable.log[partition.next :])
        await eventually(lambda: ledger.begun == 2, within_s=30, what="the first of them is not committed")
    assert partition.taken > IN_FLIGHT - 1
    ledger.gate.set()
    await partition.reached(4)
    assert partition.counters.checkpoints == 3  # the configuration, the first, and the two that waited
    assert partition.counters.batches == 4
    assert len(bench.durable.commands) == 1
    assert partition.has_room()
    await partition.close()


MANY = dumps({f"t{number}": {"after": ["a"], "run": "tasks.t"} for number in range(20)}).decode()


async def test_what_small_events_decide_is_folded_and_committed_in_parts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_parts(monkeypatch, 60_000)
    monkeypatch.setattr(in_flight, "TRANSACTION_BYTES", 300_000)
    bench.configure(MANY)
    for number in range(30):
        value = dumps({"type": "a", "data": {"text": "x" * 1_000}})
        bench.durable.add(NewRecord(key=f"s{number % 9}".encode(), value=value))
    bench.durable.add(NewRecord(key=b"s", value=b"{"))
    log = bench.durable.log
    partition = bench.partition()
    await partition.open()
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.gate.clear()
    for span in ((0, 20), (20, 26)):
        partition.take()
        partition.fold(log[span[0] : span[1]], span=span)
    partition.take()
    partition.pass_over((26, 28), first=26, reason="CRC")
    partition.take()
    partition.fold(log[28:], span=(28, len(log)))
    await asyncio.sleep(0)
    # While it is not durable no more is folded; nothing of what was taken in is given back either.
    assert (partition.next < 10, partition.taken, partition.has_room()) == (True, 4, False)
    ledger.gate.set()
    await partition.reached(len(log))
    assert not bench.failures
    assert max(bench.durable.sizes) < 400_000
    assert len(bench.durable.sizes) > 5
    assert (partition.taken, partition.counters.batches, partition.next) == (0, 4, len(log))
    assert [letter.record.offset for letter in bench.durable.dead_letters] == [26, 31]
    commands, states = list(bench.durable.commands), states_of(bench)
    await partition.close()

    monkeypatch.undo()
    at_once = Bench(durable=Durable(log=log))
    whole = at_once.partition()
    await whole.open()
    for begin, end in ((0, 26), (28, len(log))):
        whole.take()
        whole.fold(log[begin:end])
    await whole.reached(len(log))
    assert (at_once.durable.commands, states_of(at_once)) == (commands, states)
    assert len(commands) == 9 * 20
    await whole.close()


async def test_what_is_not_folded_yet_at_the_end_the_next_owner_folds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_parts(monkeypatch, 1)
    bench.configure(MANY)
    bench.fire("s", *"aaaa")
    partition = bench.partition()
    await partition.open()
    partition.take()
    partition.fold(bench.durable.log)
    await partition.close()
    assert (partition.durable, bench.failures) == (1, [])
    after = bench.partition()
    assert await after.open() == 1
    after.take()
    after.fold(bench.durable.log[1:])
    await after.reached(5)
    assert len(bench.durable.commands) == 20
    await after.close()


async def test_parts_of_scattered_events_become_durable_in_one_transaction(bench: Bench) -> None:
    bench.configure()
    for name in "ab":
        for number in range(300):
            bench.fire(f"s{number}", name)
    log = bench.durable.log
    partition = bench.partition()
    await partition.open()
    for begin, end in ((0, 301), (301, 601)):
        partition.take(end - begin)
        partition.fold(log[begin:end], span=(begin, end))
    await partition.reached(601)
    assert (partition.counters.checkpoints, partition.counters.batches) == (1, 2)
    assert len(set(bench.durable.commands)) == 300
    await partition.close()


async def fold_in_two_batches(bench: Bench, partition: Partition, *, apart_s: float) -> None:
    """Fold two events, each a batch of its own."""
    for name in "ab":
        bench.fire("s", name)
        partition.take()
        partition.fold(bench.durable.log[partition.next :])
        await asyncio.sleep(apart_s)


async def test_events_that_come_soon_after_each_other_share_a_transaction(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(turns=TransactionTurns(wait_s=0.3, pause_s=3600.0))
    await partition.open()
    await bench.fold(partition)
    await fold_in_two_batches(bench, partition, apart_s=0.01)
    await partition.reached(3)
    assert (partition.counters.checkpoints, partition.counters.batches) == (2, 3)
    await partition.close()


async def test_a_partition_that_can_take_no_more_does_not_wait_for_its_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "FULL_EVENTS", 2)
    monkeypatch.setattr(in_flight, "SMALL_BYTES", 1)
    bench.configure()
    partition = bench.partition(turns=TransactionTurns(wait_s=3600.0, pause_s=3600.0))
    await partition.open()
    await bench.fold(partition)
    await fold_in_two_batches(bench, partition, apart_s=0)
    async with asyncio.timeout(30):
        await partition.reached(3)
    await partition.close()


async def test_closing_waits_for_no_turn(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(turns=TransactionTurns(gather_s=3600.0))
    await partition.open()
    partition.take()
    partition.fold(bench.durable.log)
    async with asyncio.timeout(30):
        await partition.close()
    assert (partition.durable, bench.durable.group_offset) == (1, 1)


async def test_closing_finishes_what_waits(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    partition = bench.partition()
    await partition.open()
    for record in bench.durable.log:
        partition.take()
        partition.fold([record])
    await partition.close()
    assert partition.phase is PartitionPhase.CLOSED
    assert len(bench.durable.commands) == 1
    assert not bench.failures


async def test_lag_tools_are_told_now_and_then_and_at_the_end(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(group_offset_every_s=3600))
    await partition.open()
    await bench.fold(partition)
    assert bench.durable.group_offset == 1
    bench.fire("s", "a")
    await bench.fold(partition)
    assert bench.durable.group_offset == 1, "an hour has not passed"
    await partition.close()
    assert bench.durable.group_offset == 2


async def test_lag_monitors_see_what_is_durable_once_it_is_due_without_another_event(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(group_offset_every_s=0.2))
    await partition.open()
    await bench.fold(partition)
    assert bench.durable.group_offset == 1
    bench.fire("s", "a")
    await bench.fold(partition)
    await eventually(lambda: bench.durable.group_offset == 2, within_s=30, what="not committed")
    await partition.close()


async def test_the_group_offset_is_committed_again_to_keep_it_alive(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(keep_alive_s=0.05))
    await partition.open()
    await bench.fold(partition)
    written = len(bench.durable.changelog)
    for _ in range(2):
        bench.durable.group_offset = None
        await eventually(lambda: bench.durable.group_offset == 1, within_s=30, what="not committed")
    assert len(bench.durable.changelog) == written
    await partition.close()


async def test_the_group_offset_is_not_committed_again_before_it_is_due(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    bench.durable.group_offset = None
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.durable.group_offset is None
    await partition.close()


async def test_a_mark_says_for_which_configuration_all_sessions_were_looked_at(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    scanned: list[int] = []
    async with asyncio.timeout(30):
        while not scanned or scanned[-1] < 0:
            bench.fire("s", "a")
            await bench.fold(partition)
            scanned.append(decode_checkpoint(bench.store.entries[CHECKPOINT_KEY]).scanned)
    assert scanned[-1] == 0
    await partition.close()


@pytest.mark.slow
async def test_lag_tools_are_told_although_nothing_else_arrives(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(group_offset_every_s=0.2))
    await partition.open()
    await bench.fold(partition)
    bench.fire("s", "a")
    await bench.fold(partition)
    await eventually(lambda: bench.durable.group_offset == 2, within_s=60, what=lambda: "not told")
    entries = len(bench.durable.changelog)
    await asyncio.sleep(0.5)
    assert len(bench.durable.changelog) == entries
    await partition.close()


@pytest.mark.slow
async def test_the_ledger_hears_of_a_partition_in_which_nothing_happens(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(keep_alive_s=0.2))
    await partition.open()
    await bench.fold(partition)
    for _ in range(2):
        bench.durable.group_offset = None
        await eventually(lambda: bench.durable.group_offset == 1, within_s=60, what=lambda: "not told")
    assert len(bench.durable.changelog) == 3, (
        "a checkpoint has its mark, the configurations and a text; no more"
    )
    await partition.close()


async def test_who_takes_over_tells_what_a_dead_owner_had_no_time_to_tell(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    dead = bench.partition()
    await dead.open()
    await bench.fold(dead)
    bench.durable.group_offset = None
    partition = bench.partition()
    await partition.open()
    await eventually(lambda: bench.durable.group_offset == 2, within_s=60, what=lambda: "not told")
    await partition.close()
    await dead.close()


async def test_a_closed_partition_folds_nothing(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await partition.close()
    partition.take()
    partition.fold(bench.durable.log)
    assert bench.durable.changelog == []


async def test_records_below_the_next_are_not_folded_again(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    written = len(bench.durable.changelog)
    partition.take()
    partition.fold(bench.durable.log)
    assert partition.taken == 0
    await partition.close()
    assert len(bench.durable.changelog) == written


async def test_a_batch_that_does_not_follow_on_the_one_before_ends_the_process(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    partition = bench.partition()
    await partition.open()
    partition.take()
    # From 1 to 3 there is a control record, say: positions without records are no gap.
    partition.fold(bench.durable.log[:1], span=(0, 3))
    partition.take()
    partition.fold(bench.durable.log[2:], span=(4, 5))
    assert [str(failure) for failure in bench.failures] == [
        "partition 0: what is in the log from 3 to 4 was lost"
    ]
    await partition.close()


async def test_a_checkpoint_that_no_broker_answers_ends_the_process(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02))
    await partition.open()
    held(partition)
    await failed(bench)
    assert str(bench.failures[0]).startswith(
        "partition 0: no broker has answered for 0.02 s during a checkpoint"
    )


async def test_a_checkpoint_that_takes_long_goes_on_while_brokers_answer(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02))
    asked = count()
    partition.answered_at = lambda: float(next(asked))
    await partition.open()
    ledger = held(partition)
    while next(asked) < 100:  # noqa: ASYNC110 - five times what would have ended it
        await asyncio.sleep(0.001)
    assert not bench.failures
    ledger.gate.set()
    await partition.reached(1)
    await partition.close()


async def test_a_checkpoint_that_hangs_although_brokers_answer_ends_the_process(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02, longest_s=0.04))
    asked = count()
    partition.answered_at = lambda: float(next(asked))
    await partition.open()
    held(partition)
    await failed(bench)
    assert "has not ended within 0.04 s" in str(bench.failures[0])


def fencing(partition: Partition) -> tuple[BenchLedger, asyncio.Task[int]]:
    """Have ``partition`` be opened, and its ledger hold the fence until its gate is set."""
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.fence_gate.clear()
    return ledger, asyncio.create_task(partition.open())


async def test_a_fence_that_takes_long_goes_on_while_brokers_answer(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02))
    asked = count()
    partition.answered_at = lambda: float(next(asked))
    ledger, opening = fencing(partition)
    while next(asked) < 100:  # noqa: ASYNC110 - five times what would have ended it
        await asyncio.sleep(0.001)
    assert not opening.done()
    ledger.fence_gate.set()
    await opening
    await partition.close()


async def test_a_fence_that_no_broker_answers_is_given_up(bench: Bench) -> None:
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02))
    _, opening = fencing(partition)
    with pytest.raises(LogError, match=r"no broker has answered for 0\.02 s during the start of a producer"):
        await opening
    assert not bench.durable.calls


async def test_a_take_over_that_is_given_up_during_its_fence_has_ended_the_fence(bench: Bench) -> None:
    partition = bench.partition()
    ledger, opening = fencing(partition)
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    ledger.fence_gate.set()
    await asyncio.sleep(0)
    assert not bench.durable.calls


@pytest.mark.parametrize("answering", [True, False])
async def test_an_append_of_timers_waits_for_slow_brokers_and_not_for_silent_ones(
    bench: Bench, *, answering: bool
) -> None:
    bench.configure('{"t": {"after": ["a"], "run": "r", "retry": {"max": 1, "backoff": "5s"}}}')
    partition = bench.partition(timing=PartitionTiming(silence_s=0.02))
    asked = count()
    if answering:
        partition.answered_at = lambda: float(next(asked))
    appender = partition.appender
    assert isinstance(appender, BenchAppender)
    await partition.open()
    bench.fire("s", "a")
    await bench.fold(partition)
    command = _json(bench.durable.commands[0])
    data = {"instance": command["instance"], "command": command["id"], "error": "e"}
    bench.durable.add(NewRecord(key=b"s", value=dumps({"type": "triggerstream.task.failed", "data": data})))
    await bench.fold(partition)
    assert partition.timers() == 1
    written = len(bench.durable.log)
    appender.gate.clear()
    bench.clock.advance(10)
    if not answering:
        await failed(bench)
        assert "for 0.02 s during an append to the log" in str(bench.failures[0])
        return
    while next(asked) < 100:  # noqa: ASYNC110 - five times what would have ended it
        await asyncio.sleep(0.001)
    assert not bench.failures
    appender.gate.set()
    await eventually(lambda: len(bench.durable.log) > written, within_s=30)
    await bench.fold(partition)
    await partition.close()


async def test_a_process_that_was_stopped_does_not_take_its_pause_for_silence(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition(timing=PartitionTiming(silence_s=20 * 0.05))
    await partition.open()
    ledger = held(partition)
    await asyncio.sleep(0)
    time.sleep(1.5)  # noqa: ASYNC251 - as SIGSTOP would: nothing of the process runs
    ledger.gate.set()
    await partition.reached(1)
    assert not bench.failures
    await partition.close()


async def test_partitions_of_a_process_begin_together_and_what_waits_meanwhile_goes_together() -> None:
    turns = TransactionTurns(gather_s=0.05, wait_s=0.0, open_s=3600.0)
    benches = [Bench() for _ in range(5)]
    partitions = []
    for bench in benches:
        bench.configure()
        partition = bench.partition(turns=turns)
        await partition.open()
        partitions.append(partition)
    ledgers = [held(partition) for partition in partitions]
    await eventually(
        lambda: sum(ledger.begun for ledger in ledgers) == 5, within_s=30, what="too few commits"
    )
    for _ in range(2):
        for bench, partition in zip(benches, partitions, strict=True):
            bench.fire("s", "a")
            partition.take()
            partition.fold(bench.durable.log[partition.next :])
    for _ in range(100):
        await asyncio.sleep(0)
    assert sum(ledger.begun for ledger in ledgers) == 5
    for ledger in ledgers:
        ledger.gate.set()
    await asyncio.gather(*(partition.reached(3) for partition in partitions))
    assert [partition.counters.batches for partition in partitions] == [3] * 5
    assert [partition.counters.checkpoints for partition in partitions] == [2] * 5
    for partition in partitions:
        await partition.close()


def held(partition: Partition) -> BenchLedger:
    """Have ``partition`` fold its log, and its ledger hold what is committed until its gate is set."""
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.gate.clear()
    partition.take()
    partition.fold(ledger.durable.log)
    return ledger


async def failed(bench: Bench) -> None:
    """Wait until something would have ended the process."""
    async with asyncio.timeout(30):
        while not bench.failures:  # noqa: ASYNC110 - a failure is a list's growth
            await asyncio.sleep(0.001)
    assert isinstance(bench.failures[0], LogError)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Identity(cluster="c", topic="t", partitions=2), "made with 1 partitions"),
        (Identity(cluster="c", topic="other", partitions=1), "topic id other"),
        (Identity(cluster="other", topic="t", partitions=1), "cluster other"),
        (Identity(cluster="c", topic="t", partitions=1, owners="other"), "topic id other"),
    ],
)
async def test_another_log_is_refused(bench: Bench, found: Identity, says: str) -> None:
    bench.configure()
    await bench.live()
    with pytest.raises(IdentityError, match=says) as refused:
        await bench.partition(identity=found).open()
    assert "triggerstream replay --rebuild" in str(refused.value)


async def test_a_group_that_has_read_without_a_checkpoint_is_refused(bench: Bench) -> None:
    bench.durable.group_offset = 5
    with pytest.raises(TakeOverError, match="read up to offset 5"):
        await bench.partition().open()


async def test_an_owner_that_is_overtaken_before_any_checkpoint_is_fenced_and_asks_for_no_repair(
    bench: Bench,
) -> None:
    bench.configure()
    slow = bench.partition(store=BenchStore())
    ledger = slow.ledger
    assert isinstance(ledger, BenchLedger)
    committed = ledger.committed

    async def later() -> int | None:
        await bench.live()  # another owner takes over, and makes the first checkpoint
        return await committed()

    ledger.committed = later  # type: ignore[method-assign] # it pauses before this question
    with pytest.raises(FencedError, match=r"^partition 0: another process has taken over$"):
        await slow.open()
    assert bench.durable.group_offset == 1


async def test_a_log_that_ends_before_the_checkpoint_is_refused(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    bench.durable.log.pop()
    with pytest.raises(TakeOverError, match="records were lost"):
        await bench.partition().open()


async def test_a_log_whose_unfolded_records_were_deleted_is_refused(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    first = bench.partition()
    await first.open()
    first.take()
    first.fold(bench.durable.log[:2])
    await first.close()
    bench.durable.log_begin = 3
    with pytest.raises(
        TakeOverError,
        match=r"^partition 0: its checkpoint is at offset 2, the log begins at 3: records were deleted "
        r"before they were folded; stop all workers: `triggerstream replay --rebuild --incomplete --at ",
    ):
        await bench.partition().open()
    bench.durable.log_begin = 2
    second = bench.partition()
    assert await second.open() == 2, "only folded records were deleted"
    await second.close()


async def test_a_log_whose_first_records_were_deleted_before_any_take_over_is_refused(bench: Bench) -> None:
    bench.configure()
    bench.durable.log_begin = 1
    with pytest.raises(TakeOverError, match="checkpoint is at offset 0, the log begins at 1"):
        await bench.partition().open()


async def test_the_mark_of_a_checkpoint_has_the_rules_of_its_moment(bench: Bench) -> None:
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    bench.fire("s", "a")
    await bench.fold(partition)
    await partition.close()
    marks = dict(bench.durable.changelog)
    mark = decode_checkpoint(marks[CHECKPOINT_KEY] or b"")
    assert mark.offset == 2
    assert mark.configuration == InForce(offset=0, number=1, hash=text_hash(TASKS))
    assert [c.text for c in history_texts(marks.get)] == [TASKS]
    # The texts are written when they change, not with every checkpoint.
    written = [key for key, _ in bench.durable.changelog]
    assert written.count(CHECKPOINT_KEY) == 2
    assert written.count(VERSIONS_KEY) <= 2
    assert sum(key.startswith(TEXT_PREFIX) for key in written) == 1


async def test_timers_are_found_again_by_the_next_owner(bench: Bench) -> None:
    bench.configure('{"t": {"after": ["a"], "run": "r", "retry": {"max": 1, "backoff": "5s"}}}')
    bench.fire("s", "a")
    first = bench.partition()
    await first.open()
    await bench.fold(first)
    command = dict(**_json(bench.durable.commands[0]))
    failed = {"instance": command["instance"], "command": command["id"], "error": "e"}
    bench.durable.add(NewRecord(key=b"s", value=dumps({"type": "triggerstream.task.failed", "data": failed})))
    await bench.fold(first)
    assert first.timers() == 1
    await first.close()
    second = bench.partition()
    await second.open()
    async with asyncio.timeout(5):
        while len(bench.durable.log) < 4:  # noqa: ASYNC110 - the appender is a list
            await asyncio.sleep(0)
    assert _json(bench.durable.log[3].value or b"")["type"] == "triggerstream.timer"
    await second.close()


async def test_an_opening_that_is_given_up_lets_go_of_everything(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    await bench.live()
    bench.durable.calls.clear()
    store = BenchStore()
    owner = Owner(assigns({0: bench.durable}, lambda _: bench.partition(store=store)))
    opening = asyncio.create_task(owner.open([0]))
    async with asyncio.timeout(30):
        while "fence" not in bench.durable.calls:  # noqa: ASYNC110 - a poll would find it opened already
            await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await owner.close()
    assert owner.get(0) is None
    assert bench.durable.calls[-1] == "close"


def _json(value: bytes) -> dict[str, object]:
    return dict(as_object(loads(value), ""))


async def test_a_partition_has_room_for_as_many_batches_as_may_be_in_flight(bench: Bench) -> None:
    partition = bench.partition()
    rooms: list[bool] = []
    partition.on_room = lambda: rooms.append(partition.has_room())
    assert not partition.has_room(), "it is not open"
    await partition.open()
    for taken in range(IN_FLIGHT):
        assert partition.has_room(), taken
        partition.take(1_000)
    assert not partition.has_room()
    partition.drop()
    assert (rooms, partition.taken) == ([True], IN_FLIGHT - 1)
    await partition.close()
    assert not partition.has_room()


async def test_a_partition_has_room_for_more_batches_while_all_are_folded_and_small(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of a session that follow one another wait for no commit before they are folded."""
    bench.configure()
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.gate.clear()

    def fold_next() -> None:
        bench.fire("s", "a")
        partition.fold(bench.durable.log[partition.next :])

    for taken in range(in_flight.SMALL_IN_FLIGHT):
        assert partition.has_room(), taken
        partition.take(in_flight.SMALL_EVENTS + 1)
        assert partition.has_room() == (taken + 1 < IN_FLIGHT), "many events are not folded yet"
        partition.drop()
        partition.take(in_flight.SMALL_EVENTS)
        assert partition.has_room() == (taken + 1 < in_flight.SMALL_IN_FLIGHT)
        fold_next()
    assert not partition.has_room()
    ledger.gate.set()
    await partition.reached(len(bench.durable.log))
    assert partition.has_room()

    ledger.gate.clear()
    for _ in range(IN_FLIGHT):
        partition.take()
        fold_next()
    assert partition.has_room()
    monkeypatch.setattr(in_flight, "SMALL_BYTES", 100)
    assert not partition.has_room()
    ledger.gate.set()
    await partition.reached(len(bench.durable.log))
    await partition.close()


async def test_a_closed_partition_answers_nothing_and_is_closed_once(bench: Bench) -> None:
    partition = bench.partition()
    await partition.open()
    await partition.close()
    with pytest.raises(UsageError, match=r"^partition 0 is closed: ask again in a moment$"):
        partition.state(SessionId("s"))
    bench.durable.calls.clear()
    await partition.close()
    assert bench.durable.calls == []


async def test_background_tasks_are_named_after_their_partition(bench: Bench) -> None:
    partition = bench.partition()
    partition.processor.partition = 7
    partition.appender = MemoryAppender([])
    await partition.open()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert names >= {"checkpoints of partition 7", "timers of partition 7", "scans of partition 7"}
    await partition.close()


AT = "kafka://broker:9092/shop"


@pytest.mark.parametrize("lost", ["checkpoint", "log", "records", "history", "identity"])
async def test_a_refused_take_over_names_the_partition_and_the_address_of_the_app(
    bench: Bench, lost: str
) -> None:
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    identity = IDENTITY
    match lost:
        case "checkpoint":
            bench.durable.changelog.clear()
        case "log":
            bench.durable.log.pop()
        case "records":
            bench.durable.log_begin = 3
        case "history":
            bench.durable.changelog.append((VERSIONS_KEY, b"{"))
        case _:
            identity = replace(IDENTITY, topic="other")
    partition = bench.partition(store=BenchStore(), identity=identity)
    partition.address = AT
    partition.processor.partition = 7
    with pytest.raises((TakeOverError, IdentityError), match=r"^partition 7: ") as refused:
        await partition.open()
    assert f" --at {AT}`" in str(refused.value)
    await partition.close()
    assert partition.phase is PartitionPhase.CLOSED


async def test_the_mark_has_the_oldest_version_of_the_fold_that_its_states_had(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mark(bench: Bench) -> CheckpointMark:
        return decode_checkpoint(bench.store.entries[CHECKPOINT_KEY])

    bench.configure()
    await bench.live()
    assert mark(bench).fold == 1
    monkeypatch.setattr(core_tasks, "FOLD_VERSION", 2)
    bench.fire("s", "a")
    await bench.live()
    assert mark(bench).fold == 1
    fresh = Bench()
    fresh.configure()
    await fresh.live()
    assert mark(fresh).fold == 2
    monkeypatch.setattr(core_tasks, "FOLD_VERSION", 1)
    fresh.fire("s", "a")
    await fresh.live()
    assert mark(fresh).fold == 1


async def test_the_mark_has_the_identity_of_the_log_also_where_the_checkpoint_was_the_first(
    bench: Bench,
) -> None:
    bench.configure()
    await bench.live()
    assert decode_checkpoint(bench.store.entries[CHECKPOINT_KEY]).identity == IDENTITY


async def test_the_mark_of_an_older_release_has_the_owners_topic_after_the_next_checkpoint(
    bench: Bench,
) -> None:
    bench.configure()
    for found, kept in (
        (replace(IDENTITY, owners=""), ""),
        (IDENTITY, "o"),
        (replace(IDENTITY, owners=""), "o"),
    ):
        partition = bench.partition()
        partition.identity = found
        await partition.open()
        bench.fire("s", "a")
        await bench.fold(partition)
        await partition.close()
        assert decode_checkpoint(bench.store.entries[CHECKPOINT_KEY]).identity.owners == kept


async def test_a_lost_range_is_a_dead_letter_of_its_partition_at_the_time_of_its_loss(bench: Bench) -> None:
    partition = bench.partition()
    partition.processor.partition = 7
    partition.appender = MemoryAppender([])
    await partition.open()
    partition.take()
    partition.pass_over((0, 3), first=1, reason="CRC")
    await partition.reached(3)
    (letter,) = bench.durable.dead_letters
    assert letter == DeadLetter(
        record=Record(partition=7, offset=1, arrival_us=bench.clock.now_us(), key=None, value=None),
        reason="lost: CRC",
        last=2,
    )
    await partition.close()


async def test_a_lost_range_that_is_already_folded_is_dropped_and_the_next_batch_is_folded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    bound_parts(monkeypatch, 1)
    partition = bench.partition()
    await partition.open()
    ledger = partition.ledger
    assert isinstance(ledger, BenchLedger)
    ledger.gate.clear()
    log = bench.durable.log
    partition.take()
    partition.fold(log[:2], span=(0, 2))
    for _ in range(2):  # they wait, because only the first record is folded
        partition.take()
        partition.pass_over((1, 2), first=1, reason="CRC")
    partition.take()
    partition.fold(log[2:], span=(2, 3))
    ledger.gate.set()
    await partition.reached(3)
    assert (partition.taken, bench.durable.dead_letters, bench.failures) == (0, [], [])
    assert len(bench.durable.commands) == 1
    await partition.close()


async def test_a_lost_range_that_is_already_folded_does_not_set_the_position_back(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    partition.take()
    partition.fold(log[:2], span=(0, 3))  # a control record follows
    partition.take()
    partition.pass_over((1, 2), first=1, reason="CRC")
    partition.take()
    partition.fold(log[2:], span=(3, 4))
    await partition.reached(3)
    assert not bench.failures
    await partition.close()


async def test_records_of_other_partitions_are_there_before_the_checkpoint_is_durable(bench: Bench) -> None:
    partitions_ = 3
    keys = {
        number: next(k for k in (b"s%d" % n for n in range(99)) if partition_of(k, partitions_) == number)
        for number in range(partitions_)
    }
    bench.configure()
    for number in (2, 0, 1, 2):
        bench.fire(keys[number].decode(), "a")
    others = [MemoryPartition(number=number) for number in (1, 2)]
    partition = bench.partition()
    partition.processor = Processor(app=APP, partition=0, partitions=partitions_)
    partition.appender = MemoryAppender(others)
    await partition.open()
    ledger = held(partition)
    await eventually(lambda: ledger.begun, within_s=30, what="no commit")
    assert [[record.key for record in other.log] for other in others] == [[keys[1]], [keys[2]] * 2]
    assert bench.durable.changelog == []
    ledger.gate.set()
    await partition.reached(5)
    assert partition.counters.rehomed == 3
    assert list(states_of(bench)) == [keys[0]]
    await partition.close()


async def test_a_past_configuration_is_read_from_the_store_once_its_parsed_form_is_gone(bench: Bench) -> None:
    cache = ConfigurationCache(most_bytes=1)
    bench.configure(tasks_file(0))
    bench.fire("s", "a")
    partition = bench.partition()
    partition.processor = Processor(app=APP, configurations=cache)
    await partition.open()
    async with folding(bench, partition):
        for number in (1, 2):
            bench.configure(tasks_file(number))
            await partition.reached(len(bench.durable.log))
    past = [version for version in partition.rules.history if isinstance(version, PastConfiguration)]
    assert past[1].config.text == tasks_file(1)  # whatever a scan read last: this one is in the cache now
    parsed = cache.parsed
    assert [version.config.text for version in past] == [tasks_file(0), tasks_file(1)]
    assert cache.parsed == parsed + 2
    await partition.close()


async def test_configurations_that_every_session_has_met_are_forgotten_now_and_then(bench: Bench) -> None:
    bench.configure(tasks_file(0))
    bench.fire("s", "a")
    partition = bench.partition(timing=PartitionTiming(prune_s=0.01))
    await partition.open()
    await bench.fold(partition)
    bench.configure(tasks_file(1))
    await bench.fold(partition)
    bench.fire("s", "b")
    await bench.fold(partition)
    await shortened(partition, to=1)
    await eventually(
        lambda: [one.text for one in history_texts(dict(bench.durable.changelog).get)] == [tasks_file(1)],
        within_s=30,
        what="the changelog still has the history",
    )
    bench.durable.calls.clear()
    await partition.close()
    assert not bench.failures
    following = bench.partition()
    await following.open()
    assert bench.durable.calls == ["close", "fence", "extent"], "its store is complete"
    assert [version.offset for version in following.rules.history] == [-1, 2]
    await following.close()


async def test_batches_may_overlap_and_each_record_is_folded_once(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    for batch in (log[:2], log[1:3], log[:2]):
        partition.take()
        partition.fold(batch)
    assert partition.next == 3
    await partition.reached(3)
    assert (partition.counters.events, partition.taken) == (2, 0)
    assert len(bench.durable.commands) == 1
    await partition.close()


async def test_after_a_batch_that_repeats_earlier_records_the_next_one_is_not_lost(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b", "c")
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    for begin, end in ((0, 3), (0, 2), (3, 4)):
        partition.take()
        partition.fold(log[begin:end], span=(begin, end))
    await partition.reached(4)
    assert bench.failures == []
    assert (partition.next, partition.counters.events) == (4, 3)
    await partition.close()


async def test_a_batch_that_is_folded_meanwhile_holds_up_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.configure()
    bench.fire("s", "a", "b")
    bound_parts(monkeypatch, 1)
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    for batch in (log[:2], log[:2], log[2:]):  # of the first one, only the first record is folded at once
        partition.take()
        partition.fold(batch)
    async with asyncio.timeout(30):
        await partition.reached(3)
    assert partition.taken == 0
    await partition.close()


async def test_no_more_is_folded_once_as_much_as_a_part_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_parts(monkeypatch, 100)
    bench.durable.add(*(NewRecord(key=b"s", value=b"{" * 100) for _ in range(2)))
    partition = bench.partition()
    await partition.open()
    ledger = held(partition)
    assert partition.next == 1
    ledger.gate.set()
    await partition.reached(2)
    assert [letter.record.offset for letter in bench.durable.dead_letters] == [0, 1]
    await partition.close()


async def test_a_lost_range_waits_for_room_and_what_follows_it_goes_with_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_parts(monkeypatch, 100)
    bench.durable.add(*(NewRecord(key=b"s", value=b"{" * 100) for _ in range(3)))
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    partition.take()
    partition.fold(log[:1], span=(0, 1))
    partition.take()
    partition.pass_over((1, 2), first=1, reason="CRC")
    partition.take()
    partition.fold(log[2:], span=(2, 3))
    assert partition.next == 1
    await partition.reached(3)
    assert [letter.record.offset for letter in bench.durable.dead_letters] == [0, 1, 2]
    assert partition.counters.checkpoints == 2
    await partition.close()


@pytest.mark.parametrize(("most", "transactions"), [(99, 5), (199, 5), (200, 3), (499, 2), (500, 1)])
async def test_a_transaction_takes_what_waits_up_to_its_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int, transactions: int
) -> None:
    monkeypatch.setattr(in_flight, "TRANSACTION_BYTES", most)
    bench.durable.add(*(NewRecord(key=b"s", value=b"{" * 100) for _ in range(5)))
    partition = bench.partition()
    await partition.open()
    for record in bench.durable.log:
        partition.take()
        partition.fold([record])
    async with asyncio.timeout(30):
        await partition.reached(5)
    assert [letter.record.offset for letter in bench.durable.dead_letters] == list(range(5))
    assert (partition.counters.checkpoints, partition.counters.batches) == (transactions, 5)
    assert 0 <= partition.counters.took.sum_s < 60
    assert sum(partition.counters.took.counts) == transactions
    await partition.close()


async def test_timers_that_are_appended_are_counted(bench: Bench) -> None:
    def appended() -> int:
        return sum(b"triggerstream.timer" in (record.value or b"") for record in bench.durable.log)

    bench.configure('{"t": {"after": ["a"], "run": "r", "retry": {"max": 1, "backoff": "5s"}}}')
    partition = bench.partition()
    await partition.open()
    async with folding(bench, partition):
        for session in ("r", "s"):
            before = appended()
            bench.fire(session, "a")
            await partition.reached(len(bench.durable.log))
            command = _json(bench.durable.commands[-1])
            data = {"instance": command["instance"], "command": command["id"], "error": "e"}
            value = dumps({"type": "triggerstream.task.failed", "data": data})
            bench.durable.add(NewRecord(key=session.encode(), value=value))
            # By the clock of the partition it is due at once: the log's records are from 1970.
            while appended() == before:  # noqa: ASYNC110 - the log is a list
                await asyncio.sleep(0.001)
            await partition.reached(len(bench.durable.log))
    for _ in range(10):
        await asyncio.sleep(0)
    assert bench.failures == []
    assert partition.counters.timers == appended() >= 2
    await partition.close()


async def test_two_calls_close_a_partition_once(bench: Bench) -> None:
    partition = bench.partition()
    await partition.open()
    bench.durable.calls.clear()
    await asyncio.gather(partition.close(), partition.close())
    assert bench.durable.calls == ["close"]


async def test_an_error_of_the_fold_ends_the_process_and_nothing_of_its_part_is_durable(bench: Bench) -> None:
    bench.configure()
    await bench.live()
    written = len(bench.durable.changelog)
    text = tasks_file(1)
    body = ConfigApplied(
        text=text, hash=text_hash(text), replaces=bench.configuration, fold=core_tasks.LANGUAGE_VERSION + 1
    )
    bench.fire("s", "a")
    bench.durable.add(NewRecord(key=None, value=events.encode(body)))
    partition = bench.partition()
    await partition.open()
    partition.take()
    partition.fold(bench.durable.log[1:])
    assert [type(failure) for failure in bench.failures] == [FoldVersionError]
    await partition.close()
    assert len(bench.durable.changelog) == written


async def test_sessions_are_read_in_pages_by_id(bench: Bench) -> None:
    names = ["A", "b/1", "b/2", "b/3", "c", "é"]
    bench.configure()
    for name in names:
        bench.fire(name, "a")
    partition = bench.partition()
    with pytest.raises(UsageError, match="partition 0 is opening: ask again"):
        partition.sessions(prefix="", after=None, limit=3)
    await partition.open()
    await bench.fold(partition)

    def page(prefix: str = "", after: str | None = None, limit: int = 3) -> list[str]:
        found = partition.sessions(
            prefix=prefix, after=None if after is None else SessionId(after), limit=limit
        )
        assert all(value == partition.state(name) for name, value in found)
        return [name for name, _ in found]

    assert page() == names[:3]
    assert page(after="b/2") == names[3:]
    assert page("b/") == names[1:4]
    assert page("b/", after="b/1", limit=1) == ["b/2"]
    assert page("b/2") == page("b/2", after="a") == ["b/2"]
    assert page("b/2", after="b/2") == page("d") == []
    assert page("A") == ["A"]
    assert page("b/1", limit=1) == ["b/1"]
    bench.fire("b/", "a")
    await bench.fold(partition)
    assert page("b/") == ["b/", "b/1", "b/2"]
    assert page("b/", limit=1) == ["b/"]
    await partition.close()


async def test_a_checkpoint_tells_which_sessions_it_changed_once_they_can_be_read(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a")
    bench.fire("t", "a")
    partition = bench.partition()
    told: list[tuple[set[str], list[str]]] = []

    def note(sessions: Iterable[SessionId]) -> None:
        readable = partition.sessions(prefix="", after=None, limit=9)
        told.append((set(sessions), [name for name, _ in readable]))

    partition.on_durable = note
    await partition.open()
    await bench.fold(partition)
    bench.fire("t", "b")
    await bench.fold(partition)
    assert told == [({"s", "t"}, ["s", "t"]), ({"t"}, ["s", "t"])]
    await partition.close()


async def test_a_lost_range_is_passed_over_as_one_dead_letter(bench: Bench) -> None:
    bench.configure()
    bench.fire("s", "a", "b", "a", "b")
    partition = bench.partition()
    await partition.open()
    log = bench.durable.log
    partition.take()
    partition.fold(log[:2], span=(0, 2))
    partition.take()
    partition.pass_over((2, 4), first=2, reason="CRC")
    partition.take()
    partition.fold(log[4:], span=(4, 5))
    await partition.reached(5)
    assert [bool(bench.failures), len(bench.durable.commands), partition.next] == [False, 1, 5]
    (letter,) = bench.durable.dead_letters
    assert (letter.record.offset, letter.last, letter.reason) == (2, 3, "lost: CRC")
    # What was folded meanwhile is not passed over again.
    partition.take()
    partition.pass_over((2, 4), first=2, reason="CRC")
    assert (len(bench.durable.dead_letters), partition.taken) == (1, 0)
    # Between what was folded and what was lost there may be a transaction's marker.
    partition.take()
    partition.pass_over((5, 7), first=6, reason="CRC")
    await partition.reached(7)
    assert [(letter.record.offset, letter.last) for letter in bench.durable.dead_letters] == [(2, 3), (6, 6)]
    partition.take()
    partition.pass_over((8, 9), first=8, reason="CRC")
    assert ["from 7 to 8 was lost" in str(failure) for failure in bench.failures] == [True]
    await partition.close()


# ---- the history of configurations ----------------------------------------------------------------


def tasks_file(number: int, *, padding: int = 0) -> str:
    """A tasks file that differs from that of another number."""
    return f'{{"t": {{"after": ["a", "b"], "run": "tasks.t{number}"}}}} // {"x" * padding}'


@asynccontextmanager
async def folding(bench: Bench, partition: Partition) -> AsyncIterator[None]:
    """Fold whatever is appended, also by ``partition`` itself."""

    async def fold() -> None:
        while True:
            await bench.fold(partition)
            await asyncio.sleep(0)

    task = asyncio.create_task(fold())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def shortened(partition: Partition, *, to: int = MOST_VERSIONS) -> None:
    """Wait until the history of ``partition`` is no longer than ``to``, and that is durable."""
    async with asyncio.timeout(120):
        while len(partition.rules.history) > to:  # noqa: ASYNC110 - it changes at a scan
            await asyncio.sleep(0.01)
        await partition.reached(partition.next)


def from_scratch(bench: Bench) -> tuple[dict[bytes, bytes], list[bytes]]:
    """What the log comes to, folded in one piece by who forgets nothing: states and commands."""
    processor, rules = Processor(app=APP), Rules(app=APP)
    checkpoint = processor.process(rules, bench.durable.log, lambda _: None)
    states = {session.encode(): stored.state for session, stored in checkpoint.states.items()}
    return states, [item.value for item in checkpoint.decided]


def states_of(bench: Bench) -> dict[bytes, bytes | None]:
    return {key: value for key, value in bench.store.entries.items() if not key.startswith(RESERVED)}


async def test_idle_sessions_do_not_keep_configurations_for_ever(bench: Bench) -> None:
    sessions, files = 300, 200
    bench.configure(tasks_file(0))
    for number in range(sessions):
        bench.fire(f"s{number}", "a")
    partition = bench.partition()
    partition.pace = Pace(second_s=0)
    await partition.open()
    async with folding(bench, partition):
        await partition.reached(len(bench.durable.log))
        for number in range(1, files):
            bench.configure(tasks_file(number))
            await partition.reached(len(bench.durable.log))
        await shortened(partition)
        async with asyncio.timeout(60):
            while len(history_texts(dict(bench.durable.changelog).get)) > MOST_VERSIONS:  # noqa: ASYNC110 - it shrinks at a checkpoint
                await asyncio.sleep(0.01)
    await partition.close()
    assert not bench.failures
    assert max(len(value or b"") for _, value in bench.durable.changelog) < 64 * 1024
    kept = {key: value for key, value in dict(bench.durable.changelog).items() if value is not None}
    texts = history_texts(kept.get)
    assert len(texts) <= MOST_VERSIONS
    assert {key for key in kept if key.startswith(TEXT_PREFIX)} == {
        TEXT_PREFIX + one.hash.encode() for one in texts
    }

    following = bench.partition(store=BenchStore())
    await following.open()
    assert following.processor.configurations.parsed == 1, "only the one in force"
    for number in range(sessions):
        bench.fire(f"s{number}", "b")
    await bench.fold(following)
    await following.close()
    states, decided = from_scratch(bench)
    assert bench.durable.commands == decided
    assert len(decided) == sessions
    assert {key: value for key, value in dict(bench.durable.changelog).items() if key in states} == states


async def test_large_files_that_one_session_keeps_are_records_of_their_own(bench: Bench) -> None:
    bench.configure(tasks_file(0, padding=620_000))
    bench.fire("s", "a")
    partition = bench.partition()
    await partition.open()
    async with folding(bench, partition):
        for number in range(1, 8):
            bench.configure(tasks_file(number, padding=620_000))
            await partition.reached(len(bench.durable.log))
    await partition.close()
    assert not bench.failures
    assert max(len(value or b"") for _, value in bench.durable.changelog) < 1024 * 1024
    assert sum(key.startswith(TEXT_PREFIX) for key, _ in bench.durable.changelog) == 8, "each once"


async def test_a_pass_that_touches_goes_on_where_a_new_configuration_interrupted_it(bench: Bench) -> None:
    bench.configure(tasks_file(0))
    for number in range(50):
        bench.fire(f"s{number:02}", "a")
    partition = bench.partition()
    partition.pace = Pace(second_s=0)
    await partition.open()
    async with folding(bench, partition):
        await partition.reached(len(bench.durable.log))
        for number in range(1, MOST_VERSIONS * 3):
            bench.configure(tasks_file(number))  # many at once: a scan ends when the next is there
            await asyncio.sleep(0)
        await partition.reached(len(bench.durable.log))
        await shortened(partition)
    await partition.close()
    assert partition.counters.touches >= 50
    assert not bench.failures
    assert states_of(bench) == from_scratch(bench)[0]


async def test_a_history_in_the_former_format_is_taken_over_and_replaced(bench: Bench) -> None:
    bench.configure(tasks_file(0))
    bench.fire("s", "a")
    bench.configure(tasks_file(1))
    bench.configure(tasks_file(0))
    first = bench.partition()
    await first.open()
    async with folding(bench, first):
        await first.reached(len(bench.durable.log))
    await first.close()
    changelog = dict(bench.durable.changelog)
    mark = as_object(loads(changelog[CHECKPOINT_KEY] or b""), "")
    former = {
        "version": 1,
        "configurations": [
            {"offset": one.offset, "arrival": one.arrival_us, "hash": one.hash, "text": one.text}
            for one in history_texts(changelog.get)
        ],
    }
    bench.durable.changelog = [
        (b"s", changelog[b"s"]),
        (CHECKPOINT_KEY, dumps({**mark, "version": 1})),
        (FORMER_KEY, dumps(former)),
    ]
    bench.store = BenchStore()
    second = bench.partition()
    await second.open()
    assert [one.offset for one in second.rules.history] == [-1, 0, 2, 3]
    bench.fire("s", "b")
    await bench.fold(second)
    await second.close()
    assert states_of(bench) == from_scratch(bench)[0]
    assert bench.durable.commands == from_scratch(bench)[1]
    changelog = dict(bench.durable.changelog)
    assert changelog[FORMER_KEY] is None
    assert sum(key.startswith(TEXT_PREFIX) for key in changelog) == 2
    third = bench.partition(store=BenchStore())
    await third.open()
    assert third.rules.current == second.rules.current
    await third.close()


async def test_configurations_that_are_gone_are_refused_with_what_brings_them_back(bench: Bench) -> None:
    bench.configure()
    await bench.live()
    (text,) = (key for key in bench.store.entries if key.startswith(TEXT_PREFIX))
    bench.durable.changelog.append((text, None))
    with pytest.raises(
        TakeOverError, match=r"the text of configuration \w+ is missing\); .*replay --rebuild"
    ):
        await bench.partition(store=BenchStore()).open()


async def test_partitions_of_a_process_parse_a_file_once(bench: Bench) -> None:
    cache = ConfigurationCache()
    bench.configure()
    for _ in range(3):
        partition = bench.partition(store=BenchStore())
        partition.processor = Processor(app=APP, configurations=cache)
        await partition.open()
        await bench.fold(partition)
        await partition.close()
    assert cache.parsed == 1
