"""`triggerstream worker` as real processes, and what they must have made of a log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.support.supervised import at_work, lives, state
from tests.support.waiting import eventually, until, wait_until
from triggerstream import variables
from triggerstream.adapters.kafka import config
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fetches import fetched
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Stored, keep_retired
from triggerstream.engine.processor import Processor
from triggerstream.wire import tasksfile
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import RESERVED
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RETIRED_PREFIX, RetiredKey, encode_key
from triggerstream.wire.signature import ControlKeys

TASKS = '{"t_report": {"after": ["a", "b", "c", "d"], "run": "tasks.report"}}'
TRIGGERS = "abcd"
START_S = 60.0
"""A start takes 2 s on an idle machine; a loaded one may need many times that."""


_FOR_WORK = frozenset({signal.SIGSTOP, signal.SIGCONT})


class WorkerProcess:
    """One worker with its supervisor, whose process group is its own."""

    def __init__(
        self,
        connection: Connection,
        app: AppId,
        directory: Path,
        *,
        session_timeout: str = "6s",
        failpoint: str | None = None,
        arguments: Sequence[str] = (),
        program: Sequence[str] = ("-m", "triggerstream"),
        library: Path | None = None,
    ) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        self.output = directory.with_suffix(".log")
        self._from = self.output.stat().st_size if self.output.exists() else 0
        command = [sys.executable, *program, "worker", "--at", f"kafka://{connection.bootstrap}/{app}"]
        command += ["--dir", str(directory), "--session-timeout", session_timeout, *arguments]
        with self.output.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **({variables.FAILPOINT: failpoint} if failpoint else {}),
                    **({"PYTHONPATH": str(library)} if library else {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def text(self) -> str:
        """What it printed so far."""
        return self.output.read_bytes()[self._from :].decode(errors="replace")

    async def ready(self, *, times: int = 1, within_s: float = START_S) -> None:
        """Wait until it has taken over what it was assigned, for the ``times``-th time."""

        def is_ready() -> bool:
            status = self._process.poll()
            assert status is None, f"ended with {status}: {self.text()}"
            return self.text().count(" ready: partitions ") >= times

        await eventually(is_ready, within_s=within_s, what=self.text)

    async def ended(self, *, within_s: float = START_S) -> int:
        """Its exit status; that of a signal is negative."""
        await eventually(lambda: self._process.poll() is not None, within_s=within_s, what=self.text)
        return self._process.returncode

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    async def stopped(self) -> None:
        """Wait until a signal has stopped it, as ``/proc`` says."""
        await eventually(lambda: state(self.at_work()) == "T", within_s=START_S, what=self.text)

    async def failed(self, status: int, *, times: int = 1, within_s: float = START_S) -> None:
        """Wait until it has ended with ``status`` so often, and was started again by its supervisor."""
        said = f"(supervisor): the worker ended with status {status}: starting it again"
        await eventually(lambda: self.text().count(said) >= times, within_s=within_s, what=self.text)

    def at_work(self) -> int:
        """The id of the process that works, below its supervisor."""
        return at_work(self._process.pid)

    @property
    def pid(self) -> int:
        """The id of the supervisor."""
        return self._process.pid

    async def drained(self) -> None:
        """Have it end in order."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: one that stops it or lets it go on to the process that works."""
        if not self.running():
            return  # another process may have its id by now
        with suppress(ProcessLookupError):
            os.kill(self.at_work() if number in _FOR_WORK else self._process.pid, number)

    def kill(self) -> None:
        """``kill -9`` of the supervisor, which takes the process that works along."""
        if not self.running():
            return
        working = self.at_work()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not lives(working), within_s=START_S)

    def kill_at_work(self) -> None:
        """``kill -9`` of the process that works; the supervisor ends by the same signal."""
        if not self.running():
            return
        with suppress(ProcessLookupError):
            os.kill(self.at_work(), signal.SIGKILL)
        self._process.wait()


class NoWorkerError(AssertionError):
    """Nothing can happen any more: no worker runs."""


