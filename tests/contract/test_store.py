"""What every store of the embedded engine does, and what people see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.samples import command, decided, revoke
from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryLog, MemoryReader, MemoryStore
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.core.answers import HandOverState
from triggerstream.core.commands import Decision
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId, CommandId, ConfigHash, SessionId
from triggerstream.core.projections import SilentCommand
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Stored
from triggerstream.engine.ports import Log, Reader, Store
from triggerstream.engine.rows import PublishedRow, RefusedRow, RescheduledRow, Resumed, SentRow
from triggerstream.wire import commands
from triggerstream.wire.records import NewRecord, Record

APP = AppId("app")


@dataclass(frozen=True)
class Place:
    """Where stores are opened one after the other, as an engine's processes are."""

    log: Log
    reader: Reader
    store: Callable[[AppId], Store]


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    clock = ManualClock()
    opened: list[Store] = []

    def keep(store: Store) -> Store:
        opened.append(store)
        return store

    if request.param == "memory":
        database = MemoryDatabase()
        yield Place(
            MemoryLog(database, clock=clock),
            MemoryReader(database),
            lambda app: keep(MemoryStore(database, app=app, clock=clock)),
        )
        return
    log = SqliteLog(tmp_path, create=True, clock=clock)
    reader = SqliteReader(tmp_path)
    yield Place(log, reader, lambda app: keep(SqliteStore(tmp_path, app=app, log=log, clock=clock)))
    for store in opened:
        await store.close()
    await reader.close()
    await log.close()


@pytest.fixture
async def store(place: Place) -> Store:
    store = place.store(APP)
    await store.open()
    return store


async def reopened(place: Place, store: Store) -> tuple[Store, Resumed]:
    await store.close()
    new = place.store(APP)
    return new, await new.open()


def stored(state: bytes, *, due_us: int | None = None, config: int = 0) -> Stored:
    return Stored(state=state, due_us=due_us, config=config)


def config(text: str, offset: int) -> AppliedConfiguration:
    return AppliedConfiguration(
        config=Configuration(hash=ConfigHash(f"hash {text}"), text=text, tasks=()),
        offset=offset,
        arrival_us=offset,
        number=offset + 1,
    )


def ids(rows: Sequence[object]) -> list[str]:
    return [getattr(row, "command", getattr(row, "id", "")) for row in rows]


# ---- opening --------------------------------------------------------------------------------------


async def test_new_store_begins_at_the_log_s_first_record(place: Place) -> None:
    await place.log.append([NewRecord(key=b"s", value=b"{}")])
    assert await place.store(APP).open() == Resumed()


async def test_second_engine_is_refused_until_the_first_lets_go(place: Place, store: Store) -> None:
    second = place.store(APP)
    with pytest.raises(UsageError, match="another engine"):
        await second.open()
    await store.close()
    await second.open()


async def test_store_of_another_app_is_refused(place: Place, store: Store) -> None:
    await store.close()
    with pytest.raises(UsageError, match=r"belongs to the app `app`, not to `other`"):
        await place.store(AppId("other")).open()
    await place.store(APP).open()


# ---- reading the log ------------------------------------------------------------------------------


async def test_records_are_read_from_an_offset_up_to_the_limit(place: Place, store: Store) -> None:
    await place.log.append([NewRecord(key=b"s%d" % n, value=b"{}") for n in range(5)])
    assert [r.offset for r in await store.read(1, limit=3)] == [1, 2, 3]
    assert [r.key for r in await store.read(3, limit=10)] == [b"s3", b"s4"]
    assert list(await store.read(5, limit=10)) == []
    assert await store.end() == 5


