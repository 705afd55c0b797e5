"""What a cluster says of itself, and how far an app's bridge is."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection, translated
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics
from triggerstream.core.ids import AppId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A cluster that answers."""

    cluster: str
    brokers: int


async def reach(connection: Connection) -> Reached:
    """The cluster.

    Raises:
        LogError: it does not answer.
    """
    async with translated("cannot reach Kafka", timeout_s=TIMEOUT_S), connection.client() as client:
        found = await describe(client, [])
    return Reached(cluster=found.id, brokers=found.brokers)


async def not_handed_over(connection: Connection, app: AppId, partitions: int) -> int | None:
    """How many offsets the app's bridge has before it; None where none has ever committed one.

    Marks of transactions have offsets too, so that there are at most so many commands.

    Raises:
        LogError: the cluster does not answer.
    """
    topic = Topics.of(app).commands
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    async with (
        translated(f"cannot look at {topic}", timeout_s=TIMEOUT_S),
        connection.running(connection.admin()) as admin,
        connection.running(connection.reader()) as reader,
    ):
        offsets = await admin.list_consumer_group_offsets(f"{app}-bridge")
        known = {place.partition: int(at.offset) for place, at in offsets.items() if at.offset >= 0}
        ends = await reader.end_offsets(places)
        first = await reader.beginning_offsets(places)
    if not known:
        return None
    left: int = sum(max(ends[place] - known.get(place.partition, first[place]), 0) for place in places)
    return left
