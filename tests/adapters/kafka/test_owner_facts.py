"""Facts about Apache Kafka on which claims rely: transactional ids, and the ends of partitions."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, ProducerFenced

from tests.adapters.kafka.conftest import PARTITIONS, all_there, owner_id, read_all
from triggerstream.adapters.kafka import transactional_ids
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.ends import PartitionEnds
from triggerstream.adapters.kafka.fencing import KafkaFencing, own_places
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic, new_claims
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import new_ids
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.wire.claims import Claim, OwnerId

pytestmark = pytest.mark.kafka

HAND_OVERS = 150
"""The last stable offset is one transaction late in some of these on a quiet broker."""


async def _started(connection: Connection, id_: OwnerId) -> AIOKafkaProducer:
    producer = connection.producer(transactional_id=id_)
    await producer.start()
    return producer


def _places(topics: Topics) -> list[TopicPartition]:
    return [place for partition in range(PARTITIONS) for place in own_places(topics, partition)]


async def _write(producer: AIOKafkaProducer, topics: Topics, value: bytes) -> None:
    """Begin a transaction with a record in every partition."""
    await producer.begin_transaction()
    for topic, partition in _places(topics):
        await producer.send_and_wait(topic, value, key=b"s", partition=partition)


@pytest.mark.parametrize("condition", ["unknown", "idle", "in a transaction"])
async def test_who_initialises_a_foreign_id_has_fenced_its_owner_in_all_partitions(
    connection: Connection, kafka_app: AppId, topics: Topics, condition: str
) -> None:
    fencing, id_ = KafkaFencing(connection, kafka_app), owner_id()
    if condition == "unknown":
        await fencing.fence([id_])
        return
    owner = await _started(connection, id_)
    if condition == "in a transaction":
        await _write(owner, topics, b"torn")
    await fencing.fence([id_])
    ends = await PartitionEnds(connection).of(_places(topics))
    assert all(found.readable for found in ends.values()), "each partition has its marker by then"
    if condition == "idle":
        with pytest.raises(ProducerFenced):
            await _write(owner, topics, b"torn")
    else:
        with pytest.raises(ProducerFenced):
            await owner.commit_transaction()
    await stop(owner)
    for topic in (topics.changelog, topics.commands, topics.dead_letters):
        assert await read_all(connection, topic) == []


async def test_several_may_fence_one_owner_at_once(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    for _ in range(10):
        id_ = owner_id()
        owner = await _started(connection, id_)
        await _write(owner, topics, b"torn")
        await asyncio.gather(*(KafkaFencing(connection, kafka_app).fence([id_]) for _ in range(3)))
        ends = await PartitionEnds(connection).of(_places(topics))
        assert all(found.readable for found in ends.values())
        with pytest.raises(ProducerFenced):
            await owner.commit_transaction()
        await stop(owner)
    assert await read_all(connection, topics.changelog) == []


async def test_a_fenced_owner_that_initialises_its_id_again_commits_again(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """Why an id is initialised before its claim, and never again."""
    id_ = owner_id()
    owner = await _started(connection, id_)
    await KafkaFencing(connection, kafka_app).fence([id_])
    await stop(owner)
    again = await _started(connection, id_)
    await _write(again, topics, b"of a zombie")
    await again.commit_transaction()
    await stop(again)
    assert len(await read_all(connection, topics.commands)) == PARTITIONS


async def test_nothing_of_a_fenced_owner_hangs_in_a_partition_outside_its_transaction(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    id_ = owner_id()
    owner = await _started(connection, id_)
    await owner.begin_transaction()
    await owner.send_and_wait(topics.changelog, b"torn", key=b"s", partition=0)
    await KafkaFencing(connection, kafka_app).fence([id_])
    late = TopicPartition(topics.changelog, 1)
    owner._txn_manager.txn_partitions.add(late)  # noqa: SLF001 - as if it had been told that it is part of it
    with pytest.raises(KafkaError):
        await owner.send_and_wait(late.topic, b"late", key=b"s", partition=late.partition)
    ends = await PartitionEnds(connection).of(_places(topics))
    assert all(found.readable for found in ends.values())
    assert ends[late].end == 0
    await stop(owner)


async def test_the_end_after_an_orderly_hand_over_is_the_high_watermark_and_not_the_stable_offset(
    connection: Connection, topics: Topics
) -> None:
    """Nobody is fenced then, so nobody waits for the markers of the last transaction."""
    places = [TopicPartition(topics.changelog, partition) for partition in range(PARTITIONS)]
    stale = 0
    owner = await _started(connection, owner_id())
    committed, uncommitted = connection.reader(), connection.reader(committed=False)
    async with connection.running(committed), connection.running(uncommitted):
        for turn in range(HAND_OVERS):
            await owner.begin_transaction()
            sent = [
                await owner.send(place.topic, b"%d" % turn, key=b"s", partition=place.partition)
                for place in places
            ]
            positions = [(await answer).offset for answer in sent]
            await owner.commit_transaction()
            stable = await committed.end_offsets(places)
            high = await uncommitted.end_offsets(places)
            stale += any(stable[place] <= position for place, position in zip(places, positions, strict=True))
            assert all(high[place] > position for place, position in zip(places, positions, strict=True)), (
                "a record that was acknowledged is below the high watermark"
            )
    await stop(owner)
    assert stale > 0, (
        f"in {HAND_OVERS} hand-overs the last stable offset was never late: this broker writes markers "
        "before it answers, and the reason for the rule of the high watermark is gone"
    )


async def test_nothing_is_known_to_be_readable_soon_if_one_of_the_partitions_is_away(
    connection: Connection, kafka_app: AppId, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    del topics
    fencing = KafkaFencing(connection, kafka_app)
    all_there(monkeypatch)
    assert await fencing.readable(range(PARTITIONS), within_s=0.1) == set(range(PARTITIONS))
    assert await fencing.readable([*range(PARTITIONS), PARTITIONS], within_s=0.1) == set()
    assert await fencing.readable(range(PARTITIONS), within_s=0.1) == set(range(PARTITIONS))


async def test_a_claim_of_partitions_that_do_not_exist_is_forgotten_at_once(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """The topics were made again with fewer partitions: nothing of these can be open."""
    del topics
    fencing, owners = KafkaFencing(connection, kafka_app), KafkaOwnersTopic(connection, kafka_app)
    dead = Claim(id=OwnerId(f"{kafka_app}-w-dead"), partitions=frozenset({0, PARTITIONS + 3}))
    await owners.append([dead])
    ids = new_ids(kafka_app)
    async with asyncio.timeout(4.0):  # less than a question for a partition that is away takes
        former = await new_claims(ids, range(PARTITIONS), owners=owners, fencing=fencing).take()
    assert [one.id for one in former[0]] == [dead.id]
    assert set(await owners.current()) == set(ids)
    await owners.close()


# ---- an id that its own holder initialises again -------------------------------------------------


async def _holder(connection: Connection, own: InitialisedId) -> AIOKafkaProducer:
    """A producer under an id that is initialised already."""
    producer = connection.producer(transactional_id=own.id)
    producer._txn_manager.set_pid_and_epoch(own.producer, own.epoch)  # noqa: SLF001 - nothing public
    await producer.start()
    return producer


@pytest.mark.parametrize("condition", ["idle", "in a transaction", "after a transaction"])
async def test_an_owner_may_abort_and_initialise_its_id_again(
    connection: Connection, kafka_app: AppId, topics: Topics, condition: str
) -> None:
    fencing = KafkaFencing(connection, kafka_app)
    (own,) = await fencing.initialise([owner_id()], transaction_s=60)
    owner = await _holder(connection, own)
    if condition != "idle":
        await _write(owner, topics, b"first")
    if condition == "after a transaction":
        await owner.commit_transaction()
    renewed = await fencing.renew(own, transaction_s=60)
    assert renewed is not None
    assert (renewed.id, renewed.producer) == (own.id, own.producer)
    assert renewed.epoch > own.epoch
    ends = await PartitionEnds(connection).of(_places(topics))
    assert all(found.readable for found in ends.values()), "each partition has its marker by then"
    if condition == "in a transaction":
        with pytest.raises(ProducerFenced):
            await owner.commit_transaction()
    await stop(owner)
    again = await _holder(connection, renewed)
    await _write(again, topics, b"second")
    await again.commit_transaction()
    await stop(again)
    values = {record.value for record in await read_all(connection, topics.commands)}
    assert values == ({b"first", b"second"} if condition == "after a transaction" else {b"second"})


@pytest.mark.parametrize("condition", ["idle", "in a transaction"])
async def test_a_fenced_owner_cannot_initialise_its_id_again_with_its_epoch(
    connection: Connection, kafka_app: AppId, topics: Topics, condition: str
) -> None:
    """An id may be spare again, although this must not lift the fence of another owner."""
    fencing = KafkaFencing(connection, kafka_app)
    (own,) = await fencing.initialise([owner_id()], transaction_s=60)
    owner = await _holder(connection, own)
    if condition == "in a transaction":
        await _write(owner, topics, b"torn")
    await stop(owner)
    await fencing.fence([own.id])
    for _ in range(2):
        with pytest.raises(FencedError):
            await fencing.renew(own, transaction_s=60)
    assert await read_all(connection, topics.commands) == []


async def test_an_id_on_brokers_that_take_late_records_is_fenced_and_not_used_again(
    connection: Connection, kafka_app: AppId, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_client: AIOKafkaClient, _id: OwnerId) -> bool:
        return False

    monkeypatch.setattr(transactional_ids, "_can_renew", never)
    fencing = KafkaFencing(connection, kafka_app)
    (own,) = await fencing.initialise([owner_id()], transaction_s=60)
    owner = await _holder(connection, own)
    await _write(owner, topics, b"torn")
    assert await fencing.renew(own, transaction_s=60) is None
    with pytest.raises(ProducerFenced):
        await owner.commit_transaction()
    await stop(owner)
    assert await read_all(connection, topics.commands) == []


async def test_a_late_record_of_an_aborted_transaction_is_refused(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """Otherwise it would be committed with the next transaction of the id, which has the same producer."""
    fencing = KafkaFencing(connection, kafka_app)
    (own,) = await fencing.initialise([owner_id()], transaction_s=60)
    slow = await _holder(connection, own)
    await slow.begin_transaction()
    await slow.send_and_wait(topics.changelog, b"torn", key=b"s", partition=0)
    renewed = await fencing.renew(own, transaction_s=60)
    assert renewed is not None
    with pytest.raises(KafkaError):
        await slow.send_and_wait(topics.changelog, b"late", key=b"s", partition=0)
    again = await _holder(connection, renewed)
    await again.begin_transaction()
    await again.send_and_wait(topics.changelog, b"good", key=b"s", partition=0)
    with pytest.raises(KafkaError):
        await slow.send_and_wait(topics.changelog, b"later", key=b"s", partition=0)
    await again.commit_transaction()
    await asyncio.gather(stop(slow), stop(again))
    assert [record.value for record in await read_all(connection, topics.changelog)] == [b"good"]
