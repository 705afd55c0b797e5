"""Checks the background tasks of aiokafka's consumers, whose end aiokafka does not report."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from triggerstream.core.errors import LogError


def check_tasks(consumer: AIOKafkaConsumer) -> None:
    """Raise if a background task of ``consumer``, which is started and not closed, has ended.

    Without its tasks a consumer waits without end: ``getmany`` returns no records, or no heartbeat is sent.
    A producer needs no such check: it fails pending deliveries itself.

    Raises:
        LogError: a task has ended; the message names the task and its error.
    """
    if consumer._closed:  # noqa: SLF001 - nothing public
        return
    tasks: dict[str, asyncio.Task[None] | None] = {
        "fetches": getattr(consumer._fetcher, "_fetch_task", None),  # noqa: SLF001 - nothing public
        "group": getattr(consumer._coordinator, "_coordination_task", None),  # noqa: SLF001 - nothing public
        "metadata": getattr(consumer._client, "_sync_task", None),  # noqa: SLF001 - nothing public
    }
    for name, task in tasks.items():
        if task is not None and task.done():
            error = None if task.cancelled() else task.exception()
            raise LogError(f"the consumer's background task `{name}` has ended: {error!r}") from error
