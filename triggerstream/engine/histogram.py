"""A histogram of durations, precise enough for percentiles."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets from the commit time of a local broker to the time after which brokers abort a transaction."""


@dataclass(slots=True)
class Durations:
    """Histogram. ``counts``: the number of durations up to each bound; the last one is beyond all bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def note(self, took_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_S, took_s)] += 1
        self.sum_s += took_s

    def __add__(self, other: Durations) -> Durations:
        counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        return Durations(counts, self.sum_s + other.sum_s)
