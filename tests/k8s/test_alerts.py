"""Alerts are expressions that Prometheus reads, and ask for metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client import CollectorRegistry

from tests.k8s.rendering import of_kind, render
from tests.support.kafka.server import ROOT
from triggerstream.engine.health.liveness import PublishedHealth
from triggerstream.web.metrics import bridge_registry, worker_registry

_ROW = re.compile(r"^\| `(Triggerstream\w+)` \| (\w+) \| (.*?)(?<!\\) \| ", re.MULTILINE)
"""A row of the table of alerts: name, severity, condition."""
_OTHERS = {
    "kube_pod_container_status_restarts_total",
    "kubelet_volume_stats_used_bytes",
    "kubelet_volume_stats_capacity_bytes",
}
"""Metrics of the cluster itself."""


def _rules() -> list[dict[str, Any]]:
    (found,) = of_kind(render("prod"), "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def _names(registry: CollectorRegistry) -> set[str]:
    """Names in queries: those of counters end in ``_total``, those of histograms in ``_bucket`` etc."""
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {f"{family.name}{end}" for family in registry.collect() for end in ends.get(family.type, ("",))}


def _asked(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    found = set()

    def visit(part: promql_parser.Expr) -> bool:
        if isinstance(part, promql_parser.VectorSelector):
            assert part.name is not None
            found.add(part.name)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def test_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    there = (
        _names(worker_registry(PublishedHealth(), store=tmp_path))
        | _names(bridge_registry(PublishedHealth()))
        | _OTHERS
    )
    asked = {rule["alert"]: _asked(rule["expr"]) for rule in _rules()}
    assert all(asked.values())
    assert {alert: names - there for alert, names in asked.items()} == {alert: set() for alert in asked}


def _documented() -> dict[str, tuple[str, str]]:
    """Severity and condition of each alert in docs/operations.md."""
    rows = _ROW.findall((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
    return {alert: (severity, condition.replace("\\|", "|")) for alert, severity, condition in rows}


def _condition(rule: dict[str, Any]) -> str:
    return f"`{rule['expr']}`" + (f" for {rule['for']}" if "for" in rule else "")


def test_operations_page_lists_the_alerts_with_their_thresholds() -> None:
    alerts = {rule["alert"]: (rule["labels"]["severity"], _condition(rule)) for rule in _rules()}
    assert _documented() == alerts


def test_an_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in _rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["alert"].startswith("Triggerstream")


def test_an_expression_that_is_none_is_found() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("increase(triggerstream_events_total[15m] > 0")


def test_a_metric_that_is_none_is_found(tmp_path: Path) -> None:
    asked = _asked('sum by (namespace, topic) (triggerstream_lags{phase="x"}) > 3')
    assert asked == {"triggerstream_lags"}
    assert not asked <= _names(worker_registry(PublishedHealth(), store=tmp_path))
