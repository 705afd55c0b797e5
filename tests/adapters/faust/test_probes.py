"""What a real worker answers to probes: each row of the table in ``docs/operations.md``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from tests.support.kafka.server import KafkaServer
from tests.support.probes import Probes
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.engine.health.liveness import AWAY_S

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PROBES = ("--probes-port", "0", "--stuck-after", "2s")


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=2) as made:
        yield made


class Gates:
    """Those of :mod:`tests.adapters.faust.gated`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.program = ("-m", "tests.adapters.faust.gated", str(folder))

    def shut(self, name: str) -> None:
        (self._folder / name).touch()

    async def reached(self, name: str) -> None:
        """Wait until the worker waits there."""
        await eventually((self._folder / f"{name}.reached").exists, what=name)

    def open(self, name: str) -> None:
        (self._folder / name).unlink()


async def test_a_worker_lives_while_it_recovers_stands_still_or_drains(app: Stage, tmp_path: Path) -> None:
    await app.prepare()
    first = app.start(arguments=PROBES)
    await app.fire(range(200))
    await app.settled()
    await first.drained()

    gates = Gates(tmp_path / "gates")
    gates.shut("recovery")
    worker = app.start("w2", arguments=PROBES, program=gates.program)
    probes = await Probes.of(worker.text)
    await probes.become(200, 200, 503, because="recovering: ")
    places = [("recovery_remaining_records", (str(n), app.topics.events)) for n in range(app.partitions)]
    await eventually(lambda: all(probes.metrics()[place] > 0 for place in places), what=probes.metrics)

    # They answer while the event loop does not.
    gates.shut("loop")
    gates.open("recovery")
    await eventually(lambda: probes.metrics()["loop_silence_seconds", ()] > 3)
    assert probes.now() == (200, 200, 503), probes.answers()

    gates.open("loop")
    await worker.ready()
    await probes.become(200, 200, 200)
    found = probes.metrics()
    assert found["partitions", ()] == found["partitions_ready", ()] == app.partitions
    assert [hashes for name, hashes in found if name == "config_info"]

    gates.shut("intake")
    await gates.reached("intake")
    await app.fire(range(200, 400))
    await probes.become(503, 200, 503, because="no progress for 2 s in partitions 0, 1")
    found = probes.metrics()
    assert found["stuck_partitions", ()] == found["watchdog_trips_total", ()] == app.partitions
    assert found["lag_records", ("0", app.topics.events)] > 0
    assert found["lag_seconds", ("0", app.topics.events)] >= 2
    gates.open("intake")
    await probes.become(200, 200, 200)
    await app.settled()
    await eventually(lambda: probes.metrics()["lag_seconds", ("0", app.topics.events)] == 0)
    # What the one before has folded is not counted by this one.
    await eventually(lambda: probes.metrics()["events_total", ()] == 4 * 200, what=probes.metrics)
    found = probes.metrics()
    assert found["decisions_total", ()] == 200
    assert found["checkpoint_seconds_count", ()] == found["checkpoints_total", ()]
    assert found["checkpoint_seconds_bucket", ("+Inf",)] == found["checkpoints_total", ()]
    assert found["checkpoint_seconds_sum", ()] > 0

    gates.shut("end")
    worker.signal(signal.SIGTERM)
    await probes.become(200, 200, 503, because="stopping")
    gates.open("end")
    assert await worker.ended() == 0, worker.text()
    await app.exact()


async def test_a_worker_without_partitions_is_ready(kafka: str, kafka_app: AppId, tmp_path: Path) -> None:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=1) as app:
        await app.prepare()
        workers = [app.start(name, arguments=PROBES) for name in ("w1", "w2")]
        probes = [await Probes.of(worker.text) for worker in workers]

        def shared() -> bool:
            return sorted(one.metrics().get(("partitions_ready", ()), -1) for one in probes) == [0, 1]

        for worker in workers:
            await worker.ready()
        await eventually(shared, what=lambda: [one.metrics() for one in probes])
        for one in probes:
            await one.become(200, 200, 200)


async def test_a_worker_lives_whether_or_not_kafka_does(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    with stage(connection, kafka_app, tmp_path / "workers", partitions=2) as app:
        await app.prepare()
        server.pause()
        worker = app.start(arguments=PROBES)
        probes = await Probes.of(worker.text)
        assert probes.now() == (200, 503, 503), probes.answers()
        server.resume()
        await worker.ready()
        await probes.become(200, 200, 200)
        await app.settled()

        # A checkpoint in flight would end it: nothing is, now.
        server.pause()
        await probes.become(200, 200, 503, because="no answer from Kafka for ")
        assert probes.metrics()["broker_silence_seconds", ()] > AWAY_S
        server.resume()
        await probes.become(200, 200, 200)
        await app.fire(range(20))
        await app.settled()
        await worker.drained()
        await app.exact()


async def test_a_port_that_is_taken_is_refused_in_one_line(app: Stage) -> None:
    await app.prepare()
    probes = await Probes.of(app.start(arguments=PROBES).text)
    port = probes.url.rpartition(":")[2]
    second: WorkerProcess = app.start("w2", arguments=("--probes-port", port))
    assert await second.ended() == 2
    (line,) = second.text().splitlines()
    assert line.startswith(f"--probes-port {port}: ")