@dataclass
class Stage:
    """An app with its topics and its workers, all of which are gone at the end."""

    connection: Connection
    app: AppId
    folder: Path
    partitions: int = 4
    workers: list[WorkerProcess] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """How often each trigger was fired, by session."""

    @property
    def topics(self) -> Topics:
        return Topics.of(self.app)

    def shown(self) -> tuple[str, ...]:
        """The arguments of a worker with pages on a free port, which shows what all workers have."""
        path = self.folder / "peer.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.write_bytes(os.urandom(32))
        return ("--web-port", "0", "--peer-key", str(path))

    async def prepare(self, tasks: str = TASKS) -> None:
        """Make the topics and bring ``tasks`` into force."""
        await create(self.connection, self.app, partitions=self.partitions)
        await self.apply(tasks)

    async def apply(self, tasks: str) -> None:
        """Bring ``tasks`` into force."""
        await config.apply(self.connection, self.app, tasksfile.read(tasks, name="tasks"))

    async def delete(self, topic: str) -> None:
        """Delete a topic; it is gone when this returns."""
        admin = AIOKafkaAdminClient(**self.connection.options())
        await admin.start()
        try:
            await admin.delete_topics([topic])

            async def gone() -> bool:
                return topic not in await admin.list_topics()

            await until(gone)
        finally:
            await admin.close()

    def directory(self, name: str) -> Path:
        """Where the worker ``name`` keeps its states."""
        return self.folder / name

    def start(
        self,
        name: str = "w1",
        *,
        failpoint: str | None = None,
        arguments: Sequence[str] = (),
        program: Sequence[str] = ("-m", "triggerstream"),
        library: Path | None = None,
        connection: Connection | None = None,
        session_timeout: str = "6s",
    ) -> WorkerProcess:
        """Start a worker. ``library``: a folder of modules that it takes before those installed.

        ``connection``: its own way to the brokers.
        """
        worker = WorkerProcess(
            connection or self.connection,
            self.app,
            self.directory(name),
            session_timeout=session_timeout,
            failpoint=failpoint,
            arguments=arguments,
            program=program,
            library=library,
        )
        self.workers.append(worker)
        return worker

    async def append(self, records: Iterable[NewRecord], *, partition: int | None = None) -> None:
        """Append to the events, where the keys belong or to ``partition``."""
        producer = self.connection.producer()
        await producer.start()
        try:
            answers = [
                await producer.send(
                    self.topics.events,
                    record.value,
                    key=record.key,
                    partition=partition_of(record.key or b"", self.partitions)
                    if partition is None
                    else partition,
                    headers=list(record.headers),
                )
                for record in records
            ]
            await asyncio.gather(*answers)
        finally:
            await producer.stop()

    async def fire(self, sessions: range) -> None:
        """Fire all triggers of ``TASKS`` for ``sessions``."""
        await self.append(
            NewRecord(key=f"s{session}".encode(), value=dumps({"type": name, "data": {"n": session}}))
            for name in TRIGGERS
            for session in sessions
        )

    async def settled(self, *, within_s: float = 120.0) -> None:
        """Wait until every record that is in the log now is folded and durable."""
        records = await read_all(self.connection, self.topics.events, self.partitions)
        wanted = {p: found[-1].offset + 1 for p, found in records.items() if found}
        admin = AIOKafkaAdminClient(**self.connection.options())
        await admin.start()
        done: dict[int, int] = {}

        async def is_done() -> bool:
            nonlocal done
            try:
                offsets = await admin.list_consumer_group_offsets(self.app)
            except KafkaError as exc:
                if not exc.retriable:
                    raise
                return False  # a coordinator that is only just there
            done = {place.partition: int(at.offset) for place, at in offsets.items()}
            if all(done.get(p, -1) >= offset for p, offset in wanted.items()):
                return True
            if not any(worker.running() for worker in self.workers):
                raise NoWorkerError("no worker runs: " + self.workers[-1].text())
            return False

        try:
            await until(is_done, within_s=within_s)
        except NoWorkerError:
            raise
        except AssertionError as exc:
            for worker in self.workers:
                worker.signal(signal.SIGUSR1)
            await asyncio.sleep(1)  # they say where they are
            texts = "\n".join(worker.text()[-2000:] for worker in self.workers)
            raise AssertionError(f"not settled: {done} of {wanted}\n{texts}") from exc
        finally:
            await admin.close()

    async def exact(self) -> Outcome:
        """What is in Kafka, once it is shown to be what the log means and nothing else."""
        outcome = await outcome_of(self.connection, self.app, self.partitions)
        wanted = folded(self.app, outcome.events, control=self.connection.security.control)
        for partition in range(self.partitions):
            lost = Counter(wanted.commands[partition]) - Counter(outcome.commands[partition])
            invented = Counter(outcome.commands[partition]) - Counter(wanted.commands[partition])
            assert not lost, f"partition {partition}: {lost.total()} commands are lost"
            assert not invented, f"partition {partition}: {invented.total()} commands too many"
            assert outcome.commands[partition] == wanted.commands[partition], "commands are out of order"
            assert outcome.states[partition] == wanted.states[partition], f"partition {partition}: states"
            assert outcome.letters[partition] == wanted.letters[partition], f"partition {partition}: letters"
        return outcome

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            worker.kill()


