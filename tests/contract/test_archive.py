"""The promises of every Archive and RecordReader, about what a real fold has made durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.contract.places import (
    KAFKA,
    EmbeddedPlace,
    KafkaPlace,
    MemoryPartitionPlace,
    PartitionedPlace,
    Place,
    event,
    place_of,
)
from triggerstream.adapters.memory import InMemoryRecords, ManualClock
from triggerstream.core.commands import Revoke
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.events import Cancel, Failed
from triggerstream.core.ids import CommandId, InstanceId, SessionId
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.engine.replay.archive import Archive, RecordReader, fold_on, refold_of
from triggerstream.engine.replay.refold import Kept, Refolded, differences
from triggerstream.engine.rows import RefusedRow, SentRow
from triggerstream.wire import commands
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord, Record

TASKS = """{
    "t": {"after": ["a", "b"], "run": "tasks.t", "retry": {"max": 1, "backoff": "1h"}},
    "u": {"after": ["c"], "run": "tasks.u"}
}"""


@pytest.fixture(params=["memory", "sqlite", "memory partition", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A session with a task that waits for its second try, one that waits for a trigger, a dead letter."""
    place = await place_of(request.param, request, tmp_path, ManualClock())
    await place.configure(TASKS)
    await place.fire("s", "a", "b", "c")
    await place.fire("u", "a")
    await place.log.append([NewRecord(key=b"bad", value=b"no JSON")])
    await place.fold()
    for value in await place.decided():
        command = commands.decode(value)
        if command.instance == "t#0":
            failed = Failed(instance=InstanceId("t#0"), command=CommandId(command.id), error="e")
            await place.log.append([NewRecord(key=b"s", value=encode(failed))])
    await place.configure(TASKS + " // 2")
    await place.fold()
    yield place
    await place.close()


END = 8
"""The offset after the last record of such a place."""


def ignore(partition: int, done: int, total: int) -> None:
    assert partition == 0
    assert 0 <= done <= total


async def refolded(archive: Archive, kept: Kept, *, end: int = END) -> Refolded:
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, 0, end, ignore)
    return refold.result()


async def offsets(archive: Archive, begin: int, end: int) -> list[int]:
    async with aclosing(archive.records(begin, end)) as pieces:
        return [record.offset async for piece in pieces for record in piece]


def values(decisions: Collection[bytes]) -> set[CommandId]:
    return {commands.decode(value).id for value in decisions}


@pytest.mark.parametrize("running", [True, False], ids=["while an engine runs", "while none does"])
async def test_what_an_engine_kept_is_what_the_log_gives(place: Place, *, running: bool) -> None:
    if not running:
        await place.stop()
    archive = place.archive()
    kept = await archive.kept()
    assert (kept.offset, kept.log_begin, kept.log_end) == (END, 0, END)
    assert set(kept.states) == {b"s", b"u"}
    assert kept.configurations[-1].offset == END - 1
    assert list(differences(await refolded(archive, kept), kept)) == []
    again = await place.archive().kept()
    assert again.states == kept.states, "asking changes nothing"


async def test_it_has_the_records_of_its_partition_in_order_up_to_the_end(place: Place) -> None:
    archive = place.archive()
    assert (archive.app, archive.number, archive.partitions) == (place.app, 0, 1)
    assert archive.control is None
    assert archive.address
    assert await offsets(archive, 0, END) == list(range(END))
    assert await offsets(archive, 2, 5) == [2, 3, 4]
    assert await offsets(archive, 5, 5) == []
    assert await offsets(archive, END, END) == []


async def test_no_decision_is_missing_from_what_is_kept_and_what_was_decided(place: Place) -> None:
    archive = place.archive()
    kept = await archive.kept()
    decided = values((await archive.decided(0)).positions)
    if isinstance(place, PartitionedPlace):
        assert kept.commands is None
        assert decided == values(await place.decided())
    else:
        assert decided == set()
        assert set(kept.commands or ()) == values(await place.decided())


async def test_replacing_brings_back_what_was_lost_and_takes_away_what_the_log_does_not_have(
    place: Place,
) -> None:
    await place.stop()
    archive = place.archive()
    await archive.fence()
    kept = await archive.kept()
    right = await refolded(archive, kept)
    waits = right.states[SessionId("u")]
    damaged = replace(right, states={SessionId("u"): waits, SessionId("ghost"): waits})
    await archive.replace(damaged, offset=END)
    found = await archive.kept()
    assert set(found.states) == {b"u", b"ghost"}
    places = {(one.session, one.place) for one in differences(right, found)}
    assert {("s", ""), ("ghost", "")} <= places
    await archive.replace(right, offset=END)
    assert list(differences(right, await archive.kept())) == []
    await archive.close()
    await place.fire("u", "b")
    before = len(await place.decided())
    await place.fold()
    assert len(await place.decided()) == before + 1, "nothing is decided again, and nothing forgotten"
    after = await place.archive().kept()
    assert after.offset == END + 1


async def test_an_engine_goes_on_at_the_offset_that_was_given(place: Place) -> None:
    await place.stop()
    archive = place.archive()
    await archive.fence()
    kept = await archive.kept()
    early = await refolded(archive, kept, end=1)
    await archive.replace(early, offset=1)
    assert (await archive.kept()).offset == 1
    await archive.close()
    await place.fold()
    after = await place.archive().kept()
    assert (after.offset, after.states) == (END, kept.states)


