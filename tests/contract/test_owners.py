"""The promises of every owners topic, and of everything that fences."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.places import KAFKA, PartitionedPlace, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.engine.partitioned.claims import new_ids
from triggerstream.engine.partitioned.ports import Commit, FencedError
from triggerstream.wire.claims import Claim, OwnerId


@pytest.fixture(params=["memory partition", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PartitionedPlace]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    assert isinstance(place, PartitionedPlace)
    yield place
    await place.close()


def claim(place: PartitionedPlace, *partitions: int, since_us: int = 0) -> Claim:
    return Claim(
        id=OwnerId(f"{place.app}-w-{uuid4().hex}"),
        partitions=frozenset(partitions),
        host="here",
        pid=7,
        since_us=since_us,
        generation=3,
    )


CHANGE = Commit(decided=(), states={b"s": b"1"}, dead_letters=(), marks={}, offset=None)


async def test_a_claim_is_there_until_it_is_forgotten(place: PartitionedPlace) -> None:
    topic = place.claims([]).owners
    first, second = claim(place, 0, 1), claim(place, 1)
    end = await topic.append([first])
    assert await topic.read(end) == {first.id: first}
    later = await topic.append([second])
    assert await topic.read(later) == {first.id: first, second.id: second}
    await topic.forget([first.id])
    assert (await topic.read(later)).keys() == {first.id, second.id}, "what is below the end alone counts"
    third = claim(place)
    assert await topic.read(await topic.append([third])) == {second.id: second, third.id: third}


async def test_a_reader_sees_the_claims_before_its_own_and_none_after_it(place: PartitionedPlace) -> None:
    topic = place.claims([]).owners
    claims = [claim(place, 0) for _ in range(5)]
    ends = [await topic.append([one]) for one in claims]
    for count, end in enumerate(ends, 1):
        assert list(await topic.read(end)) == [one.id for one in claims[:count]]


async def test_many_claims_are_appended_as_one(place: PartitionedPlace) -> None:
    topic = place.claims([]).owners
    claims = [claim(place, number) for number in range(300)]
    end = await topic.append(claims)
    assert await topic.read(end) == {one.id: one for one in claims}
    await topic.forget([one.id for one in claims])
    await topic.forget([])
    last = claim(place, 0)
    assert await topic.read(await topic.append([last])) == {last.id: last}


async def test_who_is_fenced_commits_nothing_and_who_fences_owns_nothing_by_it(
    place: PartitionedPlace,
) -> None:
    owner, other = await place.owned(), place.ledger(new_ids(place.app)[0])
    await other.start()
    fencing, topic = place.claims([]).fencing, place.claims([]).owners
    last = claim(place)
    (id_,) = (await topic.read(await topic.append([last]))).keys() - {last.id}
    for _ in range(2):  # idempotent
        await fencing.fence([id_])
    with pytest.raises(FencedError):
        await owner.commit(CHANGE)
    assert await other.commit(CHANGE) > 0
    await owner.close()
    await other.close()


async def test_an_id_that_nobody_has_can_be_fenced(place: PartitionedPlace) -> None:
    fencing = place.claims([]).fencing
    unknown = [claim(place).id for _ in range(40)]
    await fencing.fence(unknown)
    await fencing.fence([])


async def test_what_is_committed_can_be_read(place: PartitionedPlace) -> None:
    fencing = place.claims([]).fencing
    assert set(await fencing.readable([], within_s=0)) == set()
    assert set(await fencing.readable([0], within_s=0)) == {0}
    owner = await place.owned()
    await owner.commit(CHANGE)
    assert set(await fencing.readable([0], within_s=30)) == {0}
    await owner.close()
