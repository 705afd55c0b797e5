"""The order in which files of tests go to the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

_WAITING = ("slow", "kafka", "celery")
"""Marks of tests that wait for servers most of their time."""
_LONG = (
    "acceptance/test_slow_brokers.py",
    "acceptance/test_worker_crashes.py",
    "acceptance/test_kafka_away.py",
    "acceptance/test_kafka_faults.py",
    "acceptance/test_replay.py",
    "k8s/test_image.py",
    "adapters/kafka/test_secure_kafka.py",
    "adapters/faust/test_days_later.py",
    "examples/test_timed_projects.py",
    "acceptance/test_web_chromium.py",
    "core/test_laws_of_time.py",
    "core/test_laws_of_conditions.py",
    "core/test_explain.py",
    "core/test_changes.py",
    "core/test_laws_of_within.py",
    "engine/test_bounds_in_any_batches.py",
    "engine/replay/test_backtest.py",
    "equivalence/test_simulate.py",
    "equivalence/test_export.py",
    "core/test_laws_of_folding.py",
    "fuzz/test_command_lines.py",
    "fuzz/test_http.py",
)
"""Files that wait or calculate for long. They begin first: at the end, they would run alone."""


class _Test(Protocol):
    """A test as pytest collects it."""

    @property
    def nodeid(self) -> str:
        """Its file, and what is in it."""

    def get_closest_marker(self, name: str, /) -> Any:  # noqa: ANN401 - pytest's
        """Its mark of this name; None if it has none."""


_T = TypeVar("_T", bound=_Test)


def mixed(tests: Sequence[_T]) -> list[_T]:
    """``tests`` by file, in an order that keeps the processors busy from the first test to the last.

    Files that wait and files that calculate take turns, and short files come last.
    """
    files: dict[str, list[_T]] = {}
    for test in tests:
        files.setdefault(test.nodeid.partition("::")[0], []).append(test)
    waits = {name: sum(map(_waits, found)) for name, found in files.items()}
    waiting = sorted((name for name in files if waits[name]), key=lambda name: (_rank(name), -waits[name]))
    calculating = sorted(
        (name for name in files if not waits[name]), key=lambda name: (_rank(name), -len(files[name]))
    )
    places = {name: at / len(names) for names in (waiting, calculating) for at, name in enumerate(names)}
    return [test for name in sorted(places, key=places.__getitem__) for test in files[name]]


def _waits(test: _Test) -> bool:
    return any(test.get_closest_marker(mark) for mark in _WAITING)


def _rank(name: str) -> int:
    return next((number for number, long in enumerate(_LONG) if name.endswith(long)), len(_LONG))
