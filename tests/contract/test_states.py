"""The promises of every States: the sessions that an index is made from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.places import Place, event, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.ids import SessionId
from triggerstream.wire import state

TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
ODD = ["a", "b", "b%", "b1", "b2", "b\U0001f600", "bé", "c"]


@pytest.fixture(params=["memory", "sqlite", "memory partition"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    await place.configure(TASKS)
    for name in ODD:
        await place.log.append([event(name, "a")])
    await place.fold()
    yield place
    await place.close()


async def page(place: Place, prefix: str = "", *, after: str | None = None, limit: int = 100) -> list[str]:
    last = None if after is None else SessionId(after)
    found = await (await place.states()).page(prefix=prefix, after=last, limit=limit)
    return [name for name, _ in found]


async def test_sessions_are_paged_by_id(place: Place) -> None:
    assert await page(place) == sorted(ODD)
    assert await page(place, "b", limit=3) == ["b", "b%", "b1"]
    assert await page(place, "b", after="b1") == ["b2", "bé", "b\U0001f600"]
    assert await page(place, "b", after="a", limit=1) == ["b"]
    assert await page(place, "b", after="c") == []
    assert await page(place, "x") == []


async def test_some_sessions_are_those_that_are_there_as_they_are_now(place: Place) -> None:
    states = await place.states()
    wanted = [SessionId(name) for name in ("bé", "nobody", "a")]
    found = await states.some(wanted)
    assert set(found) == {"bé", "a"}
    before = state.decode(found[SessionId("a")]).offset
    await place.fire("a", "b")
    await place.fold()
    assert state.decode((await states.some(wanted))[SessionId("a")]).offset > before
    assert await states.some([]) == {}


async def test_pages_and_some_have_the_same_states(place: Place) -> None:
    states = await place.states()
    paged = await states.page(prefix="", after=None, limit=100)
    assert dict(paged) == await states.some([name for name, _ in paged])
