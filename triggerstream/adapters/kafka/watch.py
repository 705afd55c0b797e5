"""Notices that topics were deleted, or made again under their names, beneath a process that uses them.

Kafka's clients do not: they go on by name, with offsets of a topic that is no more, or wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from triggerstream.adapters.kafka.cluster import Topic, describe
from triggerstream.adapters.kafka.connection import Connection, translated
from triggerstream.core.errors import LogError, UsageError

EVERY_S = 10.0
_MISSED = 3
"""A topic is gone that is missing so often in a row: a broker that has just started may not know it yet."""


class TopicGoneError(UsageError):
    """A topic is not the one that the process started with. Offsets that it knows mean nothing there."""


async def watch_topics(
    connection: Connection,
    ids: Mapping[str, str],
    *,
    repair: str,
    look: Callable[[Mapping[str, Topic]], Awaitable[None]] | None = None,
    every_s: float = EVERY_S,
) -> None:
    """Look at topics until one is not the one with its id in ``ids``. ``look`` is called with what was found.

    Raises:
        TopicGoneError: that is so; the message ends with ``repair``.
        UsageError: brokers no longer take the client as it comes.
    """
    missed = 0
    while True:
        await asyncio.sleep(every_s)
        with suppress(LogError):  # Kafka is away: whoever uses it says so
            async with translated("cannot look at topics", timeout_s=every_s), connection.client() as client:
                found = (await describe(client, list(ids))).topics
            for name, topic in found.items():
                if topic.id != ids[name]:
                    raise TopicGoneError(
                        f"{name} was deleted and made again: its id was {ids[name]}, is {topic.id}; {repair}"
                    )
            gone = [name for name in ids if name not in found]
            missed = missed + 1 if gone else 0
            if missed == _MISSED:
                raise TopicGoneError(f"{', '.join(gone)} was deleted; {repair}")
            if look is not None and not gone:
                await look(found)
