"""Looks for planted faults in random scenarios."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.core.compared import Expected, Folding, Reading, difference, expected_of
from tests.core.logs_of_conditions import Scenario
from tests.core.planted.plant import Fault, planted
from triggerstream.core.where import evaluation

FOUND = Path(__file__).with_name("found.json")
"""The first scenario that found each fault when `python -m tests.core.planted` last ran."""


def found_in(
    number: int, faults: Mapping[str, Fault], scenario_of: Callable[[int], Scenario]
) -> dict[str, int]:
    """The first scenario in which the reference finds each fault, among ``number`` scenarios."""
    return _found(((n, faults) for n in range(number)), len(faults), scenario_of)


def found_again(
    number: int, faults: Mapping[str, Fault], scenario_of: Callable[[int], Scenario]
) -> dict[str, int]:
    """A scenario in which the reference finds each fault: the one of ``FOUND``, else another."""
    by_scenario: dict[int, dict[str, Fault]] = {}
    for name, n in json.loads(FOUND.read_text()).items():
        if name in faults:
            by_scenario.setdefault(n, {})[name] = faults[name]
    found = _found(iter(by_scenario.items()), len(faults), scenario_of)
    others = {name: fault for name, fault in faults.items() if name not in found}
    return found | found_in(number, others, scenario_of)


def _found(
    looked: Iterator[tuple[int, Mapping[str, Fault]]], most: int, scenario_of: Callable[[int], Scenario]
) -> dict[str, int]:
    reader = Reading()
    # A fault of the evaluator is in what was compiled with it.
    readers: dict[str, Reading] = {}
    found: dict[str, int] = {}
    for n, faults in looked:
        if len(found) == most:
            break
        scenario = scenario_of(n)
        expected = expected_of(scenario)
        for name, fault in faults.items():
            if name in found:
                continue
            own = readers.setdefault(name, Reading()) if fault.owners & {evaluation} else reader
            if is_found(fault, scenario, expected, own):
                found[name] = n
    return found


def is_found(fault: Fault, scenario: Scenario, expected: Expected, reader: Reading) -> bool:
    """True if the fold with the fault differs from the reference, or fails."""
    with planted(fault):
        try:
            return difference(scenario, Folding.of(scenario.file, reader), expected) is not None
        except Exception:  # noqa: BLE001 - whatever the wrong code raises
            return True
