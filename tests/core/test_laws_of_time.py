"""Laws of time and places, on random scenarios: the fold agrees with the reference evaluator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from tests.core.agreement import assert_agrees, lower_bounds_of_leaves
from tests.core.compared import (
    Expected,
    Folding,
    Reading,
    event_of,
    expected_of,
    seen_by_reference,
    sessions_of,
)
from tests.core.entries import Entries
from tests.core.logs_of_conditions import APP, Scenario
from tests.core.logs_of_time import numbered_timed_scenario, with_timers
from tests.core.reference_of_conditions import Json, Line, Reference
from triggerstream.core import triggering
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import SessionId
from triggerstream.core.results import Folded
from triggerstream.wire import state as wire

pytestmark = pytest.mark.laws

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
MANY = 200 if PROFILE == "default" else settings.get_profile(PROFILE).max_examples
SOME = MANY // 4 or MANY
FAR_US = 400 * 86_400 * 1_000_000
reader = Reading()


def the_scenarios(number: int) -> Iterator[tuple[int, Scenario]]:
    """Random scenarios, the same ones each time."""
    for n in range(number):
        yield n, numbered_timed_scenario(n)


@lru_cache(maxsize=1_000)
def expected(n: int) -> Expected:
    """The reference's result for a scenario."""
    return expected_of(numbered_timed_scenario(n))


def said_of(scenario: Scenario) -> dict[str, Any]:
    """The reference's result for each session at the end."""
    reference = Reference(APP, scenario.file)
    for line in scenario.lines:
        reference.read(line)
    return {session: seen_by_reference(reference, session) for session in sessions_of(scenario.lines)}


def test_timer_events_change_nothing_in_the_reference() -> None:
    for n, scenario in the_scenarios(SOME):
        assert said_of(with_timers(scenario, Random(n))) == expected(n)[-1], n


def test_fold_agrees_with_the_reference() -> None:
    for n, scenario in the_scenarios(MANY):
        assert_agrees(n, scenario, expected(n))


def test_fold_in_batches_agrees_with_the_reference() -> None:
    for n, scenario in the_scenarios(SOME):
        assert_agrees(n, scenario, expected(n), batches=True)


def test_fold_that_meets_files_at_once_agrees_with_the_reference() -> None:
    for n, scenario in the_scenarios(SOME):
        assert_agrees(n, scenario, expected(n), at_once=True, batches=True)


def test_fold_agrees_with_the_reference_at_the_bounds_of_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [*the_scenarios(SOME)]  # with the usual bounds
    lower_bounds_of_leaves(monkeypatch)
    for n, scenario in drawn:
        assert_agrees(n, scenario, batches=True)


def test_fold_that_looks_up_who_may_take_an_event_agrees_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does so where an instance has many others beside it, which random logs seldom have."""
    monkeypatch.setattr(triggering, "FEW", 0)
    for n, scenario in the_scenarios(MANY):
        assert_agrees(n, scenario, expected(n))


def folded(scenario: Scenario, *, at_once: bool = False, random: Random | None = None) -> Folding:
    """The scenario folded to its end."""
    folding = Folding.of(scenario.file, reader, at_once=at_once, random=random)
    for line in scenario.lines:
        folding.read(line)
    folding.migrate()
    folding.store()
    return folding


def states_of(folding: Folding) -> dict[str, bytes]:
    return {str(session): wire.encode(state) for session, state in folding.states.items()}


def test_a_take_over_at_any_point_changes_nothing() -> None:
    for n, scenario in the_scenarios(SOME):
        lazy, at_once = folded(scenario), folded(scenario, at_once=True)
        batches = folded(scenario, random=Random(n))
        assert states_of(lazy) == states_of(at_once), n
        assert states_of(lazy) == states_of(batches), n
        assert lazy.decisions == batches.decisions, n


def test_timer_events_change_nothing() -> None:
    for n, scenario in the_scenarios(SOME * 2):
        longer = with_timers(scenario, Random(n))
        # Both logs have the same offsets, so that what is kept of events is the same.
        offsets = [line.offset for line in longer.lines if line.data != {"inserted": True}]
        plain = folded(Scenario(scenario.file, tuple(at_offsets(scenario.lines, offsets))))
        timed = folded(longer)
        for session in sessions_of(scenario.lines):
            assert timed.seen(session) == plain.seen(session), n
            assert without_places(timed, session) == without_places(plain, session), n


def at_offsets(lines: tuple[Line, ...], offsets: list[int]) -> Iterator[Line]:
    for line, offset in zip(lines, offsets, strict=True):
        yield Line(**{name: getattr(line, name) for name in line.__slots__} | {"offset": offset})


def without_places(folding: Folding, session: str) -> Json:
    """A stored state without what names the last event, or the one before which a timer fired."""
    state = folding.states.get(SessionId(session))
    if state is None:
        return None

    def plain(value: Json) -> Json:
        if isinstance(value, dict):
            return {
                key: plain(one) for key, one in value.items() if key not in {"offset", "clock", "decidedAt"}
            }
        return [plain(one) for one in value] if isinstance(value, list) else value

    return plain(wire.named_fields(wire.encode(state)))


def test_nothing_fires_before_the_next_due_time() -> None:
    for n, scenario in the_scenarios(SOME):
        folding = Folding.of(scenario.file, reader)
        for line in scenario.lines:
            folding.read(line)
            # An event changes its own session only.
            for session in folding.states:
                if line.file is not None or session == line.session:
                    assert_nothing_is_due_earlier(folding, session, f"{n} {line}")


def assert_nothing_is_due_earlier(folding: Folding, session: SessionId, where: str) -> None:
    """A timer event just before the next due time, or long after where there is none, changes nothing."""
    state = folding.states[session]
    due_us = next_due(folding.rules, state)
    arrival_us = state.clock_us + FAR_US if due_us is None else due_us - 1
    entries = Entries({session: folding.entries.stored.get(session, {}).copy()})
    ahead = Folding(rules=folding.rules, reader=reader, states={session: state}, entries=entries)
    ahead.migrate()
    # A file that shortens a wait may arrive after the new due time: the timer is due at once.
    if arrival_us <= ahead.states[session].clock_us:
        return
    before = ahead.seen(session)
    timer = Line(
        offset=10_000, arrival_us=arrival_us, session=session, type="triggerstream.timer", time_us=arrival_us
    )
    folded = step(folding.rules, ahead.states[session], event_of(timer))
    assert isinstance(folded, Folded), where
    assert not folded.decisions, where
    ahead.states[session] = folded.state
    assert ahead.seen(session) == before, where
