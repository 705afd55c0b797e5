"""How soon a transactional producer asks again, and what it hears of brokers."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from aiokafka.producer import sender

from tests.adapters.kafka.conftest import owner_id
from triggerstream.adapters.kafka.answers import RETRY_MS, LastBrokerAnswer, watch_answers
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import Commit

_PRODUCE = SimpleNamespace(API_KEY=0)
_TAKEN = SimpleNamespace(topics=[("t", [(0, 0, 17)])])
_REFUSED = SimpleNamespace(topics=[("t", [(0, 0, 17), (1, 19, -1)])])


class Client:
    """A client whose broker answers with what it is given; None: there is no connection."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    async def ready(self, node: int, **options: object) -> bool:
        del node, options
        return self._answers[0] is not None or bool(self._answers.pop(0))

    async def send(self, node: int, request: object, **options: object) -> object:
        del request
        if not await self.ready(node, **options):
            raise ConnectionError
        return self._answers.pop(0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long aiokafka's sender waited, each time."""
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)
        await asyncio.sleep(delay_s)

    monkeypatch.setattr(sender, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    return waits


@pytest.mark.kafka
async def test_a_transaction_right_after_another_does_not_wait_100_ms(
    connection: Connection, kafka_app: AppId, topics: Topics, slept: list[float]
) -> None:
    ledger = KafkaLedger(connection=connection, app=kafka_app, topics=topics, partition=0, id_=owner_id())
    await ledger.start()
    slept.clear()  # a coordinator that is only just there
    states: dict[bytes, bytes | None] = {b"s": b"{}"}
    before = time.monotonic()
    for _ in range(200):
        await ledger.commit(
            Commit(decided=(), states=states, dead_letters=(), marks={b"\0checkpoint": b"{}"}, offset=1)
        )
    await ledger.close()
    assert slept, "no transaction met the markers of the one before: this shows nothing"
    assert max(slept) <= RETRY_MS / 1000
    assert connection.answers.at > before


async def test_a_broker_that_goes_on_failing_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    answers = LastBrokerAnswer()
    client = Client(None, _REFUSED, None, _REFUSED, None, None, None, _TAKEN, _REFUSED)
    watch_answers(client, answers)
    heard: list[float] = []
    for _ in range(9):
        try:
            await client.send(0, _PRODUCE)
        except ConnectionError:
            assert answers.at == (heard[-1] if heard else float("-inf")), "no answer came"
        else:
            heard.append(answers.at)
    assert len(heard) == 4
    assert all(one <= other for one, other in pairwise(heard))
    assert waits == pytest.approx([0, 0.005, 0.015, 0.035, 0.075, 0.095, 0.095, 0])