async def test_it_replaces_nothing_before_it_has_fenced(place: Place) -> None:
    await place.stop()
    archive = place.archive()
    kept = await archive.kept()
    found = await refolded(archive, kept)
    with pytest.raises(LogError):
        await archive.replace(replace(found, states={}), offset=END)
    assert (await place.archive().kept()).states == kept.states


async def test_an_engine_that_runs_is_shut_out_or_refuses_the_fence(place: Place) -> None:
    archive = place.archive()
    if isinstance(place, EmbeddedPlace):
        with pytest.raises(UsageError, match="another engine"):
            await archive.fence()
        await place.stop()
    await archive.fence()
    if isinstance(place, EmbeddedPlace):
        with pytest.raises(UsageError, match="another engine"):
            await place.store().open()
        return
    assert isinstance(place, PartitionedPlace)
    await place.fire("u", "b")
    await place.fold_and_fail()
    assert isinstance(place.failures[0], FencedError)


async def test_engines_may_start_once_it_is_closed(place: Place) -> None:
    await place.stop()
    archive = place.archive()
    await archive.fence()
    await archive.close()
    await place.fire("v", "a")
    await place.fold()
    assert set((await place.archive().kept()).states) == {b"s", b"u", b"v"}


# ---- an archive with an outbox --------------------------------------------------------------------


EMBEDDED = pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)


async def waiting(place: Place) -> list[str]:
    """The instances in the outbox, in order."""
    return [commands.decode(row.value).instance for row in await place.reader().outbox()]


@EMBEDDED
async def test_commands_that_are_open_come_back_to_the_outbox_and_others_go(place: Place) -> None:
    assert isinstance(place, EmbeddedPlace)
    before = await waiting(place)
    assert before == ["t#0", "u#0"], "the first is settled, and was not handed over yet"
    await place.stop()
    archive = place.archive()
    await archive.fence()
    right = await refolded(archive, await archive.kept())
    await archive.replace(right, offset=END)
    assert await waiting(place) == before
    await archive.replace(replace(right, open={}), offset=END)
    assert await waiting(place) == ["t#0"]
    await archive.replace(right, offset=END)
    assert await waiting(place) == before
    await archive.close()


@EMBEDDED
async def test_a_command_that_was_refused_does_not_come_back(place: Place) -> None:
    assert isinstance(place, EmbeddedPlace)
    store = await place.running()
    (row,) = (r for r in await store.outbox(after=0, limit=9) if commands.decode(r.value).instance == "u#0")
    await store.refuse(RefusedRow(number=row.number, reason="not on the list", failed=None))
    await place.stop()
    archive = place.archive()
    await archive.fence()
    kept = await archive.kept()
    assert row.command in (kept.commands or ())
    await archive.replace(await refolded(archive, kept), offset=END)
    assert await waiting(place) == ["t#0"]
    await archive.close()


@EMBEDDED
async def test_a_revocation_that_waits_stays(place: Place) -> None:
    assert isinstance(place, EmbeddedPlace)
    store = await place.running()
    rows = await store.outbox(after=0, limit=9)
    await store.sent([SentRow(number=row.number, sent_us=1) for row in rows])
    cancel = Cancel(instance=InstanceId("u#0"), reason="r", by="me", generation=0)
    await place.log.append([NewRecord(key=b"s", value=encode(cancel))])
    await place.fold()
    assert await waiting(place) == ["u#0"]
    await place.stop()
    archive = place.archive()
    await archive.fence()
    right = await refolded(archive, await archive.kept(), end=END + 1)
    await archive.replace(right, offset=END + 1)
    (row,) = await place.reader().outbox()
    assert isinstance(commands.decode(row.value), Revoke)
    await archive.close()


# ---- record readers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    place: PartitionedPlace

    def reader(self) -> RecordReader:
        if isinstance(self.place, KafkaPlace):
            return self.place.topic(self.place.topics.events)
        assert isinstance(self.place, MemoryPartitionPlace)
        return InMemoryRecords(self.place.partition.log)


@pytest.fixture(params=["memory partition", KAFKA])
async def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Recorded]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    assert isinstance(place, PartitionedPlace)
    for number in range(5):
        await place.log.append([event("s", f"t{number}")])
    yield Recorded(place)
    await place.close()


async def all_of(reader: RecordReader, begin: int, end: int) -> Sequence[Record]:
    async with aclosing(reader.records(begin, end)) as pieces:
        return [record async for piece in pieces for record in piece]


async def test_a_record_reader_reads_a_range_in_order(recorded: Recorded) -> None:
    reader = recorded.reader()
    assert [record.offset for record in await all_of(reader, 0, 5)] == [0, 1, 2, 3, 4]
    assert [record.offset for record in await all_of(reader, 1, 4)] == [1, 2, 3]
    assert [*await all_of(reader, 3, 3)] == []
    assert list(await all_of(reader, 0, 5)) == list(await recorded.place.records(0))


async def test_a_record_reader_finds_where_a_time_begins(recorded: Recorded) -> None:
    reader = recorded.reader()
    assert await reader.since(0) == (0, 5)
    records = await all_of(reader, 0, 5)
    begin, end = await reader.since(records[3].arrival_us)
    assert end == 5
    assert begin <= 3
    assert all(record.arrival_us < records[3].arrival_us for record in records[:begin])
    assert await reader.since(records[-1].arrival_us + 1_000_000_000) == (5, 5)
