"""Kafka is not available for seconds or minutes, killed or frozen: no restart by hand, no loss."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from tests.adapters.kafka.bridges import RUN, BridgeProcess, append, command, counts
from tests.support.kafka.server import KafkaServer, missing
from tests.support.probes import Probes, answer
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually, until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PROBES = ("--probes-port", "0")
LOG_BYTES = 20_000
"""More than a worker writes, with its libraries, from the loss of Kafka until its supervisor waits."""
BACK_S = 10.0
"""Seconds within which events are folded again after Kafka is back."""
PATIENCE = 3.0
"""The factor by which a test waits longer: its machine has other work."""
Bridges = Callable[..., BridgeProcess]
HOW = ["killed", pytest.param("frozen", marks=pytest.mark.faults)]
OUTAGE_S = 150.0
"""Longer than any limit on the way: 10 s for a checkpoint, 60 s without an answer, 90 s for a request."""


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A Kafka that these tests may kill and freeze."""
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    made = KafkaServer(tmp_path_factory.mktemp("away"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(own_server: KafkaServer) -> KafkaServer:
    """It is there when a test begins, whatever the one before has done to it."""
    own_server.resume()
    if not own_server.running():
        own_server.start()
    return own_server


@pytest.fixture
async def app(server: KafkaServer, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    connection = Connection(bootstrap=server.bootstrap)

    async def has_brokers() -> bool:
        async with connection.client() as client:
            return bool(client.cluster.brokers())

    # After it was frozen, its controller takes a moment to count it among the brokers again.
    await until(has_brokers, what="no broker is in the metadata")
    with stage(connection, kafka_app, tmp_path / "workers") as made:
        await made.prepare()
        yield made
        server.resume()  # else what is closed here waits for it


@pytest.fixture
def broker() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture
def bridges(app: Stage, broker: str, tmp_path: Path) -> Iterator[Bridges]:
    started: list[BridgeProcess] = []

    def start(*arguments: str) -> BridgeProcess:
        output = tmp_path / f"bridge-{len(started)}.log"
        made = BridgeProcess(app.connection, app.app, broker, output, "--allow", RUN, *PROBES, *arguments)
        started.append(made)
        return made

    yield start
    for bridge in started:
        bridge.kill()


def lose(server: KafkaServer, how: str) -> None:
    """Have nobody answer at the broker's address: it is dead, or it accepts connections and says nothing."""
    if how == "killed":
        server.kill()
    else:
        server.pause()


async def find(server: KafkaServer, how: str) -> float:
    """Have it back; when that was."""
    if how == "killed":
        server.launch()  # the kernel ends it with the thread that starts it
        await asyncio.to_thread(server.await_answer)
    else:
        server.resume()
    return time.monotonic()


async def waits(process: WorkerProcess | BridgeProcess, url: str) -> None:
    """Wait until the supervisor alone answers, and see what it says."""

    def alone() -> bool:
        try:
            return "no broker accepts a connection" in answer(f"{url}/readyz")[1]
        except ConnectionError:
            return False  # the child that had accepted the request ended

    await eventually(alone, within_s=150, what=process.text)
    assert answer(f"{url}/livez") == (200, "ok\n")
    assert answer(f"{url}/startedz") == (200, "ok\n")
    assert answer(f"{url}/readyz")[0] == 503


def report(what: str, since: float) -> None:
    took_s = time.monotonic() - since
    print(f"{what}: {took_s:.1f} s after Kafka was back")  # noqa: T201 - for `pytest -s`
    assert took_s < BACK_S * PATIENCE


@pytest.mark.parametrize("how", HOW)
async def test_a_worker_under_load_folds_again_soon_after_kafka_is_back(
    app: Stage, server: KafkaServer, how: str
) -> None:
    worker = app.start(arguments=PROBES)
    await worker.ready()
    url = (await Probes.of(worker.text)).url
    await app.fire(range(3_000))
    lose(server, how)
    before = len(worker.text())
    if how == "killed":
        await waits(worker, url)
        # aiokafka and Faust try again many times a second, and say so each time.
        assert len(worker.text()) - before < LOG_BYTES, worker.text()
    else:
        await eventually(lambda: "ended with status 70" in worker.text(), within_s=150, what=worker.text)
    since = await find(server, how)
    await app.fire(range(3_000, 3_100))
    await app.settled()
    report(f"worker under load, {how}", since)
    await eventually(lambda: answer(f"{url}/readyz")[0] == 200, what=worker.text)
    await worker.drained()
    assert (await app.exact()).command_count() == 3_100


@pytest.mark.faults
async def test_an_idle_worker_outlives_a_short_outage(app: Stage, server: KafkaServer) -> None:
    worker = app.start(arguments=PROBES)
    await worker.ready()
    await app.fire(range(10))
    await app.settled()
    lose(server, "killed")
    since = await find(server, "killed")
    await app.fire(range(10, 20))
    await app.settled()
    report("idle worker", since)
    assert worker.text().count("ended with status") == 0
    await worker.drained()
    assert (await app.exact()).command_count() == 20


async def test_a_worker_that_starts_while_kafka_is_away_waits_for_it(app: Stage, server: KafkaServer) -> None:
    await app.fire(range(100))
    lose(server, "killed")
    worker = app.start(arguments=PROBES)
    url = (await Probes.of(worker.text)).url
    await waits(worker, url)
    since = await find(server, "killed")
    await app.settled()
    report("worker that was started without Kafka", since)
    await worker.drained()
    assert (await app.exact()).command_count() == 100


@pytest.mark.parametrize("how", HOW)
async def test_a_bridge_hands_over_again_soon_after_kafka_is_back(
    app: Stage, server: KafkaServer, bridges: Bridges, broker: str, how: str
) -> None:
    bridge = bridges("--from", "earliest")
    await bridge.wait_for_output(" ready: partitions ")
    sent = [command(app.app, number) for number in range(200)]
    await append(app.connection, app.app, sent[:100], partitions=app.partitions)
    await eventually(lambda: len(counts(broker)) >= 50, what=bridge.text)
    lose(server, how)
    since = await find(server, how)
    await append(app.connection, app.app, sent[100:], partitions=app.partitions)
    await eventually(lambda: len(counts(broker)) >= 200, within_s=120, what=bridge.text)
    report(f"bridge, {how}", since)
    assert set(counts(broker)) == {one.id for one in sent}
    bridge.terminate()
    assert await bridge.ended() == 0, bridge.text()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("load", [pytest.param(0, marks=pytest.mark.faults), 5_000], ids=["idle", "loaded"])
async def test_sigterm_ends_a_worker_in_time_without_kafka(
    app: Stage, server: KafkaServer, how: str, load: int
) -> None:
    worker = app.start()
    await worker.ready()
    if load:
        await app.fire(range(load))
    lose(server, how)
    worker.signal(signal.SIGTERM)
    assert await worker.ended(within_s=45 * PATIENCE) in {0, 70}, worker.text()


@pytest.mark.parametrize("how", HOW)
async def test_sigterm_ends_a_worker_in_time_that_looks_for_kafka(
    app: Stage, server: KafkaServer, how: str
) -> None:
    lose(server, how)
    worker = app.start(arguments=PROBES)
    await Probes.of(worker.text)
    worker.signal(signal.SIGTERM)
    assert await worker.ended(within_s=10 * PATIENCE) in {0, 70, -signal.SIGTERM}, worker.text()


@pytest.mark.parametrize("how", HOW)
async def test_sigterm_ends_a_bridge_in_time_without_kafka(
    app: Stage, server: KafkaServer, bridges: Bridges, broker: str, how: str
) -> None:
    bridge = bridges("--from", "earliest")
    await bridge.wait_for_output(" ready: partitions ")
    await append(app.connection, app.app, [command(app.app, 1)], partitions=app.partitions)
    await eventually(lambda: len(counts(broker)) == 1, what=bridge.text)
    lose(server, how)
    bridge.terminate()
    assert await bridge.ended(within_s=45 * PATIENCE) in {0, 70}, bridge.text()


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_long_outage_needs_nobody(
    app: Stage, server: KafkaServer, bridges: Bridges, broker: str, how: str
) -> None:
    workers = [app.start(name, arguments=PROBES) for name in ("w1", "w2")]
    bridge = bridges("--from", "earliest")
    processes: list[WorkerProcess | BridgeProcess] = [*workers, bridge]
    await asyncio.gather(
        *(worker.ready() for worker in workers), bridge.wait_for_output(" ready: partitions ")
    )
    await app.fire(range(2_000))
    lose(server, how)
    ends = time.monotonic() + OUTAGE_S
    urls = [(await Probes.of(process.text)).url for process in processes]

    def over() -> bool:
        for url in urls:
            # Every probe is answered, and none asks for a restart.
            assert answer(f"{url}/livez")[0] == 200
        return time.monotonic() > ends

    await eventually(over, within_s=OUTAGE_S * PATIENCE, what="the outage does not end")
    since = await find(server, how)
    await app.fire(range(2_000, 2_100))
    await app.settled()
    report(f"two workers, {how} for {OUTAGE_S:g} s", since)
    await eventually(lambda: len(counts(broker)) == 2_100, within_s=120, what=bridge.text)
    report(f"bridge, {how} for {OUTAGE_S:g} s", since)
    # No broker had answered for 60 s: so long lives what has read certificates before.
    assert "(supervisor): the bridge ended with status 70" in bridge.text()
    for worker in workers:
        await worker.drained()
    bridge.terminate()
    assert await bridge.ended() == 0, bridge.text()
    assert (await app.exact()).command_count() == 2_100
