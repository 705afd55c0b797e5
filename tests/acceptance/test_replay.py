"""The stored data of workers is checked against the log, and rebuilt from it if all of it is lost."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.replaying import (
    lose_changelog,
    lose_group,
    make_again,
    rebuild,
    replay,
    set_group_back,
    stores,
)
from tests.adapters.faust.workers import TASKS, Outcome, Stage, WorkerProcess, outcome_of, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import REBUILD
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

COMPLETE = range(100)
OPEN = range(100, 160)
ROUNDS = 3
"""Time limit of a rebuild that is killed 17 times; run by `make faults`."""


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


async def live(app: Stage) -> Outcome:
    """Have a worker fold complete sessions, open ones and dead letters, and end; what is in Kafka then."""
    await app.prepare()
    worker = app.start()
    await app.fire(COMPLETE)
    await fire(app, "abc")
    # Not where its key belongs: the worker appends it there.
    await app.append([NewRecord(key=b"s0", value=dumps({"type": "a"}))], partition=3)
    await app.append([NewRecord(key=b"s1", value=b"no JSON")])
    await app.settled()
    await app.settled()
    await worker.drained()
    return await outcome_of(app.connection, app.app, app.partitions)


async def fire(app: Stage, names: str) -> None:
    """Fire ``names`` for the open sessions."""
    await app.append(
        NewRecord(key=f"s{session}".encode(), value=dumps({"type": name, "data": {"n": session}}))
        for name in names
        for session in OPEN
    )


async def go_on(app: Stage, worker: WorkerProcess, before: Outcome) -> None:
    """Complete the open sessions, and see that the log means what is in Kafka and nothing else."""
    await worker.ready()
    await fire(app, "d")
    await app.settled()
    await worker.drained()
    after = await app.exact()
    assert after.command_count() == before.command_count() + len(OPEN)


def same(one: Outcome, other: Outcome) -> None:
    """States byte for byte, and nothing decided, appended or made a dead letter again."""
    assert one.states == other.states
    assert one.commands == other.commands
    assert one.events == other.events
    assert one.letters == other.letters


async def test_a_check_agrees_while_workers_run_and_names_what_was_damaged(app: Stage) -> None:
    before = await live(app)
    ran = await replay(app, "--check", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert [row["partition"] for row in ran.rows()] == list(range(app.partitions))
    assert sum(row["sessions"] for row in ran.rows()) == len(COMPLETE) + len(OPEN)
    worker = app.start()
    await worker.ready()
    await fire(app, "d")
    assert (await replay(app, "--check")).status == 0
    await app.settled()
    await worker.drained()
    partition, states = next((p, found) for p, found in before.states.items() if b"s7" in found)
    producer = app.connection.producer()
    await producer.start()
    damaged = states[b"s7"].replace(b'"scheduled"', b'"running"')
    await producer.send_and_wait(app.topics.changelog, damaged, key=b"s7", partition=partition)
    await producer.send_and_wait(app.topics.changelog, damaged, key=b"ghost", partition=partition)
    await producer.stop()
    ran = await replay(app, "--check", "--json")
    assert ran.status == 1
    found = {row["session"]: row for row in ran.rows() if "session" in row}
    assert set(found) == {"s7", "ghost"}
    assert found["s7"]["place"] == "/tasks/t_report#0/status"
    assert (found["s7"]["kept"], found["s7"]["log"]) == ("running", "scheduled")
    assert "log" not in found["ghost"]
    refused = await replay(app, "--rebuild")
    assert refused.status == 2
    assert "1 sessions with 1 commands that are not settled are stored, but are not in the log" in refused.err
    assert (await replay(app, "--rebuild", "--yes")).status == 0
    assert (await replay(app, "--check")).status == 0


@pytest.mark.parametrize("kept", [True, False], ids=["old store", "no store"])
async def test_what_was_lost_comes_back_and_the_system_goes_on(app: Stage, *, kept: bool) -> None:
    before = await live(app)
    await lose_changelog(app)
    if kept:
        for store in await stores(app, "w1"):
            ghost = next(iter(store.page(after=b"\x01", limit=1)))[1]
            store.write({b"ghost": ghost}, position=store.position() or 0)
            await store.close()
    else:
        shutil.rmtree(app.directory("w1"))
    refused = app.start("w2")
    assert await refused.ended() == 2
    assert (
        f"`triggerstream replay --rebuild --at kafka://{app.connection.bootstrap}/{app.app}`"
        in refused.text()
    )
    assert (await replay(app, "--check")).status == 1
    ran = await rebuild(app)
    assert (ran.status, ran.err) == (0, "")
    assert {row["source"] for row in ran.rows()} == {"group"}
    assert sum(row["elsewhere"] for row in ran.rows()) == 1
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, app.start("w1"), before)
    for store in await stores(app, "w1"):
        assert store.get(b"ghost") is None
        await store.close()
    assert (await replay(app, "--check")).status == 0


async def test_a_rebuild_works_where_nothing_was_decided_and_events_wait(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.append([NewRecord(key=b"s1", value=dumps({"type": "a"}))])
    await app.settled()
    await worker.drained()
    await app.append([NewRecord(key=b"s2", value=dumps({"type": "a"}))])
    await make_again(app, app.topics.changelog, TASKS)
    for arguments in (["--dry-run"], ["--dry-run", "--from-offset", "latest"], []):
        ran = await replay(app, "--rebuild", "--json", *arguments)
        assert (ran.status, ran.err) == (0, "")
        assert {row["source"] for row in ran.rows()} <= {"group", "empty"}
        assert sum(row["sessions"] for row in ran.rows()) == 1
    worker = app.start()
    await app.settled()
    await worker.drained()
    await app.exact()
    assert (await replay(app, "--check")).status == 0


async def test_a_state_that_cannot_be_read_ends_a_worker_that_names_it_and_the_repair(app: Stage) -> None:
    before = await live(app)
    partition = next(p for p, found in before.states.items() if b"s101" in found)
    async with app.connection.running(app.connection.producer()) as producer:
        await producer.send_and_wait(
            app.topics.changelog, b'{"version": 99}', key=b"s101", partition=partition
        )
    worker = app.start()
    await fire(app, "d")
    assert await worker.ended() == 2
    said = f"{app.topics.changelog}, partition {partition}: the state of session 's101' cannot be read ("
    assert said in worker.text()
    assert "`triggerstream replay --rebuild --at kafka://" in worker.text()
    assert (await rebuild(app)).status == 0
    worker = app.start()
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == before.command_count() + len(OPEN)


async def test_offsets_of_the_group_that_lag_have_nothing_decided_again(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(COMPLETE)
    await app.settled()
    await worker.drained()
    before = await outcome_of(app.connection, app.app, app.partitions)
    await set_group_back(app, by=10)
    await lose_changelog(app)
    assert (await rebuild(app)).status == 0
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    worker = app.start("w2")
    await app.fire(OPEN)
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == len(COMPLETE) + len(OPEN)


async def test_where_the_offsets_are_gone_too_it_asks_and_decides_nothing_by_itself(app: Stage) -> None:
    before = await live(app)
    await lose_changelog(app)
    await lose_group(app)
    ran = await replay(app, "--rebuild")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "partition 0, 1, 2, 3: its changelog has no checkpoint" in ran.err
    assert f"earliest would decide {len(COMPLETE)} commands" in ran.err
    ran = await replay(app, "--rebuild", "--from-offset", "earliest", "--dry-run", "--json")
    assert sum(row["toDecide"] for row in ran.rows()) == len(COMPLETE)
    assert not any((await outcome_of(app.connection, app.app, app.partitions)).states.values())
    ran = await replay(app, "--rebuild", "--from-offset", "latest", "--json")
    assert ran.status == 0
    assert {(row["source"], row["toDecide"]) for row in ran.rows()} == {("given", 0)}
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, app.start("w2"), before)


async def test_a_rebuild_that_was_killed_is_repeated(app: Stage) -> None:
    before = await live(app)
    await lose_changelog(app)
    for point in REBUILD:
        # The second time: one partition is rebuilt by then, and the others are not.
        times = 1 if point == "rebuild.fenced" else 2
        killed = await replay(app, "--rebuild", failpoint=f"{point}:{times}")
        assert killed.status == -signal.SIGKILL, f"{point}: {killed.err}"
    ran = await replay(app, "--rebuild", "--json")
    assert ran.status == 0, ran.err
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, app.start("w2"), before)


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_a_rebuild_that_is_killed_at_every_point_of_every_partition_is_repeated(app: Stage) -> None:
    before = await live(app)
    kills = 0
    for _ in range(ROUNDS):
        await lose_changelog(app)
        for point in REBUILD:
            for times in range(1, 2 if point == "rebuild.fenced" else app.partitions + 1):
                killed = await replay(app, "--rebuild", failpoint=f"{point}:{times}")
                assert killed.status == -signal.SIGKILL, f"{point}:{times}: {killed.err}"
                kills += 1
        ran = await replay(app, "--rebuild", "--json")
        assert ran.status == 0, ran.err
        same(await outcome_of(app.connection, app.app, app.partitions), before)
    assert kills == ROUNDS * (1 + (len(REBUILD) - 1) * app.partitions)
    await go_on(app, app.start("w2"), before)


async def test_a_log_that_was_made_again_begins_anew_once_somebody_says_so(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(COMPLETE)
    await app.settled()
    await worker.drained()
    await make_again(app, app.topics.events, TASKS)
    ran = await replay(app, "--check")
    assert ran.status == 1
    assert ran.out.count("offsets mean nothing there\n") == app.partitions
    ran = await replay(app, "--rebuild")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "offsets mean nothing there, so nothing says how far it was folded" in ran.err
    refused = await replay(app, "--rebuild", "--from-offset", "earliest")
    assert refused.status == 2
    assert f"{len(COMPLETE)} sessions with {len(COMPLETE)} commands that are not settled" in refused.err
    assert (await replay(app, "--rebuild", "--from-offset", "earliest", "--yes")).status == 0
    assert not any((await outcome_of(app.connection, app.app, app.partitions)).states.values())
    worker = app.start()
    await app.fire(OPEN)
    await app.settled()
    await worker.drained()
    states = (await outcome_of(app.connection, app.app, app.partitions)).states
    assert {key for found in states.values() for key in found} == {f"s{n}".encode() for n in OPEN}
    assert (await replay(app, "--check")).status == 0


async def test_a_worker_that_runs_is_left_alone(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await worker.ready()
    ran = await replay(app, "--rebuild")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"the group {app.app} has 1 member (worker-" in ran.err
    await app.fire(COMPLETE)
    await app.settled()
    await worker.drained()
    await app.exact()


async def test_topics_that_are_missing_are_named(app: Stage) -> None:
    ran = await replay(app, "--check")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "triggerstream topics create" in ran.err
