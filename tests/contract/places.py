"""Apps on each set of adapters, with an engine that folds on request: the ground of several suites."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.intake import intake
from triggerstream.adapters.http import HttpLog
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaAppender, KafkaLedger
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.adapters.kafka.records import readable_extents
from triggerstream.adapters.kafka.replay import KafkaRecords
from triggerstream.adapters.kafka.snapshots import snapshot_of
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.adapters.memory import (
    InMemoryRecords,
    ManualClock,
    MemoryAppender,
    MemoryArchive,
    MemoryDatabase,
    MemoryFencing,
    MemoryIndex,
    MemoryLedger,
    MemoryLog,
    MemoryOwnersTopic,
    MemoryPartition,
    MemoryReader,
    MemorySnapshot,
    MemoryStateFiles,
    MemoryStateStore,
    MemoryStore,
)
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory, TemporaryStore
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader, SqliteStore
from triggerstream.adapters.sqlite.index import SqliteIndex
from triggerstream.adapters.sqlite.replay import SqliteArchive
from triggerstream.adapters.sqlite.snapshot import SqliteSnapshot
from triggerstream.core.ids import AppId, ConfigHash, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Stored
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.partitioned.claims import Claimant, Claims, new_ids
from triggerstream.engine.partitioned.ownership import Assignment, Owner
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.partitioned.ports import Appender, Commit, Ledger, StateStore
from triggerstream.engine.ports import Log, Reader, Store
from triggerstream.engine.processor import Processor
from triggerstream.engine.queries.embedded import EmbeddedInspector, ReaderStates
from triggerstream.engine.queries.index import Index, States
from triggerstream.engine.queries.inspector import Inspector
from triggerstream.engine.queries.snapshots import ChangelogSnapshot, SessionSnapshot
from triggerstream.engine.queries.worker import InspectedPartition, WorkerInspector
from triggerstream.engine.replay.archive import Archive
from triggerstream.engine.replay.changelog import ChangelogArchive
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.wire import tasksfile
from triggerstream.wire.claims import Claim, OwnerId
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import Identity
from triggerstream.wire.records import NewRecord, Record

APP = AppId("app")
MANY = 10_000
CLAIMANT = Claimant(host="here", pid=1)
ONLY = frozenset({0})
"""The only partition of a log."""

KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)
"""The real Kafka that all tests of a run share; each test has topics of its own, with one partition."""


def event(session: str, name: str, *, data: object = None, headers: Iterable[str] = ()) -> NewRecord:
    """The trigger ``name`` of ``session``."""
    return NewRecord(
        key=session.encode(),
        value=dumps({"type": name} if data is None else {"type": name, "data": data}),
        headers=tuple((one, b"x") for one in headers),
    )


class Place(ABC):
    """An app whose log has one partition. ``log`` is there at once; the engine starts when it first folds."""

    app = APP

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._replaces: ConfigHash | None = None
        self._number = 0

    @property
    @abstractmethod
    def log(self) -> Log: ...

    @abstractmethod
    def reader(self) -> Reader:
        """A new reader."""

    @abstractmethod
    def archive(self) -> Archive:
        """A new archive."""

    @abstractmethod
    def snapshot(self) -> SessionSnapshot:
        """A new snapshot."""

    @abstractmethod
    async def inspector(self) -> Inspector:
        """A new inspector of the engine that runs."""

    @abstractmethod
    async def states(self) -> States:
        """The stored sessions of the engine that runs."""

    @abstractmethod
    async def fold(self) -> None:
        """Have the engine fold what is in the log, and make it durable."""

    @abstractmethod
    async def add_dead_letters(self, *letters: DeadLetter) -> None:
        """Make dead letters durable."""

    @abstractmethod
    async def stop(self) -> None:
        """End the engine in good order; ``fold`` starts another."""

    @abstractmethod
    async def decided(self) -> Sequence[bytes]:
        """All commands that were made durable and are not settled, or all of them."""

    async def close(self) -> None:
        await self.stop()
        await self._stack.aclose()

    async def fire(self, session: str, *names: str) -> None:
        await self.log.append([event(session, name) for name in names])

    async def configure(self, text: str) -> None:
        """Append the tasks file ``text``."""
        config = tasksfile.read(text, name="tasks.json")
        record = configuration_record(config, replaces=self._replaces, number=self._number)
        assert record is not None
        await self._append_configuration(record)
        self._replaces, self._number = config.hash, self._number + 1

    async def _append_configuration(self, record: NewRecord) -> None:
        await self.log.append([record])

    def _closed_at_end(self, one: Reader | Archive | SessionSnapshot) -> None:
        self._stack.push_async_callback(one.close)


# ---- the embedded engine --------------------------------------------------------------------------


class EmbeddedPlace(Place):
    """A processor and a store, without the loops of the engine."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self._store: Store | None = None
        self._rules = Rules(app=self.app)
        self._offset = 0

    @abstractmethod
    def store(self) -> Store:
        """A new store."""

    async def running(self) -> Store:
        """The store of the engine that runs."""
        if self._store is None:
            self._store = self.store()
            resumed = await self._store.open()
            self._rules = rules_of(self.app, resumed.configurations, ConfigurationCache())
            self._offset = resumed.offset
        return self._store

    async def fold(self) -> None:
        store, processor = await self.running(), Processor(app=self.app)
        while records := await store.read(self._offset, limit=3):
            state_of = await store.load([])
            checkpoint = processor.process(self._rules, records, state_of)
            await store.commit(checkpoint)
            self._rules, self._offset = checkpoint.rules or self._rules, checkpoint.offset
            self._rules = await store.forget(self._rules)

    async def add_dead_letters(self, *letters: DeadLetter) -> None:
        store = await self.running()
        await store.commit(Checkpoint(partition=0, offset=self._offset, dead_letters=letters))

    async def stop(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    async def decided(self) -> Sequence[bytes]:
        return [row.value for row in await self.reader().outbox(limit=MANY)]

    async def states(self) -> States:
        return ReaderStates(self.reader())

    async def inspector(self) -> Inspector:
        await self.running()
        return EmbeddedInspector(self.reader(), self.log, app=self.app)


class MemoryPlace(EmbeddedPlace):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.database = MemoryDatabase()
        self._log = MemoryLog(self.database, clock=clock)

    @property
    def log(self) -> Log:
        return self._log

    def store(self) -> Store:
        return MemoryStore(self.database, app=self.app, clock=self.clock)

    def reader(self) -> Reader:
        return MemoryReader(self.database)

    def archive(self) -> Archive:
        return MemoryArchive(self.database, app=self.app)

    def snapshot(self) -> SessionSnapshot:
        return MemorySnapshot(self.database, app=self.app)


class HttpPlace(MemoryPlace):
    """One whose log is at the other end of a real HTTP intake."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._http: HttpLog | None = None

    async def serve(self) -> None:
        """Start the intake."""
        server = await self._stack.enter_async_context(TestServer(intake(self._log, self.database)))
        self._http = HttpLog(str(server.make_url("")).rstrip("/"))
        self._stack.push_async_callback(self._http.close)

    @property
    def log(self) -> Log:
        assert self._http is not None
        return self._http


class SqlitePlace(EmbeddedPlace):
    def __init__(self, clock: ManualClock, directory: Path) -> None:
        super().__init__(clock)
        self.directory = directory
        self._log = SqliteLog(directory, create=True, clock=clock)
        self._stack.push_async_callback(self._log.close)

    @property
    def log(self) -> Log:
        return self._log

    def store(self) -> Store:
        return SqliteStore(self.directory, app=self.app, log=self._log, clock=self.clock)

    def reader(self) -> Reader:
        reader = SqliteReader(self.directory)
        self._closed_at_end(reader)
        return reader

    def archive(self) -> Archive:
        archive = SqliteArchive(self.directory, app=self.app)
        self._closed_at_end(archive)
        return archive

    def snapshot(self) -> SessionSnapshot:
        snapshot = SqliteSnapshot(self.directory, app=self.app)
        self._closed_at_end(snapshot)
        return snapshot


# ---- an engine with a partition of a shared log ---------------------------------------------------


class PartitionedPlace(Place):
    """An owner of the log's one partition, which gets its batches from ``fold``."""

    identity = Identity(cluster="c", topic="t", partitions=1)

    def __init__(self) -> None:
        super().__init__()
        self._owner: Owner | None = None
        self.failures: list[BaseException] = []
        self._failed = asyncio.Event()
        self._inspectors: list[WorkerInspector] = []

    @property
    @abstractmethod
    def appender(self) -> Appender: ...

    @abstractmethod
    def ledger(self, id_: OwnerId | None = None) -> Ledger:
        """A new ledger, which commits under ``id_``; None: it is only read."""

    @abstractmethod
    def claims(self, ids: Sequence[OwnerId]) -> Claims:
        """The claims of an assignment with these ids."""

    async def unreleased(self) -> Sequence[Claim]:
        """The claims that are not released."""
        return list((await self.claims([]).owners.read(MANY)).values())

    async def owned(self) -> Ledger:
        """A new ledger that owns the partition."""
        ids = new_ids(self.app)
        ledger = self.ledger(ids[0])
        await ledger.start()
        await self.claims(ids).take()
        return ledger

    @abstractmethod
    def open_store(self) -> StateStore:
        """Open the store."""

    @abstractmethod
    def index(self) -> Index:
        """A new index."""

    @abstractmethod
    async def records(self, begin: int) -> Sequence[Record]:
        """The records of the log from ``begin`` on."""

    async def _opened(self) -> Owner:
        if self._owner is None:
            self._owner = Owner(lambda _numbers, _generation: self._assignment())
            self._owner.on_durable = self._note
            await self._owner.open([0])
        return self._owner

    def _note(self, partition: Partition, sessions: Iterable[SessionId]) -> None:
        for inspector in self._inspectors:
            inspector.note(partition, sessions)

    def _assignment(self) -> Assignment:
        ids = new_ids(self.app)
        return Assignment(claims=self.claims(ids), make=lambda _: self._made(ids[0]))

    async def _open_store(self) -> StateStore:
        return self.open_store()

    def _made(self, id_: OwnerId) -> Partition:
        return Partition(
            processor=Processor(app=self.app, partition=0, partitions=1),
            ledger=self.ledger(id_),
            open_store=self._open_store,
            appender=self.appender,
            clock=ManualClock(),
            identity=self.identity,
            fail=self._fail,
        )

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self._failed.set()

    async def fold(self) -> None:
        partition = (await self._opened()).partitions[0]
        records = await self.records(partition.next)
        if records:
            partition.take()
            partition.fold(records)
            async with asyncio.timeout(60):
                await partition.reached(records[-1].offset + 1)
        await self.shown()
        assert not self.failures

    async def fold_and_fail(self) -> None:
        """Have the engine fold what is in the log, and wait until that has ended it."""
        partition = (await self._opened()).partitions[0]
        partition.take()
        partition.fold(await self.records(partition.next))
        async with asyncio.timeout(60):
            await self._failed.wait()

    async def shown(self) -> None:
        """Wait until readers see what was made durable."""

    async def add_dead_letters(self, *letters: DeadLetter) -> None:
        owner = await self._opened()
        ledger = owner.partitions[0].ledger
        await ledger.commit(Commit(decided=(), states={}, dead_letters=letters, marks={}, offset=None))
        await self.shown()

    async def stop(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            await owner.close()

    async def _append_configuration(self, record: NewRecord) -> None:
        await self.appender.append(0, [record])

    async def states(self) -> States:
        return InspectedPartition((await self._opened()).partitions[0])

    async def inspector(self) -> Inspector:
        found = WorkerInspector(
            await self._opened(),
            app=self.app,
            url="http://here",
            identity=self.identity,
            lag=lambda: {0: 0},
            waiting=dict,
            index=lambda _: self.index(),
            appender=self.appender,
            reader=self.reader(),
            claims=self.unreleased,
        )
        self._inspectors.append(found)
        self._stack.push_async_callback(found.close)
        return found


class _PartitionLog:
    """The log that has one partition in memory. A :class:`triggerstream.engine.ports.Log`."""

    def __init__(self, appender: MemoryAppender) -> None:
        self._appender = appender

    async def append(self, records: Sequence[NewRecord]) -> None:
        await self._appender.append(0, records)

    async def close(self) -> None:
        """Nothing to close."""


class _LetterReader(MemoryReader):
    """A reader that has only the dead letters and the log of ``partition``, and the ``sessions`` given."""

    def __init__(
        self, partition: MemoryPartition, sessions: Mapping[SessionId, Stored] | None = None
    ) -> None:
        rows = [
            DeadLetterRow(
                number=number,
                at_us=letter.record.arrival_us,
                offset=letter.record.offset,
                key=letter.record.key,
                value=letter.record.value,
                headers=letter.record.headers,
                reason=letter.reason,
                last=letter.last,
                left_out=letter.left_out,
            )
            for number, letter in enumerate(partition.dead_letters, 1)
        ]
        database = MemoryDatabase(dead_letters=rows, records=partition.log, sessions={**(sessions or {})})
        super().__init__(database)


class MemoryPartitionPlace(PartitionedPlace):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.partition = MemoryPartition()
        self._owners = MemoryOwnersTopic()
        self._files = MemoryStateFiles()
        self._appender = MemoryAppender([self.partition], clock=clock)

    @property
    def log(self) -> Log:
        return _PartitionLog(self._appender)

    @property
    def appender(self) -> Appender:
        return self._appender

    def ledger(self, id_: OwnerId | None = None) -> MemoryLedger:
        return MemoryLedger(self.partition, id_)

    def claims(self, ids: Sequence[OwnerId]) -> Claims:
        fencing = MemoryFencing({0: self.partition})
        return Claims(
            ids=ids, partitions=ONLY, owners=self._owners, fencing=fencing, claimant=CLAIMANT, since_us=0
        )

    def open_store(self) -> StateStore:
        return MemoryStateStore(self._files)

    def index(self) -> Index:
        return MemoryIndex()

    def reader(self) -> Reader:
        return _LetterReader(self.partition)

    def reader_with(self, sessions: Mapping[SessionId, Stored]) -> Reader:
        """A reader that has these sessions, too."""
        return _LetterReader(self.partition, sessions)

    async def records(self, begin: int) -> Sequence[Record]:
        return self.partition.log[begin:]

    async def decided(self) -> Sequence[bytes]:
        return self.partition.commands

    def archive(self) -> Archive:
        commands = [
            Record(partition=0, offset=offset, arrival_us=0, key=None, value=value)
            for offset, value in enumerate(self.partition.commands)
        ]
        ids = new_ids(self.app)
        return ChangelogArchive(
            app=self.app,
            number=0,
            identity=self.identity,
            ledger=self.ledger(ids[0]),
            claims=self.claims(ids),
            log=InMemoryRecords(self.partition.log),
            commands=InMemoryRecords(commands),
        )

    def snapshot(self) -> SessionSnapshot:
        return ChangelogSnapshot(
            app=self.app,
            number=0,
            identity=self.identity,
            ledger=self.ledger(),
            open_store=MemoryStateStore,
            has_events=self._has_events,
        )

    async def _has_events(self, begin: int, end: int) -> bool:
        return bool(self.partition.log[begin:end])


class KafkaPlace(PartitionedPlace):
    def __init__(self, bootstrap: str, directory: Path) -> None:
        super().__init__()
        self.app = AppId(f"contract-{uuid4().hex[:12]}")
        self.connection = Connection(bootstrap=bootstrap)
        self.topics = Topics.of(self.app)
        self._directory = directory
        self._log = KafkaLog(self.connection, self.app)
        self._appender = KafkaAppender(connection=self.connection, app=self.app)
        self._read = KafkaReader(self.connection, self.app)
        self._fencing = KafkaFencing(self.connection, self.app)
        self._owners = KafkaOwnersTopic(self.connection, self.app)
        self._uncommitted: AIOKafkaConsumer | None = None
        for one in (self._log, self._appender, self._read, self._owners):
            self._stack.push_async_callback(one.close)

    async def create(self) -> None:
        """Create the topics."""
        await create(self.connection, self.app, partitions=1)
        self.identity = (await layout_of(self.connection, self.app)).identity

    async def shown(self) -> None:
        """Kafka answers a commit before it writes the markers that end the transaction."""
        if self._uncommitted is None:
            self._uncommitted = self.connection.reader(committed=False)
            await self._stack.enter_async_context(self.connection.running(self._uncommitted))
            await self._read.partitions()
        places = [TopicPartition(topic, 0) for topic in self.topics.all()]
        async with asyncio.timeout(30):
            while True:
                stable = await readable_extents(self._read._started(), places)  # noqa: SLF001 - started anyway
                high = await self._uncommitted.end_offsets(places)
                if all(stable[place][1] == high[place] for place in places):
                    return
                await asyncio.sleep(0.005)

    @property
    def log(self) -> Log:
        return self._log

    @property
    def appender(self) -> Appender:
        return self._appender

    def ledger(self, id_: OwnerId | None = None) -> KafkaLedger:
        return KafkaLedger(
            connection=self.connection,
            app=self.app,
            topics=self.topics,
            partition=0,
            id_=id_,
            fencing=self._fencing,
        )

    def claims(self, ids: Sequence[OwnerId]) -> Claims:
        return Claims(
            ids=ids,
            partitions=ONLY,
            owners=self._owners,
            fencing=self._fencing,
            claimant=CLAIMANT,
            since_us=0,
        )

    def open_store(self) -> StateStore:
        return RocksStore(self._directory / "states", changelog="changelog", memory=SharedRocksMemory())

    def index(self) -> Index:
        return SqliteIndex(self._directory / "index.db")

    def reader(self) -> Reader:
        reader = KafkaReader(self.connection, self.app)
        self._closed_at_end(reader)
        return reader

    async def records(self, begin: int) -> Sequence[Record]:
        return await self._read.records(after=begin - 1, limit=MANY)

    def topic(self, name: str) -> KafkaRecords:
        """The records of one of the topics."""
        return KafkaRecords(self.connection, topic=name, partition=0)

    async def decided(self) -> Sequence[bytes]:
        topic = self.topic(self.topics.commands)
        pieces = [piece async for piece in topic.records(*await topic.since(0))]
        return [record.value or b"" for piece in pieces for record in piece]

    def archive(self) -> Archive:
        ids = new_ids(self.app)
        archive = ChangelogArchive(
            app=self.app,
            number=0,
            identity=self.identity,
            ledger=self.ledger(ids[0]),
            claims=self.claims(ids),
            log=self.topic(self.topics.events),
            commands=self.topic(self.topics.commands),
        )
        self._closed_at_end(archive)
        return archive

    def snapshot(self) -> SessionSnapshot:
        snapshot = snapshot_of(
            self.connection, self.app, number=0, identity=self.identity, open_store=TemporaryStore
        )
        self._closed_at_end(snapshot)
        return snapshot


async def place_of(kind: str, request: pytest.FixtureRequest, directory: Path, clock: ManualClock) -> Place:
    """A new place on the adapters ``kind``."""
    match kind:
        case "memory":
            return MemoryPlace(clock)
        case "sqlite":
            return SqlitePlace(clock, directory)
        case "http":
            http = HttpPlace(clock)
            await http.serve()
            return http
        case "memory partition":
            return MemoryPartitionPlace(clock)
        case _:
            place = KafkaPlace(request.getfixturevalue("kafka"), directory)
            await place.create()
            return place
