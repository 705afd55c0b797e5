"""Records that wait behind another program's open transaction are counted, with its name and their age."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.places import KafkaPlace, place_of
from triggerstream.adapters.kafka.administration import KafkaAdministration
from triggerstream.adapters.memory import ManualClock
from triggerstream.engine.queries.unfolded import count_unfolded
from triggerstream.wire.json import dumps

pytestmark = pytest.mark.kafka


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KafkaPlace]:
    place = await place_of("kafka", request, tmp_path, ManualClock())
    assert isinstance(place, KafkaPlace)
    yield place
    await place.close()


async def test_records_behind_an_open_transaction_are_lag_and_the_transaction_is_named(
    place: KafkaPlace,
) -> None:
    await place.configure('{"t": {"after": ["a"], "run": "f"}}')
    await place.fire("s", "a")
    await place.fold()
    administration = KafkaAdministration(place.connection, place.app)
    reader = place.reader()
    before = await reader.progress()
    assert (before.blocked, before.lag, await administration.blocked()) == (0, 0, [])

    began_us = time.time_ns() // 1000
    producer = place.connection.producer(transactional_id=f"{place.app}-a-producer")
    async with place.connection.running(producer):
        await producer.begin_transaction()
        sent = await producer.send_and_wait(place.topics.events, dumps({"type": "a"}), key=b"s2", partition=0)
        await place.fire("s3", "a")
        await place.fire("s4", "a")

        (found,) = await administration.blocked()
        assert (found.topic, found.partition, found.begin) == (place.topics.events, 0, sent.offset)
        assert found.records == 3
        assert found.producer == producer._txn_manager.producer_id  # noqa: SLF001 - nothing public tells
        assert began_us - 1_000_000 <= found.since_us <= time.time_ns() // 1000 + 1_000_000
        progress = await reader.progress()
        assert (progress.blocked, progress.lag) == (3, 3)
        assert await count_unfolded(reader) == {0: 3}

        await producer.abort_transaction()
    await place.shown()
    assert await administration.blocked() == []
    await place.fold()
    after = await reader.progress()
    assert after.blocked == 0
    assert await count_unfolded(reader) == {}
