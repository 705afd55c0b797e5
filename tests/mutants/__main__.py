"""Mutation tests: one expression at a time is changed, and some test must fail.

Usage: ``python -m tests.mutants [module[:functions] ...]``, with modules as ``core/fold.py`` or
``core/orders.py:_skip,_replay``; all by default.

A mutant must be noticed by the tests of its module's own room. A run that was interrupted goes on where it
stopped; mutants that survived are tried again, because a test may have been added. ``make clean`` forgets all
results, also those of mutants that a removed test had killed.

``survivors.toml`` lists the mutants that may survive. The exit status is 1 if a mutant survives that is not
listed, if one in a transition is listed as anything but equivalent, or if more than 2 % survive elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.session import ROOT, Mutant, Results, read_results

PACKAGE = ROOT / "triggerstream"
SURVIVORS = Path(__file__).with_name("survivors.toml")
MOST_ELSEWHERE = 0.02
"""Share of the mutants outside of transitions that may survive without being equivalent."""

ROOMS = {
    "core/*.py": ["tests/core"],
    "core/where/*.py": ["tests/core/where"],
    "engine/processor.py": ["tests/engine/test_processor.py", "tests/core/test_golden.py"],
    "engine/scan.py": ["tests/engine/test_scan.py"],
    "engine/sized_session.py": ["tests/engine/test_processor.py", "tests/core/test_golden.py"],
    "engine/partitioned/*.py": ["tests/engine/partitioned"],
    "wire/claims.py": ["tests/wire/test_claims.py"],
    "wire/marks.py": ["tests/wire/test_marks.py"],
    "wire/plain_events.py": ["tests/wire/test_plain_events.py"],
    "wire/plain_states.py": ["tests/wire/test_plain_states.py", "tests/wire/test_state.py"],
    "wire/retired.py": ["tests/wire/test_retired.py"],
    "wire/shared_sent.py": ["tests/wire/test_shared_sent.py"],
}
"""The modules that are mutated, and the tests that must notice."""
LEFT_OUT = {"core/advice.py"}
"""Texts with commands alone: real processes carry each of them out (``tests/acceptance``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What ``survivors.toml`` says: names of transitions, and mutants that may survive (True: equivalent)."""

    transitions: frozenset[str]
    mutants: dict[Mutant, bool]


def main(arguments: Sequence[str]) -> int:
    """Run the mutants of the modules named, or of all; return the exit status."""
    modules = list(chosen(arguments))
    if not modules:
        print(f"no module of {', '.join(ROOMS)} is named {' or '.join(arguments)}", file=sys.stderr)
        return 2
    allowed = read_allowed(SURVIVORS.read_text())
    found: dict[str, Results] = {}
    for module, functions, tests in modules:
        command = [sys.executable, "-m", "tests.mutants.session", module, functions, *tests]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout[-4_000:], done.stderr[-4_000:], f"the tests of {module} failed", sep="\n")
            return 1
        found[module] = results = narrow(read_results(module), functions)
        print(
            f"{module}: {sum(results.count.values())} mutants, {len(results.survivors)} survive", flush=True
        )
    complaints = list(judge(found, allowed, everything=not arguments))
    print(*complaints, sep="\n")
    return 1 if complaints else 0


def chosen(arguments: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The modules to mutate, by their paths in the package, with their functions (empty: all) and tests."""
    wanted = {module: functions for module, _, functions in (text.partition(":") for text in arguments)}
    for pattern, tests in ROOMS.items():
        for path in sorted(PACKAGE.glob(pattern)):
            module = path.relative_to(PACKAGE).as_posix()
            if module in LEFT_OUT or path.name == "__init__.py":
                continue
            if not wanted or module in wanted:
                yield module, wanted.get(module, ""), tests


def narrow(results: Results, functions: str) -> Results:
    """The results of some functions; of all if ``functions`` is empty."""
    if not functions:
        return results
    wanted = functions.split(",")
    count = {name: number for name, number in results.count.items() if name.rpartition(".")[2] in wanted}
    # The session has run all of these to their end, and no others.
    return Results(count=count, survivors=results.survivors)


def read_allowed(text: str) -> Allowed:
    """Read ``survivors.toml``."""
    found = tomllib.loads(text)
    mutants = {}
    for entry in found["survivor"]:
        if not entry["reason"].strip():
            raise ValueError(f"{entry['function']}: a survivor needs a reason")
        mutants[Mutant(entry["function"], entry["before"], entry["after"])] = entry.get("equivalent", False)
    return Allowed(transitions=frozenset(found["transitions"]), mutants=mutants)


def judge(found: Mapping[str, Results], allowed: Allowed, *, everything: bool) -> Iterator[str]:
    """What is wrong with the results, one text each. ``everything``: no module was left out."""
    alive = elsewhere = 0
    met: set[Mutant] = set()
    functions: set[str] = set()
    for module, results in found.items():
        functions |= results.count.keys()
        elsewhere += sum(
            count for function, count in results.count.items() if not in_transition(function, allowed)
        )
        if results.unknown:
            yield f"{module}: {results.unknown} mutants were not run to their end: run it again"
        for mutant in results.survivors:
            met.add(mutant)
            if mutant not in allowed.mutants:
                yield f"survives in {module}, unlisted:\n{as_entry(mutant)}"
            elif not allowed.mutants[mutant]:
                alive += 1
                if in_transition(mutant.function, allowed):
                    yield f"survives in a transition, and is not equivalent:\n{as_entry(mutant)}"
    if alive > elsewhere * MOST_ELSEWHERE and everything:
        yield f"{alive} of {elsewhere} mutants survive outside of transitions, over {MOST_ELSEWHERE:.0%}"
    for mutant in sorted(allowed.mutants.keys() - met):
        if everything or mutant.function in functions:
            yield f"listed, and does not survive:\n{as_entry(mutant)}"


def in_transition(function: str, allowed: Allowed) -> bool:
    """Whether ``function`` is part of a transition; methods are listed without their class."""
    return function.rpartition(".")[2] in allowed.transitions


def as_entry(mutant: Mutant) -> str:
    """The mutant as an entry of ``survivors.toml``, without a reason."""
    lines = ((name, getattr(mutant, name)) for name in ("function", "before", "after"))
    # A JSON string is a TOML one, too.
    return "[[survivor]]\n" + "".join(
        f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in lines
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
