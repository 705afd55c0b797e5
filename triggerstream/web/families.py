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

from triggerstream.engine.health.liveness import Pulse
from triggerstream.engine.histogram import BOUNDS_S, Durations

PREFIX = "triggerstream_"

Rows: TypeAlias = "list[tuple[tuple[str, ...], float]]"
"""Values by the labels' values."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A counter, whose name ends in ``_total``, or a gauge."""

    name: str
    text: str
    rows: Callable[[Pulse], Rows]
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The type of the metric in Prometheus."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def family(self, pulse: Pulse | None) -> Metric:
        """The metric as things are now; for None without values."""
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(PREFIX + self.name, self.text, labels=self.labels)
        for labels, value in [] if pulse is None else self.rows(pulse):
            family.add_metric(labels, value)
        return family


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of how long something took, each time."""

    name: str
    text: str
    durations: Callable[[Pulse], Durations | None]
    kind: str = "histogram"

    def family(self, pulse: Pulse | None) -> Metric:
        """The metric as things are now; for None without values."""
        family = HistogramMetricFamily(PREFIX + self.name, self.text)
        durations = None if pulse is None else self.durations(pulse)
        if durations is not None:
            # Prometheus counts in each bucket those of the ones before, too.
            counts = list(accumulate(durations.counts))
            bounds = (*map(str, BOUNDS_S), "+Inf")
            family.add_metric((), list(zip(bounds, counts, strict=True)), durations.sum_s)
        return family


Described: TypeAlias = Figure | Distribution


class Metrics(Collector):
    """The metrics ``described``, with values from ``pulse``."""

    def __init__(self, pulse: Pulse, described: tuple[Described, ...]) -> None:
        self._pulse = pulse
        self._described = described

    def describe(self) -> Iterator[Metric]:
        """The metrics, without values."""
        return (one.family(None) for one in self._described)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as things are now."""
        return (one.family(self._pulse) for one in self._described)
