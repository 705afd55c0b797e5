"""Partitions that are added to an app's topics lose no session: the printed repair moves the records."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from tests.acceptance.replaying import replay
from tests.adapters.faust.workers import Stage, read_all, stage
from tests.support.advised import carry_out, printed_command
from tests.support.commands import Ran, triggerstream
from tests.support.waiting import eventually, until
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.rehome import rehome
from triggerstream.core import advice
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire import commands
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import RESERVED
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

OWN, GROWN = 3, 5
SESSIONS = range(30)
BACKTICKS = re.compile(r"`(triggerstream [^`]+)`")


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=OWN) as made:
        yield made


def address(app: Stage) -> str:
    return f"kafka://{app.connection.bootstrap}/{app.app}"


async def ours(app: Stage, *words: str) -> Ran:
    return await triggerstream(*words, "--at", address(app))


async def grow(app: Stage, *topics: str, partitions: int = GROWN) -> None:
    """Add partitions, as an operator may do."""
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        for topic in topics:
            answer = await admin.create_partitions({topic: NewPartitions(total_count=partitions)})
            assert not answer.topic_errors[0][1]
    finally:
        await admin.close()
    async with app.connection.client() as client:

        async def have_grown() -> bool:
            found = (await describe(client, topics)).topics.values()
            return all(topic.partitions >= partitions and topic.led for topic in found)

        await until(have_grown)


async def fire(app: Stage, name: str, sessions: range, *, partitions: int) -> None:
    """Fire as a producer does that places by ``partitions``."""
    for session in sessions:
        key = f"s{session}".encode()
        await app.append(
            [NewRecord(key=key, value=dumps({"type": name}))], partition=partition_of(key, partitions)
        )


async def kept(app: Stage) -> tuple[set[str], Counter[str]]:
    """The sessions that are kept, and how often each command was decided."""
    found: dict[bytes, bytes | None] = {}
    for records in (await read_all(app.connection, app.topics.changelog, OWN)).values():
        found.update({record.key: record.value for record in records})
    sessions = {key.decode() for key, value in found.items() if value and not key.startswith(RESERVED)}
    decided = await read_all(app.connection, app.topics.commands, OWN)
    ids = Counter(commands.decode(record.value).id for records in decided.values() for record in records)
    return sessions, Counter({str(id_): count for id_, count in ids.items()})


def stray_sessions(sessions: range) -> set[str]:
    return {f"s{n}" for n in sessions if partition_of(f"s{n}".encode(), GROWN) >= OWN}


def printed(text: str) -> list[list[str]]:
    """The commands that are printed, each once."""
    return [command.split()[1:] for command in dict.fromkeys(BACKTICKS.findall(text))]


async def test_doing_what_is_printed_loses_no_session_and_no_command(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await fire(app, "a", SESSIONS, partitions=OWN)
    await fire(app, "b", SESSIONS, partitions=OWN)
    await fire(app, "c", SESSIONS, partitions=OWN)
    await fire(app, "d", range(10), partitions=OWN)
    await app.settled()
    await worker.drained()
    before = await kept(app)
    assert len(before[0]) == len(SESSIONS)
    assert len(before[1]) == 10
    await grow(app, app.topics.events)
    misplaced = stray_sessions(SESSIONS)
    await fire(app, "d", SESSIONS, partitions=GROWN)
    # Everything that looks says how many records lie elsewhere, and the worker serves its own meanwhile.
    said = f"{len(misplaced)} records of {len(misplaced)} sessions lie in those that were added"
    worker = app.start("w2")
    await worker.ready()
    await eventually(lambda: said in worker.text(), what=worker.text)
    checked, doctor = await ours(app, "topics", "check"), await ours(app, "doctor")
    assert checked.status == 0
    assert said in checked.out
    assert said in doctor.out
    await app.settled()
    reached = {f"s{n}" for n in SESSIONS if f"s{n}" not in misplaced}
    sessions, decided = await kept(app)
    assert len(sessions) == len(SESSIONS)
    assert len(decided) == len(reached | {f"s{n}" for n in range(10)})
    assert (await replay(app, "--check")).status == 1
    await worker.drained()
    refused = await replay(app, "--rebuild")
    assert refused.status == 2
    assert said in refused.err
    # Carry the printed command out twice: the second time, nothing is left to do.
    said = checked.out + doctor.out + refused.err + worker.text()
    assert [words[:2] for words in printed(said)] == [["topics", "rehome"]]
    for counts in (len(misplaced), 0):
        ran = await carry_out(advice.rehome_added(address(app), partitions=OWN), said, "--json")
        assert ran.row()["records"] == counts
    worker = app.start("w3")
    await app.settled()
    await worker.drained()
    sessions, decided = await kept(app)
    assert len(sessions) == len(SESSIONS)
    assert len(decided) == len(SESSIONS)
    assert set(decided.values()) == {1}
    assert (await replay(app, "--check")).status == 0
    assert (await replay(app, "--rebuild")).status == 0
    assert (await kept(app))[0] == sessions
    # Our own clients go on placing by the app's number.
    fired = await ours(app, "fire", f"s{min(int(s[1:]) for s in misplaced)}", "a")
    assert fired.status == 0
    assert (await ours(app, "topics", "rehome", "--json")).row()["records"] == 0
    applied = app.folder / "tasks.json"
    applied.write_text('{"t_other": {"after": ["x"], "run": "tasks.other"}}')
    ran = await ours(app, "config", "apply", str(applied), "--json")
    assert ran.status == 0, ran.err
    assert len((await read_all(app.connection, app.topics.events, GROWN))[GROWN - 1]) == len(
        [s for s in misplaced if partition_of(s.encode(), GROWN) == GROWN - 1]
    )


async def test_topics_that_grow_beneath_a_running_worker_are_said(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await worker.ready()
    await grow(app, app.topics.events, app.topics.commands, app.topics.changelog, app.topics.dead_letters)
    await fire(app, "a", SESSIONS, partitions=GROWN)
    await eventually(lambda: "sessions lie in those that were added" in worker.text(), what=worker.text)
    assert (await ours(app, "topics", "rehome")).status == 0
    await app.settled()
    await worker.drained()
    sessions, _ = await kept(app)
    assert len(sessions) == len(SESSIONS)


async def test_what_was_destroyed_by_hand_is_rebuilt_for_the_number_that_the_log_was_for(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    for name in "abcd":
        await fire(app, name, SESSIONS, partitions=OWN)
    await app.settled()
    await worker.drained()
    await grow(app, app.topics.events)
    for topic in (app.topics.commands, app.topics.dead_letters, app.topics.changelog):
        await app.delete(topic)
    ran = await triggerstream("topics", "create", "--partitions", str(GROWN), "--at", address(app))
    assert ran.status == 0, ran.err
    worker = app.start("w2")
    assert await worker.ended() == 2
    refused = await carry_out(advice.rebuild(address(app)), worker.text(), status=2)
    assert f" of {len(SESSIONS) - len(home(SESSIONS))} sessions are not where" in refused.err
    await carry_out(advice.rebuild_with_partitions(address(app), partitions=OWN), refused.err)
    sessions, _ = await kept(app)
    assert len(sessions) == len(SESSIONS)
    worker = app.start("w3")
    await worker.ready()
    await worker.drained()
    assert (await replay(app, "--check")).status == 0


def home(sessions: range) -> set[str]:
    """The sessions that both numbers have in the same partition."""
    keys = [f"s{n}" for n in sessions]
    return {key for key in keys if partition_of(key.encode(), OWN) == partition_of(key.encode(), GROWN)}


async def test_of_two_rehomes_at_the_same_time_each_record_has_one_copy(app: Stage) -> None:
    """More of one trigger than the fold knows the identities of, so that a second copy would count."""
    await app.prepare()
    await grow(app, app.topics.events)
    session = next(iter(sorted(stray_sessions(SESSIONS))))
    key, count = session.encode(), 600
    await app.append(
        [NewRecord(key=key, value=dumps({"type": "a", "data": {"n": n}})) for n in range(count)],
        partition=partition_of(key, GROWN),
    )
    ran = await asyncio.gather(
        *(rehome(app.connection, app.app, partitions=OWN) for _ in range(2)), return_exceptions=True
    )
    failed = [str(one) for one in ran if isinstance(one, BaseException)]
    # None fails where the first is done before the second one begins.
    assert failed in ([], ["another rehome of this app has begun since then, and does the rest"])
    assert (await rehome(app.connection, app.app, partitions=OWN)).records == 0
    copies = (await read_all(app.connection, app.topics.events, OWN))[partition_of(key, OWN)]
    assert [record.value for record in copies if record.key == key] == [
        dumps({"type": "a", "data": {"n": n}}) for n in range(count)
    ]


async def test_an_app_without_a_checkpoint_is_asked_for_its_number(app: Stage) -> None:
    await app.prepare()
    await grow(app, app.topics.events)
    await fire(app, "a", SESSIONS, partitions=GROWN)
    refused = await ours(app, "topics", "rehome")
    assert refused.status == 2
    # As it is printed it says how it is used, and changes nothing.
    asked = await carry_out(advice.name_partitions_to_rehome(address(app)), refused.err, status=2)
    assert "NUMBER" in asked.err
    words = printed_command(advice.name_partitions_to_rehome(address(app)), refused.err)
    ran = await triggerstream(*[str(OWN) if word == "NUMBER" else word for word in words[1:]], "--json")
    assert (ran.status, ran.row()["records"]) == (0, len(stray_sessions(SESSIONS)))
    worker = app.start()
    await app.settled()
    await app.settled()  # what the worker appended where it belongs, too
    await worker.drained()
    assert (await kept(app))[0] == {f"s{n}" for n in SESSIONS}


LOADED = range(400)
PIECE = 20


async def fire_at_once(app: Stage, name: str, sessions: range, *, partitions: int) -> None:
    by_partition: dict[int, list[NewRecord]] = {}
    for session in sessions:
        record = NewRecord(key=f"s{session}".encode(), value=dumps({"type": name}))
        by_partition.setdefault(partition_of(record.key or b"", partitions), []).append(record)
    for partition, records in by_partition.items():
        await app.append(records, partition=partition)


async def produce(app: Stage, names: str, *, partitions: int) -> None:
    """Fire ``names`` for all sessions, piece by piece, as a producer that knows of so many partitions."""
    for begin in range(LOADED.start, LOADED.stop, PIECE):
        for name in names:
            await fire_at_once(app, name, range(begin, begin + PIECE), partitions=partitions)


@pytest.mark.faults
async def test_growth_under_load_with_rehoming_repeated_and_workers_killed(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await worker.ready()
    knows_not = asyncio.create_task(produce(app, "ab", partitions=OWN))
    await grow(app, app.topics.events)
    knows = asyncio.create_task(produce(app, "cd", partitions=GROWN))
    rounds = 0
    while not (knows.done() and knows_not.done()):
        rounds += 1
        # Two at the same time: the later one fences the other, and does the rest.
        ran = await asyncio.gather(*(ours(app, "topics", "rehome", "--json") for _ in range(2)))
        assert any(one.status == 0 for one in ran), ran
        if rounds % 2 == 0:
            worker.kill_at_work()
            worker = app.start(f"w{rounds}")
    await asyncio.gather(knows, knows_not)
    assert rounds > 1
    assert (await ours(app, "topics", "rehome")).status == 0
    assert (await ours(app, "topics", "rehome", "--json")).row()["records"] == 0
    await app.settled()
    await app.settled()
    await worker.drained()
    sessions, decided = await kept(app)
    assert sessions == {f"s{n}" for n in LOADED}
    assert len(decided) == len(LOADED)
    assert set(decided.values()) == {1}
    assert (await replay(app, "--check")).status == 0
    assert (await replay(app, "--rebuild")).status == 0
    assert (await kept(app))[0] == sessions
