"""Whether the topics of an app are as they must be, and what puts them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from triggerstream.adapters.kafka.cluster import Cluster, Topic, change_settings, describe, settings_of
from triggerstream.adapters.kafka.connection import Connection, translated
from triggerstream.adapters.kafka.topics import (
    INSYNC,
    REPLICAS,
    TIMEOUT_S,
    Topics,
    Wanted,
    wanted_insync,
    wanted_of,
)
from triggerstream.core.ids import AppId


class Severity(StrEnum):
    """``ERROR``: a worker refuses to start. ``WARNING``: it runs, and somebody should decide."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFinding:
    """What is wrong or doubtful with a topic. ``repair`` is the command, or the step, that puts it right."""

    severity: Severity
    topic: str
    message: str
    repair: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.topic}: {self.message}: {self.repair}"


async def check(
    connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S
) -> Sequence[TopicFinding]:
    """Everything about the topics of ``app`` that is not as it must be, errors first.

    Raises:
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translated("cannot look at topics", timeout_s=timeout_s), connection.client() as client:
        cluster = await describe(client, topics.all())
        settings = await settings_of(client, list(cluster.topics))
    address = f"kafka://{connection.bootstrap}/{app}"
    findings: list[TopicFinding] = []
    for wanted in wanted_of(topics):
        findings += _missing(wanted, cluster, address)
        if wanted.name in settings:
            topic = cluster.topics[wanted.name]
            findings += _wrong_settings(wanted, topic, settings[wanted.name], address)
            findings += _wrong_shape(topic, cluster, topics, connection.bootstrap, address)
    return sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)


async def repair(connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S) -> Sequence[str]:
    """Set what :func:`check` objects to, where it is a setting; the topics that were changed.

    Raises:
        LogError: the cluster cannot be reached, or refuses.
    """
    topics = Topics.of(app)
    changed = []
    async with translated("cannot change topics", timeout_s=timeout_s), connection.client() as client:
        cluster = await describe(client, topics.all())
        settings = await settings_of(client, list(cluster.topics))
        for wanted in wanted_of(topics):
            present = settings.get(wanted.name)
            if present is None:
                continue
            wrong = wanted.wrong(present)
            topic = cluster.topics[wanted.name]
            if _insync(topic, present) is not None:
                wrong[INSYNC] = str(wanted_insync(topic.replicas))
            if wrong:
                await change_settings(client, wanted.name, wrong)
                changed.append(wanted.name)
    return changed


def _missing(wanted: Wanted, cluster: Cluster, address: str) -> list[TopicFinding]:
    if wanted.name in cluster.topics:
        return []
    return [
        TopicFinding(
            severity=Severity.ERROR,
            topic=wanted.name,
            message="is missing",
            repair=f"triggerstream topics create --at {address}",
        )
    ]


def _wrong_settings(
    wanted: Wanted, topic: Topic, present: dict[str, str], address: str
) -> list[TopicFinding]:
    repair = f"triggerstream topics create --repair --at {address}"
    findings = []
    for name, value in wanted.wrong(present).items():
        least = "at least " if name in wanted.at_least else ""
        message = f"{name} is {present.get(name)}, must be {least}{value}"
        findings.append(
            TopicFinding(severity=Severity.ERROR, topic=topic.name, message=message, repair=repair)
        )
    insync = _insync(topic, present)
    if insync is not None:
        severity, message = insync
        findings.append(TopicFinding(severity=severity, topic=topic.name, message=message, repair=repair))
    return findings


def _insync(topic: Topic, present: dict[str, str]) -> tuple[Severity, str] | None:
    insync, replicas = int(present.get(INSYNC) or 1), topic.replicas
    said = f"{INSYNC} is {insync}, with {replicas} replicas"
    if insync > replicas:
        return Severity.ERROR, f"{said}: nothing can be appended"
    if insync == replicas > 1:
        return Severity.WARNING, f"{said}: nothing can be appended while a broker is away"
    if insync == 1 and replicas >= REPLICAS:
        return Severity.WARNING, f"{said}: what is acknowledged may be on one broker alone"
    return None


def _wrong_shape(
    topic: Topic, cluster: Cluster, topics: Topics, bootstrap: str, address: str
) -> list[TopicFinding]:
    findings = []
    events = cluster.topics.get(topics.events)
    if events is not None and topic.partitions != events.partitions:
        steps = (
            f"kafka-topics.sh --bootstrap-server {bootstrap} --delete --topic {topic.name}, "
            f"triggerstream topics create --partitions {events.partitions} --at {address}"
        )
        if topic.name == topics.changelog:
            steps += f", triggerstream replay --rebuild --at {address}"
        message = f"has {topic.partitions} partitions, {topics.events} has {events.partitions}"
        findings.append(
            TopicFinding(severity=Severity.ERROR, topic=topic.name, message=message, repair=steps)
        )
    enough = min(REPLICAS, cluster.brokers)
    if topic.replicas < enough:
        findings.append(
            TopicFinding(
                severity=Severity.WARNING,
                topic=topic.name,
                message=f"has {topic.replicas} of {enough} replicas: it may be lost with a broker",
                repair=f"kafka-reassign-partitions.sh --bootstrap-server {bootstrap} …",
            )
        )
    return findings
