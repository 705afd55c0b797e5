"""Runs the mutants of one module: ``python -m tests.mutants.session core/orders.py _skip tests/core``.

mutmut makes the mutants: a copy of the module with all of them, of which a variable of the environment picks
one. They run in forks of one pytest session that has collected the tests once, because a pytest for each
would take over a second: the 1,500 of ``core/fold.py`` need minutes this way, not an hour.
"""

from __future__ import annotations

import difflib
import faulthandler
import gc
import importlib
import os
import re
import resource
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

import libcst as cst
import msgspec
import mutmut
import pytest
from libcst import matchers
from mutmut.mutation import file_mutation
from mutmut.mutation.file_mutation import MutatedFile, MutationVisitor, mutate_file_contents

ROOT = Path(__file__).parents[2]
WORKSPACES = ROOT / ".mutants"
PROCESSES = 2
ACTIVE = "MUTANT_UNDER_TEST"
"""The variable that picks a mutant, by its name; ``stats`` has mutmut note which functions a test reaches."""
QUICK = "not slow and not kafka and not celery and not faults"
MOST_BYTES = 4 * 1024**3
"""Address space of a mutant: one that grows for ever must not take the machine with it."""
SAVED_EVERY = 20


class Mutant(msgspec.Struct, frozen=True, order=True):
    """One change: the function, without its module, and the changed lines before and after."""

    function: str
    before: str
    after: str


class Results(msgspec.Struct):
    """What is known of a module's mutants. ``killed``: names, each with the hash of the function changed."""

    count: dict[str, int] = {}
    """How many mutants there are, by function."""
    killed: dict[str, str] = {}
    survivors: list[Mutant] = []
    unknown: int = 0
    """How many were not run yet."""


class DecidingCode(MutationVisitor):
    """mutmut's visitor, but it also visits dataclasses, and leaves log lines and names of failpoints alone.

    mutmut skips all decorated classes.
    """

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef) and all(map(_is_dataclass, node.decorators)):
            return False
        return _is_for_people(node) or super()._skip_node_and_children(node)


def _is_dataclass(decorator: cst.Decorator) -> bool:
    called = decorator.decorator
    named = called.func if isinstance(called, cst.Call) else called
    return matchers.matches(named, matchers.Name("dataclass"))


def _is_for_people(node: cst.CSTNode) -> bool:
    logs = matchers.Attribute(value=matchers.Name("logger"))
    return matchers.matches(node, matchers.Call(func=logs | matchers.Name("failpoint")))


file_mutation.MutationVisitor = DecidingCode  # type: ignore[misc]  # it has no other door


def results_of(module: str) -> Path:
    """The file with a module's results."""
    return WORKSPACES / f"{module.removesuffix('.py').replace('/', '.')}.json"


class Mutants:
    """The mutants of one module, in a copy of the package that is imported in place of the original."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.dotted = "triggerstream." + module.removesuffix(".py").replace("/", ".")
        path = ROOT / "triggerstream" / module
        self.made: MutatedFile = mutate_file_contents(str(path), path.read_text())
        self.workspace = WORKSPACES / self.dotted
        shutil.rmtree(self.workspace, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "triggerstream", self.workspace / "triggerstream", ignore=ignored)
        (self.workspace / "triggerstream" / module).write_text(self.made.code)
        self._lines = self.made.code.splitlines()

    def hash_of(self, name: str) -> str:
        """The hash of the changed function."""
        return sha256("\n".join(self._text(name)).encode()).hexdigest()[:12]

    def function_of(self, name: str) -> str:
        """``_Draft._skip``, of mutmut's name ``xǁ_Draftǁ_skip__mutmut_3``."""
        found = re.fullmatch(r"x(?:ǁ(\w+)ǁ|_)(\w+)__mutmut_\d+", name)
        if found is None:
            raise ValueError(f"mutmut has named a mutant {name}")
        return ".".join(filter(None, found.groups()))

    def mutant(self, name: str) -> Mutant:
        """What a mutant changes."""
        before, after = map(self._text, (f"{_function(name)}__mutmut_orig", name))
        changed = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
        return Mutant(
            self.function_of(name),
            *(" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+"),
        )

    def _text(self, generated: str) -> list[str]:
        span = self.made.line_span_by_function_name[generated]
        # Each copy has a name of its own.
        return [line.replace(generated, "") for line in self._lines[span.start - 1 : span.end]]


