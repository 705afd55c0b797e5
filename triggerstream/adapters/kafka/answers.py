"""Watches brokers' answers to a client: the time of the last answer, and the pause after a failed request."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.producer import sender

RETRY_MS = 5
"""Pause after the first failure. aiokafka's 100 ms are as long as ten transactions, while the most frequent
failure (the markers of the last transaction are not written yet) is over after some 5 ms."""
_LONGEST_S = 0.1
"""The pause doubles up to this value, so that an unavailable broker is not asked 200 times a second."""


class _Api(IntEnum):
    """Kafka API keys of requests whose answers have an error for each partition."""

    PRODUCE = 0
    ADD_PARTITIONS_TO_TXN = 24
    TXN_OFFSET_COMMIT = 28


@dataclass(slots=True, eq=False)
class LastBrokerAnswer:
    """Monotonic time of the last answer of a broker to one of the watched clients."""

    at: float = -math.inf


def shorten_wait_for_markers() -> None:
    """Have producers ask again after ``RETRY_MS`` whether the markers of the last transaction are written.

    aiokafka waits 20 ms, longer than a transaction takes, and has no setting for it.
    """
    sender.BACKOFF_OVERRIDE = RETRY_MS / 1000


def note_answers(client: AIOKafkaClient, answers: LastBrokerAnswer) -> None:
    """Have ``client`` note its answers."""
    send = client.send

    async def noted_send(node: int, request: Any, **options: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        response = await send(node, request, **options)
        answers.at = time.monotonic()
        return response

    client.send = noted_send


def watch_answers(client: AIOKafkaClient, answers: LastBrokerAnswer) -> None:
    """Make ``client`` record the time of its answers, and wait longer after each consecutive failure.

    Its owner waits ``RETRY_MS`` after each failure: this is the first pause, and a part of all later ones.
    """
    shorten_wait_for_markers()
    note_answers(client, answers)
    ready, send = client.ready, client.send
    failures = 0

    async def pause() -> None:
        nonlocal failures
        failures += 1
        await asyncio.sleep(_pause_s(failures))

    async def paced_ready(node: int, **options: Any) -> bool:  # noqa: ANN401 - aiokafka is not typed
        found: bool = await ready(node, **options)
        if not found:
            await pause()
        return found

    async def watched_send(node: int, request: Any, **options: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        nonlocal failures
        response = await send(node, request, **options)
        if _is_error(request, response):
            await pause()
        else:
            failures = 0
        return response

    client.ready, client.send = paced_ready, watched_send


def _pause_s(failures: int) -> float:
    """Seconds to add to the first pause after this number of consecutive failures."""
    first = RETRY_MS / 1000
    return float(min(first * 2 ** min(failures - 1, 10), _LONGEST_S) - first)


def _is_error(request: Any, response: Any) -> bool:  # noqa: ANN401 - aiokafka is not typed
    match request.API_KEY:
        case _Api.PRODUCE:
            topics = response.topics
        case _Api.ADD_PARTITIONS_TO_TXN | _Api.TXN_OFFSET_COMMIT:
            topics = response.errors
        case _:
            return bool(getattr(response, "error_code", 0))
    return any(partition[1] for _, partitions in topics for partition in partitions)
