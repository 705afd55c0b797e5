"""Workers that die, messages that come twice, logs that are down: with and without a guard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine, text

from tests.adapters.celery.conftest import Farm, command, make_farm
from tests.support.postgres import postgres_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.celery


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("triggerstream.task.") for event in events]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def sql(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose worker guards effects in a database."""
    home = tmp_path_factory.mktemp("farm")
    url = f"sqlite:///{home}/effects.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS effects"))
        connection.execute(text("CREATE TABLE effects (name TEXT, command TEXT)"))
    engine.dispose()
    with make_farm(home, TEST_GUARD=url, TEST_LEASE="2") as farm:
        farm.worker("-c", "4")
        yield farm


def effects(farm: Farm, name: str) -> list[str]:
    """The commands that took effect under ``name``."""
    engine = create_engine(farm.env["TEST_GUARD"])
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT command FROM effects WHERE name = :name"), {"name": name}
        ).all()
    engine.dispose()
    return [row[0] for row in rows]


# ---- effect and record in one transaction --------------------------------------------------------


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_a_task_that_dies_around_its_effect_takes_effect_once(sql: Farm, dies: str) -> None:
    sent = command("takes_effect", name=f"dies-{dies}", dies=dies, times=2)
    events = await sql.run(sent)
    assert types(events) == ["started", "started", "started", "finished"]
    assert effects(sql, f"dies-{dies}") == [sent.id]


async def test_a_task_that_fails_takes_no_effect(sql: Farm) -> None:
    events = await sql.run(command("takes_effect", name="fails", fails=True))
    assert types(events) == ["started", "failed"]
    assert effects(sql, "fails") == []


async def test_a_task_whose_result_cannot_be_reported_takes_no_effect(sql: Farm) -> None:
    events = await sql.run(command("takes_effect", name="odd", returns="object"))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["reason"] == "result not reportable"
    assert effects(sql, "odd") == []


async def test_a_task_that_commits_by_itself_fails_and_takes_no_effect(sql: Farm) -> None:
    events = await sql.run(command("takes_effect", name="commits", commits=True))
    assert types(events) == ["started", "failed"]
    assert "begin_nested" in events[1]["data"]["error"]
    assert effects(sql, "commits") == []


async def test_celerys_own_retry_takes_effect_once_and_the_second_message_runs(sql: Farm) -> None:
    sent = command("effect_then_retry", name="retried")
    events = await sql.run(sent)
    assert types(events) == ["started", "finished"]
    assert effects(sql, "retried") == [sent.id]


async def test_a_repeat_after_the_end_reports_the_same_outcome_and_does_not_run(sql: Farm) -> None:
    sent = command("takes_effect", name="repeat")
    first = await sql.run(sent)
    await sql.dispatcher.dispatch(replace(sent, attempt=1))
    both = await sql.outcome(sent, count=2)
    assert types(both) == ["started", "finished", "finished"]
    assert {**both[2], "pid": 0} == {**first[1], "pid": 0}
    assert len(await sql.appears("repeat")) == 1
    assert effects(sql, "repeat") == [sent.id]


async def test_a_repeat_that_expired_reports_the_outcome_on_record(sql: Farm) -> None:
    sent = command("takes_effect", name="repeat-expired")
    await sql.run(sent)
    await sql.dispatcher.dispatch(replace(sent, expires_us=1))
    assert types(await sql.outcome(sent, count=2)) == ["started", "finished", "finished"]


async def test_a_repeat_of_a_failure_reports_the_failure_and_does_not_run(sql: Farm) -> None:
    sent = command("takes_effect", name="repeat-failed", fails=True)
    await sql.run(sent)
    await sql.dispatcher.dispatch(sent)
    assert types(await sql.outcome(sent, count=2)) == ["started", "failed", "failed"]
    assert len(await sql.appears("repeat-failed")) == 1


async def test_a_replay_is_another_command_and_runs(sql: Farm) -> None:
    await sql.run(command("takes_effect", name="replay", number=0))
    await sql.run(command("takes_effect", name="replay", number=1))
    assert len(effects(sql, "replay")) == 2


async def test_a_skipping_task_is_recorded_and_a_repeat_says_so(sql: Farm) -> None:
    sent = command("skips", why="so")
    await sql.run(sent)
    await sql.dispatcher.dispatch(sent)
    assert types(await sql.outcome(sent, count=2)) == ["started", "skipped", "skipped"]
    assert len(await sql.appears("skips")) == 1


async def test_an_unguarded_task_may_run_twice(sql: Farm) -> None:
    sent = command("unguarded", name="twice")
    await sql.run(sent)
    await sql.dispatcher.dispatch(sent)
    assert types(await sql.outcome(sent, count=2)) == ["started", "finished", "started", "finished"]


