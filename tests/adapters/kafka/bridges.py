"""`triggerstream bridge` as real processes, and what Celery's broker holds afterwards."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import redis
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.support.supervised import at_work, lives
from tests.support.waiting import eventually, until, wait_until
from triggerstream import variables
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.commands import Cause, Command, Decision
from triggerstream.core.ids import (
    AppId,
    ConfigHash,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    instance_id,
)
from triggerstream.core.placement import partition_of
from triggerstream.wire.commands import encode

RUN = "tasks.report"
START_S = 60.0


def command(app: AppId, number: int, *, run: str = RUN) -> Command:
    """The command of the session ``s<number>``."""
    session, task = SessionId(f"s{number}"), TaskName("t_report")
    return Command(
        id=command_id(app, session, generation=0, task=task, number=0),
        session=session,
        task=task,
        instance=instance_id(task, 0),
        run=run,
        kwargs={"a": {"n": number}},
        config=ConfigHash("c0ffee"),
        causes=[Cause(trigger=TriggerName("a"), offset=number)],
        decided_us=1,
    )


class BridgeProcess:
    """One bridge with its supervisor, whose process group is its own."""

    def __init__(
        self,
        connection: Connection,
        app: AppId,
        broker: str,
        output: Path,
        *arguments: str,
        failpoint: str | None = None,
        program: Sequence[str] = ("-m", "triggerstream"),
    ) -> None:
        self.output = output
        command = [sys.executable, *program, "bridge", "--at", f"kafka://{connection.bootstrap}/{app}"]
        command += ["--broker", broker, "--session-timeout", "6s", *arguments]
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **({variables.FAILPOINT: failpoint} if failpoint else {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def text(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")

    async def wait_for_output(self, words: str, *, times: int = 1) -> None:
        """Wait until it has said ``words`` so often."""

        def said() -> bool:
            assert self._process.poll() is None, f"ended: {self.text()}"
            return self.text().count(words) >= times

        await eventually(said, within_s=START_S, what=self.text)

    async def ended(self, *, within_s: float = START_S) -> int:
        """Its exit status; that of a signal is negative."""
        await eventually(lambda: self._process.poll() is not None, within_s=within_s, what=self.text)
        return self._process.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9`` of the supervisor, which takes the process that works along."""
        if self._process.poll() is not None:
            return  # other processes may have the ids by now
        working = self.at_work()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not lives(working), within_s=START_S)

    def at_work(self) -> int:
        """The id of the process that works, below its supervisor."""
        return at_work(self._process.pid)


async def append(
    connection: Connection, app: AppId, decisions: Sequence[Decision | bytes], *, partitions: int
) -> None:
    """Append commands as a worker's transaction does; bytes go to the partition of the key ``s0``."""
    topic = Topics.of(app).commands
    producer: AIOKafkaProducer = connection.producer(transactional_id=f"{app}-test")
    await producer.start()
    try:
        async with producer.transaction():
            for decision in decisions:
                key = b"s0" if isinstance(decision, bytes) else decision.session.encode()
                value = decision if isinstance(decision, bytes) else encode(decision)
                await producer.send(topic, value, key=key, partition=partition_of(key, partitions))
    finally:
        await producer.stop()


async def committed(connection: Connection, app: AppId) -> dict[int, int]:
    """The offsets of the bridges' group, by partition."""
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{app}-bridge")
    finally:
        await admin.close()
    return {place.partition: int(at.offset) for place, at in offsets.items()}


async def ends(connection: Connection, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition of ``topic`` ends, markers included."""
    reader = connection.reader()
    await reader.start()
    try:
        found = await reader.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
    finally:
        await reader.stop()
    return {place.partition: int(end) for place, end in found.items()}


def queued(broker: str, queue: str = "celery") -> list[dict[str, Any]]:
    """The messages that wait in the Celery broker: their headers, and ``kwargs``, oldest first."""
    with redis.Redis.from_url(broker) as client:
        messages = [orjson.loads(value) for value in reversed(client.lrange(queue, 0, -1))]
    return [
        {**message["headers"], "kwargs": orjson.loads(base64.b64decode(message["body"]))[1]}
        for message in messages
    ]


def counts(broker: str) -> Counter[str]:
    """How often each task id waits in the Celery broker."""
    return Counter(str(message["id"]) for message in queued(broker))


async def commits(connection: Connection, app: AppId, wanted: dict[int, int]) -> None:
    """Wait until the group's offsets are the ``wanted`` ones."""

    async def are_committed() -> bool:
        return await committed(connection, app) == wanted

    await until(are_committed)
