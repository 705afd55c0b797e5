from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.memory import (
    ManualClock,
    MemoryDatabase,
    MemoryDispatcher,
    MemoryLog,
    MemoryReader,
    MemoryStore,
)
from triggerstream.adapters.sqlite import SqliteLog, SqliteStore
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import ConfigError, LogError, UsageError
from triggerstream.core.events import Body, Cancel, Failed, Finished, Trigger
from triggerstream.core.ids import AppId, CommandId, InstanceId, JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.state import SessionState
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.embedded import engine as engine_module
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.handover.outbox import Outbox
from triggerstream.engine.migration import MOST_VERSIONS, Pace
from triggerstream.engine.timers.service import PAGE, TimerService
from triggerstream.engine.whole_sessions import add_retired
from triggerstream.wire import state
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

APP = AppId("app")
TWO = json.dumps({"t_report": {"after": ["one", "two"], "run": "app.report"}})
RETRYING = json.dumps(
    {"t": {"after": ["one"], "run": "app.t", "retry": {"max": 3, "backoff": "10s", "factor": 1}}}
)


def event(session: str, body: Body, *, id: str | None = None) -> NewRecord:  # noqa: A002 - the attribute's name
    return NewRecord(key=session.encode(), value=encode(body, id=id))


def fired(session: str, name: str, data: JsonObject | None = None) -> NewRecord:
    return event(session, Trigger(name=TriggerName(name), data=data or {}))


@dataclass
class Running:
    database: MemoryDatabase
    clock: ManualClock
    log: MemoryLog
    dispatcher: MemoryDispatcher
    engine: EmbeddedEngine
    task: asyncio.Task[None]
    checkpoints: list[Checkpoint] = field(default_factory=list)

    async def fire(self, session: str, *names: str) -> None:
        await self.log.append([fired(session, name) for name in names])

    async def caught_up(self) -> None:
        async with asyncio.timeout(20):
            await self.engine.reached(len(self.database.records))

    async def stop(self) -> None:
        self.engine.stop()
        async with asyncio.timeout(20):
            await self.task

    def commands(self) -> list[Command]:
        return [one for one in self.dispatcher.dispatched if isinstance(one, Command)]

    def statuses(self, session: str) -> Mapping[str, str]:
        return {
            f"{task}#{i.number}": i.status.value
            for task, record in self.known(session).tasks.items()
            for i in record.instances()
        }

    def known(self, session: str) -> SessionState:
        """A session with all its instances."""
        named = SessionId(session)
        known = state.decode(self.database.sessions[named].state)
        return add_retired(named, known, self.database.retired)


