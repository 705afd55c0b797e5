"""Partitions are dealt anew all the time, on the real Kafka: everything is decided once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.adapters.faust.workers import Stage, stage
from tests.adapters.kafka.storm import IDS, NoFencing, PausingFencing, Storm
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.owners_topic import read_owners
from triggerstream.adapters.kafka.records import extents
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId

pytestmark = pytest.mark.kafka


GIVEN_UP = 20


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=6) as made:
        yield made


async def stormed(
    app: Stage, *, seed: int, seconds: float, sessions: int, fencing: type[PausingFencing]
) -> Storm:
    await app.prepare()
    await app.fire(range(sessions))
    storm = Storm(app, seed=seed, fencing=fencing)
    await storm.rage(seconds=seconds)
    print(storm.counts)  # noqa: T201 - for `pytest -s`
    return storm


@pytest.mark.timeout(180)
async def test_partitions_that_are_dealt_anew_all_the_time_decide_everything_once(app: Stage) -> None:
    storm = await stormed(app, seed=7, seconds=12, sessions=400, fencing=PausingFencing)
    assert (await app.exact()).command_count() == 400
    assert await storm.marks_in_order()
    counts = storm.counts
    assert [one for one in counts.other_ends if not isinstance(one, LogError)] == []
    assert min(counts.take_overs, counts.killed, counts.zombies) > 0
    assert counts.fenced > 0


@pytest.mark.timeout(180)
async def test_without_a_fence_they_would_not(app: Stage) -> None:
    storm = await stormed(app, seed=7, seconds=12, sessions=400, fencing=NoFencing)
    ordered = await storm.marks_in_order()
    with pytest.raises(AssertionError):
        await app.exact()
    assert not ordered


@pytest.mark.timeout(180)
async def test_claims_of_take_overs_that_are_given_up_do_not_pile_up(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(100))
    storm = Storm(app, seed=3, fencing=PausingFencing)
    await storm.begin()
    for _ in range(GIVEN_UP):
        process = storm.process(range(app.partitions))
        await asyncio.wait([process.opening], timeout=storm.chance.uniform(0, 0.5))
        await process.end()
    left = await read_owners(app.connection, app.app)
    assert len(left) <= app.partitions, "at most those of the last one, if its claim was not acknowledged"
    await storm.calm_down()
    assert await read_owners(app.connection, app.app) == []
    place = TopicPartition(app.topics.owners, 0)
    _, end = (await extents(app.connection, [place]))[place]
    assert end <= (GIVEN_UP + 1) * 3 * IDS, "each claims, releases, and forgets the one before at most once"
    assert (await app.exact()).command_count() == 100


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_a_long_storm_decides_everything_once(app: Stage, seed: int) -> None:
    storm = await stormed(app, seed=seed, seconds=120, sessions=4_000, fencing=PausingFencing)
    assert (await app.exact()).command_count() == 4_000
    assert await storm.marks_in_order()
    assert [one for one in storm.counts.other_ends if not isinstance(one, LogError)] == []
