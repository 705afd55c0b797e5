"""The chain as a whole: started once, put under load, and brought to rest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import redis
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import create_engine

from tests.acceptance.chain.hostile_tasks import ANSWER, FAIL
from tests.acceptance.chain.members import Member
from tests.acceptance.chain.oracle import count_commands, count_effects, effects_of, strangers
from tests.acceptance.chain.plan import EVENTS, RUN, TASKS, Plan
from tests.acceptance.chain.producer import KINDS
from tests.acceptance.chain.report import Row
from tests.acceptance.chain.table import BROKER_VARIABLE, DEATHS_VARIABLE, EFFECTS_VARIABLE, metadata
from tests.acceptance.chain.timed import FAIL_FIRST
from tests.adapters.faust.workers import read_all
from tests.support.valkey import valkey_server
from triggerstream import variables
from triggerstream.adapters.kafka import security
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.security import PLAINTEXT
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId
from triggerstream.settings import KafkaAddress
from triggerstream.wire.marks import CHECKPOINT_KEY, decode_checkpoint

PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
START_S = 90.0
REST_S = 240.0
_ROOT = Path(__file__).resolve().parents[3]
_SHELL = (sys.executable, "-m", "triggerstream")


@dataclass
class Rig:
    """An app in a Kafka, its processes, and its effects.

    Not ``transacted``: the negative control, which ends at the commands topic.
    """

    bootstrap: str
    folder: Path
    broker: str
    database: str
    transacted: bool = True
    tasks: str = TASKS
    config: Path | None = None
    """The file with the control key, which the producers do not have."""
    app: AppId = field(default_factory=lambda: AppId(f"faults-{uuid4().hex[:12]}"))
    workers: list[Member] = field(init=False)
    bridge: Member = field(init=False)
    celery: Member = field(init=False)
    plans: list[Plan] = field(default_factory=list)
    _producers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _named: bool = False
    _gone: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        secured = PLAINTEXT if self.config is None else security.read(self.config)
        self.connection = Connection(bootstrap=self.bootstrap, security=secured)
        self.environment = {} if self.config is None else {variables.KAFKA_CONFIG: str(self.config)}
        self.topics = Topics.of(self.app)
        self.deaths = self.folder / "deaths"
        self.deaths.mkdir()
        self.engine = create_engine(self.database)
        metadata.create_all(self.engine)
        self.workers = self._workers(named=False)
        self.bridge = self._bridge()
        self.celery = Member(
            name="celery",
            command=[
                *(sys.executable, "-m", "celery", "-A", "tests.acceptance.chain.effects", "worker"),
                *("-c", "2", "-l", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            environment={
                **self.environment,
                BROKER_VARIABLE: self.broker,
                EFFECTS_VARIABLE: self.database,
                DEATHS_VARIABLE: str(self.deaths),
                variables.LOG: str(KafkaAddress(bootstrap=self.bootstrap, app=self.app)),
            },
            output=self.folder / "celery.log",
            ready=" ready.",
        )

    def _workers(self, *, named: bool) -> list[Member]:
        names = [f"{'n' if named else 'w'}{number}" for number in (1, 2, 3)]
        return [self._worker(name, *(("--instance-id", name) if named else ())) for name in names]

    def _worker(self, name: str, *more: str) -> Member:
        shell = _SHELL if self.transacted else (sys.executable, "-m", "tests.acceptance.chain.untransacted")
        return Member(
            name=name,
            command=[
                *(*shell, "worker", "--kafka", self.bootstrap, "--app", self.app),
                *("--dir", str(self.store(name)), "--session-timeout", f"{SESSION_TIMEOUT_S:g}s", *more),
            ],
            environment=self.environment,
            output=self.folder / f"{name}.log",
            ready=" ready: partitions ",
        )

    def _bridge(self, *more: str) -> Member:
        return Member(
            name="bridge",
            command=[
                *(*_SHELL, "bridge", "--kafka", self.bootstrap, "--app", self.app, "--broker", self.broker),
                *(word for name in (RUN, ANSWER, FAIL, FAIL_FIRST) for word in ("--allow", name)),
                *("--session-timeout", f"{SESSION_TIMEOUT_S:g}s", *more),
            ],
            environment=self.environment,
            output=self.folder / "bridge.log",
            ready=" ready: partitions ",
        )

    def store(self, name: str) -> Path:
        """The state directory of the worker ``name``."""
        return self.folder / name

    def members(self) -> list[Member]:
        """All processes that may run."""
        return [*self.workers, self.bridge, self.celery]

    # ---- what it goes through -------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the topics, bring the tasks into force, and start bridge and Celery worker."""
        tasks = self.folder / "tasks.json"
        tasks.write_text(self.tasks)
        at = ("--at", str(KafkaAddress(bootstrap=self.bootstrap, app=self.app)))
        for command in (
            ("topics", "create", "--partitions", str(PARTITIONS), *at),
            ("config", "apply", str(tasks), *at),
        ):
            subprocess.run(
                [*_SHELL, *command],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
            )
        if self.transacted:
            first = self._bridge("--from", "earliest")
            first.start()
            self.celery.start()
            self.until(first.is_ready, within_s=START_S, what="the bridge is not ready")
            first.left()
            self.bridge.start()

    def have(self, workers: int) -> None:
        """Have so many workers, and wait until they share the partitions."""
        for member in self.workers[workers:]:
            if member.wanted:
                member.left()
        self.toward(workers)
        self.stable()

    def toward(self, workers: int) -> None:
        """Begin to have so many workers; who is still about to leave, and is wanted again, is killed."""
        for number, member in enumerate(self.workers):
            if member.wanted and number >= workers:
                member.leave()
            elif not member.wanted and number < workers:
                member.kill()
                member.start()

    def use(self, *, named: bool) -> None:
        """From now on, have workers with a name that they keep in the group, or without."""
        if named == self._named:
            return
        for member in self.workers:
            if member.wanted:
                member.left()
            member.close()
        self._gone += self.workers
        self._named = named
        self.workers = self._workers(named=named)

    def heal(self) -> None:
        """Have nothing of an earlier scenario go on, if that one failed."""
        for death in self.deaths.iterdir():
            death.unlink()
        for member in self.members():
            member.signal(signal.SIGCONT)
            if member.doomed:
                member.kill()
                member.start()

    def stable(self) -> None:
        """Wait until all partitions are owned, each by one, and bridge and Celery worker are at work."""

        def is_stable() -> bool:
            owned = [member.partitions() for member in self.workers if member.wanted]
            numbers = [number for some in owned if some is not None for number in some]
            others = [member for member in (self.bridge, self.celery) if member.wanted]
            return (
                None not in owned
                and sorted(numbers) == list(range(PARTITIONS))
                and all(member.is_ready() for member in others)
            )

        self.until(is_stable, within_s=START_S, what="the group is not stable")

    @contextmanager
    def load(self, plan: Plan, *, seconds: float) -> Iterator[None]:
        """Three producers fire ``plan`` while the block runs; what is left at its end, they fire at once."""
        self.plans.append(plan)
        self._producers = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.acceptance.chain.producer"),
                    *(kind, self.bootstrap, self.app),
                    *(plan.name, str(plan.sessions), str(plan.seed), str(seconds)),
                ],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
            )
            for kind in KINDS
        ]
        try:
            yield
            for process in self._producers:
                assert process.stdin is not None
                process.stdin.close()
            self.until(
                lambda: all(process.poll() is not None for process in self._producers),
                within_s=REST_S,
                what="producers still fire",
            )
            assert [process.returncode for process in self._producers] == [0] * len(KINDS)
        finally:
            for process in self._producers:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    def until(self, condition: Callable[[], object], *, within_s: float, what: str) -> None:
        """Wait for ``condition``; who ends meanwhile is started again."""
        deadline = time.monotonic() + within_s
        while not condition():
            for member in self.members():
                member.tend()
            if time.monotonic() > deadline:
                texts = "\n".join(member.tail() for member in self.members() if member.wanted)
                raise AssertionError(f"{what}, after {within_s:g} s\n{texts}")
            time.sleep(0.05)

    def rest(self, seconds: float) -> None:
        """Let time go by; who ends meanwhile is started again."""
        deadline = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= deadline, within_s=2 * seconds + 1, what="no rest")

    def run(self, plan: Plan, faults: Callable[[], int], *, seconds: float, workers: int = 2) -> Row:
        """Put it under load, let ``faults`` happen, which says how many, let it come to rest, and count."""
        started = time.monotonic()
        before = self._ends()
        self.heal()
        self.have(workers)
        with self.load(plan, seconds=seconds):
            count = faults()
        if self.transacted:
            self.settle(plan)
        else:
            self.stable()
            self.folded()
        row = Row(
            scenario=plan.name,
            events=EVENTS * plan.sessions,
            faults=count,
            effects=count_effects(self.engine, self.app, plan) if self.transacted else None,
            commands=count_commands(self.connection, self.app, plan, partitions=PARTITIONS),
            seconds=time.monotonic() - started,
            ends=self._ends() - before,
        )
        assert strangers(self.engine, self.plans) == []
        return row

    def _ends(self) -> Counter[int]:
        return sum((member.ends for member in (*self.members(), *self._gone)), Counter[int]())

    # ---- coming to rest -------------------------------------------------------------------------

    def settle(self, plan: Plan) -> None:
        """Wait until ``plan`` has taken effect, and nothing of it is left that could take effect again."""
        self.stable()
        expected = plan.effects(self.app)
        deadline = time.monotonic() + REST_S
        # Not a failure if it does not: the count will say what is missing.
        while not effects_of(self.engine, plan).keys() >= expected and time.monotonic() < deadline:
            self.rest(0.2)
        # Twice: what slips through between two looks of the first is seen by the second.
        self.until(
            lambda: self._idle() and self._idle(), within_s=REST_S, what="something is still under way"
        )

    def _idle(self) -> bool:
        if any(self.deaths.iterdir()) or not self._queue_empty():
            return False
        return asyncio.run(self._read_up_to_the_end()) and self._queue_empty()

    def _queue_empty(self) -> bool:
        with redis.Redis.from_url(self.broker) as client:
            return not client.llen("celery") and not client.zcard("unacked_index")

    async def _read_up_to_the_end(self) -> bool:
        groups = {self.app: self.topics.events, f"{self.app}-bridge": self.topics.commands}
        admin = AIOKafkaAdminClient(**self.connection.options())
        reader = self.connection.reader()
        await admin.start()
        await reader.start()
        try:
            for group, topic in groups.items():
                ends = await reader.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
                offsets = await admin.list_consumer_group_offsets(group)
                if any(place not in offsets or offsets[place].offset < end for place, end in ends.items()):
                    return False
        finally:
            await reader.stop()
            await admin.close()
        return True

    def folded(self) -> None:
        """Wait until the changelog's marks say that every event is folded: they are there in either mode."""
        deadline = time.monotonic() + REST_S
        while True:
            self.rest(1.0)
            events, changelog = asyncio.run(self._events_and_changelog())
            if all(changelog[p] >= events[p] for p in range(PARTITIONS)):
                return
            assert time.monotonic() < deadline, f"folded up to {changelog} of {events}"

    async def _events_and_changelog(self) -> tuple[dict[int, int], dict[int, int]]:
        events = await read_all(self.connection, self.topics.events, PARTITIONS)
        changelog = await read_all(self.connection, self.topics.changelog, PARTITIONS)
        ends = {p: found[-1].offset + 1 if found else 0 for p, found in events.items()}
        marks = dict.fromkeys(range(PARTITIONS), 0)
        for p, found in changelog.items():
            for record in found:
                if record.key == CHECKPOINT_KEY:
                    marks[p] = decode_checkpoint(record.value).offset
        return ends, marks

    def close(self) -> None:
        """End all of it."""
        for member in self.members():
            member.close()
        self.engine.dispose()


@contextmanager
def rig(
    bootstrap: str,
    folder: Path,
    *,
    database: str | None = None,
    transacted: bool = True,
    tasks: str = TASKS,
    config: Path | None = None,
) -> Iterator[Rig]:
    """A chain of one's own, gone at the end; its effects are in an SQLite file by default."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = Rig(
            bootstrap=bootstrap,
            folder=folder,
            broker=stack.enter_context(valkey_server()),
            database=database or f"sqlite:///{folder}/effects.db",
            transacted=transacted,
            tasks=tasks,
            config=config,
        )
        stack.callback(made.close)
        yield made
