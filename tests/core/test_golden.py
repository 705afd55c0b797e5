"""Every scenario of ``tests/golden`` decides what it says, in whatever batches its log is folded."""

from __future__ import annotations

import pytest

from tests.core.scenarios import (
    APP,
    Partition,
    Scenario,
    assert_each_step_holds,
    assert_one_batch_holds,
    assert_repeated_records_hold,
    scenarios,
)
from triggerstream.core.commands import Command
from triggerstream.core.ids import command_id, split_instance_id
from triggerstream.wire import commands

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}
LETTERS = [
    *(f"F{n}" for n in range(1, 10)),
    *(f"A{n}" for n in range(1, 12)),
    *(f"U{n}" for n in range(1, 6)),
    *(f"R{n}" for n in range(1, 4)),
    *(f"S{n}" for n in range(1, 4)),
    *(f"T{n}" for n in range(1, 5)),
    *(f"H{n}" for n in range(1, 6)),
]
"""Those of the ancestor's suite that have a counterpart; merges (M) are in ``test_merge``."""

every = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())


def test_every_scenario_of_the_ancestor_is_covered() -> None:
    covered = {letter for scenario in SCENARIOS.values() for letter in scenario.covers}
    assert sorted(covered) == sorted(LETTERS)
    for name, scenario in SCENARIOS.items():
        letter = name.partition("_")[0].upper()
        assert letter in scenario.covers or not scenario.covers


@every
def test_scenario_folded_record_by_record(scenario: Scenario) -> None:
    assert_each_step_holds(scenario)


@every
def test_scenario_folded_as_one_batch(scenario: Scenario) -> None:
    assert_one_batch_holds(scenario)


@every
def test_scenario_with_every_record_delivered_twice(scenario: Scenario) -> None:
    assert_repeated_records_hold(scenario)


@every
def test_commands_of_a_scenario_survive_the_wire_and_carry_the_derived_id(scenario: Scenario) -> None:
    partition = Partition()
    partition.process(scenario.records)
    for decision, value in zip(partition.decided, partition.values, strict=True):
        assert commands.decode(value) == decision
        parts = split_instance_id(decision.instance)
        assert parts is not None
        ids = [
            command_id(APP, decision.session, generation=g, task=parts[0], number=parts[1]) for g in range(3)
        ]
        assert decision.id in ids
    first = [d.id for d in partition.decided if isinstance(d, Command) and d.attempt == 0]
    assert len(set(first)) == len(first)
