"""Laws of time and places, on random scenarios."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from tests.core.compared import seen_by_reference, sessions_of
from tests.core.logs_of_conditions import APP, Scenario
from tests.core.logs_of_time import numbered_timed_scenario, with_timers
from tests.core.reference_of_conditions import Reference

pytestmark = pytest.mark.laws

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
MANY = 500 if PROFILE == "default" else settings.get_profile(PROFILE).max_examples
SOME = MANY // 5 or MANY


def the_scenarios(number: int) -> Iterator[tuple[int, Scenario]]:
    """Random scenarios, the same ones each time."""
    for n in range(number):
        yield n, numbered_timed_scenario(n)


def said_of(scenario: Scenario) -> dict[str, Any]:
    """What the reference says of each session at the end."""
    reference = Reference(APP, scenario.file)
    for line in scenario.lines:
        reference.read(line)
    return {session: seen_by_reference(reference, session) for session in sessions_of(scenario.lines)}


def test_timer_events_change_nothing_in_the_reference() -> None:
    for n, scenario in the_scenarios(SOME):
        assert said_of(with_timers(scenario, Random(n))) == said_of(scenario), n
