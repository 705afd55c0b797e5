"""The topics of a worker: checked before it starts, and watched while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from triggerstream.adapters.faust.settings import WorkerSettings
from triggerstream.adapters.faust.worker_lines import write_line
from triggerstream.adapters.kafka.check import added_partitions, check
from triggerstream.adapters.kafka.cluster import Topic
from triggerstream.adapters.kafka.layout import Layout, layout_of
from triggerstream.adapters.kafka.rehome import count_misplaced
from triggerstream.adapters.kafka.topics import Topics, address_of
from triggerstream.adapters.kafka.watch import watch_topics
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.operations.administration import Severity

_LOOK_S = 30.0


async def watch_topics_of(settings: WorkerSettings, layout: Layout) -> None:
    """End the process if its topics were recreated; print how many records are in added partitions."""
    connection, topics = settings.connection(), Topics.of(settings.app)
    at = address_of(connection, settings.app)
    known = layout.partitions

    async def look(found: Mapping[str, Topic]) -> None:
        nonlocal known
        events = found[topics.events]
        if events.partitions > known:
            known = events.partitions
            grown = replace(layout, events=events)
            misplaced = await count_misplaced(connection, settings.app, grown)
            write_line(f"warning: {added_partitions(grown, misplaced, at)}")

    with suppress(LogError):  # it is looked for again
        await look(layout.cluster.topics)
    ids = {name: layout.cluster.topics[name].id for name in (topics.events, topics.changelog, topics.owners)}
    await watch_topics(connection, ids, repair=advice.rebuild(at), look=look)


def refuse_unknown_partitions(settings: WorkerSettings, partitions: int) -> None:
    """Refuse ranges of partitions that the app does not have.

    Raises:
        UsageError: there is one.
    """
    for lost in settings.lost:
        if lost.partition >= partitions:
            raise UsageError(
                f"--skip {lost.partition}:{lost.first}-{lost.last}: app {settings.app} has partitions 0 to "
                f"{partitions - 1}"
            )


async def find_topics(settings: WorkerSettings) -> Layout:
    """The topics and the number of partitions, after a check of the topics' settings.

    Raises:
        UsageError: a setting is wrong; the message says how to repair it.
        LogError: the cluster cannot be reached.
    """
    connection = settings.connection()
    for finding in await check(connection, settings.app):
        if finding.severity is Severity.ERROR:
            raise UsageError(str(finding))
        write_line(f"warning: {finding}")
    return await layout_of(connection, settings.app, timeout_s=_LOOK_S)