async def test_wait_returns_once_there_is_a_record_to_read(place: Place, store: Store) -> None:
    waiting = asyncio.create_task(store.wait(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await place.log.append([NewRecord(key=b"s", value=b"{}")])
    async with asyncio.timeout(5):
        await waiting
        await store.wait(0)


async def test_wake_ends_the_wait_now_or_the_next(store: Store) -> None:
    async with asyncio.timeout(5):
        store.wake()
        await store.wait(0)
        waiting = asyncio.create_task(store.wait(0))
        await asyncio.sleep(0)
        store.wake()
        await waiting


# ---- checkpoints ----------------------------------------------------------------------------------


async def test_checkpoint_outlives_the_engine(place: Place, store: Store) -> None:
    await store.commit(
        Checkpoint(
            partition=0,
            offset=3,
            states={SessionId("a"): stored(b"A", due_us=70), SessionId("b"): stored(b"B")},
            decided=decided(command(1), command(2)),
            rules=Rules(app=APP).apply(config("{}", 2)),
        )
    )
    store, resumed = await reopened(place, store)
    assert (resumed.offset, dict(resumed.due), resumed.scanned) == (3, {"a": 70}, -1)
    assert [(c.offset, c.text, c.hash) for c in resumed.configurations] == [(2, "{}", "hash {}")]
    state_of = await store.load([SessionId("a"), SessionId("nobody")])
    assert [state_of(SessionId(s)) for s in ("a", "b", "nobody", "no one")] == [b"A", b"B", None, None]
    rows = await store.outbox(after=0, limit=10)
    assert ids(rows) == ["c1", "c2"]
    assert [commands.decode(row.value) for row in rows] == [command(1), command(2)]
    assert rows[-1].number == resumed.outbox


async def test_many_states_are_loaded_at_once(store: Store) -> None:
    sessions = [SessionId(f"s{n}") for n in range(2_000)]
    states = {session: stored(session.encode()) for session in sessions[::2]}
    await store.commit(Checkpoint(partition=0, offset=1, states=states))
    state_of = await store.load(sessions)
    assert {s: state_of(s) for s in sessions} == {
        s: s.encode() if n % 2 == 0 else None for n, s in enumerate(sessions)
    }


async def test_later_state_takes_the_place_of_the_former(place: Place, store: Store) -> None:
    session = SessionId("a")
    await store.commit(Checkpoint(partition=0, offset=1, states={session: stored(b"1", due_us=5)}))
    await store.commit(Checkpoint(partition=0, offset=2, states={session: stored(b"2")}))
    store, resumed = await reopened(place, store)
    assert dict(resumed.due) == {}
    assert (await store.load([session]))(session) == b"2"


async def test_rehomed_records_join_the_log(store: Store) -> None:
    record = NewRecord(key=b"s", value=b"{}", headers=(("origin", b"0:0:0"),))
    await store.commit(Checkpoint(partition=0, offset=0, rehomed=(record,)))
    (found,) = await store.read(0, limit=10)
    assert (found.key, found.value, found.headers) == (b"s", b"{}", record.headers)


# ---- the outbox -----------------------------------------------------------------------------------


async def outbox(store: Store) -> list[str]:
    return ids(await store.outbox(after=0, limit=100))


def checkpoint(*decisions: Decision, settled: Sequence[str] = ()) -> Checkpoint:
    return Checkpoint(
        partition=0, offset=1, decided=decided(*decisions), settled=tuple(CommandId(c) for c in settled)
    )


async def test_rows_are_numbered_in_the_order_decided_and_paged(store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2)))
    assert await store.commit(checkpoint(command(3))) == first + 2
    assert ids(await store.outbox(after=first, limit=1)) == ["c2"]
    assert ids(await store.outbox(after=first, limit=9)) == ["c2", "c3"]


async def test_row_stays_until_it_is_sent_and_settled(store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2)))
    await store.sent([SentRow(number=first, sent_us=9)])
    assert [(r.command, r.sent_us) for r in await store.outbox(after=0, limit=9)] == [("c1", 9), ("c2", None)]
    await store.commit(checkpoint(settled=["c1", "c2"]))
    assert await outbox(store) == ["c2"]
    await store.sent([SentRow(number=first + 1, sent_us=9)])
    assert await outbox(store) == []


async def test_hand_over_noted_with_the_checkpoint_that_settles_it_ends_the_row(store: Store) -> None:
    first = await store.commit(checkpoint(command(1)))
    await store.commit(checkpoint(settled=["c1"]), sent=[SentRow(number=first, sent_us=9)])
    assert await outbox(store) == []


