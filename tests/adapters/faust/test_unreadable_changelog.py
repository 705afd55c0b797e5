"""A batch of the changelog that cannot be read: no state is lost silently, and a rebuild repairs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.replaying import set_group_back
from tests.adapters.faust.workers import Stage, WorkerProcess, read_all, stage
from tests.support.advised import carry_out, printed_command
from tests.support.commands import triggerstream
from tests.support.kafka.raw import damage
from tests.support.kafka.server import KafkaServer
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core import advice
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.records import NewRecord, offsets

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
SESSIONS = ("early", "spoilt", "late")
LASTING = {"compression"}
"""The damage that is the same at every attempt and on every replica."""


@pytest.mark.timeout(300)
async def test_each_kind_of_damage_is_refused_and_one_rebuild_repairs_all(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    """The short form of the tests below: a partition for each kind."""
    server, kinds = start_kafka(), ("compression", "checksum", "format")
    connection = Connection(bootstrap=server.bootstrap)
    with stage(connection, kafka_app, tmp_path / "stage", partitions=len(kinds)) as app:
        await app.prepare(TASKS)
        worker = app.start("kept")
        await worker.ready()
        names = [f"s{number}." for number in range(100)]
        sessions = [next(name for name in names if partition_of(name.encode(), 3) == n) for n in range(3)]
        # Each in a transaction of its own: a search that begins within a batch names the rest of it only.
        for session in sessions:
            await fire(app, session, "a")
            await app.settled()
        for name in names[:20]:
            await fire(app, f"{name}later", "a")
        await app.settled()
        await worker.drained()
        at = f"kafka://{server.bootstrap}/{app.app}"
        faults = []
        for number, how in enumerate(kinds):
            first, last = damage(server.folder, app.topics.changelog, number, sessions[number].encode(), how)
            where = offsets(first, None if how == "format" else last)
            faults.append(
                f"partition {number}: in its changelog, the record batch at {where} cannot be read: "
            )
        worker = app.start("new")
        assert await worker.ended() == 2, worker.text()
        checked = await triggerstream("replay", "--check", "--at", at)
        assert (checked.status, [fault for fault in faults if fault not in checked.out]) == (1, []), checked
        await carry_out(advice.rebuild(at), worker.text())
        worker = app.start("new")
        await worker.ready()
        for session in sessions:
            await fire(app, session, "b")
        await decided(app, worker, len(sessions))
        await worker.drained()


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["compression", "checksum", "format", "header"])
async def test_a_changelog_that_cannot_be_read_refuses_a_take_over_until_it_is_rebuilt(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path, how: str
) -> None:
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await app.prepare(TASKS)
        worker = app.start("kept")
        await worker.ready()
        # The broker finds nothing after a damaged header up to its next index entry, 4 KiB later.
        further = [f"further-{number}" for number in range(20 if how == "header" else 0)]
        for session in (*SESSIONS, *further):  # each in a transaction of its own
            await fire(app, session, "a")
            await app.settled()
        await worker.drained()
        first, last = damage(server.folder, app.topics.changelog, 0, b"spoilt", how)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        where = offsets(first, None if how in {"format", "header"} else last)
        fault = f"the record batch at {where} cannot be read"
        says = f"{app.topics.changelog}, partition 0: {fault}"

        # A store that ends after the batch does not need it.
        worker = app.start("kept")
        await worker.ready()
        await worker.drained()

        worker = app.start("new")
        if how in LASTING:
            assert await worker.ended() == 2, worker.text()
        else:
            await worker.failed(70)
            again = "status 70: starting it again in 4 s, as a record batch cannot be read"
            await eventually(lambda: again in worker.text(), within_s=120, what=worker.text)
            worker.kill()
        assert says in worker.text(), worker.text()
        repair = f"; {advice.rebuild_unreadable(at, lasting=how in LASTING)}\n"
        assert repair in worker.text(), worker.text()
        checked = await triggerstream("replay", "--check", "--at", at)
        refused = f"partition 0: in its changelog, {fault}"
        assert (checked.status, refused in checked.out, repair in checked.out) == (1, True, True), checked
        for words in (("sessions", "show", "spoilt"), ("sessions", "show", "early")):
            shown = await triggerstream(*words, "--at", at)
            assert (shown.status != 0, says in shown.err, repair in shown.err) == (True, True, True), shown
        asked = await triggerstream("doctor", "--at", at)
        (line,) = [line for line in asked.out.splitlines() if "events " in line]
        assert (asked.status, says in line, repair.strip() in line) == (1, True, True), asked
        assert "checkpoints" not in asked.out, "the newest one can be read"

        await carry_out(advice.rebuild_unreadable(at, lasting=how in LASTING), worker.text())
        assert await command_count(app) == 0
        checked = await triggerstream("replay", "--check", "--at", at)
        assert checked.status == 0, checked
        shown = await triggerstream("sessions", "show", "spoilt", "--at", at)
        assert (shown.status, "t#0" in shown.out) == (0, True), shown
        # A worker without a store, one with a store from before the damage, and the refused one.
        for number, name in enumerate(("newer", "kept", "new")):
            worker = app.start(name)
            await worker.ready()
            await fire(app, SESSIONS[number], "b")
            await decided(app, worker, number + 1)
            await worker.drained()
        checked = await triggerstream("replay", "--check", "--at", at)
        assert checked.status == 0, checked


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_checkpoint_that_cannot_be_read_is_found_again_from_the_commands(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    """Else the rebuild would go on at an older one, and decide again what was decided after that."""
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await decide_sessions(app, group=3)
        first, last = damage(server.folder, app.topics.changelog, 0, b"late", "compression", newest=True)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        says = f"the record batch at {offsets(first, last)} cannot be read"
        asked = await triggerstream("doctor", "--at", at)
        (line,) = [line for line in asked.out.splitlines() if "checkpoints" in line]
        assert (asked.status, says in line, advice.rebuild(at) in line) == (1, True, True), asked
        named = [line[4:].split()[0] for line in asked.out.splitlines()]
        assert {"transactions", "workers", "owners", "hand-over"} <= set(named), "all the rest is checked"
        worker = app.start("new")
        assert await worker.ended() == 2, worker.text()
        assert says in worker.text()
        await carry_out(advice.rebuild(at), worker.text())
        worker = app.start("new")
        await worker.ready()
        await decided(app, worker, len(SESSIONS))
        checked = await triggerstream("replay", "--check", "--at", at)
        assert checked.status == 0, checked


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["compression", "checksum"])
async def test_commands_that_cannot_be_read_either_go_out_again_only_with_consent(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path, how: str
) -> None:
    """The newest checkpoint and the newest command are lost: nothing says that the command was decided."""
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await decide_sessions(app, group=5)
        damage(server.folder, app.topics.changelog, 0, b"late", "compression", newest=True)
        first, last = damage(server.folder, app.topics.commands, 0, b"late", how)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        worker = app.start("new")
        assert await worker.ended() == 2, worker.text()
        asked = await carry_out(advice.rebuild(at), worker.text(), status=2)
        assert f"the commands at {offsets(first, last)} cannot be read" in asked.err, asked
        done = await carry_out(advice.rebuild_all_the_same(at), asked.err)
        assert "rebuilt" in done.out, done
        end = (await triggerstream("doctor", "--at", at)).out
        assert "2 events wait" in end, end
        worker = app.start("new")
        await worker.ready()
        await app.settled()
        await worker.drained()
        checked = await triggerstream("replay", "--check", "--at", at)
        assert checked.status == 0, checked


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_many_damaged_batches_take_a_rebuild_little_longer_than_one(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await app.prepare(TASKS)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        worker = app.start("kept")
        await worker.ready()
        names = [f"damaged{number}." for number in range(20)]
        for session in names:
            await fire(app, session, "a")
            await app.settled()
        await worker.drained()
        for session in names:
            damage(server.folder, app.topics.changelog, 0, session.encode(), "checksum")
        began = time.monotonic()
        await carry_out(advice.rebuild(at), advice.rebuild(at))
        took_s = time.monotonic() - began
        print(f"a rebuild of a changelog with {len(names)} damaged batches: {took_s:.1f} s")  # noqa: T201
        assert took_s < 95, "half of the time that they took one after the other"
        listed = await triggerstream("sessions", "list", "--at", at)
        assert all(session in listed.out for session in names), listed


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_batch_after_a_rebuild_is_refused_as_one_before_it_was(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await app.prepare(TASKS)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        damaged = []
        for session in ("older", "newer"):
            worker = app.start("kept")
            await worker.ready()
            for one in (session, f"{session} it"):
                await fire(app, one, "a")
                await app.settled()
            await worker.drained()
            damaged.append(damage(server.folder, app.topics.changelog, 0, session.encode(), "compression"))
            says = f"the record batch at {offsets(*damaged[-1])} cannot be read"
            for words in (("sessions", "show", "older"), ("sessions", "list")):
                shown = await triggerstream(*words, "--at", at)
                assert (shown.status, says in shown.err) == (2, True), shown
                assert advice.rebuild(at) in shown.err, shown
            checked = await triggerstream("replay", "--check", "--at", at)
            assert (checked.status, checked.err) == (1, ""), checked
            worker = app.start("new")
            assert await worker.ended() == 2, worker.text()
            await carry_out(advice.rebuild(at), worker.text())
            listed = await triggerstream("sessions", "list", "--at", at)
            assert (listed.status, session in listed.out) == (0, True), listed


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_the_newest_batch_is_named_and_not_one_that_a_rebuild_has_replaced(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    """Another replica may have it undamaged; then the worker needs no repair."""
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await app.prepare(TASKS)
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        worker = app.start("kept")
        await worker.ready()
        for session in ("older", "newer"):
            await fire(app, session, "a")
            await app.settled()
        await worker.drained()
        damage(server.folder, app.topics.changelog, 0, b"older", "compression")
        await carry_out(advice.rebuild(at), advice.rebuild(at))
        worker = app.start("kept")
        await worker.ready()
        await fire(app, "newer", "b")
        await app.settled()
        await worker.drained()
        batch = damage(server.folder, app.topics.changelog, 0, b"newer", "checksum", newest=True)
        fault = f"the record batch at {offsets(*batch)} cannot be read: "
        fault += "CorruptRecordException: Invalid CRC (tried 5 times); "
        says = f"{app.topics.changelog}, partition 0: {fault}"
        worker = app.start("new")
        await worker.failed(70)
        worker.kill()
        assert f"ending with status 70: {says}if no replica" in worker.text(), worker.text()
        checked = await triggerstream("replay", "--check", "--at", at)
        assert (checked.status, f"partition 0: in its changelog, {fault}if no replica" in checked.out) == (
            1,
            True,
        ), checked
        for words in (("sessions", "show", "older"), ("sessions", "list")):
            shown = await triggerstream(*words, "--at", at)
            assert (shown.status != 0, f"{says}if no replica" in shown.err) == (True, True), shown


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_claims_that_cannot_be_read_end_each_take_over_until_their_topic_is_made_again(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=1) as app:
        await app.prepare(TASKS)
        worker = app.start("kept")
        await worker.ready()
        for session in ("s", "done"):
            await fire(app, session, "a")
        await fire(app, "done", "b")
        await app.settled()
        await worker.drained()
        at = f"kafka://{app.connection.bootstrap}/{app.app}"
        first, last = damage(server.folder, app.topics.owners, 0, b"-w-", "compression")
        worker = app.start("kept")
        assert await worker.ended() == 2, worker.text()
        said = worker.text()
        says = f"{app.topics.owners}, partition 0: the record batch at {offsets(first, last)} cannot be read"
        assert says in said
        assert "Traceback" not in said
        servers, owners = app.connection.bootstrap, app.topics.owners
        delete = printed_command(
            advice.make_owners_again(at, bootstrap=servers, topic=owners, lasting=True), said
        )
        assert delete[1:] == ["--bootstrap-server", servers, "--delete", "--topic", owners]
        await app.delete(delete[-1])
        for number in (1, 2):
            await carry_out(
                advice.make_owners_again(at, bootstrap=servers, topic=owners, lasting=True),
                said,
                number=number,
            )
        worker = app.start("kept")
        await worker.ready()
        await fire(app, "s", "b")
        await decided(app, worker, 2)
        await worker.drained()
        await app.exact()


async def decide_sessions(app: Stage, *, group: int) -> None:
    """Decide a command in each session, one by one; then set the group's offset back to ``group``."""
    await app.prepare(TASKS)
    worker = app.start("kept")
    await worker.ready()
    for session in SESSIONS:
        for trigger in ("a", "b"):
            await fire(app, session, trigger)
            await app.settled()
    await worker.drained()
    await set_group_back(app, group)


async def fire(app: Stage, session: str, trigger: str) -> None:
    await app.append([NewRecord(key=session.encode(), value=b'{"type": "%s"}' % trigger.encode())])


async def command_count(app: Stage) -> int:
    return sum(map(len, (await read_all(app.connection, app.topics.commands, app.partitions)).values()))


async def decided(app: Stage, worker: WorkerProcess, count: int) -> None:
    """Wait until everything is folded, and check that ``count`` commands are there."""
    await app.settled()
    assert await command_count(app) == count, worker.text()
