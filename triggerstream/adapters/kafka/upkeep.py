"""The background tasks of aiokafka's consumers: one that has ended says so nowhere."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from triggerstream.core.errors import LogError


def check_tasks(consumer: AIOKafkaConsumer) -> None:
    """Raise where a background task of ``consumer``, which was started, has ended although it is not closed.

    Without them a consumer waits for ever: ``getmany`` has no records, or its group hears nothing of it.
    A producer needs no such look: it fails what waits for it.

    Raises:
        LogError: that is so; the message names the task and what ended it.
    """
    if consumer._closed:  # noqa: SLF001 - nothing public knows the tasks
        return
    tasks: dict[str, asyncio.Task[None] | None] = {
        "fetches": getattr(consumer._fetcher, "_fetch_task", None),  # noqa: SLF001 - likewise
        "group": getattr(consumer._coordinator, "_coordination_task", None),  # noqa: SLF001 - likewise
        "metadata": getattr(consumer._client, "_sync_task", None),  # noqa: SLF001 - likewise
    }
    for name, task in tasks.items():
        if task is not None and task.done():
            error = None if task.cancelled() else task.exception()
            raise LogError(f"the consumer's background task `{name}` has ended: {error!r}") from error
