"""A worker on a log with misplaced, broken or foreign records, or one that is changed while it runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, outcome_of, read_all, stage
from tests.support.commands import triggerstream
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.core.commands import Command
from triggerstream.core.events import TYPES, Failed, Timer, Touch
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.engine.partitioned.versions import history_texts
from triggerstream.wire import commands, events
from triggerstream.wire.events import ORIGIN_HEADER
from triggerstream.wire.json import dumps, loads
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RETRIED = '{"t": {"after": ["a"], "run": "tasks.t", "retry": {"max": 2, "backoff": "2s"}}}'


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


def fired(name: str, key: str | None, **more: str) -> NewRecord:
    """An event as a plain producer writes it."""
    return NewRecord(key=None if key is None else key.encode(), value=dumps({"type": name, **more}))


async def test_misplaced_records_are_folded_where_their_session_is(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    for partition in range(app.partitions):
        await app.append((fired(name, f"s{n}") for name in "ab" for n in range(50)), partition=partition)
    await app.append((fired("c", None, session=f"s{n}") for n in range(50)), partition=0)
    await app.append((fired("d", None, subject=f"s{n}") for n in range(50)), partition=3)
    await app.settled()
    await app.settled()  # what was re-homed is in the log now
    await worker.drained()
    outcome = await app.exact()
    assert outcome.command_count() == 50
    moved = [
        (partition, record)
        for partition, records in outcome.events.items()
        for record in records
        if any(name == ORIGIN_HEADER for name, _ in record.headers)
    ]
    # 3 of 4 of the 50 × 2 records were in the wrong partition; those without a key were in 0 and 3.
    assert all(partition_of(record.key or b"", app.partitions) == partition for partition, record in moved)
    keys = [f"s{n}".encode() for n in range(50)]
    away = sum(partition_of(key, app.partitions) != place for key in keys for place in (0, 3))
    assert len(moved) == 50 * 2 * 3 + away
    origins = Counter(dict(record.headers)[ORIGIN_HEADER] for _, record in moved)
    assert set(origins.values()) == {1}


async def test_a_death_after_re_homing_repeats_it_and_counts_it_once(app: Stage) -> None:
    await app.prepare()
    for partition in range(app.partitions):
        await app.append((fired(name, f"s{n}") for name in "abcd" for n in range(50)), partition=partition)
    dying = app.start(failpoint="checkpoint.rehomed")
    assert await dying.ended() < 0
    worker = app.start()
    await app.settled()
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == 50


async def test_what_cannot_be_folded_becomes_a_dead_letter_and_stops_nobody(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    broken = [
        NewRecord(key=b"s1", value=b"{not json"),
        NewRecord(key=b"\xff\xfe", value=dumps({"type": "a"})),
        NewRecord(key=None, value=dumps({"type": "a"})),
        NewRecord(key=b"s1", value=dumps({"type": "triggerstream.unheard.of"})),
        NewRecord(key=b"s1", value=dumps({"type": "a", "data": {"text": "x" * 300_000}})),
    ]
    await app.append(broken)
    await app.fire(range(20))
    await app.settled()
    await worker.drained()
    outcome = await app.exact()
    assert outcome.command_count() == 20
    assert sum(outcome.letters.values()) == len(broken)


async def test_a_retry_is_decided_when_its_time_has_come_whoever_owns_it_then(app: Stage) -> None:
    await app.prepare(RETRIED)
    worker = app.start("w1")
    await app.append(fired("a", f"s{n}") for n in range(40))
    await app.settled()
    await _fail_all(app)
    await app.settled()
    worker.kill()
    following = app.start("w2")
    await following.ready()

    await _decides(app, 80)
    await following.drained()
    outcome = await app.exact()
    assert outcome.command_count() == 80
    kinds = Counter(loads(r.value or b"{}")["type"] for records in outcome.events.values() for r in records)  # type: ignore[index, call-overload] # all of them are objects
    assert kinds[TYPES[Timer]] >= 1


async def _decides(app: Stage, count: int) -> None:
    """Wait until so many commands are decided."""
    async with asyncio.timeout(90):
        while (await outcome_of(app.connection, app.app, app.partitions)).command_count() < count:  # noqa: ASYNC110 - it is another process that decides
            await asyncio.sleep(0.1)


async def _fail_all(app: Stage) -> None:
    found = await read_all(app.connection, app.topics.commands, app.partitions)
    decisions = [commands.decode(record.value) for records in found.values() for record in records]
    await app.append(
        NewRecord(
            key=decision.session.encode(),
            value=events.encode(Failed(instance=decision.instance, command=decision.id, error="no luck")),
        )
        for decision in decisions
        if isinstance(decision, Command)
    )


async def test_a_new_configuration_decides_at_once_what_it_can_and_the_old_one_is_forgotten(
    app: Stage,
) -> None:
    await app.prepare('{"t": {"after": ["a", "never"], "run": "tasks.t"}}')
    worker = app.start()
    await app.append(fired("a", f"s{n}") for n in range(60))
    await app.settled()
    await app.apply('{"t": {"after": ["a"], "run": "tasks.t"}}')
    await _decides(app, 60)
    await worker.drained()
    outcome = await app.exact()
    assert outcome.command_count() == 60
    types = Counter(dict(loads(r.value or b"{}"))["type"] for rs in outcome.events.values() for r in rs)  # type: ignore[arg-type] # all of them are objects
    assert types[TYPES[Touch]] == 60
    # At its next start it checks again, and finds no session that needs the old one.
    again = app.start()
    await again.ready()
    await app.append(fired("x", f"s{n}") for n in range(60))
    await app.settled()
    await app.append(fired("x", f"s{n}") for n in range(60))
    await app.settled()
    await again.drained()
    await app.exact()
    changelog = await read_all(app.connection, app.topics.changelog, app.partitions)
    for records in changelog.values():
        kept = {record.key: record.value for record in records}
        assert len(history_texts(kept.get)) == 1


async def test_topics_made_again_are_refused_by_name(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(range(50))
    await app.settled()
    await worker.drained()
    await app.delete(app.topics.events)
    await app.prepare()
    refused = app.start()
    assert await refused.ended() == 2, refused.text()
    assert "triggerstream replay --rebuild" in refused.text()


async def test_a_lost_changelog_is_refused_and_not_taken_for_a_new_app(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(range(50))
    await app.settled()
    await worker.drained()
    await app.delete(app.topics.changelog)
    await app.prepare()
    refused = app.start()
    assert await refused.ended() == 2, refused.text()
    assert "triggerstream replay --rebuild" in refused.text()


async def test_missing_topics_are_refused_with_the_command_that_makes_them(app: Stage) -> None:
    refused = app.start()
    assert await refused.ended() == 2
    assert "triggerstream topics create" in refused.text()


@pytest.mark.faults
async def test_a_changelog_with_a_transaction_that_hangs_is_not_taken_for_shorter(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(range(50))
    await app.settled()
    await worker.drained()
    hanging = app.connection.producer(transactional_id=f"{app.app}-hanging", transaction_s=600)
    await hanging.start()
    await hanging.begin_transaction()
    for partition in range(app.partitions):
        await hanging.send_and_wait(app.topics.changelog, b"torn", partition=partition, key=b"s0")
    stopped = app.start("another")  # its store is empty
    await stopped.failed(70, within_s=120)
    stopped.kill()
    owner = hanging._txn_manager.producer_id  # noqa: SLF001 - the id that the broker knows it by
    assert f"producer id {owner} " in stopped.text()
    assert f"cannot read {app.topics.changelog}" in stopped.text()
    checked = await triggerstream(
        "replay", "--check", "--at", f"kafka://{app.connection.bootstrap}/{app.app}"
    )
    assert f"producer id {owner} " in checked.err
    await hanging.abort_transaction()
    await stop(hanging)
    worker = app.start("another")
    await worker.ready()
    await app.fire(range(50, 100))
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == 100
