"""Tasks files that are applied again and again, over sessions that hear nothing more: the worker keeps up."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, WorkerProcess, read_all, stage
from tests.support.waiting import eventually
from triggerstream.adapters.kafka import config
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.migration import MOST_VERSIONS
from triggerstream.engine.partitioned.versions import TEXT_PREFIX, history_texts
from triggerstream.wire import tasksfile
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LONGEST_RECORD = 1024 * 1024
LARGE = 620_000


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


def tasks_file(number: int, *, size: int) -> str:
    """A tasks file of ``size`` bytes that differs from that of another number."""
    text = (
        f'{{"t": {{"after": ["a", "b"], "run": "tasks.t"}}, "u{number}": {{"after": ["c"], "run": "u"}}}} // '
    )
    return text + "x" * (size - len(text))


def fired(names: str, sessions: range) -> Iterator[NewRecord]:
    for name in names:
        for session in sessions:
            yield NewRecord(key=f"s{session}".encode(), value=dumps({"type": name}))


async def kept(app: Stage) -> list[dict[bytes, bytes]]:
    """The newest values of each partition's changelog; fails if a record was too long."""
    found = []
    for records in (await read_all(app.connection, app.topics.changelog, app.partitions)).values():
        assert max((len(record.value or b"") for record in records), default=0) < LONGEST_RECORD
        latest = {record.key: record.value for record in records}
        found.append({key: value for key, value in latest.items() if value is not None})
    return found


async def longest_history(app: Stage) -> int:
    """The versions of the partition that keeps most; it has the text of each, and no other."""
    longest = 0
    for entries in await kept(app):
        texts = history_texts(entries.get)
        longest = max(longest, len(texts))
        assert {key for key in entries if key.startswith(TEXT_PREFIX)} == {
            TEXT_PREFIX + one.hash.encode() for one in texts
        }
    return longest


async def test_a_large_file_is_applied_again_and_again_over_a_session_that_hears_nothing(app: Stage) -> None:
    app.partitions = 1
    await app.prepare(tasks_file(0, size=LARGE))
    worker = app.start()
    await app.append(fired("a", range(1)))
    for number in range(1, 9):
        await app.apply(tasks_file(number, size=LARGE))
    await app.settled()
    assert worker.running(), worker.text()
    assert await longest_history(app) == 9
    await worker.drained()
    again = app.start("another")
    await app.append(fired("b", range(1)))
    await app.settled()
    await again.drained()
    assert (await app.exact()).command_count() == 1


async def test_a_file_that_the_changelog_would_not_take_is_refused_before_it_is_applied(app: Stage) -> None:
    await app.prepare()
    async with app.connection.client() as client:
        await change_settings(client, app.topics.changelog, {"max.message.bytes": "100000"})
    found = tasksfile.read(tasks_file(1, size=120_000), name="tasks")
    with pytest.raises(UsageError, match=r"takes records of 100,000 bytes.*topics create --repair"):
        await config.apply(app.connection, app.app, found)
    current = await config.in_force(app.connection, app.app)
    assert current is not None
    assert current.hash != found.hash
    await app.apply(tasks_file(1, size=90_000))


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_a_thousand_files_over_ten_thousand_sessions_that_hear_nothing(app: Stage) -> None:
    sessions, files = range(10_000), 1_000
    await app.prepare(tasks_file(0, size=35_000))
    worker = app.start()
    await app.append(fired("a", sessions))
    await app.settled()
    await worker.drained()
    before_s = await takes_over(app, "before")

    worker = app.start()
    await worker.ready()
    for number in range(1, files):
        await app.apply(tasks_file(number, size=35_000))
        assert worker.running(), worker.text()
    await app.settled(within_s=600)
    grown_s = await takes_over(app, "grown", beside=worker)

    worker = app.start()
    await worker.ready()
    lengths: list[int] = []

    async def is_short() -> bool:
        lengths.append(await longest_history(app))
        return lengths[-1] <= MOST_VERSIONS

    begun = time.monotonic()
    while not await is_short():
        assert time.monotonic() - begun < 900, lengths
        await asyncio.sleep(5)
    await worker.drained()
    after_s = await takes_over(app, "after")
    times = f"{before_s:.1f} s, grown {grown_s:.1f} s, after {after_s:.1f} s"
    print(f"take-over, processor time: {times}; versions {lengths}")  # noqa: T201 - figures for people
    assert after_s < before_s + 5

    worker = app.start()
    await app.append(fired("b", sessions))
    await app.settled(within_s=600)
    await worker.drained()
    assert (await app.exact()).command_count() == len(sessions)


def processor_time_s(pid: int) -> float:
    """The processor time that a process has used."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


async def takes_over(app: Stage, name: str, *, beside: WorkerProcess | None = None) -> float:
    """Processor time in seconds until a worker without a store is ready. The worker ``beside`` ends first."""
    if beside is not None:
        await beside.drained()
    worker = app.start(name)
    await worker.ready()
    took_s = processor_time_s(worker.at_work())
    await worker.drained()
    await eventually(lambda: not worker.running(), what=worker.text)
    return took_s
