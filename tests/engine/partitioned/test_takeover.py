"""A take-over by itself: former owners of older releases, errors and log lines that name the partition."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.engine.partitioned.bench import APP, IDENTITY, Bench, BenchLedger, BenchStore
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ports import (
    Extent,
    FencedError,
    TakeOverError,
    UnreadableEntriesError,
    is_refusal,
)
from triggerstream.engine.partitioned.takeover import Recovery, TakenOver, take_over
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.marks import CHECKPOINT_KEY, decode_checkpoint, encode_checkpoint

AT = "kafka://broker:9092/shop"
PARTITION = 7
NEW_OWNER = FormerOwner(id=OwnerId("a former owner with a claim"))


@dataclass
class TakeOvers:
    """Take-overs from a bench; what they waited for, and whom they ended."""

    bench: Bench
    waits: list[str] = field(default_factory=list)
    ended: list[OwnerId] = field(default_factory=list)

    def ledger(self) -> BenchLedger:
        """A ledger that notes whose transactions it ends."""
        ended = self.ended

        class Ledger(BenchLedger):
            async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
                ended.extend(one.id for one in former)
                await super().finish(former, commit=commit)

        return Ledger(self.bench.durable)

    async def take_over(self, store: BenchStore, ledger: BenchLedger | None = None) -> TakenOver:
        async def opened() -> BenchStore:
            return store

        async def bounded(work: Coroutine[Any, Any, Any], what: str) -> Any:  # noqa: ANN401 - as the work
            self.waits.append(what)
            return await work

        return await take_over(
            PARTITION,
            app=APP,
            identity=IDENTITY,
            ledger=ledger or self.ledger(),
            open_store=opened,
            recovery=Recovery(),
            former=[NEW_OWNER],
            transactions=asyncio.Semaphore(1),
            bounded=bounded,
            configurations=ConfigurationCache(),
            address=AT,
        )


@pytest.fixture
async def durable_bench() -> Bench:
    """A bench with a checkpoint of a configuration and an event."""
    bench = Bench()
    bench.configure()
    bench.fire("s", "a")
    await bench.live()
    bench.durable.calls.clear()
    return bench


@pytest.fixture
def takes(durable_bench: Bench) -> TakeOvers:
    return TakeOvers(durable_bench)


def of_older_release(mark: bytes) -> bytes:
    """``mark`` as a release before claims has written it."""
    return dumps({**as_object(loads(mark), ""), "version": 2})


async def test_the_owner_of_an_older_release_is_fenced_and_its_transaction_ended(
    takes: TakeOvers, caplog: pytest.LogCaptureFixture
) -> None:
    durable = takes.bench.durable
    durable.unfinished = len(durable.changelog)
    await takes.take_over(BenchStore())
    older = OwnerId("memory-0")
    assert takes.ended == [NEW_OWNER.id, older]
    assert takes.waits == ["the fence of an older release", "the end of a former owner's transaction"]
    (line,) = [line for line in caplog.records if "brokers have lost the end" in line.message]
    assert vars(line)["partition"] == PARTITION


async def test_a_checkpoint_that_an_older_release_makes_before_it_is_fenced_counts(
    takes: TakeOvers, caplog: pytest.LogCaptureFixture
) -> None:
    durable, stored = takes.bench.durable, dict(takes.bench.store.entries)
    mark = of_older_release(stored[CHECKPOINT_KEY])
    durable.changelog.append((CHECKPOINT_KEY, mark))

    class Ledger(BenchLedger):
        async def fence_old_release(self) -> OwnerId:
            """The old owner commits once more before the fence, and the end of this commit is lost."""
            durable.unfinished = len(durable.changelog)
            durable.ended = True
            durable.changelog += [(b"late", stored[b"s"]), (CHECKPOINT_KEY, mark)]
            return await super().fence_old_release()

    store = BenchStore()
    await takes.take_over(store, Ledger(durable))
    assert store.entries[b"late"] == stored[b"s"]
    assert durable.calls.count("fence the older release") == 1
    assert "commit what is unfinished" in durable.calls
    (line,) = [line for line in caplog.records if "brokers have lost the end" in line.message]
    assert vars(line)["partition"] == PARTITION


async def test_a_checkpoint_of_an_owner_with_a_claim_needs_no_fence_of_older_releases(
    takes: TakeOvers,
) -> None:
    await takes.take_over(BenchStore())
    assert "fence the older release" not in takes.bench.durable.calls


async def test_an_older_release_whose_transaction_was_ended_is_not_fenced_twice(takes: TakeOvers) -> None:
    durable = takes.bench.durable
    mark = of_older_release(takes.bench.store.entries[CHECKPOINT_KEY])
    durable.changelog.append((CHECKPOINT_KEY, mark))
    durable.unfinished = len(durable.changelog)
    await takes.take_over(BenchStore())
    assert durable.calls.count("fence the older release") == 1


async def test_a_store_that_ends_where_an_aborted_transaction_begins_is_kept(takes: TakeOvers) -> None:
    durable, store = takes.bench.durable, takes.bench.store
    begin = store.position()
    assert begin == len(durable.changelog)
    durable.changelog.append((b"aborted", b"{}"))
    durable.unfinished, durable.ended = begin, False
    durable.calls.clear()
    await takes.take_over(store)
    assert "abort what is unfinished" in durable.calls
    assert f"changelog {begin}-{begin + 1}" in durable.calls
    assert not any(call.startswith("changelog 0-") for call in durable.calls)


async def test_a_store_with_entries_of_a_transaction_that_is_aborted_is_wiped_before_the_second_recovery(
    takes: TakeOvers,
) -> None:
    durable, stored = takes.bench.durable, dict(takes.bench.store.entries)
    durable.changelog.append((CHECKPOINT_KEY, of_older_release(stored[CHECKPOINT_KEY])))
    after = len(durable.changelog)

    class Ledger(BenchLedger):
        async def fence_old_release(self) -> OwnerId:
            """The end of a commit is lost of which the first recovery has read a part."""
            durable.unfinished, durable.ended = after - 1, False
            durable.changelog.append((b"late", b"{}"))
            return await super().fence_old_release()

    store = BenchStore()
    await takes.take_over(store, Ledger(durable))
    assert "abort what is unfinished" in durable.calls
    reads = [call for call in durable.calls if call.startswith("changelog")]
    assert reads == [f"changelog 0-{after}", f"changelog 0-{after + 1}"]
    assert decode_checkpoint(store.entries[CHECKPOINT_KEY]).offset == 2


@pytest.mark.parametrize("at", [0, 1], ids=["first recovery", "after the fence of an older release"])
async def test_entries_that_cannot_be_read_name_the_address_of_the_app(takes: TakeOvers, at: int) -> None:
    durable = takes.bench.durable
    ledger = takes.ledger()
    if at:
        mark = of_older_release(takes.bench.store.entries[CHECKPOINT_KEY])
        durable.changelog.append((CHECKPOINT_KEY, mark))

        class Ledger(BenchLedger):
            async def fence_old_release(self) -> OwnerId:
                durable.changelog.append((b"late", b"{}"))
                durable.unreadable = range(len(durable.changelog) - 1, len(durable.changelog))
                return await super().fence_old_release()

        ledger = Ledger(durable)
    else:
        durable.unreadable = range(1, 2)
    with pytest.raises(TakeOverError) as refused:
        await takes.take_over(BenchStore(), ledger)
    assert str(refused.value).endswith(advice.rebuild(AT))


async def test_a_rebuild_that_began_at_the_end_of_the_take_over_does_not_count_for_it(
    takes: TakeOvers,
) -> None:
    """It is of a later owner, and what it writes is not read here."""
    durable = takes.bench.durable
    durable.unreadable = range(1, 2)
    mark = decode_checkpoint(takes.bench.store.entries[CHECKPOINT_KEY])
    end = len(durable.changelog)
    rebuilt = (CHECKPOINT_KEY, encode_checkpoint(replace(mark, rebuilt=end)))
    durable.changelog.append((CHECKPOINT_KEY, encode_checkpoint(mark)))

    class Ledger(BenchLedger):
        async def extent(self) -> Extent:
            extent = await super().extent()
            if rebuilt not in durable.changelog:
                durable.changelog.append(rebuilt)
            return extent

    with pytest.raises(TakeOverError, match="the batch at 1 cannot be read"):
        await takes.take_over(BenchStore(), Ledger(durable))


def logged_partitions(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The partitions of the log lines that say that a store is read again."""
    return [vars(line)["partition"] for line in caplog.records if "read again" in line.message]