async def test_command_settled_by_the_batch_that_decided_it_is_still_handed_over(store: Store) -> None:
    await store.commit(checkpoint(command(1), settled=["c1"]))
    assert await outbox(store) == ["c1"]


async def test_resend_takes_the_place_of_the_row_at_the_end(store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2)))
    await store.sent([SentRow(number=first, sent_us=9)])
    await store.commit(checkpoint(command(1, attempt=1)))
    assert await outbox(store) == ["c2", "c1"]


async def test_revocation_ends_a_command_that_was_not_sent_and_goes_once_sent(store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2)))
    await store.sent([SentRow(number=first, sent_us=9)])
    number = await store.commit(checkpoint(revoke(1), revoke(2), settled=["c1", "c2"]))
    rows = await store.outbox(after=0, limit=9)
    assert [commands.decode(row.value) for row in rows] == [revoke(1), revoke(2)]
    await store.sent([SentRow(number=number, sent_us=9), SentRow(number=number + 1, sent_us=9)])
    assert await outbox(store) == []


async def test_command_cancelled_by_the_batch_that_decided_it_is_not_handed_over(store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2), revoke(1), settled=["c1"]))
    rows = await store.outbox(after=0, limit=9)
    assert [commands.decode(row.value) for row in rows] == [command(2), revoke(1)]
    assert [row.number for row in rows] == [first + 1, first + 2]


async def test_command_sent_again_by_the_batch_that_decided_it_has_one_row(store: Store) -> None:
    await store.commit(checkpoint(command(1), command(1, attempt=1)))
    (row,) = await store.outbox(after=0, limit=9)
    assert commands.decode(row.value) == command(1, attempt=1)


async def test_refused_command_is_a_dead_letter_and_a_failed_event(place: Place, store: Store) -> None:
    first = await store.commit(checkpoint(command(1)))
    failed = NewRecord(key=b"s1", value=b'{"type":"triggerstream.task.failed"}')
    refused = RefusedRow(number=first, reason="not on the list", failed=failed)
    await store.refuse(refused)
    await store.refuse(refused)
    assert await outbox(store) == []
    (letter,) = await place.reader.dead_letters()
    assert (letter.offset, letter.key, letter.reason) == (None, b"s1", "not on the list")
    assert commands.decode(letter.value or b"") == command(1)
    assert [(r.key, r.value) for r in await store.read(0, limit=9)] == [(b"s1", failed.value)]


# ---- configurations -------------------------------------------------------------------------------


async def test_configurations_that_all_sessions_are_past_are_forgotten(place: Place, store: Store) -> None:
    rules = Rules(app=APP).apply(config("1", 0)).apply(config("2", 5)).apply(config("3", 9))
    states = {SessionId("a"): stored(b"", config=5), SessionId("b"): stored(b"", config=9)}
    await store.commit(Checkpoint(partition=0, offset=10, states=states, rules=rules))
    kept = await store.forget(rules)
    assert [applied.offset for applied in kept.history] == [5, 9]
    assert [(c.offset, c.number) for c in await place.reader.configurations()] == [(5, 6), (9, 10)]
    assert await store.forget(kept) == kept


async def test_without_sessions_only_the_configuration_in_force_is_kept(store: Store) -> None:
    rules = Rules(app=APP).apply(config("1", 0)).apply(config("2", 5))
    await store.commit(Checkpoint(partition=0, offset=10, rules=rules))
    assert [applied.offset for applied in (await store.forget(rules)).history] == [5]


async def test_unmigrated_sessions_are_paged_while_some_migrate(store: Store) -> None:
    states = {SessionId(f"s{n}"): stored(b"%d" % n, config=n % 3 - 1) for n in range(9)}
    await store.commit(Checkpoint(partition=0, offset=10, states=states))
    first = await store.unmigrated(1, after=None, limit=4)
    await store.commit(Checkpoint(partition=0, offset=11, states={first[1].session: stored(b"", config=1)}))
    rest = await store.unmigrated(1, after=first[-1].place, limit=10)
    assert {one.session for one in (*first, *rest)} == {f"s{n}" for n in range(9) if n % 3 != 2}
    assert len(first) + len(rest) == 6
    assert {one.session: one.state for one in first}.items() <= {
        s: v.state for s, v in states.items()
    }.items()


