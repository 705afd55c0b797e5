"""Processor time of tests, file by file: ``make test PYTEST_ARGS=--cpu``.

Counted is the processor time, user and system, of the test process and of all processes below it, those that
still run included; a server that several files share counts for each of them with what it used meanwhile.
Imports and collection before the first test are a line of their own.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
_SHOWN = 60
"""Files in the table; the others are one line together."""
_FIGURES = "cpu by file"
"""Names a report's property that holds the figures of a test."""
_COLLECTION = "(imports and collection)"


@dataclass(slots=True)
class Figures:
    """Processor time and processes of a test, or of all tests of a file."""

    own_s: float = 0.0
    """Processor time of the test process."""
    below_s: float = 0.0
    """Processor time of the processes below it."""
    started: int = 0
    """Processes that the test process started."""
    servers: int = 0
    """Those of them that are JVMs."""

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.own_s + other.own_s,
            self.below_s + other.below_s,
            self.started + other.started,
            self.servers + other.servers,
        )

    @property
    def all_s(self) -> float:
        """Processor time of all processes together."""
        return self.own_s + self.below_s


def running_below(process: int, *, proc: Path = Path("/proc")) -> float:
    """Seconds of processor time of running processes below ``process``, and of those that they waited for."""
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for name in _numbers(proc):
        try:
            # The name of the program is in brackets and may hold any character.
            fields = (proc / name / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(name)] = int(fields[1])
        used_s[int(name)] = sum(map(int, fields[11:15])) * _TICKS_S
    return sum(used for number, used in used_s.items() if _is_below(number, process, parents))


def _numbers(proc: Path) -> Iterator[str]:
    return (found.name for found in proc.glob("[0-9]*"))


def _is_below(number: int, process: int, parents: dict[int, int]) -> bool:
    above = parents.get(number)
    while above is not None and above != process:
        above = parents.get(above)
    return above is not None


def table(files: dict[str, Figures]) -> Iterator[str]:
    """Lines: a row for each of the files that used most, and one for all."""
    yield f"{'all s':>8}{'own s':>8}{'below s':>8}{'started':>8}{'JVMs':>5}  file"
    ordered = sorted(files.items(), key=lambda row: -row[1].all_s)
    rest = sum((found for _, found in ordered[_SHOWN:]), Figures())
    rows = [*ordered[:_SHOWN], *([("(the others)", rest)] if ordered[_SHOWN:] else [])]
    for name, row in [*rows, ("(all)", sum(files.values(), Figures()))]:
        yield f"{row.all_s:>8.1f}{row.own_s:>8.1f}{row.below_s:>8.1f}{row.started:>8}{row.servers:>5}  {name}"


class CpuByFile:
    """Plugin: measures in each test process, and adds up where the results are gathered."""

    def __init__(self, config: pytest.Config) -> None:
        self._files: defaultdict[str, Figures] = defaultdict(Figures)
        self._started = self._servers = 0
        self._last = Figures()
        self._begun = False
        self._measures = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
        if self._measures:
            sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            self._started += 1
            self._servers += "java" in map(str, arguments[1])

    def _used(self) -> Figures:
        """Processor time and processes since the last call."""
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        below_s = ended.ru_utime + ended.ru_stime + running_below(os.getpid())
        now = Figures(own.ru_utime + own.ru_stime, below_s, self._started, self._servers)
        last, self._last = self._last, now
        return now + Figures(-last.own_s, -last.below_s, -last.started, -last.servers)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the figures of a test into the report of its end."""
        report = yield
        if call.when == "setup" and not self._begun:
            self._begun = True
            self._put(report, _COLLECTION)  # with the setup of the first test
        elif call.when == "teardown":
            self._put(report, item.nodeid.partition("::")[0])
        return report

    def _put(self, report: pytest.TestReport, name: str) -> None:
        used = self._used()
        report.user_properties.append(
            (_FIGURES, [name, used.own_s, used.below_s, used.started, used.servers])
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the figures of a report to those of its file."""
        for name, value in report.user_properties:
            if name == _FIGURES and isinstance(value, list):
                file, own_s, below_s, started, servers = value
                self._files[file] += Figures(own_s, below_s, started, servers)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section("processor time by file")
        for line in table(self._files):
            terminalreporter.line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--cpu``."""
    parser.addoption("--cpu", action="store_true", help="print the processor time of tests, file by file")


def pytest_configure(config: pytest.Config) -> None:
    """Measure if ``--cpu`` is given."""
    if config.getoption("--cpu"):
        config.pluginmanager.register(CpuByFile(config), "cpu-by-file")
