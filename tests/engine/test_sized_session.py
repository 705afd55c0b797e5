"""Which events a session folds with its parts measured, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.story import START_US, Story
from tests.core.test_cost import event
from triggerstream.core.events import Timer
from triggerstream.core.fold import step
from triggerstream.core.ids import JsonObject
from triggerstream.core.sizes import Sizes
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Configuration
from triggerstream.engine import sized_session
from triggerstream.engine.sized_session import SizedSession
from triggerstream.wire import state as wire

DEADLINE: JsonObject = {"after": ["a", "b"], "deadline": "2h", "run": "x.y"}
DELAY: JsonObject = {"after": ["a"], "delay": "1h", "run": "x.y"}


def folds_of(
    tasks: JsonObject, hours: int, monkeypatch: pytest.MonkeyPatch, *, stored_bytes: int = 0
) -> tuple[list[bool], SessionState]:
    """Whether each fold of a timer was measured, and the state after it. The event ``a`` came before it."""
    measured: list[bool] = []

    def watched(*given: Any, sizes: Sizes | None = None) -> Any:  # noqa: ANN401 - as ``step``
        measured.append(sizes is not None)
        return step(*given, sizes=sizes)

    story = Story(tasks)
    story.fire("a", {"n": 1})
    monkeypatch.setattr(sized_session, "step", watched)
    session = SizedSession(story.rules, story.state, stored_bytes)
    timer = event(story.offset, Timer(), arrival_us=START_US + hours * 3_600_000_000)
    session.fold(story.rules, timer, 100, no_params)
    assert session.state is not None
    return measured, session.state


def no_params(config: Configuration) -> int:
    del config
    return 2


@pytest.mark.parametrize(
    ("tasks", "hours", "measured"),
    [
        ({"t": DEADLINE}, 1, False),
        ({"t": DEADLINE}, 2, True),
        ({"t": DELAY}, 1, False),
        ({"t": DELAY, "u": DEADLINE}, 1, False),
        ({"t": DELAY, "u": DEADLINE}, 2, True),
        ({"t": DELAY, "u": DEADLINE | {"after": ["other"]}}, 2, False),
    ],
)
def test_only_a_fold_that_may_fire_timeouts_is_measured_at_once(
    monkeypatch: pytest.MonkeyPatch, *, tasks: JsonObject, hours: int, measured: bool
) -> None:
    folds, state = folds_of(tasks, hours, monkeypatch)
    assert folds == [measured]
    assert (state.timeouts != 0) is measured


def test_a_measured_fold_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the state is beyond its bound before and after it."""
    tasks: JsonObject = {"t": DEADLINE, "$bounds": {"stateBytes": 1}}
    folds, state = folds_of(tasks, 2, monkeypatch, stored_bytes=1_000)
    assert len(wire.encode(state)) > 1
    assert folds == [True]
