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
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.security import Security
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import ConfigError, DecodeError, LogError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Configuration
from triggerstream.wire import tasksfile
from triggerstream.wire.bounds import CONFIG_BYTES
from triggerstream.wire.events import decode, encode
from triggerstream.wire.marks import CHECKPOINT_KEY, CheckpointMark, InForce, encode_checkpoint
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


async def test_a_file_in_force_is_parsed_once_for_all_partitions(
    connection: Connection, kafka_app: AppId, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(connection, kafka_app, _config("one"))
    parsed: list[str | bytes] = []

    def count(text: str | bytes, *, name: str) -> Configuration:
        parsed.append(text)
        return read(text, name=name)

    monkeypatch.setattr(tasksfile, "read", count)
    assert await apply(connection, kafka_app, _config("two")) is not None
    assert parsed == [_config("one").text]
    assert len(await _applied(connection, topics)) > len(parsed)


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
    assert shown.number == 2


async def checkpoint(connection: Connection, app: AppId, *, partition: int, known: InForce) -> None:
    """Have a partition's changelog say that it was folded up to and with ``known``."""
    layout = await layout_of(connection, app)
    mark = CheckpointMark(offset=known.offset + 1, identity=layout.identity, configuration=known)
    producer = connection.producer()
    await producer.start()
    await producer.send_and_wait(
        Topics.of(app).changelog,
        encode_checkpoint(mark),
        key=CHECKPOINT_KEY,
        partition=partition,
    )
    for number in range(2_000):
        await producer.send(Topics.of(app).changelog, b"{}", key=b"%d" % number, partition=partition)
    await stop(producer)


@pytest.mark.usefixtures("topics")
async def test_a_checkpoint_says_what_is_in_force_and_what_is_beyond_it_counts(
    connection: Connection, kafka_app: AppId
) -> None:
    one, two, three = (_config(run) for run in ("one", "two", "three"))
    assert (await apply(connection, kafka_app, one)) is not None
    change = await apply(connection, kafka_app, two)
    assert change is not None
    for number, offset in change.offsets.items():
        await checkpoint(
            connection,
            kafka_app,
            partition=number,
            known=InForce(offset=offset, number=2, hash=two.hash),
        )
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert (shown.hash, shown.number, shown.text) == (two.hash, 2, two.text)
    change = await apply(connection, kafka_app, three)
    assert change is not None
    assert (change.number, change.replaced) == (3, two.hash)
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert (shown.hash, shown.number) == (three.hash, 3)


async def test_an_old_configuration_that_was_appended_again_is_not_in_force(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    await apply(connection, kafka_app, _config("old"))
    await apply(connection, kafka_app, _config("new"))
    captured = [r for r in await read_all(connection, topics.events) if r.offset == 0]
    producer = connection.producer()
    await producer.start()
    for r in captured:
        await producer.send_and_wait(topics.events, r.value, partition=r.partition)
    await stop(producer)
    shown = await in_force(connection, kafka_app)
    assert shown is not None
    assert (shown.hash, shown.number) == (_config("new").hash, 2)
    assert await apply(connection, kafka_app, _config("new")) is None
    change = await apply(connection, kafka_app, _config("old"))
    assert change is not None
    assert (change.number, change.replaced) == (3, _config("new").hash)


async def test_partitions_that_differ_are_brought_together_again(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """Each partition has a number of its own: an event without one was appended to one of them by hand."""
    await apply(connection, kafka_app, _config("one"))
    by_hand = _config("by hand")
    body = ConfigApplied(text=by_hand.text, hash=by_hand.hash, replaces=None, fold=1)
    producer = connection.producer()
    await producer.start()
    await producer.send_and_wait(topics.events, encode(body), partition=1)
    await stop(producer)
    change = await apply(connection, kafka_app, _config("one"))
    assert change is not None
    assert (list(change.offsets), change.number, change.replaced) == ([1], 3, by_hand.hash)
    change = await apply(connection, kafka_app, _config("two"))
    assert change is not None
    assert sorted(change.offsets) == list(range(PARTITIONS))
    numbers = {n: [e.number for e in events] for n, events in (await _applied(connection, topics)).items()}
    assert numbers == {n: [1, None, 3, 4] if n == 1 else [1, 2] for n in range(PARTITIONS)}


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


async def test_nothing_is_applied_where_a_partition_cannot_be_read(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with _open_transaction(connection, f"{kafka_app}-other", topics, 1):
        with pytest.raises(
            LogError, match=r"cannot tell.*nothing was applied: partitions 1.*open transaction"
        ):
            await apply(connection, kafka_app, _config("one"), timeout_s=3)
    assert {len(events) for events in (await _applied(connection, topics)).values()} == {0}


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
