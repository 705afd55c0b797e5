"""The memory of a worker with a backlog is bounded: brokers answer with a part of it at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.faust.workers import stage
from triggerstream.adapters.faust.settings import FETCH_BYTES, partition_fetch_bytes
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

MIB = 1024 * 1024


def test_events_that_wait_are_bounded_for_all_partitions_together() -> None:
    assert [partition_fetch_bytes(count) for count in (1, 12, 16)] == [MIB] * 3
    assert all(count * partition_fetch_bytes(count) <= 16 * MIB for count in range(1, 65))
    assert partition_fetch_bytes(1_000) == MIB / 4


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_backlog_is_fetched_in_bounded_answers(kafka: str, kafka_app: AppId, tmp_path: Path) -> None:
    noted = tmp_path / "fetches"
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage", partitions=8) as app:
        await app.prepare()
        value = dumps({"type": "unused", "data": "x" * 50_000})
        await app.append(NewRecord(key=f"s{n}".encode(), value=value) for n in range(400))
        worker = app.start(program=("-m", "tests.support.noting_fetches", str(noted)))
        await worker.ready()
        await app.settled()
        await worker.drained()
    answer, partition = map(int, noted.read_text().split())
    # 19 MiB wait, more than two in each partition.
    assert MIB / 2 < partition <= partition_fetch_bytes(8)
    assert MIB < answer <= FETCH_BYTES
