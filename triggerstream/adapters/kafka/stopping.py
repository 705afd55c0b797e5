"""Stops clients of Kafka within a bound, whether brokers answer or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ProducerClosed,
)

Client: TypeAlias = "AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient | AIOKafkaClient"
"""Any client of aiokafka."""

_stopping: set[asyncio.Task[None]] = set()
"""Tasks that stop clients. The event loop keeps only weak references, so a task could be
garbage-collected."""

_STOP_S = 5.0
"""Maximum time of a client's stop. Unacknowledged records were already reported as such."""
_CLOSE_S = 2.0
"""Maximum time for closing sockets; a TLS connection waits for the other side."""
_CANCEL_S = 0.1
_START_S = 2.0
"""Time for a start whose caller was cancelled to come to its end, before it is cancelled, too."""
_COORDINATORS_TASKS = (
    "_reset_committed_task",
    "_coordination_task",
    "_heartbeat_task",
    "_commit_refresh_task",
)


async def stop(
    client: Client, *, starting: asyncio.Future[None] | None = None, timeout_s: float = _STOP_S
) -> None:
    """Stop ``client`` in any condition: on return its connections are closed and its tasks have ended.

    ``starting``: its start, which may be under way. aiokafka leaves the connection that it begins with open
    if its start is cancelled, so the start may go on for a moment.

    aiokafka's own ``stop`` waits for deliveries and answers, without end if no broker answers. It also raises
    CancelledError and leaves connections open if a task of the client has not started yet. If the caller
    is cancelled meanwhile, the client is stopped nevertheless.
    """
    stopping = asyncio.create_task(_stop(client, starting, timeout_s=timeout_s))
    _stopping.add(stopping)
    stopping.add_done_callback(_stopping.discard)
    await asyncio.shield(stopping)


async def _stop(client: Client, starting: asyncio.Future[None] | None, *, timeout_s: float) -> None:
    if starting is not None and not starting.done():
        await asyncio.wait([starting], timeout=_START_S)
        starting.cancel()
        await asyncio.wait([starting], timeout=_CLOSE_S)
    # Let tasks start that the client has just created: a task cancelled before its start cannot clean up.
    await asyncio.sleep(0)
    own = client.stop if isinstance(client, AIOKafkaProducer | AIOKafkaConsumer) else client.close
    ending = asyncio.ensure_future(own())
    ending.add_done_callback(retrieve_error)
    await asyncio.wait([ending], timeout=timeout_s)
    if not ending.done() or ending.cancelled() or ending.exception() is not None:
        await _abandon(client, ending)
    if isinstance(client, AIOKafkaProducer):
        _retrieve_waiter_errors(client)


async def abandon(producer: AIOKafkaProducer) -> None:
    """Close the connections of ``producer`` at once, also if the caller is cancelled meanwhile.

    It sends nothing more; what it has sent may arrive.
    """
    abandoning = asyncio.create_task(_abandon_at_once(producer))
    _stopping.add(abandoning)
    abandoning.add_done_callback(_stopping.discard)
    await asyncio.shield(abandoning)


async def _abandon_at_once(producer: AIOKafkaProducer) -> None:
    producer._closed = True  # noqa: SLF001 - otherwise aiokafka warns that it was left open
    await asyncio.sleep(0)  # as in _stop
    ended = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    await _abandon(producer, ended)
    _retrieve_waiter_errors(producer)


async def _abandon(client: Client, ending: asyncio.Future[None]) -> None:
    """Cancel the tasks of a client whose own stop failed, and close its connections."""
    if isinstance(client, AIOKafkaProducer):
        _fail_unsent(client)
    tasks = {task for task in (ending, *_tasks(client)) if not task.done()}
    deadline = asyncio.get_running_loop().time() + _CLOSE_S
    while tasks and asyncio.get_running_loop().time() < deadline:
        for task in tasks:
            # Repeatedly: after a cancellation, a producer's task waits for answers that do not come.
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_S)
    closing = asyncio.ensure_future(network_of(client).close())
    closing.add_done_callback(retrieve_error)
    await asyncio.wait([closing], timeout=_CLOSE_S)


def _tasks(client: Client) -> Iterable[asyncio.Future[Any]]:
    """The tasks that ``client`` runs."""
    if isinstance(client, AIOKafkaProducer):
        return [task for task in (client._sender.sender_task,) if task is not None]  # noqa: SLF001 - nothing public
    if not isinstance(client, AIOKafkaConsumer):
        return []
    coordinator, fetcher = client._coordinator, client._fetcher  # noqa: SLF001 - nothing public
    found = [getattr(coordinator, name, None) for name in _COORDINATORS_TASKS]
    if fetcher is not None:
        found += [fetcher._fetch_task, *fetcher._pending_tasks]  # noqa: SLF001 - nothing public
    return [task for task in found if task is not None]


def _fail_unsent(producer: AIOKafkaProducer) -> None:
    """Fail all pending deliveries; otherwise aiokafka would wait for their acknowledgements."""
    accumulator = producer._message_accumulator  # noqa: SLF001 - nothing public
    for batch in [*chain(*accumulator._batches.values()), *accumulator._pending_batches]:  # noqa: SLF001 - nothing public
        for answer in (batch.future, *(future for future, _ in batch._msg_futures)):  # noqa: SLF001 - nothing public
            answer.add_done_callback(retrieve_error)
    accumulator.fail_all(ProducerClosed())


def _retrieve_waiter_errors(producer: AIOKafkaProducer) -> None:
    """Keep asyncio from logging a fence again: the producer's user has already received the error."""
    waiters = [producer._txn_manager._transaction_waiter]  # noqa: SLF001 - nothing public
    for batches in producer._message_accumulator._batches.values():  # noqa: SLF001 - nothing public
        waiters += [batch._drain_waiter for batch in batches]  # noqa: SLF001 - nothing public
    for waiter in waiters:
        if waiter is not None:
            waiter.add_done_callback(retrieve_error)


def network_of(client: Client) -> AIOKafkaClient:
    """The aiokafka object that holds the connections of ``client``."""
    if isinstance(client, AIOKafkaClient):
        return client
    return client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001 - nothing public


def retrieve_error(answer: asyncio.Future[Any]) -> None:
    """Done callback that prevents asyncio's report of an error in ``answer`` that was never retrieved."""
    if not answer.cancelled():
        answer.exception()
