"""Laws of the language of conditions, on random scenarios: the fold agrees with the reference evaluator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from random import Random

import pytest
from hypothesis import settings

from tests.core.agreement import assert_agrees, lower_bounds_of_leaves
from tests.core.compared import Expected, Folding, Reading, difference, expected_of, sessions_of
from tests.core.logs_of_conditions import Scenario, numbered_scenario, report
from tests.core.reference_of_conditions import Line
from triggerstream.core import draft, triggering
from triggerstream.wire import state as wire

pytestmark = pytest.mark.laws

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
MANY = 200 if PROFILE == "default" else settings.get_profile(PROFILE).max_examples
SOME = MANY // 4 or MANY
reader = Reading()


def the_scenarios(number: int) -> Iterator[tuple[int, Scenario]]:
    """Random scenarios, the same ones each time."""
    for n in range(number):
        yield n, numbered_scenario(n)


@lru_cache(maxsize=1_000)
def expected(n: int) -> Expected:
    """The reference's result for a scenario."""
    return expected_of(numbered_scenario(n))


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


def folded(scenario: Scenario, lines: tuple[Line, ...] | None = None, *, at_once: bool = False) -> Folding:
    """The scenario folded to its end."""
    folding = Folding.of(scenario.file, reader, at_once=at_once)
    for line in scenario.lines if lines is None else lines:
        folding.read(line)
    folding.migrate()
    folding.store()
    return folding


def states_of(folding: Folding) -> dict[str, bytes]:
    return {str(session): wire.encode(state) for session, state in folding.states.items()}


def test_states_are_the_same_bytes_however_the_log_was_folded() -> None:
    for n, scenario in the_scenarios(SOME):
        lazy, at_once = folded(scenario), folded(scenario, at_once=True)
        batches = Folding.of(scenario.file, reader, random=Random(n))
        for line in scenario.lines:
            batches.read(line)
        batches.migrate()
        batches.store()
        assert states_of(lazy) == states_of(at_once), n
        assert states_of(lazy) == states_of(batches), n
        assert lazy.decisions == batches.decisions, n


def test_fold_that_drops_unneeded_events_at_each_event_agrees_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logs that are not stored in between, but for the events that the fold drops by itself."""
    for name, value in (("_RECENT", 1), ("_COLLECTED", 1), ("_COLLECTED_AGAIN", 0)):
        monkeypatch.setattr(draft, name, value)
    for n, scenario in the_scenarios(SOME * 2):
        assert_agrees(n, scenario, expected(n))
        lazy, at_once = folded(scenario), folded(scenario, at_once=True)
        assert states_of(lazy) == states_of(at_once), n
        assert all(state == state.collected() for state in lazy.states.values()), n


def test_a_session_alone_decides_what_it_decides_among_others() -> None:
    for n, scenario in the_scenarios(SOME):
        together = folded(scenario)
        for session in sessions_of(scenario.lines):
            own = tuple(line for line in scenario.lines if line.file is not None or line.session == session)
            assert folded(scenario, own).seen(session) == together.seen(session), n


def test_triggers_that_no_task_uses_change_nothing() -> None:
    """Such a trigger judges what a file left unjudged, and starts a closed session anew: not shown here."""
    judging = {f"triggerstream.{kind}" for kind in ("timer", "session.erase", "session.close")}
    for n, scenario in the_scenarios(SOME):
        lines = tuple(line for line in scenario.lines if line.type not in judging)
        plain, others = folded(scenario, lines), folded(scenario, with_strangers(lines, Random(n)))
        for session in sessions_of(lines):
            assert others.seen(session) == plain.seen(session), n


def with_strangers(lines: tuple[Line, ...], random: Random) -> tuple[Line, ...]:
    """The log with triggers that no task uses, in sessions that are known."""
    more: list[Line] = []
    known: set[str] = set()
    for line in lines:
        if line.session in known and random.random() < 0.4:
            more.append(replace(line, type=random.choice(("no-one", "else")), id=None, data={"n": 1}))
        more.append(line)
        if not line.type.startswith("triggerstream."):
            known.add(line.session)
    return numbered(more)


@pytest.mark.parametrize("ending", ["erase", "close"])
def test_a_session_is_as_new_after_it_ended(ending: str) -> None:
    """What it decides then, and how it stands, is what a session would that begins there."""
    compared = 0
    for n, scenario in the_scenarios(SOME):
        lines = [
            replace(line, id=None)
            for line in scenario.lines
            if line.file is not None or (line.session == "s1" and not line.type.startswith("triggerstream."))
        ]
        half = len(lines) // 2
        head, tail = lines[:half], lines[half:]
        if not head or not any(line.session for line in tail):
            continue
        end = Line(
            offset=0, arrival_us=head[-1].arrival_us, session="s1", type=f"triggerstream.session.{ending}"
        )
        before = folded(scenario, numbered([*head, end]))
        whole = folded(scenario, numbered([*head, end, *tail]))
        file = next((line.file for line in reversed(head) if line.file is not None), scenario.file)
        anew = folded(Scenario(file, tuple(tail)), numbered(tail))
        asked, statuses, stored, holding = whole.seen("s1")
        later = asked[len(before.seen("s1")[0]) :]
        expected = anew.seen("s1")
        assert [(one.instance, one.run, one.kwargs) for one in later] == [
            (one.instance, one.run, one.kwargs) for one in expected[0]
        ], n
        assert (statuses, stored, holding) == expected[1:], n
        compared += 1
    assert compared > SOME / 2


def numbered(lines: list[Line]) -> tuple[Line, ...]:
    """The lines with new offsets, from 0 on."""
    return tuple(replace(line, offset=offset) for offset, line in enumerate(lines))


def test_a_seed_from_before_an_instance_is_not_taken_for_what_made_it() -> None:
    lists = {"t": {"after": ["a", "b", "c"], "run": "run.t"}}
    stopped = {"t": {**lists["t"], "unless": ["stop"], "unlessFrom": "instance"}}
    parts = ("a", "stop", lists, "b", stopped, "c")
    lines = [
        Line(offset=0, arrival_us=1, session="s1", type=part)
        if isinstance(part, str)
        else Line(offset=0, arrival_us=1, file=part)
        for part in parts
    ]
    scenario = Scenario({"u": {"after": ["z"], "run": "run.u"}}, numbered(lines))
    assert difference(scenario, Folding.of(scenario.file, reader)) is None


def test_scenarios_decide_by_the_language_often_enough() -> None:
    told = report(SOME)
    assert told["decides by the language"] > 0.3
