"""The reference evaluator finds every planted fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.core.logs_of_conditions import numbered_scenario
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.planted.faults import FAULTS
from tests.core.planted.faults_of_time import FAULTS_OF_TIME
from tests.core.planted.plant import planted
from tests.core.planted.search import found_again

pytestmark = pytest.mark.laws

MOST = 2_000


@pytest.mark.slow
def test_each_planted_fault_is_found() -> None:
    assert set(FAULTS) - set(found_again(MOST, FAULTS, numbered_scenario)) == set()


@pytest.mark.slow
def test_each_planted_fault_of_time_is_found() -> None:
    assert set(FAULTS_OF_TIME) - set(found_again(MOST, FAULTS_OF_TIME, numbered_timed_scenario)) == set()


def test_every_fault_stands_in_the_list() -> None:
    text = (Path(__file__).parent / "README.md").read_text()
    listed = re.findall(r"^\|[^|]*\| `(\w+)` \|", text, re.MULTILINE)
    assert listed == [*FAULTS, *FAULTS_OF_TIME]


def test_planted_fault_is_gone_afterwards() -> None:
    for fault in [*FAULTS.values(), *FAULTS_OF_TIME.values()]:
        before = [vars(owner)[name] for (owner, name), _ in fault.replacements]
        with planted(fault):
            assert [vars(owner)[name] for (owner, name), _ in fault.replacements] != before
        assert [vars(owner)[name] for (owner, name), _ in fault.replacements] == before
