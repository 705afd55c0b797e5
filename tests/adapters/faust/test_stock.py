"""Where stock Faust loses events or time, and that this engine does not: both on the same real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.adapters.faust.stock import PARTITIONS
from tests.adapters.faust.workers import Stage, read_all, stage
from tests.adapters.kafka.conftest import owner_id
from tests.support.kafka.server import KafkaServer
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.engine.partitioned.ports import Commit

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_ROOT = Path(__file__).resolve().parents[3]


class Stock:
    """A stock worker and what it said."""

    def __init__(self, mode: str, connection: Connection, app: str, output: Path) -> None:
        self.output = output
        with output.open("wb") as stream, output.with_suffix(".err").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.adapters.faust.stock", mode, connection.bootstrap, app],
                cwd=output.parent,  # Faust makes a directory for its data where it is started
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=errors,
                start_new_session=True,
            )

    def said(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.endswith("}")]

    async def says(self, condition: Callable[[list[dict[str, object]]], object]) -> None:
        """Wait until what it said fulfils ``condition``."""
        await eventually(lambda: condition(self.said()), within_s=90, what=lambda: self.said()[-5:])

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


@contextmanager
def stock(mode: str, connection: Connection, app: str, output: Path) -> Iterator[Stock]:
    """A stock worker that is gone at the end."""
    worker = Stock(mode, connection, app, output)
    try:
        yield worker
    finally:
        worker.kill()


@pytest.fixture
def connection(kafka: str) -> Connection:
    return Connection(bootstrap=kafka)


@pytest.fixture
def app(connection: Connection, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(connection, kafka_app, tmp_path / "workers") as made:
        yield made


async def make_topics(connection: Connection, *names: str, **settings: str) -> None:
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=settings) for name in names])
    finally:
        await admin.close()


async def committed(connection: Connection, group: str, partition: int) -> int:
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        return next((int(at.offset) for place, at in offsets.items() if place.partition == partition), -1)
    finally:
        await admin.close()


async def reaches(connection: Connection, group: str, partition: int, offset: int) -> None:
    """Wait until ``group`` has committed ``offset``."""
    async with asyncio.timeout(60):
        while await committed(connection, group, partition) < offset:  # noqa: ASYNC110 - the broker does not call
            await asyncio.sleep(0.05)


async def send(connection: Connection, topic: str, *values: bytes, key: bytes = b"k") -> int:
    """Send ``values`` to one partition, which is returned."""
    partition = partition_of(key, PARTITIONS)
    producer = connection.producer()
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await stop(producer)
    return partition


# ---- an exception in an agent -------------------------------------------------------------------


async def test_stock_commits_past_the_event_on_which_its_agent_raised(
    connection: Connection, kafka_app: AppId, tmp_path: Path
) -> None:
    await make_topics(connection, f"{kafka_app}.events")
    with stock("raise", connection, kafka_app, tmp_path / "stock") as worker:
        partition = await send(connection, f"{kafka_app}.events", b"one", b"boom", b"two")
        await worker.says(lambda said: {"got": "two"} in said)
        await reaches(connection, kafka_app, partition, 3)
    with stock("raise", connection, kafka_app, tmp_path / "again") as worker:
        await send(connection, f"{kafka_app}.events", b"three")
        await worker.says(lambda said: {"got": "three"} in said)
        assert {"got": "boom"} not in worker.said()


async def test_ours_ends_on_what_it_cannot_fold_and_folds_it_after_the_repair(app: Stage) -> None:
    await app.prepare()
    poisoned = partition_of(b"s1", app.partitions)
    key = b"s1"
    await _write_state(app, poisoned, key, b"not a state")
    await app.fire(range(1, 2))
    worker = app.start()
    assert await worker.ended() == 2, worker.text()
    assert await committed(app.connection, app.app, poisoned) < 2
    await _write_state(app, poisoned, key, None)
    worker = app.start()
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == 1


async def _write_state(app: Stage, partition: int, key: bytes, value: bytes | None) -> None:
    """Change a state behind the engine's back."""
    producer = app.connection.producer()
    await producer.start()
    try:
        await producer.send_and_wait(app.topics.changelog, value, key=key, partition=partition)
    finally:
        await stop(producer)


# ---- a commit past an event in flight -----------------------------------------------------------


async def test_stock_commits_past_an_event_that_is_still_worked_on(
    connection: Connection, kafka_app: AppId, tmp_path: Path
) -> None:
    await make_topics(connection, f"{kafka_app}.events")
    with stock("hang", connection, kafka_app, tmp_path / "stock") as worker:
        partition = await send(connection, f"{kafka_app}.events", b"one", b"hang", *[b"more"] * 20)
        await worker.says(lambda said: {"hangs": True} in said and said.count({"got": "more"}) == 20)
        await reaches(connection, kafka_app, partition, 22)


async def test_ours_has_the_offset_of_a_checkpoint_only_once_all_before_it_is_durable(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(300))
    dying = app.start(failpoint="checkpoint.acknowledged")
    assert await dying.ended() == -signal.SIGKILL
    for partition in range(app.partitions):
        offset = await committed(app.connection, app.app, partition)
        decided = len((await read_all(app.connection, app.topics.commands, app.partitions))[partition])
        assert (offset > 0) == (decided > 0)


# ---- a flush that is none, a failure to send that is only logged ---------------------------------


