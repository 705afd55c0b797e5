"""The promises of every Ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, PartitionedPlace, event, place_of
from tests.engine.samples import command, decided, revoke
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.memory import ManualClock, MemoryLedger
from triggerstream.core.commands import Decision
from triggerstream.core.errors import LogError
from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.engine.partitioned.ports import Commit, FencedError, Ledger
from triggerstream.wire import commands
from triggerstream.wire.marks import CHECKPOINT_KEY, RESERVED, CheckpointMark, Identity, encode_checkpoint
from triggerstream.wire.records import Record

MARK = RESERVED + b"mark"
IDENTITY = Identity(cluster="c", topic="t", partitions=1)


@pytest.fixture(params=["memory partition", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PartitionedPlace]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    assert isinstance(place, PartitionedPlace)
    yield place
    await place.close()


@pytest.fixture
async def ledger(place: PartitionedPlace) -> AsyncIterator[Ledger]:
    """A ledger that owns the partition."""
    made = await place.owned()
    yield made
    await made.close()


def commit(
    *decisions: Decision,
    states: Mapping[bytes, bytes | None] | None = None,
    marks: Mapping[bytes, bytes | None] | None = None,
    letters: Sequence[DeadLetter] = (),
    offset: int | None = None,
) -> Commit:
    return Commit(
        decided=decided(*decisions),
        states=states or {},
        dead_letters=letters,
        marks=marks or {},
        offset=offset,
    )


def letter(offset: int) -> DeadLetter:
    record = Record(partition=0, offset=offset, arrival_us=1, key=b"s", value=b"%d" % offset)
    return DeadLetter(record=record, reason=f"no {offset}")


async def read(ledger: Ledger, begin: int | None = None) -> dict[bytes, bytes | None]:
    """The entries from ``begin`` to the end, the last of each key. Checks the positions of the chunks."""
    extent = await ledger.extent()
    entries: dict[bytes, bytes | None] = {}
    position = extent.begin if begin is None else begin
    async with aclosing(ledger.changelog(position, extent.end)) as chunks:
        async for found, after in chunks:
            assert after >= position
            entries.update(found)
            position = after
    assert position == extent.end
    return entries


async def test_a_new_partition_has_nothing(ledger: Ledger) -> None:
    extent = await ledger.extent()
    assert (extent.begin, extent.end, extent.log_begin, extent.log_end) == (0, 0, 0, 0)
    assert await ledger.committed() is None
    assert await read(ledger) == {}


async def test_the_extent_has_the_end_of_the_log(place: PartitionedPlace, ledger: Ledger) -> None:
    await place.log.append([event("s", "a"), event("s", "b")])
    extent = await ledger.extent()
    assert (extent.log_begin, extent.log_end) == (0, 2)


async def test_all_of_a_commit_is_durable_when_it_returns(place: PartitionedPlace, ledger: Ledger) -> None:
    await place.log.append([event("s", "a")] * 8)
    await ledger.commit(
        commit(
            command(1),
            revoke(1),
            command(2),
            states={b"s": b"1", "süß".encode(): b"2"},
            marks={MARK: b"m"},
            letters=[letter(3), letter(7)],
            offset=8,
        )
    )
    assert await read(ledger) == {b"s": b"1", "süß".encode(): b"2", MARK: b"m"}
    assert await ledger.committed() == 8
    assert [commands.decode(value) for value in await place.decided()] == [command(1), revoke(1), command(2)]
    await place.shown()
    found = await place.reader().dead_letters()
    assert [(one.offset, one.key, one.value, one.reason) for one in found] == [
        (3, b"s", b"3", "no 3"),
        (7, b"s", b"7", "no 7"),
    ]


@pytest.mark.parametrize("how", [True, False], ids=["commit", "abort"])
async def test_to_finish_what_is_not_there_changes_nothing(ledger: Ledger, how: bool) -> None:  # noqa: FBT001
    await ledger.commit(commit(states={b"s": b"1"}))
    assert await read(ledger) == {b"s": b"1"}  # Kafka answers a commit before it writes the markers
    assert (await ledger.extent()).unfinished is None
    await ledger.finish((), commit=how)
    assert await read(ledger) == {b"s": b"1"}
    await ledger.commit(commit(states={b"s": b"2"}))
    assert await read(ledger) == {b"s": b"2"}


async def test_what_is_committed_is_not_undone(ledger: Ledger) -> None:
    first = await ledger.commit(commit(states={b"s": b"1"}))
    second = await ledger.commit(commit(states={b"s": b"2"}))
    end = (await ledger.extent()).end
    assert [at for at in (0, first, second) if at < end and await ledger.is_undone(at)] == []


async def test_a_later_entry_takes_the_place_of_the_former_and_one_without_value_deletes(
    ledger: Ledger,
) -> None:
    await ledger.commit(commit(states={b"a": b"1", b"b": b"1", b"c": b""}))
    await ledger.commit(commit(states={b"a": b"2", b"b": None}, marks={MARK: b"m"}))
    assert await read(ledger) == {b"a": b"2", b"b": None, b"c": b"", MARK: b"m"}


async def test_reading_goes_on_from_the_position_of_a_commit(ledger: Ledger) -> None:
    first = await ledger.commit(commit(states={b"a": b"1"}, marks={MARK: b"1"}))
    second = await ledger.commit(commit(states={b"b": b"2"}, marks={MARK: b"2"}))
    assert 0 < first < second
    assert await read(ledger, first) == {b"b": b"2", MARK: b"2"}
    assert await read(ledger, second) == {}
    third = await ledger.commit(commit(states={b"c": b"3"}))
    assert await read(ledger, second) == {b"c": b"3"}
    assert third > second


async def test_a_range_ends_before_its_end(ledger: Ledger) -> None:
    first = await ledger.commit(commit(states={b"a": b"1"}))
    await ledger.commit(commit(states={b"b": b"2"}))
    found: dict[bytes, bytes | None] = {}
    async with aclosing(ledger.changelog(0, first)) as chunks:
        async for entries, after in chunks:
            found.update(entries)
            assert after <= first
    assert found == {b"a": b"1"}


async def test_a_commit_without_entries_moves_the_group_and_has_no_position(ledger: Ledger) -> None:
    await ledger.commit(commit(states={b"a": b"1"}, offset=1))
    assert await ledger.commit(commit(offset=5)) == 0
    assert await ledger.committed() == 5
    await ledger.commit(commit(states={b"a": b"2"}))
    assert await ledger.committed() == 5, "a commit without an offset leaves it"
    assert await read(ledger) == {b"a": b"2"}


async def test_a_commit_has_any_number_of_entries(place: PartitionedPlace, ledger: Ledger) -> None:
    states: dict[bytes, bytes | None] = {b"s%05d" % n: b"x" * 500 for n in range(5_000)}
    states[b"large"] = bytes(range(256)) * 3_000
    position = await ledger.commit(commit(*(command(n) for n in range(500)), states=states))
    assert await read(ledger) == states
    assert await read(ledger, position) == {}
    assert [commands.decode(value).id for value in await place.decided()] == [f"c{n}" for n in range(500)]


async def test_a_ledger_that_was_not_started_commits_nothing(place: PartitionedPlace) -> None:
    ledger = place.ledger()
    with pytest.raises(LogError, match="not started"):
        await ledger.commit(commit(states={b"a": b"1"}))
    assert (await ledger.extent()).end == 0
    await ledger.close()


async def test_a_former_owner_commits_nothing_once_another_has_fenced(
    place: PartitionedPlace, ledger: Ledger
) -> None:
    await ledger.commit(commit(states={b"a": b"1"}))
    current = await place.owned()
    with pytest.raises(FencedError):
        await ledger.commit(commit(command(1), states={b"a": b"late"}, letters=[letter(0)], offset=9))
    with pytest.raises(LogError):
        await ledger.commit(commit(states={b"a": b"later"}))
    await current.commit(commit(states={b"b": b"2"}))
    assert await read(current) == {b"a": b"1", b"b": b"2"}
    assert await current.committed() is None
    assert await place.decided() == []
    await current.close()


async def test_an_archive_has_all_entries_of_a_range_with_their_last_values(ledger: Ledger) -> None:
    assert isinstance(ledger, MemoryLedger | KafkaLedger)
    await ledger.commit(commit(states={b"a": b"1", b"b": b"1"}))
    await read(ledger)  # Kafka answers a commit before it writes the markers
    middle = (await ledger.extent()).end
    await ledger.commit(commit(states={b"a": b"2", b"c": None}))
    await read(ledger)
    end = (await ledger.extent()).end
    assert await ledger.salvage(0, end) == [{b"a": b"2", b"b": b"1", b"c": None}]
    assert await ledger.salvage(middle, end) == [{b"a": b"2", b"c": None}]
    assert await ledger.salvage(0, middle) == [{b"a": b"1", b"b": b"1"}]


async def test_the_newest_checkpoint_before_an_end_says_where_a_rebuild_began(ledger: Ledger) -> None:
    ends = [0]
    for rebuilt in (-1, 7, 9):
        mark = CheckpointMark(offset=1, identity=IDENTITY, rebuilt=rebuilt)
        states = {b"s%d" % number: b"x" for number in range(100)}
        await ledger.commit(commit(states=states, marks={CHECKPOINT_KEY: encode_checkpoint(mark)}))
        await read(ledger)  # Kafka answers a commit before it writes the markers
        ends.append((await ledger.extent()).end)
    assert [await ledger.rebuilt(end) for end in ends] == [-1, -1, 7, 9]


async def test_each_owner_finds_what_those_before_it_committed(place: PartitionedPlace) -> None:
    for turn in range(4):
        owner = await place.owned()
        assert await read(owner) == {b"%d" % n: b"x" for n in range(turn)}
        await owner.commit(commit(states={b"%d" % turn: b"x"}, offset=turn))
        await owner.close()
    last = await place.owned()
    assert await last.committed() == 3
    await last.close()


async def test_a_commit_that_is_given_up_is_made_durable_as_a_whole_or_not_at_all(
    place: PartitionedPlace, ledger: Ledger
) -> None:
    states: dict[bytes, bytes | None] = {b"s%d" % n: b"x" * 1_000 for n in range(500)}
    committing = asyncio.create_task(ledger.commit(commit(command(1), states=states, marks={MARK: b"m"})))
    await asyncio.sleep(0)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    after = await place.owned()
    found = await read(after)
    assert found in ({}, states | {MARK: b"m"})
    assert len(await place.decided()) == (1 if found else 0)
    await after.close()