@contextmanager
def stage(connection: Connection, app: AppId, folder: Path, *, partitions: int = 4) -> Iterator[Stage]:
    """A stage whose workers are gone at the end."""
    made = Stage(connection=connection, app=app, folder=folder, partitions=partitions)
    try:
        yield made
    finally:
        made.close()


@dataclass
class Outcome:
    """By partition: the records of the log, the commands, and how many dead letters.

    ``states`` has the entries of retired instances too, under their keys in the changelog.
    """

    events: dict[int, list[Record]]
    commands: dict[int, list[bytes]]
    states: dict[int, dict[bytes, bytes]]
    letters: dict[int, int]

    def command_count(self) -> int:
        """How many commands there are."""
        return sum(len(commands) for commands in self.commands.values())


_MARKERS_S = 2.0
"""Time for the markers of transactions. One that stays open, as after a kill, is waited for no longer."""


async def read_all(connection: Connection, topic: str, partitions: int) -> dict[int, list[ConsumerRecord]]:
    """The committed records of ``topic`` up to its end of now, by partition.

    The end of a transaction may be written a moment after its commit was answered: it is waited for.
    """
    reader = connection.reader()
    await reader.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        reader.assign(places)
        await reader.seek_to_beginning(*places)
        ends = await reader.end_offsets(places)
        records: dict[int, list[ConsumerRecord]] = {partition: [] for partition in range(partitions)}
        waited_until = time.monotonic() + _MARKERS_S
        while True:
            at = {place: await reader.position(place) for place in places}
            if all(at[place] >= ends[place] for place in places) and (
                time.monotonic() > waited_until
                or all(at[place] >= (reader.highwater(place) or 0) for place in places)
            ):
                return records
            for place, found in (await fetched(reader, timeout_ms=20)).items():
                records[place.partition] += found
    finally:
        await reader.stop()


async def outcome_of(connection: Connection, app: AppId, partitions: int) -> Outcome:
    """What is in Kafka."""
    topics = Topics.of(app)
    events, commands, letters, changelog = [
        await read_all(connection, topic, partitions)
        for topic in (topics.events, topics.commands, topics.dead_letters, topics.changelog)
    ]
    states: dict[int, dict[bytes, bytes]] = {}
    for partition, found in changelog.items():
        latest = {
            record.key: record.value
            for record in found
            if not record.key.startswith(RESERVED) or record.key.startswith(RETIRED_PREFIX)
        }
        states[partition] = {key: value for key, value in latest.items() if value is not None}
    return Outcome(
        events={p: [record_of(record) for record in found] for p, found in events.items()},
        commands={p: [record.value for record in found] for p, found in commands.items()},
        states=states,
        letters={p: len(found) for p, found in letters.items()},
    )


def folded(
    app: AppId,
    events: Mapping[int, Sequence[Record]],
    *,
    size: int = 500,
    control: ControlKeys | None = None,
) -> Outcome:
    """What a log means: each partition folded in memory, ``size`` records at once."""
    commands: dict[int, list[bytes]] = {}
    states: dict[int, dict[bytes, bytes]] = {}
    letters: dict[int, int] = {}
    for partition, records in events.items():
        processor = Processor(app=app, partition=partition, partitions=len(events), control=control)
        rules = Rules(app=app)
        known: dict[SessionId, Stored] = {}
        retired: dict[RetiredKey, bytes] = {}

        def load(session: SessionId, known: dict[SessionId, Stored] = known) -> bytes | None:
            return known[session].state if session in known else None

        decided: list[bytes] = []
        letters[partition] = 0
        for start in range(0, len(records), size):
            checkpoint = processor.process(rules, records[start : start + size], load)
            known.update(checkpoint.states)
            keep_retired(retired, checkpoint.retired)
            rules = checkpoint.rules or rules
            decided += [item.value for item in checkpoint.decided]
            letters[partition] += len(checkpoint.dead_letters)
        commands[partition] = decided
        states[partition] = {session.encode(): stored.state for session, stored in known.items()}
        states[partition] |= {encode_key(key): entry for key, entry in retired.items()}
    return Outcome(
        events={p: list(rs) for p, rs in events.items()}, commands=commands, states=states, letters=letters
    )