@asynccontextmanager
async def running(
    database: MemoryDatabase | None = None,
    *,
    clock: ManualClock | None = None,
    answer: Callable[[Decision], Awaitable[None]] | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[Running]:
    database = database or MemoryDatabase()
    clock = clock or ManualClock()
    log = MemoryLog(database, clock=clock)
    dispatcher = MemoryDispatcher(answer)
    checkpoints: list[Checkpoint] = []
    engine = EmbeddedEngine(
        app=APP,
        log=log,
        store=MemoryStore(database, app=APP, clock=clock),
        dispatcher=dispatcher,
        clock=clock,
        on_checkpoint=checkpoints.append,
        pace=pace,
    )
    task = asyncio.create_task(engine.run())
    yield Running(database, clock, log, dispatcher, engine, task, checkpoints)
    engine.stop()
    await asyncio.wait([task])


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(100):
        await asyncio.sleep(0)


# ---- folding --------------------------------------------------------------------------------------


async def test_complete_session_gets_one_command_and_the_other_none() -> None:
    async with running() as run:
        assert await run.engine.apply(TWO)
        await run.fire("42", "two", "one", "one")
        await run.fire("43", "one")
        await run.caught_up()
        await settle()
        assert [(c.session, c.run, c.instance) for c in run.commands()] == [
            ("42", "app.report", "t_report#0")
        ]
        assert run.statuses("43") == {"t_report#0": "unstarted"}
        assert (run.engine.counters.events, run.engine.counters.decided) == (4, 1)
        assert await run.engine.lag() == 0


async def test_waiting_records_are_folded_in_batches() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.stop()
        await run.log.append([fired(str(n), name) for n in range(1_250) for name in ("one", "two")])
        async with running(run.database) as again:
            await again.caught_up()
            await again.dispatcher.wait_for(1_250)
            assert [c.session for c in again.commands()] == [str(n) for n in range(1_250)]
            assert [c.offset for c in again.checkpoints] == [1_001, 2_001, 2_501]


async def test_event_without_a_key_belongs_to_the_session_that_it_names() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.fire("42", "one")
        await run.log.append([NewRecord(key=None, value=b'{"type":"two","session":"42"}')])
        await run.caught_up()
        await settle()
        assert [c.session for c in run.commands()] == ["42"]


async def test_bad_event_is_a_dead_letter_and_the_rest_goes_on() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        bad = [NewRecord(key=b"42", value=b"{"), NewRecord(key=b"\xff", value=b"{}")]
        await run.log.append([fired("42", "one"), *bad, fired("42", "two")])
        await run.caught_up()
        await settle()
        assert [c.session for c in run.commands()] == ["42"]
        assert [letter.offset for letter in run.database.dead_letters] == [2, 3]
        assert run.engine.counters.dead_letters == 2


async def test_finished_command_leaves_the_outbox_and_cascades() -> None:
    tasks = {
        "t_a": {"after": ["one"], "run": "app.a"},
        "t_b": {"after": ["t_a"], "run": "app.b"},
    }
    async with running() as run:
        await run.engine.apply(json.dumps(tasks))
        await run.fire("42", "one")
        (first,) = (await run.dispatcher.wait_for(1))[:1]
        done = Finished(instance=first.instance, command=first.id, result={"x": 1})
        run.log.report(SessionId("42"), encode(done))
        await run.dispatcher.wait_for(2)
        assert [(c.run, c.kwargs) for c in run.commands()] == [
            ("app.a", {"one": {}}),
            ("app.b", {"t_a": {"x": 1}}),
        ]
        await run.stop()
        assert [row.decision.id for row in run.database.outbox.values()] == [run.commands()[1].id]


@pytest.mark.slow
async def test_hand_overs_that_hang_do_not_hold_up_the_fold() -> None:
    async def never(_: Decision) -> None:
        await asyncio.Event().wait()

    async with running(answer=never) as run:
        await run.engine.apply(TWO)
        for n in range(300):
            await run.fire(str(n), "one", "two")
        await run.caught_up()
        assert run.engine.counters.decided == 300
        run.task.cancel()


# ---- starting again -------------------------------------------------------------------------------


async def test_engine_goes_on_where_it_was() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.fire("42", "one")
        await run.caught_up()
    async with running(run.database) as again:
        await again.engine.ready()
        assert again.engine.offset == 2
        assert again.engine.rules.current.config.text == TWO
        await again.fire("42", "two")
        await again.dispatcher.wait_for(1)
        assert again.checkpoints[0].events == 1


async def test_second_engine_on_the_store_is_refused() -> None:
    async with running() as run:
        await run.engine.ready()
        async with running(run.database) as second:
            with pytest.raises(UsageError, match="another engine"):
                await second.task
            with pytest.raises(UsageError, match="has ended"):
                await second.engine.ready()
        assert not run.task.done()


async def test_stop_closes_store_and_dispatcher() -> None:
    async with running() as run:
        await run.engine.ready()
        await run.stop()
        assert run.dispatcher.closed
        assert not run.database.owned
        with pytest.raises(UsageError, match="has ended"):
            await run.engine.reached(99)


async def test_stop_before_the_start_ends_at_once() -> None:
    async with running() as run:
        run.engine.stop()
        await eventually(run.task.done)


async def test_cancelled_engine_finishes_its_checkpoint() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.fire("42", "one", "two")
        run.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run.task
        assert not run.database.owned


async def test_failing_store_ends_the_engine_and_whoever_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> int:
        raise LogError("disk full")

    async with running() as run:
        await run.engine.apply(TWO)
        monkeypatch.setattr(MemoryStore, "commit", fail)
        waiting = asyncio.create_task(run.engine.reached(2))
        await run.fire("42", "one")
        with pytest.raises(LogError, match="disk full"):
            await run.task
        with pytest.raises(UsageError, match="has ended"):
            await waiting
        assert run.database.offset == 1


async def test_failing_log_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise LogError("disk full")

    async with running() as run:
        await run.engine.apply(RETRYING)
        await run.fire("42", "one")
        (first,) = await run.dispatcher.wait_for(1)
        await run.log.append([event("42", Failed(instance=first.instance, command=first.id, error="no"))])
        await run.caught_up()
        monkeypatch.setattr(MemoryLog, "append", fail)
        run.clock.advance(11)
        with pytest.raises(LogError, match="disk full"):
            await run.task


# ---- configuration --------------------------------------------------------------------------------


async def test_configuration_is_in_force_when_apply_returns() -> None:
    async with running() as run:
        assert await run.engine.apply(TWO)
        assert run.engine.rules.current.config.text == TWO
        assert not await run.engine.apply(TWO)
        assert len(run.database.records) == 1


async def test_bad_configuration_changes_nothing() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        with pytest.raises(ConfigError, match=r"tasks\.json:1:"):
            await run.engine.apply('{"t": {}}', name="tasks.json")
        assert len(run.database.records) == 1


async def test_configurations_applied_at_the_same_time_follow_one_another() -> None:
    async with running() as run:
        texts = [TWO, RETRYING, TWO]
        assert await asyncio.gather(*(run.engine.apply(text) for text in texts)) == [True, True, True]
        assert run.engine.rules.current.number == 3
        found = [json.loads(record.value or b"")["data"] for record in run.database.records]
        assert [data["replaces"] for data in found] == [None, found[0]["hash"], found[1]["hash"]]


async def test_sessions_that_wait_are_touched_when_a_configuration_completes_them() -> None:
    three = {"t_report": {"after": ["one", "two", "three"], "run": "app.report"}}
    async with running() as run:
        await run.engine.apply(json.dumps(three))
        for n in range(250):
            await run.fire(f"s{n}", "one", "two" if n % 2 else "one")
        await run.caught_up()
        await run.engine.apply(TWO)
        await run.dispatcher.wait_for(125)
        assert {c.session for c in run.commands()} == {f"s{n}" for n in range(250) if n % 2}
        assert run.engine.counters.touches == 125
        await run.caught_up()
        await settle()
        assert run.database.scanned == 500 + 1


async def test_scan_that_was_cut_short_is_done_at_the_next_start() -> None:
    async with running() as run:
        await run.engine.apply(json.dumps({"t": {"after": ["one", "two"], "run": "app.t"}}))
        await run.fire("42", "one")
        await run.caught_up()
        await run.engine.apply(json.dumps({"t": {"after": ["one"], "run": "app.t"}}))
        database = run.database.restarted()
        database.scanned = -1
        del database.records[3:]
    async with running(database) as again:
        await again.dispatcher.wait_for(1)
        assert [c.session for c in again.commands()] == ["42"]


async def test_configurations_that_every_session_is_past_are_forgotten() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.fire("42", "one")
        await run.engine.apply(RETRYING)
        await run.caught_up()
        await settle()
        assert len(run.engine.rules.history) >= 2
        await run.fire("42", "two")
        await run.caught_up()
        await settle()
        assert [a.config.text for a in run.engine.rules.history] == [RETRYING]
        assert [c.text for c in run.database.configurations] == [RETRYING]


async def test_idle_sessions_do_not_keep_configurations_for_ever() -> None:
    async with running(pace=Pace(second_s=0)) as run:
        await run.engine.apply(TWO)
        for number in range(50):
            await run.fire(str(number), "one")
        for number in range(3 * MOST_VERSIONS):
            await run.engine.apply(f"{TWO} // {number}")
        async with asyncio.timeout(60):
            while len(run.engine.rules.history) > MOST_VERSIONS:  # noqa: ASYNC110 - the engine shortens it
                await asyncio.sleep(0)
        assert len(run.database.configurations) <= MOST_VERSIONS
        assert run.engine.counters.touches >= 50
        for number in range(50):
            await run.fire(str(number), "two")
        await run.dispatcher.wait_for(50)
        assert sorted(c.session for c in run.commands()) == sorted(str(n) for n in range(50))
        database = run.database.restarted()
    async with running(database) as again:
        await again.engine.ready()
        assert len(again.engine.rules.history) <= MOST_VERSIONS + 1


# ---- time -----------------------------------------------------------------------------------------


async def fail_first(run: Running, session: str = "42") -> Decision:
    await run.fire(session, "one")
    first = (await run.dispatcher.wait_for(1))[-1]
    await run.log.append([event(session, Failed(instance=first.instance, command=first.id, error="no"))])
    await run.caught_up()
    await settle()
    return first


async def test_timer_event_is_appended_when_it_is_due() -> None:
    async with running() as run:
        await run.engine.apply(RETRYING)
        await fail_first(run)
        assert run.statuses("42") == {"t#0": "replayed", "t#1": "delayed"}
        run.clock.advance(9.9)
        await settle()
        assert len(run.dispatcher.dispatched) == 1
        run.clock.advance(0.1)
        await run.dispatcher.wait_for(2)
        await run.caught_up()
        assert run.commands()[1].instance == InstanceId("t#1")
        assert run.engine.counters.timers == 1
        run.clock.advance(100)
        await settle()
        assert run.engine.counters.timers == 1


async def test_timer_that_was_due_while_no_engine_ran_fires_once_at_the_start() -> None:
    async with running() as run:
        await run.engine.apply(RETRYING)
        await fail_first(run)
    run.clock.advance(86_400)
    async with running(run.database, clock=run.clock) as again:
        await again.dispatcher.wait_for(1)
        await again.caught_up()
        run.clock.advance(100)
        await settle()
        assert [c.instance for c in again.commands()] == ["t#1"]
        assert again.engine.counters.timers == 1


async def test_event_of_another_session_waits_for_one_page_of_timers_at_most() -> None:
    async with running() as run:
        await run.engine.apply(
            RETRYING.replace('"retry"', '"deadline": "1h", "retry"').replace('"one"', '"one", "x"')
        )
        sessions = 3 * PAGE
        await run.log.append([fired(f"s{number}", "one") for number in range(sessions)])
        await run.caught_up()
        assert len(run.engine._timer_service) == sessions  # noqa: SLF001 - or nothing would be due
        before = len(run.database.records)
        run.clock.advance(3_600)
        while len(run.database.records) == before:  # noqa: ASYNC110 - the log is a list
            await asyncio.sleep(0)
        await run.fire("other", "one", "x")
        await run.dispatcher.wait_for(1)
        assert run.engine.counters.timers <= 2 * PAGE
        place = [record.key for record in run.database.records].index(b"other")
        assert place - before <= PAGE
        await eventually(lambda: run.engine.counters.timers == sessions, within_s=20)
        await run.caught_up()
        assert {one for number in range(sessions) for one in run.statuses(f"s{number}").values()} == {
            "expired"
        }
        assert max(one.records for one in run.checkpoints[-3:]) <= PAGE + 2


async def test_a_day_of_deadlines_fires_at_due_times_though_the_engine_ends_again_and_again() -> None:
    tasks = {
        "t_late": {"after": ["one", "never"], "deadline": "1d", "run": "app.late"},
        "t_told": {"after": [{"trigger": "t_late.timeout", "as": "late"}], "run": "app.told"},
    }
    database, clock = MemoryDatabase(), ManualClock()
    began_us: dict[str, int] = {}
    told: dict[CommandId, Command] = {}
    async with running(database, clock=clock) as run:
        await run.engine.apply(json.dumps(tasks))
    for hour in range(49):
        # Every seventh hour no engine runs; each run is a new one.
        if hour < 24:
            log = MemoryLog(database, clock=clock)
            await log.append([fired(f"s{hour}", "one")])
            began_us[f"s{hour}"] = clock.now_us()
        if hour % 7:
            async with running(database, clock=clock) as run:
                await run.caught_up()
                await settle()
                await run.caught_up()
                # Those whose outcome has not arrived are handed over again, under the same ids.
                told.update((one.id, one) for one in run.commands())
        clock.advance(3_600)
    assert len(told) == len(began_us)
    assert {one.session: one.decided_us for one in told.values()} == {
        session: at_us + 86_400 * 1_000_000 for session, at_us in began_us.items()
    }


async def test_what_timers_cannot_do_within_the_bounds_is_counted_and_the_engine_goes_on() -> None:
    """40 timeouts ask for 80 instances where 60 have room, and a silence of a day for 1,000 commands."""
    task = {"run": "app.t"}
    tasks = {
        "$bounds": {"unresolvedInstances": 60, "resolvedInstances": 100},
        "t_late": {**task, "after": ["never"], "andEvery": "one", "deadline": "1h"},
        "t_told": {**task, "after": ["never"], "andEvery": "t_late.timeout"},
        "t_told_too": {**task, "after": ["never"], "andEvery": "t_late.timeout"},
        "t_round": {**task, "after": ["round"], "repeat": {"every": "1m", "max": 1000}},
    }
    async with running() as run:
        await run.engine.apply(json.dumps(tasks))
        await run.log.append([fired("late", "one") for _ in range(40)])
        await run.fire("silent", "round")
        await run.caught_up()
        run.clock.advance(86_400)
        await eventually(lambda: run.engine.counters.timers >= 2, within_s=20)
        await run.caught_up()
        late = run.statuses("late")
        made = [name for name in late if not name.startswith("t_late")]
        assert [late[f"t_late#{number}"] for number in range(40)] == ["expired"] * 40
        assert len(made) == 60
        counters = run.engine.counters
        # A timeout makes both instances or none: ten of the forty had no room.
        assert counters.left_out == counters.dead_letters == 10
        assert counters.prevented == 10 + 1
        assert list(run.statuses("silent").values()) == ["scheduled"] * 60
        known = run.known("late")
        errors = [one.error for one in known.tasks[TaskName("t_late")].instances() if one.error is not None]
        assert len(errors) == 10
        assert all("`t_late.timeout` is left out" in error for error in errors)
        await run.fire("other", "round")
        assert (await run.dispatcher.wait_for(61))[-1].session == "other"


async def test_timer_that_the_fold_finds_too_early_is_appended_again_a_second_later() -> None:
    """As where the engine's clock runs ahead of the log's."""
    async with running() as run:
        await run.engine.apply(RETRYING)
        await fail_first(run)
        late = ManualClock(run.clock.now_us())
        run.log._clock = late  # noqa: SLF001 - a log whose clock lags
        run.clock.advance(10)
        await settle()
        assert (run.engine.counters.timers, len(run.dispatcher.dispatched)) == (1, 1)
        late.advance(10)
        run.clock.advance(0.9)
        await settle()
        assert run.engine.counters.timers == 1
        run.clock.advance(0.1)
        await run.dispatcher.wait_for(2)
        assert run.engine.counters.timers == 2


async def test_timer_goes_with_the_instance_that_waited() -> None:
    async with running() as run:
        await run.engine.apply(RETRYING)
        await fail_first(run)
        await run.log.append([event("42", Cancel(instance=InstanceId("t#1")))])
        await run.caught_up()
        run.clock.advance(100)
        await settle()
        assert run.engine.counters.timers == 0


async def test_sooner_timer_wakes_the_engine_that_waits_for_a_later_one() -> None:
    async with running() as run:
        await run.engine.apply(RETRYING)
        await fail_first(run)
        run.clock.advance(5)
        await settle()
        await run.engine.apply(RETRYING.replace("10s", "6s"))
        await settle()
        run.clock.advance(0.9)
        await settle()
        assert run.engine.counters.timers == 0
        run.clock.advance(0.1)
        await run.dispatcher.wait_for(2)


# ---- the port's other adapters see the same -------------------------------------------------------


async def test_reader_sees_what_the_engine_did() -> None:
    async with running() as run:
        await run.engine.apply(TWO)
        await run.fire("42", "one", "two")
        await run.dispatcher.wait_for(1)
        reader = MemoryReader(run.database)
        row = await reader.session(SessionId("42"))
        assert row is not None
        assert state.decode(row.state).offset == 2
        progress = await reader.progress()
        assert (progress.offset, progress.lag, progress.outbox) == (3, 0, 1)


async def test_same_records_decide_the_same_on_sqlite(tmp_path: Path) -> None:

    records = [fired(f"s{n % 50}", name) for n in range(300) for name in ("one", "two")]
    async with running() as run:
        await run.engine.apply(TWO)
        await run.log.append(records)
        expected = [c.id for c in (await run.dispatcher.wait_for(50))]
    log = SqliteLog(tmp_path, create=True)
    dispatcher = MemoryDispatcher()
    engine = EmbeddedEngine(
        app=APP,
        log=log,
        store=SqliteStore(tmp_path, app=APP, log=log),
        dispatcher=dispatcher,
        clock=SystemClock(),
    )
    task = asyncio.create_task(engine.run())
    await engine.apply(TWO)
    await log.append(records)
    assert [c.id for c in await dispatcher.wait_for(50)] == expected
    engine.stop()
    await task
    await log.close()


@pytest.mark.parametrize("part", [Outbox, TimerService])
async def test_a_part_that_ends_ends_the_engine(part: type, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(_self: object) -> None:
        """Returns at once, as it never should."""

    monkeypatch.setattr(part, "run", ends)
    async with running() as run:
        with pytest.raises(TaskEndedError, match=r"the background task `.*` has ended: it returned"):
            await run.task


WAITING_FOR_B = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
WITH_DEADLINE = (
    '{"t": {"after": ["a", "b"], "deadline": "10s", "run": "tasks.t"},'
    ' "u": {"after": ["t.timeout"], "run": "tasks.u"}}'
)


@pytest.mark.parametrize("slice_s", [0.01, -1.0])
async def test_a_deadline_that_a_file_adds_fires_in_idle_sessions(
    monkeypatch: pytest.MonkeyPatch, slice_s: float
) -> None:
    monkeypatch.setattr(engine_module, "SLICE_S", slice_s)
    async with running() as run:
        await run.engine.apply(WAITING_FOR_B)
        await run.log.append([event(name, Trigger(name=TriggerName("a"), data={})) for name in ("1", "2")])
        await run.caught_up()
        await run.engine.apply(WITH_DEADLINE)
        await settle()
        run.clock.advance(9.9)
        await settle()
        assert run.commands() == []
        run.clock.advance(0.1)
        await run.dispatcher.wait_for(2)
        await run.caught_up()
        assert sorted(command.session for command in run.commands()) == ["1", "2"]
        assert run.engine.counters.timers == 2


async def test_a_deadline_that_passed_while_no_engine_ran_fires_at_the_start() -> None:
    async with running() as run:
        await run.engine.apply(WITH_DEADLINE)
        await run.log.append([event("42", Trigger(name=TriggerName("a"), data={}))])
        await run.caught_up()
    run.clock.advance(86_400)
    async with running(run.database, clock=run.clock) as again:
        await again.dispatcher.wait_for(1)
        await again.caught_up()
        assert [c.instance for c in again.commands()] == ["u#0"]
