"""Reports of an executor's workers about themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardWorker:
    """A worker that answers: its tasks, and those of them whose outcomes it reports."""

    name: str
    tasks: frozenset[str]
    reporting: frozenset[str]

    def silent(self, runs: Collection[str]) -> Sequence[str]:
        """Names among ``runs`` that it would run without reporting the outcome."""
        return sorted((self.tasks - self.reporting).intersection(runs))


def tasks_without_worker(heard: Collection[HeardWorker], runs: Collection[str]) -> Sequence[str]:
    """Names among ``runs`` that no worker which answers has."""
    return sorted(set(runs).difference(*(worker.tasks for worker in heard)))
