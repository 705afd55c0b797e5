"""The benchmarks on a real Kafka, with few events: every contender decides what is due, each once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks import kafka_latency, kafka_load, kafka_memory
from tests.benchmarks.kafka_cluster import new_app
from tests.benchmarks.kafka_recovery import failover, recovery
from tests.benchmarks.kafka_runs import run_once
from tests.benchmarks.loads import Bursts, Load, Returning, Scattered, in_bursts
from tests.benchmarks.peers.arguments import Arguments
from tests.benchmarks.peers.contenders import (
    COMMIT_MS,
    FAUST,
    PLAIN,
    WORKER,
    Contender,
    kafka_streams,
    quix,
)
from tests.benchmarks.peers.process import running
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

PARTITIONS = 2
MANY = 50
PEERS = (
    WORKER,
    PLAIN,
    FAUST,
    pytest.param(quix("lean"), marks=pytest.mark.faults),
    quix("same", COMMIT_MS),
    pytest.param(kafka_streams("lean"), marks=pytest.mark.faults),
    kafka_streams("same"),
)
"""Each program once; `make faults` has each of its contents."""
VOLATILE = {"id", "decided", "decidedAt"}


@pytest.fixture(autouse=True)
def _quick_jvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events do not repay the work of the JVM's second compiler."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


def needs(contender: Contender) -> Contender:
    """The contender; the test is skipped where its tools are missing."""
    if (lacking := contender.missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    return contender


def a_command(bootstrap: str, app: AppId) -> dict[str, Any]:
    """The first committed command."""
    settings = {"bootstrap.servers": bootstrap, "group.id": app, "isolation.level": "read_committed"}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(Topics.of(app).commands, 0, OFFSET_BEGINNING)])
    try:
        message = consumer.poll(120.0)
        assert message is not None
        found: dict[str, Any] = json.loads(message.value())
        return found
    finally:
        consumer.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("contender", PEERS, ids=lambda one: one.name)
def test_a_contender_decides_each_session_once(kafka: str, tmp_path: Path, contender: Contender) -> None:
    load = Bursts(sessions=MANY)
    run = run_once(needs(contender), load, bootstrap=kafka, folder=tmp_path, partitions=PARTITIONS)
    assert run.wrong == ""
    assert run.ready_s > 0
    assert run.wall_s > 0
    assert run.start_cpu_s > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("contender", "load"),
    [
        (WORKER, Scattered(sessions=MANY)),
        (WORKER, Returning(sessions=4 * MANY, stride=4, partitions=PARTITIONS)),
        (Contender(kind=WORKER.kind, processes=2, has_web=False), Bursts(sessions=MANY)),
        pytest.param(
            kafka_streams("same"),
            Returning(sessions=4 * MANY, stride=4, partitions=PARTITIONS),
            marks=pytest.mark.faults,
        ),
    ],
    ids=lambda one: one.name,
)
def test_other_loads_and_two_workers_too(
    kafka: str, tmp_path: Path, contender: Contender, load: Load
) -> None:
    run = run_once(needs(contender), load, bootstrap=kafka, folder=tmp_path, partitions=PARTITIONS)
    assert run.wrong == ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "contender", [quix("same", COMMIT_MS), kafka_streams("same")], ids=lambda one: one.name
)
def test_a_command_of_a_peer_with_the_same_content_is_that_of_the_worker(
    kafka: str, tmp_path: Path, contender: Contender
) -> None:
    made = []
    for one in (WORKER, needs(contender)):
        app = AppId(new_app())
        asyncio.run(kafka_load.prepare(kafka, app, partitions=1, configured=one is WORKER))
        asyncio.run(kafka_load.append(kafka, app, in_bursts(range(1)), partitions=1))
        told = Arguments(
            bootstrap=kafka, app=app, partitions=1, directory=tmp_path / app, commands_due=1, content="same"
        )
        (program,) = one.programs(told)
        with running(program):
            made.append(a_command(kafka, app))
    own, peers = made
    assert list(peers) == list(own)
    for command in made:
        for name in VOLATILE:
            del command[name]
        for cause in command["causes"]:
            del cause["offset"]  # the worker's log has the tasks file before the events
    assert peers == own


@pytest.mark.timeout(600)
def test_latencies_are_measured(kafka: str, tmp_path: Path) -> None:
    waits = kafka_latency.latencies(WORKER, kafka, tmp_path, seconds=1, warm_up_s=1)
    assert len(waits) == 99
    assert 0 < waits[49] <= waits[98]


@pytest.mark.timeout(600)
def test_recovery_and_failover_are_measured(kafka: str, tmp_path: Path) -> None:
    rows = recovery(kafka, tmp_path / "recovery", sessions=500)
    assert [row.ratio is not None for row in rows] == [True, True, False]
    rows = failover(kafka, tmp_path / "failover", sessions=500)
    assert rows[0].value > 0
    assert not [row.name for row in rows if "LOST" in row.name or "DOUBLED" in row.name]


@pytest.mark.timeout(600)
def test_memory_is_measured(kafka: str, tmp_path: Path) -> None:
    rows = kafka_memory.memory(kafka, tmp_path, minutes=0.02)
    assert all(row.value > 0 for row in rows[:4])
    assert not [row.name for row in rows if "LOST" in row.name]
