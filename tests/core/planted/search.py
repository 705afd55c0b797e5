"""Looks for planted faults in random scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.core.compared import Expected, Folding, Reading, difference, expected_of
from tests.core.logs_of_conditions import Scenario
from tests.core.planted.plant import Fault, planted
from triggerstream.core.where import evaluation


def found_in(
    number: int, faults: Mapping[str, Fault], scenario_of: Callable[[int], Scenario]
) -> dict[str, int]:
    """The first scenario in which the reference finds each fault, among ``number`` scenarios."""
    reader = Reading()
    # A fault of the evaluator is in what was compiled with it.
    readers = {name: Reading() for name, fault in faults.items() if fault.owners & {evaluation}}
    found: dict[str, int] = {}
    for n in range(number):
        scenario = scenario_of(n)
        expected = expected_of(scenario)
        for name, fault in faults.items():
            if name not in found and is_found(fault, scenario, expected, readers.get(name, reader)):
                found[name] = n
        if len(found) == len(faults):
            break
    return found


def is_found(fault: Fault, scenario: Scenario, expected: Expected, reader: Reading) -> bool:
    """True if the fold with the fault differs from the reference, or fails."""
    with planted(fault):
        try:
            return difference(scenario, Folding.of(scenario.file, reader), expected) is not None
        except Exception:  # noqa: BLE001 - whatever the wrong code raises
            return True
