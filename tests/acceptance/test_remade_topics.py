"""Topics made again, another cluster's changelog and old copies of a store cost nothing.

Each is noticed by the worker and by `doctor`, and the printed repair works.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.replaying import make_again, replay
from tests.adapters.faust.workers import TASKS, Outcome, Stage, WorkerProcess, outcome_of, read_all, stage
from tests.support.advised import carry_out
from tests.support.commands import END_S, Ran, triggerstream
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core import advice
from triggerstream.core.ids import AppId
from triggerstream.wire.marks import CHECKPOINT_KEY, decode_checkpoint, encode_checkpoint

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 2
FIRST, SECOND, THIRD = range(20), range(20, 30), range(30, 40)


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    made = stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=PARTITIONS)
    with made as app:
        yield app


def address(app: Stage) -> str:
    return f"kafka://{app.connection.bootstrap}/{app.app}"


async def doctor(app: Stage) -> Ran:
    return await triggerstream("doctor", "--at", address(app))


def lacking(ran: Ran) -> set[str]:
    """The checks that fail."""
    return {line.split()[1] for line in ran.out.splitlines() if line.startswith("NOT ")}


async def outcome(app: Stage) -> Outcome:
    return await outcome_of(app.connection, app.app, app.partitions)


def same(one: Outcome, other: Outcome) -> None:
    assert one.states == other.states
    assert one.commands == other.commands
    assert one.letters == other.letters


async def lived(app: Stage) -> Outcome:
    """Have a worker fold the first sessions, and end."""
    await app.prepare()
    worker = app.start()
    await fold(app, worker, FIRST)
    await worker.drained()
    return await outcome(app)


async def fold(app: Stage, worker: WorkerProcess, sessions: range) -> None:
    await worker.ready()
    await app.fire(sessions)
    await app.settled()


async def test_a_changelog_that_is_made_again_beneath_a_worker_ends_it_and_is_rebuilt(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await fold(app, worker, FIRST)
    before = await outcome(app)
    await make_again(app, app.topics.changelog, TASKS)
    # Shortly after the next check of the topics; no trigger is fired meanwhile.
    assert await worker.ended(within_s=END_S) == 2
    assert f"{app.topics.changelog} was deleted and made again: its id was" in worker.text()
    found = await doctor(app)
    assert found.status == 1
    assert "NOT checkpoints" in found.out
    assert advice.rebuild(address(app)) in found.out
    await carry_out(advice.rebuild(address(app)), worker.text())
    same(await outcome(app), before)
    assert (await replay(app, "--check")).status == 0
    assert lacking(await doctor(app)) == {"workers", "bridge"}
    worker = app.start("w2")
    await fold(app, worker, SECOND)
    await worker.drained()
    assert (await app.exact()).command_count() == len(FIRST) + len(SECOND)


async def test_events_that_are_made_again_beneath_a_worker_end_it_and_nothing_is_decided_twice(
    app: Stage,
) -> None:
    await app.prepare()
    worker = app.start()
    await fold(app, worker, FIRST)
    before = await outcome(app)
    await app.delete(app.topics.events)
    await app.prepare()
    # These come to the new log before anybody has noticed that it is another one.
    await app.fire(SECOND)
    assert await worker.ended(within_s=END_S) == 2
    # A look at the topics may come first, at a rebalance or when it is due; or a failure, after which a start
    # finds no topic, or a checkpoint that does not fit.
    said = (
        f"{app.topics.events} was deleted and made again: its id was",
        "offsets mean nothing there",
        advice.create_topics(address(app)),
    )
    assert any(words in worker.text() for words in said), worker.text()
    found = await doctor(app)
    assert found.status == 1
    assert "offsets mean nothing there" in found.out
    same(await outcome(app), before)
    await begin_anew(app, found.out, lost=len(FIRST))


@pytest.mark.parametrize("which", ["events", pytest.param("changelog", marks=pytest.mark.faults)])
async def test_a_rebalance_takes_nothing_over_from_topics_that_were_made_again(
    app: Stage, which: str
) -> None:
    await app.prepare()
    worker = app.start(failpoint="takeover.started:2:STOP")
    await fold(app, worker, FIRST)
    before = await outcome(app)
    app.start("w2")
    await worker.stopped()
    topic = getattr(app.topics, which)
    await make_again(app, topic, TASKS)
    worker.signal(signal.SIGCONT)
    assert await worker.ended(within_s=END_S) == 2
    assert f"{topic} was deleted and made again: its id was" in worker.text()
    assert advice.rebuild(address(app)) in worker.text()
    assert (await outcome(app)).commands == before.commands


async def begin_anew(app: Stage, said: str, *, lost: int) -> None:
    """Do what is printed step by step, where the log is gone with all that it said."""
    asks = await carry_out(advice.rebuild(address(app)), said, status=2)
    assert f"earliest would decide {len(SECOND)} commands" in asks.err
    count = len(SECOND)
    counted = await carry_out(advice.rebuild_from_offset(address(app), commands=count), asks.err, status=2)
    assert f"{lost} sessions with {lost} commands that are not settled" in counted.err
    before = await outcome(app)
    assert any(before.states.values())
    more = ("--from-offset", "commands")
    await carry_out(advice.rebuild_all_the_same(address(app)), counted.err, *more)
    worker = app.start("w2")
    await worker.ready()
    await app.settled()
    await worker.drained()
    after = await outcome(app)
    assert {key for states in after.states.values() for key in states} == {
        f"s{number}".encode() for number in SECOND
    }
    assert after.command_count() == before.command_count() + len(SECOND)
    assert (await replay(app, "--check")).status == 0


@pytest.mark.faults
async def test_topics_that_are_deleted_beneath_a_worker_end_it(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await fold(app, worker, FIRST)
    await app.delete(app.topics.events)
    assert await worker.ended(within_s=END_S) == 2
    # The next start says so if there was a failure first.
    said = (f"{app.topics.events} was deleted", advice.create_topics(address(app)))
    assert any(words in worker.text() for words in said), worker.text()
    found = await doctor(app)
    assert found.status == 1
    assert f"{app.topics.events}: is missing" in found.out
    # doctor goes first: without topics there is nothing to be rebuilt.
    await carry_out(advice.create_topics(address(app)), found.out)
    await app.apply(TASKS)
    await app.fire(SECOND)
    await begin_anew(app, (await doctor(app)).out, lost=len(FIRST))


@pytest.mark.faults
async def test_all_topics_made_again_beneath_a_worker_end_it_and_begin_anew(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await fold(app, worker, FIRST)
    for topic in app.topics.all():
        await app.delete(topic)
    await app.prepare()

    def began_anew() -> bool:
        return worker.text().count(" ready: partitions ") > 1

    await eventually(lambda: began_anew() or not worker.running(), within_s=END_S, what=worker.text)
    if began_anew():  # a fetch failed first; the next start found an app without a past
        await worker.drained()
    else:
        assert await worker.ended() == 2
        said = ("was deleted and made again: its id was", "the changelog has no checkpoint")
        assert any(words in worker.text() for words in said), worker.text()
        asks = await carry_out(advice.rebuild(address(app)), worker.text(), status=2)
        await carry_out(advice.rebuild_from_offset(address(app), commands=0), asks.err)
    # The old store is still there, and none of it is taken.
    worker = app.start()
    await fold(app, worker, SECOND)
    await worker.drained()
    assert (await app.exact()).command_count() == len(SECOND)
    assert lacking(await doctor(app)) == {"workers", "bridge"}


async def test_events_made_again_while_no_worker_runs_are_refused_by_worker_and_doctor(app: Stage) -> None:
    before = await lived(app)
    await make_again(app, app.topics.events, TASKS)
    await app.fire(SECOND)
    found = await doctor(app)
    assert found.status == 1
    assert "offsets mean nothing there" in found.out
    refused = app.start("w2")
    assert await refused.ended() == 2
    assert "offsets mean nothing there" in refused.text()
    assert advice.rebuild(address(app)) in refused.text()
    same(await outcome(app), before)


async def test_a_changelog_of_another_cluster_is_refused_and_rebuilt(app: Stage) -> None:
    before = await lived(app)
    async with app.connection.running(app.connection.producer()) as producer:
        for partition, records in (
            await read_all(app.connection, app.topics.changelog, app.partitions)
        ).items():
            newest = [one.value for one in records if one.key == CHECKPOINT_KEY][-1]
            mark = decode_checkpoint(newest)
            other = replace(mark, identity=replace(mark.identity, cluster="another", topic="other"))
            await producer.send_and_wait(
                app.topics.changelog, encode_checkpoint(other), key=CHECKPOINT_KEY, partition=partition
            )
    found = await doctor(app)
    assert found.status == 1
    assert "its checkpoint belongs to topic id other of cluster another" in found.out
    refused = app.start("w2")
    assert await refused.ended() == 2
    assert "its checkpoint belongs to topic id other of cluster another" in refused.text()
    assert (await replay(app, "--check")).status == 1
    assert advice.rebuild(address(app)) in found.out
    asks = await carry_out(advice.rebuild(address(app)), refused.text(), status=2)
    await carry_out(advice.rebuild_from_offset(address(app), commands=len(FIRST)), asks.err)
    same(await outcome(app), before)
    for name in ("w1", "w3"):  # the old store, and none
        worker = app.start(name)
        await fold(app, worker, SECOND if name == "w1" else THIRD)
        await worker.drained()
    assert (await app.exact()).command_count() == len(FIRST) + len(SECOND) + len(THIRD)
    assert lacking(await doctor(app)) == {"workers", "bridge"}


@pytest.mark.parametrize(
    "rebuilt",
    [pytest.param(False, id="as it is", marks=pytest.mark.faults), pytest.param(True, id="rebuilt between")],
)
async def test_a_store_from_an_old_copy_is_brought_to_the_end(app: Stage, *, rebuilt: bool) -> None:
    await lived(app)
    copy = app.folder / "copy"
    shutil.copytree(app.directory("w1"), copy)
    worker = app.start()
    await fold(app, worker, SECOND)
    await worker.drained()
    if rebuilt:
        assert (await replay(app, "--rebuild")).status == 0
    before = await outcome(app)
    shutil.rmtree(app.directory("w1"))
    shutil.copytree(copy, app.directory("w1"))
    worker = app.start()
    await worker.ready()
    # A second trigger of sessions that the copy knows in an old state, or does not know.
    await fold(app, worker, range(FIRST.start, THIRD.stop))
    await worker.drained()
    after = await app.exact()
    assert after.command_count() == before.command_count() + len(THIRD)
    assert (await replay(app, "--check")).status == 0
