"""The engine takes the steps of the model, and its own code decides each event once, whoever is slow."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from tests.model.cluster import TurnFencing, TurnLedger
from tests.model.protocols import CLAIM_FIRST, Step
from tests.model.schedules import ENGINE, Code, explore, run
from triggerstream.engine.partitioned.claims import Claims, FormerOwner
from triggerstream.engine.partitioned.ownership import Owner
from triggerstream.engine.partitioned.ports import Extent, HighWatermark

STEPS = {
    "start": Step.INIT,
    "claim": Step.CLAIM,
    "read": Step.READ,
    "fence": Step.FENCE,
    "forget": Step.FORGET,
    "extent": Step.MEASURE,
    "changelog": Step.RECOVER,
}
"""The requests of a take-over. Others are repetitions, or look whether everything can be read."""


class LastStableEnd(TurnLedger):
    """Takes the last stable offset for the end of the changelog."""

    async def extent(self) -> Extent:
        extent = await super().extent()
        return replace(extent, end=HighWatermark(self.cluster.stable_end()))


class UnseenRelease(TurnFencing):
    """Says that everything can be read without looking, so a claim is released at once."""

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:  # noqa: ARG002
        return partitions


class FenceFirst(Claims):
    """Claims only once the former owners are fenced."""

    async def take(self) -> Mapping[int, Sequence[FormerOwner]]:
        former = [id_ for id_ in await self.owners.read(1_000) if id_ not in self.ids]
        await self.fencing.fence(former)
        await self.owners.append([self._claim(id_) for id_ in self.ids])
        self._claiming = True
        return {}


class EarlyRelease(Owner):
    """Releases the claims before the last transaction is committed."""

    async def close(self) -> None:
        if self._claims is not None:
            await self._claims.owners.forget(self._claims.ids)
        await super().close()


class NoFence(Claims):
    """Claims, and fences nobody."""

    async def take(self) -> Mapping[int, Sequence[FormerOwner]]:
        await self.owners.append([self._claim(id_) for id_ in self.ids])
        return {}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Processes that end log it: thousands of lines that nobody reads take most of the time."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_a_take_over_and_a_hand_over_take_the_steps_of_the_model_in_its_order() -> None:
    result = run(["a"] * 6)  # `a` has sent its records, and is paused while `b` takes over
    asked = [what for who, what in result.cluster.requests if who == "b"]
    worked = asked.index("send")
    steps = [STEPS[what] for what in asked[:worked] if what in STEPS]
    assert steps == list(CLAIM_FIRST.take_over)
    assert [what for what in asked[worked:] if what in {"commit", "forget"}] == ["commit", "forget"]
    assert CLAIM_FIRST.hand_over == (Step.FINISH, Step.RELEASE)


def test_an_owner_that_is_paused_anywhere_decides_nothing_beside_another() -> None:
    tried, wrong = explore(1)
    assert wrong is None, wrong.cluster.requests
    assert tried > 50


@pytest.mark.parametrize(
    ("code", "preemptions"),
    [
        (replace(ENGINE, ledger=LastStableEnd, fencing=UnseenRelease), 0),
        (replace(ENGINE, claims=NoFence), 1),
        (replace(ENGINE, owner=EarlyRelease), 1),
        pytest.param(replace(ENGINE, claims=FenceFirst), 2, marks=pytest.mark.slow),
    ],
    ids=["last stable offset", "no fence", "early release", "fence first"],
)
def test_broken_code_is_found_out(code: Code, preemptions: int) -> None:
    _, wrong = explore(preemptions, code)
    assert wrong is not None
    assert len(wrong.cluster.decided) > 1


@pytest.mark.parametrize(
    "code",
    [replace(ENGINE, ledger=LastStableEnd), replace(ENGINE, fencing=UnseenRelease)],
    ids=["last stable offset", "release unseen"],
)
def test_the_high_watermark_and_the_look_before_a_release_are_each_enough(code: Code) -> None:
    _, wrong = explore(1, code)
    assert wrong is None, wrong.cluster.requests


@pytest.mark.slow
def test_two_owners_that_are_paused_anywhere_decide_nothing_beside_each_other() -> None:
    _, wrong = explore(2)
    assert wrong is None, wrong.cluster.requests