async def test_a_store_of_another_changelog_is_logged_with_its_partition(
    takes: TakeOvers, caplog: pytest.LogCaptureFixture
) -> None:
    takes.bench.store.write({b"ghost": b"{}"}, position=99)
    await takes.take_over(takes.bench.store)
    assert logged_partitions(caplog) == [PARTITION]


async def test_each_reading_of_a_store_is_logged_with_its_partition(
    takes: TakeOvers, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is of before a rebuild; then entries of before the rebuild cannot be read."""
    durable = takes.bench.durable
    takes.bench.rebuild_changelog()
    durable.unreadable = range(1, 2)
    await takes.take_over(takes.bench.store)
    assert logged_partitions(caplog) == [PARTITION, PARTITION]


async def test_a_second_recovery_is_logged_with_its_partition(
    takes: TakeOvers, caplog: pytest.LogCaptureFixture
) -> None:
    """The changelog is rebuilt before the owner of an older release is fenced."""
    durable, rebuilt = takes.bench.durable, takes.bench.rebuilt_mark()
    mark = of_older_release(takes.bench.store.entries[CHECKPOINT_KEY])
    durable.changelog.append((CHECKPOINT_KEY, mark))

    class Ledger(BenchLedger):
        async def fence_old_release(self) -> OwnerId:
            durable.changelog.append((CHECKPOINT_KEY, rebuilt))
            return await super().fence_old_release()

    await takes.take_over(BenchStore(), Ledger(durable))
    assert logged_partitions(caplog) == [PARTITION]


async def test_a_store_that_is_read_again_and_needs_unreadable_entries_names_the_address_of_the_app(
    takes: TakeOvers,
) -> None:
    durable = takes.bench.durable
    durable.changelog.append((CHECKPOINT_KEY, takes.bench.rebuilt_mark()))
    durable.unreadable = range(1, 2)
    durable.newest_unreadable = UnreadableEntriesError(
        "the batch at 9 cannot be read", offset=9, last=9, lasting=True
    )
    with pytest.raises(TakeOverError) as refused:
        await takes.take_over(takes.bench.store)
    assert str(refused.value).endswith(advice.rebuild(AT))


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (UsageError("to repair"), True),
        (TakeOverError("to repair"), True),
        (LogError("a broker"), False),
        (FencedError("another owner"), False),
        (TaskEndedError("a task"), False),
        (ValueError("a fault of the program"), False),
    ],
)
def test_a_refusal_is_what_a_person_must_repair(error: BaseException, *, refusal: bool) -> None:
    assert is_refusal(error) is refusal


def test_unreadable_entries_say_where_and_why() -> None:
    error = UnreadableEntriesError("a wrong CRC", place="partition 3", offset=5, last=9, lasting=False)
    assert (str(error), error.fault, error.offset, error.last, error.lasting) == (
        "partition 3: a wrong CRC",
        "a wrong CRC",
        5,
        9,
        False,
    )
