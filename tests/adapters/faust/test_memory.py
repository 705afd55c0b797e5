"""The memory of a worker is bounded: a part of a backlog is fetched at a time, and nothing of it is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.adapters.faust.workers import stage
from tests.support.noting_memory import Noted
from tests.support.waiting import eventually
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
async def test_a_backlog_is_fetched_in_bounded_answers_of_which_nothing_is_kept(
    kafka: str, kafka_app: AppId, tmp_path: Path
) -> None:
    file = tmp_path / "noted"

    def noted() -> Noted:
        return msgspec.json.decode(file.read_bytes(), type=Noted)

    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage", partitions=8) as app:
        await app.prepare()
        value = dumps({"type": "unused", "data": "x" * 50_000})
        await app.append(NewRecord(key=f"s{n}".encode(), value=value) for n in range(400))
        worker = app.start(program=("-m", "tests.support.noting_memory", str(file)))
        await worker.ready()
        await app.settled()
        before = noted().handed_over
        # After the next fetch is handed over, all earlier ones are folded.
        await eventually(lambda: noted().handed_over > before + 1, within_s=30, what=worker.text)
        await worker.drained()
    found = noted()
    # 19 MiB wait, more than two in each partition.
    assert MIB / 2 < found.partition <= partition_fetch_bytes(8)
    assert MIB < found.answer <= FETCH_BYTES
    assert (found.offsets, found.messages) == (0, 0)
