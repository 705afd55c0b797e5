"""The kinds of metrics: each has a name, a help text, and a function that reads it from the health."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from triggerstream.engine.health.liveness import PublishedHealth
from triggerstream.engine.histogram import BOUNDS_S, Durations

PREFIX = "triggerstream_"

Rows: TypeAlias = "list[tuple[tuple[str, ...], float]]"
"""Values by the labels' values."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A counter, whose name ends in ``_total``, or a gauge."""

    name: str
    text: str
    rows: Callable[[PublishedHealth], Rows]
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The type of the metric in Prometheus."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def family(self, health: PublishedHealth | None) -> Metric:
        """The metric as things are now; for None without values."""
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(PREFIX + self.name, self.text, labels=self.labels)
        for labels, value in [] if health is None else self.rows(health):
            family.add_metric(labels, value)
        return family


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of how long something took, each time."""

    name: str
    text: str
    durations: Callable[[PublishedHealth], Durations | None]
    kind: str = "histogram"

    def family(self, health: PublishedHealth | None) -> Metric:
        """The metric as things are now; for None without values."""
        family = HistogramMetricFamily(PREFIX + self.name, self.text)
        durations = None if health is None else self.durations(health)
        if durations is not None:
            # Prometheus counts in each bucket those of the ones before, too.
            counts = list(accumulate(durations.counts))
            bounds = (*map(str, BOUNDS_S), "+Inf")
            family.add_metric((), list(zip(bounds, counts, strict=True)), durations.sum_s)
        return family


Described: TypeAlias = Figure | Distribution


class Metrics(Collector):
    """The metrics ``described``, with values from ``health``."""

    def __init__(self, health: PublishedHealth, described: tuple[Described, ...]) -> None:
        self._health = health
        self._described = described

    def describe(self) -> Iterator[Metric]:
        """The metrics, without values."""
        return (one.family(None) for one in self._described)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as things are now."""
        return (one.family(self._health) for one in self._described)
