"""The reference evaluator finds every planted fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.core.planted.faults import FAULTS
from tests.core.planted.plant import planted
from tests.core.planted.search import found_in

pytestmark = pytest.mark.laws

MOST = 2_000


@pytest.mark.slow
def test_each_planted_fault_is_found() -> None:
    assert set(FAULTS) - set(found_in(MOST)) == set()


def test_every_fault_stands_in_the_list() -> None:
    text, _, _ = (Path(__file__).parent / "README.md").read_text().partition("## Time and places")
    assert re.findall(r"^\|[^|]*\| `(\w+)` \|", text, re.MULTILINE) == list(FAULTS)


def test_planted_fault_is_gone_afterwards() -> None:
    for fault in FAULTS.values():
        before = [vars(owner)[name] for (owner, name), _ in fault.replacements]
        with planted(fault):
            assert [vars(owner)[name] for (owner, name), _ in fault.replacements] != before
        assert [vars(owner)[name] for (owner, name), _ in fault.replacements] == before
