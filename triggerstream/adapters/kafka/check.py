"""Checks the topics of an app, and says what repairs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.admin import NewPartitions

from triggerstream.adapters.kafka.cluster import Cluster, Topic, change_settings, describe, settings_of
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.layout import Layout, layout_of
from triggerstream.adapters.kafka.topics import (
    INSYNC,
    REPLICAS,
    TIMEOUT_S,
    RequiredTopicSettings,
    Topics,
    address_of,
    required_settings_of,
    wanted_insync,
)
from triggerstream.core import advice
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.operations.administration import Severity, TopicFinding
from triggerstream.engine.operations.rehome import MisplacedRecords

_POLL_S = 0.05


async def check(
    connection: Connection,
    app: AppId,
    *,
    count_misplaced: Callable[[Layout], Awaitable[MisplacedRecords]] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Sequence[TopicFinding]:
    """Errors and warnings about the topics of ``app``, errors first.

    ``count_misplaced`` counts records in added partitions; without it, they are not checked.

    Raises:
        LogError: the cluster cannot be reached.
    """
    topics = Topics.of(app)
    async with translate_errors("cannot look at topics", timeout_s=timeout_s), connection.client() as client:
        cluster = await describe(client, topics.all())
        settings = await settings_of(client, list(cluster.topics))
    address = address_of(connection, app)
    findings: list[TopicFinding] = []
    partitions = 0
    if topics.events in cluster.topics:
        layout = await layout_of(connection, app, timeout_s=timeout_s)
        partitions = layout.partitions
        if layout.added and count_misplaced is not None:
            findings.append(added_partitions(layout, await count_misplaced(layout), address))
    for wanted in required_settings_of(topics):
        findings += _missing(wanted, cluster, address)
        if wanted.name in settings:
            topic = cluster.topics[wanted.name]
            findings += _wrong_settings(wanted, topic, settings[wanted.name], address)
            fewest = partitions if topic.name in topics.partitioned() else 1
            findings += _wrong_shape(topic, cluster, fewest, connection.bootstrap, address)
    return sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)


async def repair(connection: Connection, app: AppId, *, timeout_s: float = TIMEOUT_S) -> Sequence[str]:
    """Repair settings that :func:`check` reports, and add missing partitions; return the changed topics.

    Raises:
        LogError: the cluster cannot be reached, or refuses.
    """
    topics = Topics.of(app)
    changed = []
    async with translate_errors("cannot change topics", timeout_s=timeout_s), connection.client() as client:
        cluster = await describe(client, topics.all())
        settings = await settings_of(client, list(cluster.topics))
        for wanted in required_settings_of(topics):
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
    if topics.events not in cluster.topics:
        return changed
    partitions = (await layout_of(connection, app, timeout_s=timeout_s)).partitions
    short = [
        name
        for name in topics.partitioned()
        if name in cluster.topics and cluster.topics[name].partitions < partitions
    ]
    if short:
        await _add_partitions(connection, topics, short, partitions, timeout_s=timeout_s)
    return list(dict.fromkeys([*changed, *short]))


async def _add_partitions(
    connection: Connection, topics: Topics, short: Sequence[str], partitions: int, *, timeout_s: float
) -> None:
    async with translate_errors("cannot add partitions", timeout_s=timeout_s):
        async with connection.running(connection.admin()) as admin:
            wanted = {name: NewPartitions(total_count=partitions) for name in short}
            answer = await admin.create_partitions(wanted, timeout_ms=round(timeout_s * 1000))
            for name, code, message in answer.topic_errors:
                if code:
                    raise LogError(f"{name}: partitions cannot be added: {message}")
        async with connection.client() as client:
            while any(  # noqa: ASYNC110 - no event says when all brokers know the new partitions
                topic.partitions < partitions or not topic.led
                for name, topic in (await describe(client, topics.all())).topics.items()
                if name in short
            ):
                await asyncio.sleep(_POLL_S)


def added_partitions(layout: Layout, misplaced: MisplacedRecords, address: str) -> TopicFinding:
    """The finding that the events topic has more partitions than the app, with their number of records."""
    lies = f"{count_text(misplaced)} in those that were added"
    return TopicFinding(
        severity=Severity.WARNING,
        topic=layout.events.name,
        message=f"has {layout.events.partitions} partitions, the app has {layout.partitions}: {lies}",
        repair=advice.rehome_added(address, partitions=layout.partitions, known=layout.marked),
    )


def count_text(misplaced: MisplacedRecords) -> str:
    """``12 records of 3 sessions lie``."""
    records = "1 record" if misplaced.records == 1 else f"{misplaced.records:,} records"
    sessions = "1 session" if len(misplaced.sessions) == 1 else f"{len(misplaced.sessions):,} sessions"
    return f"{records} of {sessions} {'lies' if misplaced.records == 1 else 'lie'}"


def _missing(wanted: RequiredTopicSettings, cluster: Cluster, address: str) -> list[TopicFinding]:
    if wanted.name in cluster.topics:
        return []
    return [
        TopicFinding(
            severity=Severity.ERROR,
            topic=wanted.name,
            message="is missing",
            repair=advice.create_topics(address),
        )
    ]


def _wrong_settings(
    wanted: RequiredTopicSettings, topic: Topic, present: dict[str, str], address: str
) -> list[TopicFinding]:
    repair = advice.repair_topics(address)
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
    setting = f"{INSYNC} is {insync}, with {replicas} replicas"
    if insync > replicas:
        return Severity.ERROR, f"{setting}: nothing can be appended"
    if insync == replicas > 1:
        return Severity.WARNING, f"{setting}: nothing can be appended while a broker is away"
    if insync == 1 and replicas >= REPLICAS:
        return Severity.WARNING, f"{setting}: what is acknowledged may be on one broker alone"
    return None


def _wrong_shape(
    topic: Topic, cluster: Cluster, partitions: int, bootstrap: str, address: str
) -> list[TopicFinding]:
    findings = []
    if topic.partitions < partitions:
        message = f"has {topic.partitions} partitions, the app has {partitions}"
        findings.append(
            TopicFinding(
                severity=Severity.ERROR,
                topic=topic.name,
                message=message,
                repair=advice.repair_topics(address),
            )
        )
    enough = min(REPLICAS, cluster.brokers)
    if topic.replicas < enough:
        findings.append(
            TopicFinding(
                severity=Severity.WARNING,
                topic=topic.name,
                message=f"has {topic.replicas} of {enough} replicas: it may be lost with a broker",
                repair=advice.add_replicas(bootstrap),
            )
        )
    return findings
