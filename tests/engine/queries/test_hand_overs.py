"""A session is explained although nobody can find out how far its commands were handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.core.story import Story, task
from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.errors import LogError
from triggerstream.core.ids import CommandId
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.queries import hand_overs
from triggerstream.engine.queries.hand_overs import seen_beside


class BrokenReader(MemoryReader):
    """Fails, or does not answer at all."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(MemoryDatabase())
        self._error = error
        self.asked = 0

    async def hand_overs(
        self, commands: Sequence[SilentCommand], *, partition: int = 0
    ) -> Mapping[CommandId, HandOver]:
        self.asked += 1
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        return await super().hand_overs(commands, partition=partition)


@pytest.mark.parametrize(
    ("error", "why"),
    [(LogError("no Kafka answers at h:1"), "no Kafka answers at h:1"), (None, "no answer within 0.01 s")],
)
async def test_hand_overs_are_not_known_if_the_log_is_away(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, why: str
) -> None:
    monkeypatch.setattr(hand_overs, "_ANSWER_S", 0.01)
    story = Story({"t": task("a")})
    story.fire("a")
    assert story.state is not None
    reader = BrokenReader(error)
    found = await seen_beside(reader, story.rules, story.session, story.state, partition=0)
    assert [*found.hand_overs.values()] == [HandOver(state=HandOverState.UNKNOWN, why=why)]
    story.started("t#0")
    assert story.state is not None
    nothing = await seen_beside(reader, story.rules, story.session, story.state, partition=0)
    assert (nothing.hand_overs, reader.asked) == ({}, 1)  # nobody is asked where a worker has reported
