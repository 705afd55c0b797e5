"""The promises of every Reader, about what a real fold has made durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, KafkaPlace, Place, event, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.errors import UsageError
from triggerstream.core.events import Failed
from triggerstream.core.ids import CommandId, InstanceId, SessionId
from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.engine.ports import Reader
from triggerstream.wire import commands
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord, Record

TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t", "retry": {"max": 1, "backoff": "5s"}}}'
NO_ID = SessionId("\udcff")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Place]:
    place = await place_of(request.param, request, tmp_path, clock)
    yield place
    await place.close()


def ids(rows: Sequence[object]) -> list[str]:
    return [getattr(row, "id", "") for row in rows]


# ---- sessions -------------------------------------------------------------------------------------


async def test_an_app_that_no_engine_has_folded_yet_has_a_log_and_nothing_else(place: Place) -> None:
    await place.fire("s", "a")
    reader = place.reader()
    assert [r.key for r in await reader.records()] == [b"s"]
    assert await reader.session(SessionId("s")) is None
    assert [*await reader.sessions()] == []
    assert [*await reader.dead_letters()] == []
    assert [*await reader.configurations()] == []
    progress = await reader.progress()
    assert (progress.offset, progress.end, progress.lag) == (0, 1, 1)


async def test_a_session_is_found_by_its_whole_id(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("survey 42", "a")
    await place.fold()
    reader = place.reader()
    found = await reader.session(SessionId("survey 42"))
    assert found is not None
    assert (found.id, found.due_us, found.known().offset) == ("survey 42", None, 1)
    assert await reader.session(SessionId("survey")) is None
    (row,) = await reader.sessions()
    assert row.state == found.state


async def test_a_session_that_waits_for_a_timer_shows_when_it_is_due(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("s", "a", "b")
    await place.fold()
    (value,) = await place.decided()
    command = commands.decode(value)
    failed = Failed(instance=InstanceId("t#0"), command=CommandId(command.id), error="e")
    await place.log.append([NewRecord(key=b"s", value=encode(failed))])
    await place.fold()
    reader = place.reader()
    found = await reader.session(SessionId("s"))
    record = await reader.record(3)
    assert found is not None
    assert record is not None
    assert found.due_us == record.arrival_us + 5_000_000
    assert [row.due_us for row in await reader.sessions()] == [found.due_us]


async def test_a_reader_that_is_open_sees_what_comes_later(place: Place) -> None:
    reader = place.reader()
    await place.configure(TASKS)
    await place.fire("s", "a")
    await place.fold()
    assert ids(await reader.sessions()) == ["s"]
    await place.fire("s", "b")
    await place.fire("u", "a")
    await place.fold()
    found = await reader.session(SessionId("s"))
    assert found is not None
    assert found.known().offset == 2
    assert ids(await reader.sessions()) == ["s", "u"]
    assert (await reader.progress()).lag == 0


ODD = ["a", "b", "b%", "b1", "b2", "b\U0001f600", "bé", "c"]


async def test_sessions_of_a_prefix_are_paged_in_the_order_of_their_ids(place: Place) -> None:
    await place.configure(TASKS)
    for name in ODD:
        await place.log.append([event(name, "a")])
    await place.fold()
    reader = place.reader()
    seen: list[str] = []
    after: SessionId | None = None
    while page := await reader.sessions(prefix="b", after=after, limit=2):
        seen += ids(page)
        after = page[-1].id
    assert seen == sorted(name for name in ODD if name.startswith("b"))
    assert ids(await reader.sessions(after=SessionId("b2"))) == ["bé", "b\U0001f600", "c"]
    assert ids(await reader.sessions(prefix="b", after=SessionId("a"), limit=1)) == ["b"]
    assert ids(await reader.sessions(prefix="b", after=SessionId("c"))) == []
    assert ids(await reader.sessions(prefix="c", limit=0)) == []


async def test_a_page_does_not_depend_on_the_pages_that_a_reader_was_asked_for_before(place: Place) -> None:
    """A page of a web view, or of a command, is asked of a new reader, or of one that others use as well."""
    await place.configure(TASKS)
    for name in ODD:
        await place.log.append([event(name, "a")])
    await place.fold()
    reader = place.reader()
    assert ids(await reader.sessions(after=SessionId("b2"))) == ["bé", "b\U0001f600", "c"]
    first = await reader.sessions(prefix="b", limit=2)
    assert ids(await reader.sessions(prefix="a")) == ["a"]
    assert ids(await reader.sessions(prefix="b", after=first[-1].id, limit=2)) == ["b1", "b2"]


async def test_what_can_be_no_session_s_id_is_refused(place: Place) -> None:
    await place.configure(TASKS)
    await place.fold()
    reader = place.reader()
    for asking in (
        lambda: reader.session(NO_ID),
        lambda: reader.partition(NO_ID),
        lambda: reader.sessions(prefix=NO_ID),
        lambda: reader.sessions(after=NO_ID),
    ):
        with pytest.raises(UsageError, match="a session id is valid Unicode"):
            await asking()


async def test_a_log_of_one_partition_has_every_session_in_it(place: Place) -> None:
    reader = place.reader()
    assert await reader.partitions() == 1
    assert {await reader.partition(SessionId(name)) for name in ODD} == {0}


# ---- dead letters ---------------------------------------------------------------------------------


async def test_dead_letters_are_paged_and_found_by_offset(place: Place) -> None:
    await place.log.append(
        [NewRecord(key=b"s%d" % n, value=b"%d" % n, headers=(("h", b"x"),)) for n in range(3)]
    )
    records = await place.reader().records()
    await place.add_dead_letters(*(DeadLetter(record=r, reason=f"no {r.offset}") for r in records))
    reader = place.reader()
    first = await reader.dead_letters(limit=2)
    assert [(d.offset, d.key, d.value, d.headers, d.reason) for d in first] == [
        (0, b"s0", b"0", (("h", b"x"),), "no 0"),
        (1, b"s1", b"1", (("h", b"x"),), "no 1"),
    ]
    assert {(d.partition, d.left_out, d.last) for d in first} == {(0, None, None)}
    assert [d.offset for d in await reader.dead_letters(after=first[-1].number)] == [2]
    some = await reader.dead_letters_at({0, 2, 7})
    assert {offset: letter.reason for offset, letter in some.items()} == {0: "no 0", 2: "no 2"}
    assert await reader.dead_letters_at({7}) == await reader.dead_letters_at(set()) == {}


async def test_a_left_out_trigger_is_a_dead_letter_beside_that_of_its_record(place: Place) -> None:
    await place.log.append([NewRecord(key=b"s", value=b"{}", headers=(("h", b"x"),))])
    (record,) = await place.reader().records()
    letters = [
        DeadLetter(
            record=Record(
                partition=0,
                offset=record.offset,
                arrival_us=record.arrival_us,
                key=b"s",
                value=value,
            ),
            reason=f"left out {number}",
            left_out=number,
        )
        for number, value in enumerate((b"follows 0", b"follows 1", b""))  # an empty one was too long
    ]
    await place.add_dead_letters(*letters)
    reader = place.reader()
    found = await reader.dead_letters()
    assert [(d.offset, d.left_out, d.key, d.value, d.headers, d.reason) for d in found] == [
        (0, 0, b"s", b"follows 0", (), "left out 0"),
        (0, 1, b"s", b"follows 1", (), "left out 1"),
        (0, 2, b"s", b"", (), "left out 2"),
    ]
    assert await reader.dead_letters_at({0}) == {}  # the record itself was folded


async def test_a_record_that_cannot_be_folded_is_a_dead_letter_with_its_reason(place: Place) -> None:
    await place.configure(TASKS)
    await place.log.append([NewRecord(key=b"s", value=b"no JSON"), event("s", "a")])
    await place.fold()
    (found,) = await place.reader().dead_letters()
    assert (found.offset, found.key, found.value) == (1, b"s", b"no JSON")
    assert "JSON" in found.reason


# A log in SQLite is one file: it loses no range.
@pytest.mark.parametrize("place", ["memory", KAFKA], indirect=True)
async def test_a_lost_range_is_one_dead_letter(place: Place) -> None:
    await place.fire("s", "a", "b", "c")
    arrival_us = (await place.reader().records(limit=1))[0].arrival_us
    lost = Record(partition=0, offset=0, arrival_us=arrival_us, key=None, value=None)
    await place.add_dead_letters(DeadLetter(record=lost, reason="lost: CRC", last=1))
    (found,) = await place.reader().dead_letters()
    assert (found.offset, found.last, found.reason) == (0, 1, "lost: CRC")


# ---- configurations, records, progress ------------------------------------------------------------


async def test_configurations_are_those_that_a_session_may_have_to_meet(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("s", "a")
    await place.configure(TASKS + " // 2")
    await place.fold()
    found = await place.reader().configurations()
    assert [(c.offset, c.number, c.text) for c in found] == [(0, 1, TASKS), (2, 2, TASKS + " // 2")]
    assert len({c.hash for c in found}) == 2


async def test_records_are_found_by_offset_and_read_on_after_one(place: Place) -> None:
    await place.log.append([NewRecord(key=b"s%d" % n, value=b"{}") for n in range(3)])
    reader = place.reader()
    found = await reader.record(1)
    assert found is not None
    assert (found.key, found.partition, found.offset) == (b"s1", 0, 1)
    assert await reader.record(3) is None
    assert await reader.record(-1) is None
    assert [r.offset for r in await reader.records()] == [0, 1, 2]
    assert [r.offset for r in await reader.records(after=0, limit=1)] == [1]
    assert [r.offset for r in await reader.records(after=1)] == [2]
    assert [*await reader.records(after=2)] == [*await reader.records(limit=0)] == []


async def test_progress_says_what_waits_to_be_folded(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("s", "a", "b")
    await place.fold()
    await place.fire("s", "a", "b")
    progress = await place.reader().progress()
    assert (progress.offset, progress.end, progress.lag) == (3, 5, 2)
    counts = (progress.outbox, progress.dead_letters)
    assert counts == ((None, None) if isinstance(place, KafkaPlace) else (1, 0))


async def test_an_outbox_is_shown_or_the_place_where_commands_wait_is_named(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("s", "a", "b")
    await place.fold()
    reader = place.reader()
    if isinstance(place, KafkaPlace):
        with pytest.raises(UsageError, match="Kafka has no outbox: "):
            await reader.outbox()
        return
    (row,) = await reader.outbox()
    assert (row.session, row.sent_us) == ("s", None)
    assert commands.decode(row.value).id == row.command


async def test_a_reader_leaves_everything_as_it_is(place: Place) -> None:
    await place.configure(TASKS)
    await place.fire("s", "a")
    await place.fold()

    async def seen(reader: Reader) -> object:
        return (
            await reader.progress(),
            [row.state for row in await reader.sessions()],
            [r.offset for r in await reader.records()],
        )

    before, reader = await seen(place.reader()), place.reader()
    assert await seen(reader) == before
    await place.stop()
    assert await seen(reader) == before
    await place.fire("s", "b")
    await place.fold()
    assert len(await place.decided()) == 1
