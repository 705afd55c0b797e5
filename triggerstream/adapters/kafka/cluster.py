"""Metadata and settings of a cluster that aiokafka does not read: topic ids, settings, transactions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest

from triggerstream.adapters.kafka.protocol import CHANGE_SETTINGS, DESCRIBE_PRODUCERS, METADATA, Call

_NO_ID = uuid.UUID(int=0)
_TOPIC = 2
"""A topic, among the kinds of resource that have settings."""
_SET = 0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic. ``id`` is unique: a topic that is recreated under the same name has another one.

    ``replicas`` is the smallest number of copies of a partition. ``led``: all partitions have a leader.
    """

    name: str
    id: str
    partitions: int
    replicas: int
    led: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A broker's description of its cluster. ``topics`` has only those that exist."""

    id: str
    brokers: int
    topics: Mapping[str, Topic]


async def describe(client: AIOKafkaClient, topics: Sequence[str]) -> Cluster:
    """The cluster, and those of ``topics`` that exist. The request never creates a topic.

    Raises:
        KafkaError: no answer, or an error.
        NotImplementedError: the brokers are older than Kafka 3.1.
    """
    request = Call(
        METADATA,
        topics=[(_NO_ID, name, {}) for name in topics],
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
        tags={},
    )
    answer = await client.send(client.get_random_node(), request)
    found = {}
    for code, name, topic_id, _internal, partitions, _operations, _tags in answer.topics:
        error = for_code(code)
        if error is UnknownTopicOrPartitionError:
            continue
        if code:
            raise error(name)
        found[name] = Topic(
            name=name,
            id=str(topic_id),
            partitions=len(partitions),
            replicas=min(len(replicas) for _, _, _, _, replicas, _, _, _ in partitions),
            led=all(code == 0 and leader >= 0 for code, _, leader, *_ in partitions),
        )
    return Cluster(id=answer.cluster_id, brokers=len(answer.brokers), topics=found)


async def settings_of(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings in force of each of ``topics``, which must exist.

    Raises:
        KafkaError: no answer, or an error.
    """
    if not topics:
        return {}
    request = DescribeConfigsRequest([(_TOPIC, name, None) for name in topics])
    answer = await client.send(client.get_random_node(), request)
    found = {}
    for code, message, _kind, name, entries in answer.resources:
        if code:
            raise for_code(code)(message)
        found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def change_settings(client: AIOKafkaClient, topic: str, settings: Mapping[str, str]) -> None:
    """Set ``settings`` of ``topic`` and leave its others alone. Brokers know them when this returns.

    Raises:
        KafkaError: no answer, or an error.
    """
    changes = [(name, _SET, value) for name, value in settings.items()]
    request = Call(CHANGE_SETTINGS, resources=[(_TOPIC, topic, changes)], validate_only=False)
    answer = await client.send(client.get_random_node(), request)
    for code, message, _kind, _name in answer.resources:
        if code:
            raise for_code(code)(message)
    # The controller answers before the brokers know of the change, and no event reports when they do.
    while not settings.items() <= (await settings_of(client, [topic]))[topic].items():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """An open transaction; its first record in the partition is at offset ``begin``."""

    producer: int
    epoch: int
    begin: int


async def open_transactions(client: AIOKafkaClient, topic: str, partition: int) -> Sequence[OpenTransaction]:
    """The transactions that are open in a partition of ``topic``, the oldest first.

    Raises:
        KafkaError: no answer, or an error.
    """
    await client.set_topics([topic])
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(f"{topic}, partition {partition}")
    answer = await client.send(leader, Call(DESCRIBE_PRODUCERS, topics=[(topic, [partition], {})], tags={}))
    found = []
    for _name, partitions, _tags in answer.topics:
        for _partition, code, message, producers, _tags in partitions:
            if code:
                raise for_code(code)(message)
            found += [
                OpenTransaction(producer=producer, epoch=epoch, begin=begin)
                for producer, epoch, _sequence, _at, _coordinator, begin, _tags in producers
                if begin >= 0
            ]
    return sorted(found, key=lambda one: one.begin)
