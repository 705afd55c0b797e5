"""Detects that topics were deleted or recreated while a process uses them.

Kafka's clients do not detect it: they use a topic by name, with offsets of the deleted topic, or wait without
end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from triggerstream.adapters.kafka.cluster import Topic, describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.core.errors import LogError, UsageError

EVERY_S = 10.0
_MISSED = 3
"""Consecutive checks without the topic before it counts as deleted: a new broker may not know it yet."""


class TopicGoneError(UsageError):
    """A topic was deleted or recreated since the process started, so its offsets are no longer valid."""


async def check_topics(
    connection: Connection, ids: Mapping[str, str], *, repair: str, timeout_s: float = EVERY_S
) -> Mapping[str, Topic]:
    """The topics of ``ids`` that the brokers know.

    Raises:
        TopicGoneError: a topic has another id than in ``ids``; the message ends with ``repair``.
        LogError: the brokers cannot be asked.
        UsageError: they refuse the client.
    """
    async with translate_errors("cannot look at topics", timeout_s=timeout_s), connection.client() as client:
        found = (await describe(client, list(ids))).topics
    refuse_made_again(found, ids, repair=repair)
    return found


def refuse_made_again(found: Mapping[str, Topic], ids: Mapping[str, str], *, repair: str) -> None:
    """Raise if a topic of ``found`` has another id than in ``ids``.

    Raises:
        TopicGoneError: one has; the message ends with ``repair``.
    """
    for name, topic in found.items():
        if topic.id != ids.get(name, topic.id):
            raise TopicGoneError(
                f"{name} was deleted and made again: its id was {ids[name]}, is {topic.id}; {repair}"
            )


async def watch_topics(
    connection: Connection,
    ids: Mapping[str, str],
    *,
    repair: str,
    look: Callable[[Mapping[str, Topic]], Awaitable[None]] | None = None,
    every_s: float = EVERY_S,
) -> None:
    """Check topics until one no longer has its id in ``ids``. ``look`` is called with the topics found.

    Raises:
        TopicGoneError: a topic was deleted or recreated; the message ends with ``repair``.
        UsageError: brokers refuse the client.
    """
    missed = 0
    while True:
        await asyncio.sleep(every_s)
        with suppress(LogError):  # Kafka is not available; other clients report it
            found = await check_topics(connection, ids, repair=repair, timeout_s=every_s)
            gone = [name for name in ids if name not in found]
            missed = missed + 1 if gone else 0
            if missed == _MISSED:
                raise TopicGoneError(f"{', '.join(gone)} was deleted; {repair}")
            if look is not None and not gone:
                await look(found)
