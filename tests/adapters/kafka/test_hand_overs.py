"""Progress of the hand-over of commands, read from a bridge's committed offset on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.contract.places import KafkaPlace, place_of
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.progress import metadata_of
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.adapters.kafka.topics import Topics, bridge_group
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.engine.handover.shared_log import HandOverProgress
from triggerstream.engine.queries.view import View

pytestmark = pytest.mark.kafka


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KafkaPlace]:
    place = await place_of("kafka", request, tmp_path, ManualClock())
    assert isinstance(place, KafkaPlace)
    yield place
    await place.close()


async def commit(place: KafkaPlace, reached: HandOverProgress, *, topic: str | None = None) -> None:
    """Commit the progress of a bridge, as one does while it has no members."""
    name = Topics.of(place.app).commands
    async with place.connection.client() as client:
        id_ = (await describe(client, [name])).topics[name].id
    metadata, _ = metadata_of(topic or id_, reached)
    async with place.connection.running(place.connection.member(bridge_group(place.app))) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        await consumer.commit({TopicPartition(name, 0): (reached.position, metadata)})


async def test_explain_says_handed_over_only_below_the_bridges_committed_offset(place: KafkaPlace) -> None:
    await place.configure('{"t": {"after": ["a"], "run": "f"}, "u": {"after": ["a"], "run": "g"}}')
    await place.fire("s", "a")
    await place.fold()
    reader = KafkaReader(place.connection, place.app)
    view = View(reader, app=place.app)

    async def seen() -> list[HandOver | None]:
        async with asyncio.timeout(60):
            found = await view.explain("s")
        assert found is not None
        return [instance.hand_over for task in found.tasks for instance in task.instances]

    unknown = await seen()
    assert [one and one.state for one in unknown] == [HandOverState.UNKNOWN] * 2
    assert unknown[0] is not None
    assert unknown[0].why == f"no bridge has committed an offset (group {bridge_group(place.app)})"

    handed, open_ = (HandOver(state=HandOverState.HANDED_OVER), HandOver(state=HandOverState.UNCONFIRMED))
    for reached, states in (
        (HandOverProgress(position=0, upto=0), [open_, open_]),
        (HandOverProgress(position=1, upto=1), [handed, open_]),
        (HandOverProgress(position=0, upto=2, open=(0,)), [open_, handed]),
        (HandOverProgress(position=2, upto=2), [handed, handed]),
    ):
        await commit(place, reached)
        assert await seen() == states, reached
    await place.fire("later", "a")
    await place.fold()
    assert await seen() == [handed, handed]  # later commands of the partition change nothing

    await commit(
        place, HandOverProgress(position=2, upto=2, begun=1)
    )  # the bridge began behind the first one
    skipped, later = await seen()
    assert (skipped and skipped.state, later) == (HandOverState.UNKNOWN, handed)

    await commit(place, HandOverProgress(position=2, upto=2), topic="an-earlier-topic")
    assert [one and one.state for one in await seen()] == [HandOverState.UNKNOWN] * 2
    await reader.close()
