"""A worker with many partitions: few connections, and no end of it on a machine that has no time for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.faust.workers import stage
from tests.support.busy import busy
from tests.support.kafka.server import KafkaServer
from tests.support.sockets import sockets_of
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("needs_kafka")]

SOME, MANY = 48, 96
SOCKETS = 20
"""The most that a worker may have, whatever the number of its partitions."""
WAITING = 2_000
"""Sessions, each with four events."""
LOAD = 20
MINUTES = 10


@pytest.mark.slow
async def test_the_connections_of_a_worker_do_not_grow_with_its_partitions(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    connection = Connection(bootstrap=start_kafka().bootstrap)
    with stage(connection, kafka_app, tmp_path, partitions=SOME) as app:
        await app.prepare()
        worker = app.start()
        await worker.ready()
        await app.fire(range(200))
        await app.settled()
        assert sockets_of(worker.at_work()) <= SOCKETS
        await worker.drained()


@pytest.mark.faults
@pytest.mark.timeout(MINUTES * 60 + 120)
async def test_a_backlog_in_many_partitions_is_folded_by_one_process_on_a_busy_machine(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    connection = Connection(bootstrap=start_kafka().bootstrap)
    with stage(connection, kafka_app, tmp_path, partitions=MANY) as app:
        await app.prepare()
        await app.fire(range(WAITING))
        with busy(LOAD):
            worker = app.start(session_timeout="30s")
            await worker.ready(within_s=MINUTES * 60)
            working = worker.at_work()
            await app.settled(within_s=MINUTES * 60)
            assert worker.at_work() == working
        assert " starting it again" not in worker.text()
        await worker.drained()
        # A commit is answered, and its group offset is there, before its markers are in all partitions.
        readable = await KafkaFencing(connection, kafka_app).readable(range(MANY), within_s=120)
        assert len(readable) == MANY
        assert (await app.exact()).command_count() == WAITING
