"""The smallest scenario that still shows a difference, found by leaving things out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from tests.core.changing_files import is_usable
from tests.core.logs_of_conditions import Scenario
from tests.core.reference_of_conditions import File

Shows: TypeAlias = Callable[[Scenario], bool]


def smallest(scenario: Scenario, shows: Shows) -> Scenario:
    """``scenario`` without all that is not needed for ``shows`` to be true."""
    found = True
    while found:
        found = False
        for candidate in smaller(scenario):
            if shows(candidate):
                scenario, found = candidate, True
                break
    return scenario


def smaller(scenario: Scenario) -> Iterator[Scenario]:
    """The scenario with one thing less, the largest things first."""
    lines = scenario.lines
    for size in (8, 4, 1):
        for at in range(0, len(lines), size):
            yield replace(scenario, lines=lines[:at] + lines[at + size :])
    files = [scenario.file, *(line.file for line in lines if line.file is not None)]
    for task in dict.fromkeys(name for file in files for name in file):
        yield from _with_files(scenario, _Without(task))
        for key in dict.fromkeys(key for file in files for key in file.get(task, {})):
            if key not in {"after", "run"}:
                yield from _with_files(scenario, _Without(task, key))
    for at, line in enumerate(lines):
        for name in line.data:
            if name not in {"instance", "command", "n"}:
                data = {key: value for key, value in line.data.items() if key != name}
                yield replace(scenario, lines=(*lines[:at], replace(line, data=data), *lines[at + 1 :]))


@dataclass(frozen=True)
class _Without:
    """Leaves a task, or a key of it, out of a file."""

    task: str
    key: str | None = None

    def __call__(self, file: File) -> File:
        if self.key is None:
            return {name: task for name, task in file.items() if name != self.task}
        return {
            name: {k: v for k, v in task.items() if name != self.task or k != self.key}
            for name, task in file.items()
        }


def _with_files(scenario: Scenario, change: _Without) -> Iterator[Scenario]:
    """The scenario with every file changed, if all are still usable and there is one that differs."""
    lines = tuple(
        line if line.file is None else replace(line, file=change(line.file)) for line in scenario.lines
    )
    new = Scenario(change(scenario.file), lines)
    files = [new.file, *(line.file for line in lines if line.file is not None)]
    if new != scenario and all(is_usable(file) for file in files):
        yield new
