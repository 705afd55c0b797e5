"""Requests to a cluster that aiokafka lacks, such as ids of topics and changes of single settings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_NO_ID = uuid.UUID(int=0)
_UUID_BYTES = 16
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
    answer = await client.send(client.get_random_node(), _MetadataRequest(topics))
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
    answer = await client.send(client.get_random_node(), _ChangeRequest(topic, settings))
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
    answer = await client.send(leader, _ProducersRequest(topic, partition))
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


class _Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc] # aiokafka is not typed
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(_UUID_BYTES))


class _MetadataResponse(Response):  # type: ignore[misc] # as above
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc] # as above
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        topics: list[tuple[Any, ...]] = [(_NO_ID, name, {}) for name in self._topics]
        return request_struct_class(
            topics=topics, allow_auto_topic_creation=False, include_topic_authorized_operations=False, tags={}
        )


class _ChangeResponse(Response):  # type: ignore[misc] # as above
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("kind", Int8),
                ("name", String("utf-8")),
            ),
        ),
    )


class _ChangeStruct(RequestStruct):  # type: ignore[misc] # as above
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _ChangeResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("kind", Int8),
                ("name", String("utf-8")),
                (
                    "settings",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _ChangeRequest(Request[_ChangeStruct]):  # type: ignore[misc] # as above
    """IncrementalAlterConfigs request. aiokafka's AlterConfigs resets all settings that it does not name."""

    API_KEY = 44

    def __init__(self, topic: str, settings: Mapping[str, str]) -> None:
        self._topic = topic
        self._settings = settings

    def build(self, request_struct_class: type[_ChangeStruct]) -> _ChangeStruct:
        settings = [(name, _SET, value) for name, value in self._settings.items()]
        return request_struct_class(resources=[(_TOPIC, self._topic, settings)], validate_only=False)


class _ProducersResponse(Response):  # type: ignore[misc] # as above
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_begin", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ProducersStruct(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = _ProducersResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ProducersRequest(Request[_ProducersStruct]):  # type: ignore[misc] # as above
    """DescribeProducers, of Kafka 2.8 and later."""

    API_KEY = 61

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition

    def build(self, request_struct_class: type[_ProducersStruct]) -> _ProducersStruct:
        return request_struct_class(topics=[(self._topic, [self._partition], {})], tags={})
