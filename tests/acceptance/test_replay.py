"""What workers keep is checked against the log, and comes back from it when all of it is gone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from tests.adapters.faust.workers import Outcome, Stage, WorkerProcess, outcome_of, stage
from tests.support.waiting import eventually
from triggerstream.adapters.faust.rocks import RocksStore, new_cache
from triggerstream.adapters.kafka.cluster import change_settings, describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import REBUILD, VARIABLE
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

COMPLETE = range(100)
OPEN = range(100, 160)
END_S = 60.0


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


async def replay(app: Stage, *arguments: str, failpoint: str | None = None) -> Ran:
    """Run `triggerstream replay` to its end."""
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "triggerstream", "replay", *arguments, "--at", address),
        env={**os.environ, **({VARIABLE: failpoint} if failpoint else {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(END_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def rebuild(app: Stage) -> Ran:
    """Rebuild, once the last worker that ended without a word is no member any more."""
    async with asyncio.timeout(END_S):
        while (
            "stays a member until its session times out"
            in (ran := await replay(app, "--rebuild", "--json")).err
        ):
            pass
    return ran


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


async def lose_changelog(app: Stage) -> None:
    """Delete every record of the changelog; the topic stays, and its offsets go on."""
    topic = app.topics.changelog
    async with app.connection.client() as client:
        await change_settings(client, topic, {"cleanup.policy": "delete"})
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(app.partitions)]
        await admin.delete_records({place: RecordsToDelete(before_offset=-1) for place in places})
    finally:
        await admin.close()
    async with app.connection.client() as client:
        await change_settings(client, topic, {"cleanup.policy": "compact"})
    assert not any((await outcome_of(app.connection, app.app, app.partitions)).states.values())


async def lose_group(app: Stage) -> None:
    """Delete the group, once Kafka has noticed that it has no members."""
    admin = AdminClient({"bootstrap.servers": app.connection.bootstrap})

    def deleted() -> bool:
        (future,) = admin.delete_consumer_groups([app.app]).values()
        return future.exception(END_S) is None

    await eventually(deleted, within_s=END_S, what=lambda: "the group has members")


async def set_group_back(app: Stage, by: int) -> None:
    """Have the group's offsets lag, as those of a worker that was killed may."""
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(app.app)
    finally:
        await admin.close()
    back = [Place(app.topics.events, at.partition, found.offset - by) for at, found in offsets.items()]
    assert len(back) == app.partitions
    changed = AdminClient({"bootstrap.servers": app.connection.bootstrap})

    def is_back() -> bool:
        (future,) = changed.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(app.app, back)]
        ).values()
        return future.exception(END_S) is None

    await eventually(is_back, within_s=END_S, what=lambda: "the group has members")


def same(one: Outcome, other: Outcome) -> None:
    """States byte for byte, and nothing decided, appended or buried anew."""
    assert one.states == other.states
    assert one.commands == other.commands
    assert one.events == other.events
    assert one.letters == other.letters


async def stores(app: Stage, name: str) -> list[RocksStore]:
    """The local stores of the worker ``name``, which must not run."""
    async with app.connection.client() as client:
        cluster = await describe(client, [app.topics.changelog])
    changelog = f"{cluster.id}/{cluster.topics[app.topics.changelog].id}"
    folder = app.directory(name) / f"{app.app}-sessions"
    cache = new_cache()
    return [
        RocksStore(folder / str(partition), changelog=changelog, cache=cache)
        for partition in range(app.partitions)
    ]


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
    assert (await replay(app, "--rebuild")).status == 0
    assert (await replay(app, "--check")).status == 0


@pytest.mark.parametrize("kept", [True, False], ids=["old store", "no store"])
async def test_what_was_lost_comes_back_and_the_system_goes_on(app: Stage, *, kept: bool) -> None:
    before = await live(app)
    await lose_changelog(app)
    if kept:
        for store in await stores(app, "w1"):
            ghost = next(iter(store.page(after=b"\x01", limit=1)))[1]
            store.write({b"ghost": ghost}, position=store.position() or 0)
            store.close()
    else:
        shutil.rmtree(app.directory("w1"))
    refused = app.start("w2")
    assert await refused.ended() == 2
    assert "`triggerstream replay --rebuild --at kafka://HOST:PORT/APP`" in refused.text()
    assert (await replay(app, "--check")).status == 1
    ran = await rebuild(app)
    assert (ran.status, ran.err) == (0, "")
    assert {row["source"] for row in ran.rows()} == {"group"}
    assert sum(row["elsewhere"] for row in ran.rows()) == 1
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, app.start("w1"), before)
    for store in await stores(app, "w1"):
        assert store.get(b"ghost") is None
        store.close()
    assert (await replay(app, "--check")).status == 0


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


async def test_a_worker_that_runs_is_left_alone(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await worker.ready()
    ran = await replay(app, "--rebuild")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"the group {app.app} has 1 member ({app.app}-worker" in ran.err
    await app.fire(COMPLETE)
    await app.settled()
    await worker.drained()
    await app.exact()


async def test_topics_that_are_missing_are_named(app: Stage) -> None:
    ran = await replay(app, "--check")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "triggerstream topics create" in ran.err