@pytest.mark.slow
async def test_the_hard_time_limit_is_recorded_and_a_repeat_does_not_run(sql: Farm) -> None:
    sent = command("too_slow_hard")
    await sql.run(sent)
    await sql.dispatcher.dispatch(sent)
    assert types(await sql.outcome(sent, count=2)) == ["started", "failed", "failed"]


@pytest.mark.slow
async def test_a_task_that_kills_every_worker_is_given_up_after_three_take_overs(sql: Farm) -> None:
    events = await sql.run(command("killed", name="poison", times=99), within_s=60)
    assert types(events) == ["started"] * 4 + ["failed"]
    assert events[-1]["data"]["reason"] == "worker lost"
    assert len(await sql.appears("poison", lines=4)) == 4


# ---- claims that do not block --------------------------------------------------------------------


@pytest.fixture(scope="module", params=["valkey", "postgresql"])
def guarded_farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose worker guards tasks, each of which may take long."""
    with make_farm(tmp_path_factory.mktemp("farm"), TEST_LEASE="2") as farm:
        redis = farm.broker.removesuffix("/0") + "/1"
        farm.env["TEST_GUARD"] = redis if request.param == "valkey" else request.getfixturevalue("postgres")
        farm.worker("-c", "4")
        yield farm


async def test_a_repeat_that_meets_a_running_one_waits_for_its_outcome(
    guarded_farm: Farm,
) -> None:
    """The first runs for longer than its lease, which is renewed."""
    farm, sent = guarded_farm, command("slow", name="waited-for")
    await farm.dispatcher.dispatch(sent)
    await farm.appears("waited-for.begun")
    await farm.dispatcher.dispatch(replace(sent, attempt=1))
    await eventually(lambda: farm.said().count(f"{sent.id}] ignored") >= 2, what=farm.said)
    assert types(farm.log.events(sent.session)) == ["started"]
    farm.go("waited-for.go")
    both = await farm.outcome(sent, count=2)
    assert types(both) == ["started", "finished", "finished"]
    assert len(await farm.appears("waited-for.begun")) == 1


async def test_a_task_whose_child_died_is_run_again_without_waiting_for_the_lease(guarded_farm: Farm) -> None:
    name = f"died-{guarded_farm.env['TEST_GUARD'][:5]}"
    events = await guarded_farm.run(command("killed", name=name, times=3))
    assert types(events) == ["started"] * 4 + ["finished"]
    assert f"{events[0]['data']['command']}] ignored" not in guarded_farm.said()


# ---- the whole worker, and the log ---------------------------------------------------------------


@pytest.mark.slow
async def test_a_task_of_a_worker_that_was_killed_whole_is_run_by_another(farm: Farm) -> None:
    first = farm.worker(TEST_VISIBILITY="2")
    sent = command("slow", name="whole")
    await farm.dispatcher.dispatch(sent)
    await farm.appears("whole.begun")
    first.kill()
    farm.worker(TEST_VISIBILITY="2")
    farm.go("whole.go")
    events = await farm.outcome(sent, within_s=60)
    assert types(events) == ["started", "started", "finished"]
    assert len(await farm.appears("whole.done")) == 1


@pytest.mark.slow
async def test_a_process_ends_when_the_log_does_not_take_its_outcome(farm: Farm) -> None:
    """And the message comes again, so the outcome is there once the log is back."""
    farm.worker(TEST_OUTCOME_TIMEOUT="1")
    sent = command("slow", name="down")
    await farm.dispatcher.dispatch(sent)
    await farm.appears("down.begun")
    farm.log.set_down(down=True)
    farm.go("down.go")
    await eventually(lambda: "exitcode 75" in farm.said(), what=farm.said)
    assert types(farm.log.events(sent.session)) == ["started"]
    farm.log.set_down(down=False)
    events = await farm.outcome(sent)
    assert types(events)[-1] == "finished"


@pytest.mark.slow
async def test_a_guarded_outcome_survives_a_log_that_is_down_without_running_again(tmp_path: Path) -> None:
    with make_farm(tmp_path) as farm:
        farm.env["TEST_GUARD"] = farm.broker.removesuffix("/0") + "/1"
        farm.worker(TEST_OUTCOME_TIMEOUT="1")
        sent = command("slow", name="down")
        await farm.dispatcher.dispatch(sent)
        await farm.appears("down.begun")
        farm.log.set_down(down=True)
        farm.go("down.go")
        await eventually(lambda: "exitcode 75" in farm.said(), what=farm.said)
        farm.log.set_down(down=False)
        events = await farm.outcome(sent)
        assert types(events) == ["started", "finished"]
        assert len(await farm.appears("down.done")) == 1


# ---- dropped before it ran -----------------------------------------------------------------------


async def test_an_expired_command_is_revoked(farm: Farm) -> None:
    sent = replace(command("counts", name="expired"), expires_us=1_000)
    await farm.dispatcher.dispatch(sent)
    await asyncio.to_thread(farm.worker)
    events = await farm.outcome(sent)
    assert types(events) == ["revoked"]
    assert events[0]["data"]["metadata"] == {"reason": "expired"}
    assert not (farm.home / "expired").exists()


async def test_a_worker_runs_commands_by_their_priority(farm: Farm) -> None:
    ranked = {priority: replace(command("echo"), priority=priority) for priority in (9, 3, 6, 0)}
    for sent in ranked.values():
        await farm.dispatcher.dispatch(sent)
    await asyncio.to_thread(farm.worker, "-c", "1")
    for sent in ranked.values():
        assert types(await farm.outcome(sent)) == ["started", "finished"]
    started = [event["session"] for event in farm.log.all() if event["type"].endswith(".started")]
    # For Redis and Valkey 0 is the most urgent.
    assert started == [ranked[priority].session for priority in (0, 3, 6, 9)]


async def test_a_message_that_came_to_nothing_says_which_attempt_it_was(farm: Farm) -> None:
    sent = replace(command("counts", name="second"), expires_us=1_000, attempt=1)
    await farm.dispatcher.dispatch(sent)
    await asyncio.to_thread(farm.worker)
    [event] = await farm.outcome(sent)
    assert (event["type"], event["data"]["attempt"]) == ("triggerstream.task.revoked", 1)


async def test_a_failure_on_record_is_that_of_the_attempt_which_reports_it(sql: Farm) -> None:
    sent = command("takes_effect", name="record-of-an-earlier-one", fails=True)
    await sql.run(sent)
    await sql.dispatcher.dispatch(replace(sent, attempt=1))
    events = await sql.outcome(sent, count=2)
    assert types(events) == ["started", "failed", "failed"]
    assert [event["data"]["attempt"] for event in events[1:]] == [0, 1]


async def test_a_revoked_command_is_reported(farm: Farm) -> None:
    worker = farm.worker("-c", "1")
    busy, sent = command("slow", name="busy"), command("counts", name="revoked")
    await farm.dispatcher.dispatch(busy)
    await farm.appears("busy.begun")
    await farm.dispatcher.dispatch(sent)
    farm.app.control.revoke(sent.id)
    await eventually(lambda: f"Tasks flagged as revoked: {sent.id}" in worker.text(), what=worker.text)
    farm.go("busy.go")
    events = await farm.outcome(sent)
    assert types(events) == ["revoked"]
    assert not (farm.home / "revoked").exists()


async def test_a_running_command_that_is_terminated_failed(farm: Farm) -> None:
    farm.worker("-c", "1")
    sent = command("slow", name="terminated")
    await farm.dispatcher.dispatch(sent)
    await farm.appears("terminated.begun")
    farm.app.control.revoke(sent.id, terminate=True)
    events = await farm.outcome(sent)
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"].startswith("Terminated")


@pytest.mark.slow
async def test_a_command_that_expires_after_its_worker_died_has_an_outcome(farm: Farm) -> None:
    """`revoked` says nothing of an instance that runs, so `failed` follows."""
    first = farm.worker(TEST_VISIBILITY="2")
    sent = replace(command("slow", name="late"), expires_us=2_000_000)
    await farm.dispatcher.dispatch(sent)
    expired = time.monotonic() + 2
    await farm.appears("late.begun")
    first.kill()
    await eventually(lambda: time.monotonic() > expired)
    await asyncio.to_thread(farm.worker, TEST_VISIBILITY="2")
    assert types(await farm.outcome(sent, count=2, within_s=60)) == ["started", "revoked", "failed"]


@pytest.mark.slow
async def test_a_log_that_is_down_before_the_start_is_no_fault_of_the_task(tmp_path: Path) -> None:
    """However often its command is put back, no take-over and no start is counted, and it has not run."""
    with make_farm(tmp_path) as farm:
        farm.env["TEST_GUARD"] = farm.broker.removesuffix("/0") + "/1"
        farm.log.set_down(down=True)
        farm.worker(TEST_OUTCOME_TIMEOUT="0.1")
        sent = command("counts", name="late")
        await farm.dispatcher.dispatch(sent)
        await eventually(lambda: farm.said().count("] ignored") > 4, within_s=60, what=farm.said)
        assert not (farm.home / "late").exists()
        line = f"The log does not answer: command put back (command={sent.id}"
        assert line in farm.said(), "a line of ours ends with its facts in Celery's format"
        farm.log.set_down(down=False)
        assert types(await farm.outcome(sent)) == ["started", "finished"]
        assert len(await farm.appears("late")) == 1
