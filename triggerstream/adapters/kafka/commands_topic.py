"""The commands topic that a bridge reads, known by its id: it may be deleted and made again meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer

from triggerstream.adapters.kafka.cluster import Topic, describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, bridge_group
from triggerstream.adapters.kafka.watch import TopicGoneError, check_topics, watch_topics
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.checkpoint import LostRange


@dataclass(frozen=True, slots=True)
class CommandsTopic:
    """The topic with the commands of ``app``, as it was found when the bridge began."""

    connection: Connection
    app: AppId
    id: str
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", Topics.of(self.app).commands)

    async def refuse_unknown_partitions(self, lost: Collection[LostRange]) -> None:
        """Refuse ranges of partitions that the topic does not have.

        Raises:
            UsageError: there is one.
            LogError: the cluster cannot be reached.
        """
        if not lost:
            return
        async with (
            translate_errors(f"cannot look at {self.name}", timeout_s=TIMEOUT_S),
            self.connection.client() as client,
        ):
            partitions = (await describe(client, [self.name])).topics[self.name].partitions
        for one in lost:
            if one.partition >= partitions:
                raise UsageError(f"--skip {one}: {self.name} has partitions 0 to {partitions - 1}")

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """End the bridge if the topic was deleted or recreated: a consumer would continue by name, or wait.

        Raises:
            UsageError: the topic is another one; the message says what to do.
        """

        async def look(found: Mapping[str, Topic]) -> None:
            if found[self.name].partitions > len(consumer.partitions_for_topic(self.name) or ()):
                # aiokafka looks for added partitions every 5 minutes.
                await consumer._client.force_metadata_update()  # noqa: SLF001 - nothing public does

        await watch_topics(self.connection, {self.name: self.id}, repair=self._repair(), look=look)

    async def check(self) -> None:
        """Offsets have vanished, or do not fit: report a topic that was deleted or recreated as the cause.

        The watch would report it too, but only at its next check.

        Raises:
            UsageError: the topic is another one, or there is none; the message says what to do.
            LogError: the brokers cannot be asked.
        """
        repair = self._repair()
        if self.name not in await check_topics(self.connection, {self.name: self.id}, repair=repair):
            raise TopicGoneError(f"{self.name} was deleted; {repair}")

    def _repair(self) -> str:
        """Advice for the repair after the topic was deleted or recreated."""
        lost = f"commands that were in {self.name} and not handed over are lost: {advice.resend_stuck()}"
        return f"{lost}; {where_to_begin(self.app, 'the topic is another one')}"


def where_to_begin(app: AppId, why: str) -> str:
    """The advice to start the bridge with an offset, because of ``why``."""
    return advice.begin_bridge(bridge_group(app), why)
