"""The topics of an app: their names, their settings, and their creation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest

from triggerstream.adapters.kafka.cluster import Cluster, describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.deadletters import WHOLE_BYTES
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import KAFKA_APP_RULE, AppId, is_kafka_app
from triggerstream.core.tasks import Bounds
from triggerstream.wire.bounds import CONFIG_BYTES, EVENT_BYTES, longest_state

DEFAULT_PARTITIONS = 12
REPLICAS = 3
INSYNC = "min.insync.replicas"
_DAY_MS = 86_400_000
_SEGMENT_MS = 600_000
_OVERHEAD_BYTES = 64 * 1024
"""Maximum bytes of a record without its value: a key of up to 1 KiB, headers, the batch's header."""
TIMEOUT_S = 30.0
_POLL_S = 0.05


def worker_group(app: AppId) -> str:
    """The consumer group of an app's workers."""
    return app


def bridge_group(app: AppId) -> str:
    """The consumer group of an app's bridges."""
    return f"{app}-bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of an app."""

    events: str
    commands: str
    dead_letters: str
    changelog: str
    owners: str

    @classmethod
    def of(cls, app: AppId) -> Topics:
        """The topics of ``app``.

        Raises:
            UsageError: Kafka does not accept such names.
        """
        if not is_kafka_app(app):
            raise UsageError(f"app {app!r}: in Kafka its name {KAFKA_APP_RULE}")
        return cls(
            events=f"{app}.events",
            commands=f"{app}.commands",
            dead_letters=f"{app}.deadletters",
            changelog=f"{app}-sessions-changelog",
            owners=f"{app}.owners",
        )

    def all(self) -> tuple[str, ...]:
        """All topics."""
        return (*self.partitioned(), self.owners)

    def partitioned(self) -> tuple[str, ...]:
        """The topics that have a partition for each of the app's."""
        return (self.events, self.commands, self.dead_letters, self.changelog)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredTopicSettings:
    """The settings of a topic: ``exactly`` and ``at_least`` are required, ``usually`` are initial values."""

    name: str
    exactly: dict[str, str]
    at_least: dict[str, int]
    usually: dict[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """The settings with which it is created."""
        return self.usually | {name: str(least) for name, least in self.at_least.items()} | self.exactly

    def wrong(self, present: dict[str, str]) -> dict[str, str]:
        """The required settings that are wrong in ``present``, with their right values."""
        exactly = {name: value for name, value in self.exactly.items() if present.get(name) != value}
        return exactly | {
            name: str(least) for name, least in self.at_least.items() if int(present.get(name) or 0) < least
        }


def required_settings_of(topics: Topics) -> tuple[RequiredTopicSettings, ...]:
    """The settings of each topic of the app."""
    bounds = Bounds()
    # A replica that lags behind must not become leader: acknowledged events would be gone.
    kept = {"cleanup.policy": "delete", "unclean.leader.election.enable": "false"}
    month = {"retention.ms": str(30 * _DAY_MS)}
    return (
        RequiredTopicSettings(
            name=topics.events,
            exactly={**kept, "message.timestamp.type": "LogAppendTime"},
            at_least={"max.message.bytes": max(EVENT_BYTES, CONFIG_BYTES) + _OVERHEAD_BYTES},
            usually={"retention.ms": "-1", "retention.bytes": "-1"},
        ),
        RequiredTopicSettings(
            name=topics.commands,
            exactly=kept,
            at_least={"max.message.bytes": bounds.command_bytes + _OVERHEAD_BYTES},
            usually=month,
        ),
        RequiredTopicSettings(
            name=topics.dead_letters,
            exactly=kept,
            at_least={"max.message.bytes": WHOLE_BYTES + _OVERHEAD_BYTES},
            usually=month,
        ),
        RequiredTopicSettings(
            name=topics.changelog,
            exactly={**kept, "cleanup.policy": "compact"},
            at_least={"max.message.bytes": longest_state() + _OVERHEAD_BYTES},
            # The segment that is written is never compacted, so its size bounds what a recovery reads twice.
            usually={"segment.bytes": str(128 * 1024 * 1024)},
        ),
        RequiredTopicSettings(
            name=topics.owners,
            exactly={**kept, "cleanup.policy": "compact"},
            at_least={},
            # Small segments are soon compacted: each take-over reads the whole topic.
            usually={"segment.ms": str(_SEGMENT_MS), "segment.bytes": str(1024 * 1024)},
        ),
    )


def wanted_insync(replicas: int) -> int:
    """One broker may be away."""
    return max(1, replicas - 1)


async def create(
    connection: Connection,
    app: AppId,
    *,
    partitions: int = DEFAULT_PARTITIONS,
    replicas: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Sequence[str]:
    """Create the missing topics of ``app``; return their names. They can be used when this returns.

    Existing topics are not changed: :mod:`triggerstream.adapters.kafka.check` checks them. The default for
    ``replicas`` is 3, or the number of brokers if that is smaller.

    Raises:
        UsageError: existing topics of the app have fewer partitions.
        LogError: the cluster cannot be reached, or refuses.
    """
    topics = Topics.of(app)
    async with translate_errors("cannot make topics", timeout_s=timeout_s), connection.client() as client:
        cluster = await describe(client, topics.all())
        for topic in cluster.topics.values():
            if topic.name in topics.partitioned() and topic.partitions < partitions:
                raise UsageError(
                    f"{topic.name} has {topic.partitions} partitions, not {partitions}: "
                    "the topics of an app have the same number, and it never changes"
                )
        copies = replicas or min(REPLICAS, cluster.brokers)
        durable = {INSYNC: str(wanted_insync(copies))}
        missing = [wanted for wanted in required_settings_of(topics) if wanted.name not in cluster.topics]
        if missing:
            requests: list[tuple[Any, ...]] = [
                (
                    wanted.name,
                    partitions if wanted.name in topics.partitioned() else 1,
                    copies,
                    [],
                    list((wanted.settings() | durable).items()),
                )
                for wanted in missing
            ]
            request = CreateTopicsRequest(requests, timeout=round(timeout_s * 1000), validate_only=False)
            answer = await client.send(client.get_random_node(), request)
            for name, code, message in answer.topic_errors:
                # Another process may create them at the same time.
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise LogError(f"{name} cannot be made: {message}")
        while not _usable(await describe(client, topics.all()), topics):  # noqa: ASYNC110 - a broker's doing
            await asyncio.sleep(_POLL_S)
    return [wanted.name for wanted in missing]


def _usable(cluster: Cluster, topics: Topics) -> bool:
    return len(cluster.topics) == len(topics.all()) and all(topic.led for topic in cluster.topics.values())


def address_of(connection: Connection, app: AppId) -> str:
    """The address of ``app`` for ``--at``."""
    return f"kafka://{connection.bootstrap}/{app}"


def no_topic(name: str, connection: Connection, app: AppId) -> UsageError:
    """The error that says that there is no topic ``name``, and how to make it."""
    return UsageError(
        f"{connection.bootstrap} has no topic {name}: {advice.create_topics(address_of(connection, app))}"
    )
