"""A configuration is in every partition or in none, and says what it replaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from tests.adapters.kafka.conftest import PARTITIONS, read_all
from triggerstream.adapters.kafka.config import apply, in_force
from triggerstream.adapters.kafka.connection import Connection, stop
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.security import Security
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import ConfigError, DecodeError, LogError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Configuration
from triggerstream.wire.bounds import CONFIG_BYTES
from triggerstream.wire.events import decode
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import read_keys
from triggerstream.wire.tasksfile import read

pytestmark = pytest.mark.kafka


def _config(run: str, *, padding: int = 0) -> Configuration:
    comment = "//" + "x" * padding + "\n"
    return read(f'{comment}{{"t": {{"after": ["a"], "run": "{run}"}}}}', name="tasks.json")


async def _applied(connection: Connection, topics: Topics) -> dict[int, list[ConfigApplied]]:
    found: dict[int, list[ConfigApplied]] = {partition: [] for partition in range(PARTITIONS)}
    for r in await read_all(connection, topics.events):
        if r.key is None:
            event = decode(
                Record(partition=r.partition, offset=r.offset, arrival_us=0, key=None, value=r.value)
            )
            assert isinstance(event, ConfigApplied)
            found[r.partition].append(event)
    return found


async def test_an_applied_configuration_is_in_every_partition(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    first, second = _config("one"), _config("two")
    assert await in_force(connection, kafka_app) is None
    change = await apply(connection, kafka_app, first)
    assert change is not None
    assert (change.hash, change.replaced) == (first.hash, None)
    assert sorted(change.offsets) == list(range(PARTITIONS))
    change = await apply(connection, kafka_app, second)
    assert change is not None
    assert change.replaced == first.hash
    for events in (await _applied(connection, topics)).values():
        assert [(e.hash, e.replaces) for e in events] == [(first.hash, None), (second.hash, first.hash)]
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert (shown.hash, shown.text, shown.offset) == (second.hash, second.text, change.offsets[0])
    assert shown.arrival_us > 1_700_000_000_000_000


async def test_applying_what_is_in_force_changes_nothing(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    await apply(connection, kafka_app, _config("one"))
    assert await apply(connection, kafka_app, _config("one")) is None
    assert {len(events) for events in (await _applied(connection, topics)).values()} == {1}


@pytest.mark.usefixtures("topics")
async def test_the_configuration_in_force_is_found_beneath_later_events(
    connection: Connection, kafka_app: AppId
) -> None:
    await apply(connection, kafka_app, _config("old"))
    await apply(connection, kafka_app, _config("new"))
    log = KafkaLog(connection, kafka_app)
    await log.append([NewRecord(key=b"%d" % number, value=b'{"type": "a"}') for number in range(20_000)])
    await log.close()
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert shown.hash == _config("new").hash
    known = await in_force(connection, kafka_app, known=shown, folded=10**9)
    assert known == shown, "a checkpoint beyond the end has nothing behind it to read"


async def test_a_configuration_beyond_the_checkpoint_is_the_one_in_force(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    await apply(connection, kafka_app, _config("old"))
    old = await in_force(connection, kafka_app)
    assert old is not None
    await apply(connection, kafka_app, _config("new"), known=old, folded=old.offset + 1)
    shown = await in_force(connection, kafka_app, known=old, folded=old.offset + 1)
    assert shown is not None
    assert shown.hash == _config("new").hash
    [_, second] = (await _applied(connection, topics))[0]
    assert second.replaces == old.hash


@pytest.mark.usefixtures("topics")
async def test_the_longest_configuration_fits_and_a_longer_one_is_refused(
    connection: Connection, kafka_app: AppId
) -> None:
    assert await apply(connection, kafka_app, _config("one", padding=CONFIG_BYTES - 2000)) is not None
    with pytest.raises(ConfigError, match="bytes as an event: at most 1,048,576 can be applied"):
        _config("two", padding=CONFIG_BYTES)
    unchecked = replace(_config("two"), text="//" + "x" * CONFIG_BYTES)
    with pytest.raises(DecodeError, match="an event has at most"):
        await apply(connection, kafka_app, unchecked)
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert shown.hash == _config("one", padding=CONFIG_BYTES - 2000).hash


async def test_a_half_applied_configuration_is_undone_by_the_next_apply(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with _open_transaction(connection, f"{kafka_app}-config", topics, 0, 1):
        change = await apply(connection, kafka_app, _config("one"))
        assert change is not None
        assert change.replaced is None
        for events in (await _applied(connection, topics)).values():
            assert [e.hash for e in events] == [_config("one").hash]


async def test_an_applied_configuration_can_be_read_once_apply_returns(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with _open_transaction(connection, f"{kafka_app}-other", topics, 1) as other:
        applying = asyncio.ensure_future(apply(connection, kafka_app, _config("one")))
        await asyncio.sleep(2)
        assert not applying.done(), "no reader of partition 1 sees it before the other transaction ends"
        await other.abort_transaction()
        change = await applying
        assert change is not None
        assert {len(events) for events in (await _applied(connection, topics)).values()} == {1}


async def test_what_stays_unreadable_is_said_to_be_in_the_log(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with _open_transaction(connection, f"{kafka_app}-other", topics, 1):
        with pytest.raises(LogError, match=r"in the log.*partitions 1.*open transaction"):
            await apply(connection, kafka_app, _config("one"), timeout_s=3)


async def test_it_is_not_said_to_be_in_force_while_what_follows_cannot_be_read(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    await apply(connection, kafka_app, _config("old"))
    async with _open_transaction(connection, f"{kafka_app}-other", topics, 0) as other:
        with pytest.raises(LogError, match=r"cannot tell.*partitions 0.*open transaction"):
            await apply(connection, kafka_app, _config("old"), timeout_s=3)
        await other.abort_transaction()
        assert await apply(connection, kafka_app, _config("old")) is None


async def test_who_has_not_the_control_key_is_told_so(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    keys = read_keys(f"2026-01-01T00:00:00Z {'5a' * 32}")
    operator = replace(connection, security=Security(control=keys))
    await apply(operator, kafka_app, _config("one"))
    for attempt in (apply(connection, kafka_app, _config("two")), in_force(connection, kafka_app)):
        with pytest.raises(UsageError, match=r"is signed: name the app's control key as control_key_file"):
            await attempt
    assert {len(events) for events in (await _applied(connection, topics)).values()} == {1}


async def test_applies_at_the_same_time_leave_one_history(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    configs = [_config(f"run{number}") for number in range(6)]
    answers = await asyncio.gather(
        *(apply(connection, kafka_app, config) for config in configs), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException):
            assert isinstance(answer, UsageError), repr(answer)
            assert "overtook" in str(answer)
    histories = [
        [(e.hash, e.replaces) for e in events] for events in (await _applied(connection, topics)).values()
    ]
    assert all(history == histories[0] for history in histories)
    assert len(histories[0]) == sum(not isinstance(answer, BaseException) for answer in answers) >= 1
    before = [None, *(hash_ for hash_, _ in histories[0])]
    assert [replaces for _, replaces in histories[0]] == before[:-1]


@asynccontextmanager
async def _open_transaction(
    connection: Connection, transactional_id: str, topics: Topics, *partitions: int
) -> AsyncGenerator[AIOKafkaProducer]:
    """A transaction with a record in each of the partitions; who died with it leaves it so."""
    producer = connection.producer(transactional_id=transactional_id, transaction_s=60)
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition in partitions:
            await producer.send_and_wait(
                topics.events, b'{"type": "triggerstream.config"}', partition=partition
            )
        yield producer
    finally:
        await stop(producer)