class ForkedRuns:
    """A pytest plugin that runs the tests once as they are, then for each mutant in a fork."""

    def __init__(self, mutants: Mutants, functions: Collection[str]) -> None:
        self._mutants = mutants
        self._functions = functions
        self._failed = False
        self._killed = -1
        """In a fork: the pipe for the number of the test that fails."""
        self._items: list[pytest.Item] = []
        self._reached: dict[str, list[tuple[float, int]]] = defaultdict(list)
        """By function: the tests that reach it, each with its duration."""
        self._limits_s: list[float] = []
        """By number: how long a test may take."""
        self._running: dict[int, tuple[str, int]] = {}
        """By process: the mutant's name, and the pipe with the number of the test that fails."""
        self._kills: Counter[tuple[str, int]] = Counter()
        """How often each test has killed a mutant, of one function and (``""``) of any."""
        self.survivors: list[str] = []
        self.killed: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        # A report would show the source, and parse a module with a thousand copies of its functions for it.
        if self._killed < 0 or call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
            return
        os.write(self._killed, str(self._items.index(item)).encode())
        os._exit(1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = session.items
        self._run_without_mutants()
        gc.freeze()  # or the first collection in a fork would copy all memory
        known = read_results(self._mutants.module).killed
        names = list(self._mutants.made.mutant_names)
        self.killed = {name: known[name] for name in names if known.get(name) == self._mutants.hash_of(name)}
        try:
            for count, name in enumerate(filter(self._is_to_run, names), 1):
                if not self._reached[_function(name)]:
                    self.survivors.append(name)
                    continue
                if len(self._running) == PROCESSES:
                    self._wait()
                self._fork(name)
                if count % SAVED_EVERY == 0:
                    self.save()
            while self._running:
                self._wait()
        finally:
            self.save()
        return True

    def _is_to_run(self, name: str) -> bool:
        if name in self.killed:
            return False
        return not self._functions or self._mutants.function_of(name).rpartition(".")[2] in self._functions

    def _run_without_mutants(self) -> None:
        os.environ[ACTIVE] = "stats"
        for number, item in enumerate(self._items):
            mutmut._stats.clear()  # noqa: SLF001 - it has no other door
            begun = time.monotonic()
            if not self._passes(item):
                pytest.exit(f"{item.nodeid} fails without a mutant", returncode=1)
            took = time.monotonic() - begun
            self._limits_s.append(10 + 10 * took)
            item.add_marker(pytest.mark.timeout(self._limits_s[-1]))
            for function in mutmut._stats:  # noqa: SLF001
                self._reached[function.rpartition(".")[2]].append((took, number))

    def _passes(self, item: pytest.Item) -> bool:
        self._failed = False
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self._failed

    def _passes_in_time(self, number: int) -> bool:
        # A test that is over its limit may hang in the end of its event loop, too: then end the process.
        faulthandler.dump_traceback_later(2 * self._limits_s[number], exit=True)
        return self._passes(self._items[number])

    def _tests(self, name: str) -> list[int]:
        """The tests for a mutant: those first that have killed many, then the short ones."""
        function = _function(name)
        kills = self._kills
        ranked = [
            (-kills[function, number], -kills["", number], took, number)
            for took, number in self._reached[function]
        ]
        return [number for *_, number in sorted(ranked)]

    def _fork(self, name: str) -> None:
        tests = self._tests(name)
        read, write = os.pipe()
        process = os.fork()
        if process:
            os.close(write)
            self._running[process] = name, read
            return
        survived = False
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            os.environ[ACTIVE] = f"{self._mutants.dotted}.{name}"
            self._killed = write
            survived = all(map(self._passes_in_time, tests))
        finally:
            os._exit(0 if survived else 1)

    def _wait(self) -> None:
        process, status = os.wait()
        name, read = self._running.pop(process)
        with os.fdopen(read) as pipe:
            killer = pipe.read()
        if not status:
            self.survivors.append(name)
            return
        self.killed[name] = self._mutants.hash_of(name)
        if killer:
            self._kills[_function(name), int(killer)] += 1
            self._kills["", int(killer)] += 1

    def save(self) -> None:
        """Write down what is known so far."""
        names = self._mutants.made.mutant_names
        count: dict[str, int] = defaultdict(int)
        for name in names:
            count[self._mutants.function_of(name)] += 1
        results = Results(
            count=count,
            killed=self.killed,
            survivors=sorted(map(self._mutants.mutant, self.survivors)),
            unknown=len(names) - len(self.killed) - len(self.survivors),
        )
        results_of(self._mutants.module).write_bytes(msgspec.json.encode(results))


def read_results(module: str) -> Results:
    """What is known of a module's mutants; nothing where it was never run."""
    path = results_of(module)
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def _function(name: str) -> str:
    """The function that a mutant changes, by mutmut's name for it."""
    return name.partition("__mutmut_")[0]


def main(module: str, functions: Collection[str], tests: Sequence[str]) -> int:
    """Run the mutants of ``module``, or of some functions of it; return pytest's exit status."""
    WORKSPACES.mkdir(exist_ok=True)
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    mutants = Mutants(module)
    # Before pytest puts the repository in front: modules of a package are looked for where it was found.
    sys.path.insert(0, str(mutants.workspace))
    importlib.import_module(mutants.dotted)
    arguments = [
        "-q",
        "-s",
        "-m",
        QUICK,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--assert=plain",
        *tests,
    ]
    try:
        return int(pytest.main(arguments, plugins=[ForkedRuns(mutants, functions)]))
    finally:
        shutil.rmtree(mutants.workspace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], list(filter(None, sys.argv[2].split(","))), sys.argv[3:]))
