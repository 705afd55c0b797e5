"""Probes answer from a thread of their own, and metrics are those of the table in the docs."""

from __future__ import annotations

import http.client
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.probes import answer, samples
from tests.support.waiting import wait_until
from triggerstream.core.errors import UsageError
from triggerstream.engine.counters import Counters
from triggerstream.engine.health.liveness import (
    BridgeFigures,
    HealthSnapshot,
    PartitionHealth,
    Phase,
    PublishedHealth,
    WorkerFigures,
)
from triggerstream.engine.histogram import Durations
from triggerstream.web import serving
from triggerstream.web.metrics import BRIDGE, COMMON, WORKER, bridge_registry, worker_registry
from triggerstream.web.probes import probes, served

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"

WORKS = HealthSnapshot(
    phase=Phase.READY,
    joined=True,
    silent_s=0.5,
    topic="app.events",
    partitions=(
        PartitionHealth(partition=0, ready=True, reached=12, lag=3),
        PartitionHealth(partition=7, ready=True, reached=4, lag=None),
    ),
    figures=WorkerFigures(
        done=Counters(events=10, decided=2, dead_letters=1),
        rebalances=1,
        recovery_s=0.25,
        timers=4,
        configurations={"c0ffee": 2},
    ),
)


def test_each_probe_answers_for_itself_while_the_main_thread_is_busy(tmp_path: Path) -> None:
    health = PublishedHealth()
    with served(probes(health, worker_registry(health, store=tmp_path)), host="127.0.0.1", port=0) as url:
        starting = "starting: not in its consumer group yet\n"
        assert answer(f"{url}/livez") == (200, "ok\n")
        assert answer(f"{url}/startedz") == answer(f"{url}/readyz") == (503, starting)
        health.publish(WORKS)
        for path in ("livez", "startedz", "readyz"):
            assert answer(f"{url}/{path}") == (200, "ok\n")
        health.stop()
        assert answer(f"{url}/readyz") == (503, "stopping: finishing what is in flight\n")
        assert answer(f"{url}/livez") == (200, "ok\n")
        assert answer(f"{url}/v1/sessions")[0] == 404


def test_a_port_that_is_taken_is_refused_in_a_line() -> None:
    health = PublishedHealth()
    app = probes(health, bridge_registry(health))
    with served(app, host="127.0.0.1", port=0) as url:
        port = int(url.rpartition(":")[2])
        second = served(probes(health, bridge_registry(health)), host="127.0.0.1", port=port)
        with pytest.raises(UsageError, match=rf"^--probes-port {port}: .*: choose another one"), second:
            pass


def test_what_was_served_is_gone_at_the_end() -> None:
    health = PublishedHealth()
    with served(probes(health, bridge_registry(health)), host="127.0.0.1", port=0) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        kept = http.client.HTTPConnection(host, int(port), timeout=30)
        kept.request("GET", "/livez")
        assert kept.getresponse().read() == b"ok\n"
        begun = time.monotonic()
    # A connection that is kept open does not hold the process up.
    assert time.monotonic() - begun < 30
    kept.close()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{url}/livez", timeout=30)  # noqa: S310 - as above


def test_a_worker_s_metrics_are_what_it_told(tmp_path: Path) -> None:
    health = PublishedHealth()
    (tmp_path / "app-sessions" / "0").mkdir(parents=True)
    (tmp_path / "app-sessions" / "0" / "1.sst").write_bytes(b"x" * 1_000)
    with served(probes(health, worker_registry(health, store=tmp_path)), host="127.0.0.1", port=0) as url:
        assert samples(url)["phase", ("starting",)] == 1
        health.publish(WORKS)
        found = samples(url)
        text = answer(f"{url}/metrics")[1]
    assert found["events_total", ()] == 10
    assert found["decisions_total", ()] == 2
    assert found["dead_letters_total", ()] == 1
    assert found["lag_records", ("0", "app.events")] == 3
    assert ("lag_records", ("7", "app.events")) not in found
    assert found["done_offset", ("7", "app.events")] == 4
    assert found["config_info", ("c0ffee",)] == 2
    assert found["phase", ("ready",)] == found["ready", ()] == 1
    assert found["phase", ("starting",)] == found["watchdog_trips_total", ()] == 0
    assert found["store_bytes", ()] >= 1_000
    assert "process_resident_memory_bytes" in text


def test_a_bridge_s_metrics_are_what_it_told() -> None:
    health = PublishedHealth()
    took = Durations()
    for seconds in (0.0004, 0.02, 0.025, 0.3, 60.0):
        took.note(seconds)
    figures = BridgeFigures(handed_over=5, refused=1, unconfirmed=2, away=True, took=took)
    one = PartitionHealth(partition=1, ready=True, reached=9, lag=2)
    health.publish(
        HealthSnapshot(
            phase=Phase.READY,
            joined=True,
            silent_s=0,
            topic="app.commands",
            partitions=(one,),
            figures=figures,
        )
    )
    with served(probes(health, bridge_registry(health)), host="127.0.0.1", port=0) as url:
        found = samples(url)
    assert found["commands_handed_over_total", ()] == 5
    buckets = {
        labels[0]: count for (name, labels), count in found.items() if name == "hand_over_seconds_bucket"
    }
    assert (buckets["0.001"], buckets["0.01"], buckets["0.025"]) == (1, 1, 3)
    assert (buckets["0.25"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (3, 4, 4, 5)
    assert found["hand_over_seconds_count", ()] == 5
    assert found["hand_over_seconds_sum", ()] == pytest.approx(60.3454)
    assert found["commands_refused_total", ()] == 1
    assert found["commands_unconfirmed", ()] == 2
    assert found["executor_away", ()] == 1
    assert found["lag_records", ("1", "app.commands")] == 2


def test_the_docs_have_each_metric_with_its_kind_and_meaning(tmp_path: Path) -> None:
    documented = {
        (name, kind): text
        for name, kind, text in re.findall(
            r"^\| `triggerstream_(\w+)(?:\{[\w, ]+\})?` \| (\w+) \| (?:\w+) \| (.+) \|$",
            DOCS.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    size = [
        family
        for family in worker_registry(PublishedHealth(), store=tmp_path).collect()
        if "store" in family.name
    ]
    there = {(one.name, one.kind): one.text for one in (*COMMON, *WORKER, *BRIDGE)}
    there["store_bytes", "gauge"] = size[0].documentation
    assert documented == there


def test_a_server_of_probes_that_ends_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(serving, "_accept_for_ever", ends)
    health = PublishedHealth()
    app = probes(health, bridge_registry(health))
    with served(app, host="127.0.0.1", port=0, on_end=health.fail):
        wait_until(lambda: health.failed)
    assert health.failed is not None
    assert health.failed.startswith("the background task `probes` has ended: the background task `")
    assert health.failed.endswith(" has ended: ValueError: odd")