async def test_stock_returns_from_flush_with_messages_unsent(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    await make_topics(connection, f"{kafka_app}.events")
    with stock("flush", connection, kafka_app, tmp_path / "stock") as worker:
        await worker.says(lambda said: {"started": True} in said)
        server.pause()
        assert worker.process.stdin is not None
        worker.process.stdin.write(b"\n")
        worker.process.stdin.flush()
        await worker.says(lambda said: {"queued": True} in said)
        await asyncio.sleep(0.5)
        server.resume()
        await worker.says(lambda said: any("left" in line for line in said))
        assert worker.said()[-1]["left"] != 0


async def test_ours_is_durable_when_a_commit_returns(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=PARTITIONS)
    topics = Topics.of(kafka_app)
    ledger = KafkaLedger(connection=connection, app=kafka_app, topics=topics, partition=0, id_=owner_id())
    await ledger.start()
    server.pause()
    states = {f"s{n}".encode(): b"x" * 1_000 for n in range(2_000)}
    committing = asyncio.create_task(
        ledger.commit(Commit(decided=(), states=states, dead_letters=(), marks={b"\x00m": b"1"}, offset=1))
    )
    done, _ = await asyncio.wait([committing], timeout=1)
    assert not done
    server.resume()
    assert await committing == 2_001
    await ledger.close()
    found = await read_all(connection, topics.changelog, PARTITIONS)
    assert len(found[0]) == 2_001


async def test_stock_commits_although_what_it_sent_was_refused(
    connection: Connection, kafka_app: AppId, tmp_path: Path
) -> None:
    await make_topics(connection, f"{kafka_app}.events")
    await make_topics(connection, f"{kafka_app}.out", **{"max.message.bytes": "5000"})
    with stock("send", connection, kafka_app, tmp_path / "stock") as worker:
        partition = await send(connection, f"{kafka_app}.events", b"x", b"x", b"x")
        await worker.says(lambda said: said.count({"got": "x"}) == 3)
        await reaches(connection, kafka_app, partition, 3)
        found = await read_all(connection, f"{kafka_app}.out", PARTITIONS)
        assert not any(found.values())


async def test_ours_ends_when_what_it_sent_is_refused_and_has_committed_nothing(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await worker.ready()
    await app.settled()
    await _limit(app, 100)
    await app.fire(range(50))
    await worker.failed(70)
    worker.kill()
    commands = await read_all(app.connection, app.topics.commands, app.partitions)
    assert not any(commands.values())
    await _limit(app, 2_000_000)
    worker = app.start()
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == 50


async def _limit(app: Stage, longest: int) -> None:
    async with app.connection.client() as client:
        await change_settings(client, app.topics.commands, {"max.message.bytes": str(longest)})


# ---- recovery, and keys of partitions that are gone -----------------------------------------------


async def test_stock_waits_for_ever_for_a_changelog_that_ends_in_a_control_record(
    connection: Connection, kafka_app: AppId, tmp_path: Path
) -> None:
    await make_topics(connection, f"{kafka_app}.events", f"{kafka_app}-seen-changelog")
    producer = connection.producer(transactional_id=f"{kafka_app}-writer")
    await producer.start()
    try:
        async with producer.transaction():
            for partition in range(PARTITIONS):
                await producer.send(f"{kafka_app}-seen-changelog", b"1", key=b"k", partition=partition)
    finally:
        await stop(producer)
    with stock("table", connection, kafka_app, tmp_path / "stock") as worker:
        # The one record of each partition is read, one position each is left, and stays so.
        await worker.says(lambda said: said.count({"recovered": False, "left": PARTITIONS}) > 20)
        assert not any(line.get("recovered") for line in worker.said())


async def test_ours_is_ready_although_its_changelog_always_ends_in_a_control_record(app: Stage) -> None:
    await app.prepare()
    worker = app.start()
    await app.fire(range(100))
    await app.settled()
    await worker.drained()
    other = app.start("w2")
    await other.ready()
    await other.drained()
    assert (await app.exact()).command_count() == 100


async def test_stock_keeps_the_keys_of_partitions_that_it_has_lost(
    connection: Connection, kafka_app: AppId, tmp_path: Path
) -> None:
    await make_topics(connection, f"{kafka_app}.events", f"{kafka_app}-seen-changelog")
    everything = list(range(PARTITIONS))
    with stock("table", connection, kafka_app, tmp_path / "first") as first:
        await first.says(lambda said: any(line.get("recovered") for line in said))
        for n in range(40):
            await send(connection, f"{kafka_app}.events", b"1", key=f"k{n}".encode())
        await first.says(lambda said: {"owned": everything, "keys": everything} in said)
        with stock("table", connection, kafka_app, tmp_path / "second"):
            await first.says(
                lambda said: any(
                    len(dict(line).get("owned", everything)) == PARTITIONS // 2  # type: ignore[arg-type] # a list
                    and line.get("keys") == everything
                    for line in said[-3:]
                )
            )


async def test_ours_has_the_states_of_its_own_partitions_alone(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1")
    await first.ready()
    await app.fire(range(40))
    await app.settled()
    second = app.start("w2")
    await second.ready()
    await first.ready(times=2)
    # A store is open in one process at a time: the other's partitions were let go of.
    for worker in (first, second):
        await worker.drained()
    mine = {int(path.name) for path in (app.directory("w1") / f"{app.app}-sessions").iterdir()}
    theirs = {int(path.name) for path in (app.directory("w2") / f"{app.app}-sessions").iterdir()}
    assert mine == set(range(app.partitions))
    assert len(theirs) == app.partitions // 2
