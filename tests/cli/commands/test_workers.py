"""`triggerstream workers` with members of real groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.adapters.faust.workers import Stage, stage
from tests.cli.conftest import Cli
from tests.support.advised import printed_command
from tests.support.commands import Ran
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core import advice
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LONG = ("--session-timeout", "85s")
"""Longer than any wait of these tests."""


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=2) as made:
        yield made


@pytest.fixture
def at(app: Stage) -> str:
    return f"kafka://{app.connection.bootstrap}/{app.app}"


def members(ran: Ran) -> dict[str, list[int]]:
    assert ran.status == 0, ran.err
    found = [orjson.loads(line) for line in ran.out.splitlines()]
    assert all(member["kind"] == "worker" and member["host"] == "127.0.0.1" for member in found)
    return {member["name"]: member["partitions"] for member in found}


async def test_workers_are_listed_and_one_that_was_killed_is_removed(app: Stage, at: str, cli: Cli) -> None:
    await app.prepare()
    assert members(await asyncio.to_thread(cli, "workers", "list", "--json", at=at)) == {}
    one = app.start("w1", arguments=["--instance-id", "one", *LONG])
    await one.ready()
    two = app.start("w2", arguments=["--instance-id", "two", *LONG])
    await two.ready()
    await one.ready(times=2)
    listed = members(await asyncio.to_thread(cli, "workers", "list", "--json", at=at))
    assert set(listed) == {"one", "two"}
    assert sorted(number for numbers in listed.values() for number in numbers) == [0, 1]
    said = (await asyncio.to_thread(cli, "workers", "list", at=at)).out
    assert "worker one at 127.0.0.1: partitions " in said
    assert "2 workers; the group is stable" in said
    assert "0 bridges; the group is " in said
    one.kill()
    refused = await asyncio.to_thread(cli, "replay", "--rebuild", at=at)
    assert refused.status == 2
    assert "one at 127.0.0.1" in refused.err
    assert "two at 127.0.0.1" in refused.err
    program, *words = printed_command(advice.remove_member(at, "one"), refused.err)
    assert program == "triggerstream"
    assert "removed one from the group" in (await asyncio.to_thread(cli, *words)).out
    # Its session would have lasted longer than this.
    await two.ready(times=2)
    assert members(await asyncio.to_thread(cli, "workers", "list", "--json", at=at)) == {"two": [0, 1]}
    again = await asyncio.to_thread(cli, *words)
    assert again.status == 1
    assert "there are two" in again.err
    await two.drained()
    assert members(await asyncio.to_thread(cli, "workers", "list", "--json", at=at)) == {}


async def test_a_worker_that_is_removed_while_it_runs_joins_again(app: Stage, at: str, cli: Cli) -> None:
    await app.prepare()
    one = app.start("w1", arguments=["--instance-id", "one"])
    await one.ready()
    assert (await asyncio.to_thread(cli, "workers", "remove", "one", at=at)).status == 0
    await one.ready(times=2)
    await app.fire(range(20))
    await app.settled()
    await one.drained()
    assert (await app.exact()).command_count() == 20


async def test_a_worker_that_ends_in_order_leaves_at_once(app: Stage) -> None:
    await app.prepare()
    leaving = app.start("w1", arguments=LONG)
    await leaving.ready()
    staying = app.start("w2", arguments=LONG)
    await staying.ready()
    await leaving.ready(times=2)
    await leaving.drained()
    await eventually(lambda: "ready: partitions 0-1" in staying.text(), what=staying.text)
    await staying.drained()


async def test_a_worker_that_stays_keeps_its_partitions_over_a_restart(app: Stage, at: str, cli: Cli) -> None:
    await app.prepare()
    stays = ["--instance-id", "one", "--stay", *LONG]
    one = app.start("w1", arguments=stays)
    await one.ready()
    await one.drained()
    assert members(await asyncio.to_thread(cli, "workers", "list", "--json", at=at)) == {"one": [0, 1]}
    again = app.start("w1", arguments=stays)
    await again.ready()
    await app.fire(range(20))
    await app.settled()
    await again.drained()
    assert (await app.exact()).command_count() == 20


async def test_of_two_workers_with_one_name_the_first_one_ends_and_says_why(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1", arguments=["--instance-id", "one"])
    await first.ready()
    second = app.start("w2", arguments=["--instance-id", "one"])
    await second.ready()
    assert await first.ended() == 2
    assert "another process has joined the group" in first.text()
    await app.fire(range(20))
    await app.settled()
    await second.drained()
    assert (await app.exact()).command_count() == 20


async def test_two_workers_cannot_have_one_directory(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1")
    await first.ready()
    second = app.start("w1-again", arguments=["--dir", str(app.directory("w1"))])
    assert await second.ended() == 2
    assert (
        f"{app.directory('w1')}: another worker (process {first.at_work()}) keeps its states" in second.text()
    )
    assert first.running()
    first.kill_at_work()
    back = app.start("w1")
    await back.ready()
    await back.drained()


async def test_staying_needs_a_name(app: Stage) -> None:
    worker = app.start("w1", arguments=["--stay"])
    assert await worker.ended() == 2
    assert "add --instance-id" in worker.text()


async def test_a_session_timeout_that_brokers_refuse_is_named(app: Stage) -> None:
    await app.prepare()
    worker = app.start("w1", arguments=["--session-timeout", "1h"])
    assert await worker.ended() == 2
    assert "--session-timeout 3600s: the brokers refuse it" in worker.text()
    assert "group.max.session.timeout.ms" in worker.text()