async def test_rescheduled_timers_and_the_end_of_the_scan_outlive_the_engine(
    place: Place, store: Store
) -> None:
    states = {SessionId("a"): stored(b"A", due_us=70), SessionId("b"): stored(b"B", due_us=80)}
    await store.commit(Checkpoint(partition=0, offset=10, states=states))
    await store.reschedule([RescheduledRow(session=SessionId("a"), due_us=75, config=0)])
    await store.reschedule([RescheduledRow(session=SessionId("b"), due_us=None, config=6)], scanned=6)
    store, resumed = await reopened(place, store)
    assert (dict(resumed.due), resumed.scanned) == ({"a": 75}, 6)
    assert (await store.load([]))(SessionId("b")) == b"B"
    assert [one.session for one in await store.unmigrated(6, after=None, limit=9)] == ["a"]


# ---- what people see ------------------------------------------------------------------------------


async def test_reader_finds_a_session(place: Place, store: Store) -> None:
    await store.commit(
        Checkpoint(partition=0, offset=1, states={SessionId("survey 42"): stored(b"S", due_us=7)})
    )
    found = await place.reader.session(SessionId("survey 42"))
    assert found is not None
    assert (found.id, found.state, found.due_us) == ("survey 42", b"S", 7)
    assert await place.reader.session(SessionId("survey")) is None


async def test_reader_shows_what_was_sent_long_ago(place: Place, store: Store) -> None:
    first = await store.commit(checkpoint(command(1), command(2), command(3)))
    await store.sent([SentRow(number=first, sent_us=50), SentRow(number=first + 1, sent_us=90)])
    assert ids(await place.reader.outbox()) == ["c1", "c2", "c3"]
    assert ids(await place.reader.outbox(sent_before_us=60)) == ["c1"]
    assert ids(await place.reader.outbox(sent_before_us=100, after=first)) == ["c2"]


async def test_reader_shows_progress(place: Place, store: Store) -> None:
    await place.log.append([NewRecord(key=b"s", value=b"{}") for _ in range(5)])
    records: Sequence[Record] = await store.read(0, limit=3)
    letter = DeadLetter(record=records[0], reason="no")
    first = await store.commit(
        Checkpoint(partition=0, offset=3, decided=decided(command(1), command(2)), dead_letters=(letter,))
    )
    await store.sent([SentRow(number=first, sent_us=50)])
    progress = await place.reader.progress()
    assert (progress.offset, progress.end, progress.lag) == (3, 5, 2)
    assert (progress.outbox, progress.dead_letters) == (2, 1)


# ---- progress of a hand-over ------------------------------------------------------------------------


async def test_a_reader_knows_how_far_each_command_was_handed_over(place: Place) -> None:
    store = place.store(APP)
    await store.open()
    checkpoint = Checkpoint(partition=0, offset=1, decided=decided(*(command(n) for n in range(4))))
    first = await store.commit(checkpoint)
    await store.published([PublishedRow(number=first + 1, published_us=5)])
    await store.published(
        [PublishedRow(number=first + 2, published_us=5), PublishedRow(number=77, published_us=5)]
    )
    await store.sent([SentRow(number=first + 2, sent_us=8)])
    asked = [
        SilentCommand(instance=one.instance, command=one.id, attempt=0, decided_at=0)
        for one in (command(number) for number in range(5))
        if one.id != "c3"
    ]
    found = await place.reader.hand_overs(asked)
    assert {name: (one.state, one.at_us) for name, one in found.items()} == {
        "c0": (HandOverState.DECIDED, None),
        "c1": (HandOverState.UNCONFIRMED, 5),
        "c2": (HandOverState.HANDED_OVER, 8),
        "c4": (HandOverState.UNKNOWN, None),
    }
