"""Laws of ``within`` on random scenarios without other keys of time: the fold agrees with the reference."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from tests.core import reference_of_conditions
from tests.core.agreement import assert_agrees
from tests.core.compared import Expected, Folding, Reading, expected_of
from tests.core.logs_of_conditions import Scenario
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.reference_of_conditions import File
from triggerstream.core import draft, sequences
from triggerstream.core.explain import Explainer
from triggerstream.core.ids import SessionId
from triggerstream.core.state import Status
from triggerstream.core.untaken import why_no_match

pytestmark = pytest.mark.laws

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
MANY = 60 if PROFILE == "default" else settings.get_profile(PROFILE).max_examples
SOME = MANY // 2 or MANY
OTHERS = {"deadline", "delay", "debounce", "repeat", "maxConcurrency", "paused", "priority"}
WINDOWS = ("1s", "2s", "3s", "5s", "10s", "1m")
reader = Reading()


def has_each(part: Any) -> bool:  # noqa: ANN401 - JSON
    """True if a part of a task has a leaf with ``each``."""
    if isinstance(part, dict):
        return "each" in part or any(map(has_each, part.values()))
    return isinstance(part, list) and any(map(has_each, part))


def windowed(file: File, n: int) -> File:
    """A file whose tasks have ``within`` and no other key of time."""
    now: File = {}
    for name, task in file.items():
        random = Random(f"{n} {name} {json.dumps(task, sort_keys=True)}")
        now[name] = {key: value for key, value in task.items() if key not in OTHERS}
        if has_each(task["after"]):
            now[name].pop("within", None)
        elif random.random() < 0.8:
            now[name]["within"] = random.choice(WINDOWS)
    return now


def the_scenarios(number: int) -> Iterator[tuple[int, Scenario]]:
    """Random scenarios, the same ones each time."""
    for n in range(number):
        yield n, numbered_windowed_scenario(n)


@lru_cache(maxsize=1_000)
def numbered_windowed_scenario(n: int) -> Scenario:
    """One of the scenarios."""
    drawn = numbered_timed_scenario(n)
    lines = tuple(
        line if line.file is None else replace(line, file=windowed(line.file, n)) for line in drawn.lines
    )
    return replace(drawn, file=windowed(drawn.file, n), lines=lines)


@lru_cache(maxsize=1_000)
def expected(n: int) -> Expected:
    """The reference's result for a scenario."""
    return expected_of(numbered_windowed_scenario(n))


def test_fold_agrees_with_the_reference() -> None:
    for n, scenario in the_scenarios(MANY):
        assert_agrees(n, scenario, expected(n))


def test_fold_in_batches_that_meets_files_at_once_agrees_with_the_reference() -> None:
    for n, scenario in the_scenarios(SOME):
        assert_agrees(n, scenario, expected(n), at_once=True, batches=True)


def test_fold_agrees_with_the_reference_at_the_bound_of_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [*the_scenarios(SOME)]  # with the usual bounds
    for module in (sequences, reference_of_conditions):
        monkeypatch.setattr(module, "MOST_IN_SEQUENCE", 2)
    for n, scenario in drawn:
        assert_agrees(n, scenario, batches=True)


def test_fold_that_drops_unneeded_events_at_each_event_agrees_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_RECENT", 1), ("_COLLECTED", 1), ("_COLLECTED_AGAIN", 0)):
        monkeypatch.setattr(draft, name, value)
    for n, scenario in the_scenarios(SOME):
        assert_agrees(n, scenario, expected(n))


def test_the_tree_is_met_if_and_only_if_the_instance_was_satisfied() -> None:
    """And a leaf that is not met says why its trigger's latest event does not count."""
    for n, scenario in the_scenarios(SOME):
        folding = Folding.of(scenario.file, reader)
        for line in scenario.lines:
            if line.file is not None:
                break
            folding.read(line)
            session = SessionId(line.session)
            state = folding.states.get(session)
            if state is None:
                continue
            explainer = Explainer(folding.rules, session, state)
            for name, record in state.tasks.items():
                for instance in record.open.values():
                    tree = explainer.conditions(name, instance).after
                    unstarted = instance.status is Status.UNSTARTED
                    assert tree.met is not unstarted, (n, name, instance)
                    for leaf in tree.leaves() if unstarted else ():
                        slot = folding.rules.current.config.by_name[name].after.slots[leaf.leaf]
                        latest = state.seen.get(slot.leaf.trigger)
                        counts = latest is None or any(one.offset == latest.offset for one in leaf.by)
                        if not counts and latest is not None and not why_no_match(slot, latest, session):
                            assert leaf.last is not None
                            assert "earlier tasks file" not in leaf.last.says, (n, name, leaf)
