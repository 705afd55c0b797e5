"""Requests about several transactional ids, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from aiokafka.client import AIOKafkaClient

from triggerstream.adapters.kafka import fencing, transactional_ids
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.core.ids import AppId
from triggerstream.wire.claims import OwnerId


class NoConnection:
    """A connection whose client nobody asks."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AIOKafkaClient]:
        yield cast("AIOKafkaClient", None)


async def test_a_request_that_is_cancelled_before_its_turn_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A take-over that is given up leaves no coroutine that nobody awaits."""
    monkeypatch.setattr(fencing, "_PARALLEL", 1)
    asked: list[OwnerId] = []
    begun = asyncio.Event()

    async def initialise(_: AIOKafkaClient, id_: OwnerId, *, transaction_s: float) -> None:
        assert transaction_s == 1
        asked.append(id_)
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(transactional_ids, "initialise", initialise)
    ids = [OwnerId(f"id-{n}") for n in range(3)]
    under_test = KafkaFencing(cast("Connection", NoConnection()), AppId("test"))
    running = asyncio.create_task(under_test.initialise(ids, transaction_s=1))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asked == ids[:1]
