"""Asserts that the fold agrees with the reference evaluator on a numbered scenario."""

from __future__ import annotations

from random import Random

import pytest

from tests.core import reference_of_conditions
from tests.core.compared import Expected, Folding, Reading, difference
from tests.core.logs_of_conditions import Scenario, as_golden
from tests.core.smallest import smallest
from triggerstream.core import sequences, slots

_reader = Reading()


def assert_agrees(
    n: int, scenario: Scenario, said: Expected | None = None, *, at_once: bool = False, batches: bool = False
) -> None:
    """Fail with the smallest scenario on which the fold and the reference differ.

    ``said``: the reference's result for the scenario, if it was asked before. ``at_once``: sessions meet a
    file when it arrives. ``batches``: states are stored and read again after random batches.
    """

    def differs(candidate: Scenario, said: Expected | None = None) -> str | None:
        random = Random(n) if batches else None
        folding = Folding.of(candidate.file, _reader, at_once=at_once, random=random)
        return difference(candidate, folding, said)

    if differs(scenario, said) is not None:
        small = smallest(scenario, lambda candidate: differs(candidate) is not None)
        pytest.fail(f"scenario {n}: {differs(small)}\n{as_golden(small)}")


def lower_bounds_of_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower bounds that random logs never reach, for the fold and the reference. Draw scenarios before."""
    for module, name in ((sequences, "MOST_IN_SEQUENCE"), (slots, "MOST_KEYS")):
        monkeypatch.setattr(module, name, 2)
        monkeypatch.setattr(reference_of_conditions, name, 2)
