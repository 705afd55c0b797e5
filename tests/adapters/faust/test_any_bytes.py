"""No record stops a worker, whatever its bytes are: the main road and every program that reads the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.adapters.faust.workers import Stage, read_all, stage
from tests.support.commands import triggerstream
from tests.support.kafka.raw import RawRecord, batch, produce
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
ODD = [(b"ce_\xff", b"1"), (b"\xfe", None), (b"trace", b"2")]


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage") as app:
        await app.prepare(TASKS)
        yield app


async def test_a_header_whose_name_is_not_utf8_is_ignored_by_every_reader_of_the_log(app: Stage) -> None:
    place = partition_of(b"s", app.partitions)
    elsewhere = (place + 1) % app.partitions
    topic = app.topics.events
    await produce(
        app.connection, topic, place, batch([RawRecord(key=b"s", value=b'{"type": "a"}', headers=ODD)])
    )
    # To be re-homed; and one that cannot be folded.
    other = RawRecord(key=None, value=b'{"type": "b", "subject": "s"}', headers=ODD)
    await produce(app.connection, topic, elsewhere, batch([other]))
    await produce(app.connection, topic, place, batch([RawRecord(key=b"s", value=b"{", headers=ODD)]))
    worker = app.start()
    await app.append(NewRecord(key=f"s{n}".encode(), value=b'{"type": "a"}') for n in range(20))
    async with asyncio.timeout(90):
        while not any((await read_all(app.connection, app.topics.commands, app.partitions)).values()):
            assert worker.running(), worker.text()
    await app.settled()
    at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}")
    shown = await triggerstream("sessions", "show", "s", *at)
    assert (shown.status, "t#0" in shown.out) == (0, True), shown
    listed = await triggerstream("deadletters", "list", *at, "--json")
    (letter,) = [orjson.loads(line) for line in listed.out.splitlines()]
    assert letter["headers"] == {"ce_\\xff": "1", "\\xfe": None, "trace": "2"}
    exported = await triggerstream("sessions", "export", "s", *at)
    assert (exported.status, len(exported.out.splitlines())) == (0, 2), exported
    checked = await triggerstream("replay", "--check", *at)
    assert checked.status == 0, checked
    await worker.drained()
    await app.exact()
