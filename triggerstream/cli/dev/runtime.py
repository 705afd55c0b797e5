"""The processes of `dev` and `demo` for one state directory: engine, broker, Celery worker, HTTP intake."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from triggerstream import bootstrap, variables
from triggerstream.cli.dev.celery_app import (
    CeleryApp,
    executor_check,
    load_app,
    own_broker,
    use_broker,
)
from triggerstream.cli.dev.celery_worker import Worker
from triggerstream.cli.dev.children import Broker, start_valkey
from triggerstream.core.errors import LogError, TriggerstreamError, UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.engine.background import Background
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.clock_step import CLOCK_PAUSE_S
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.database_file import DATABASE
from triggerstream.engine.ports import ClockWatch, Log, Reader
from triggerstream.engine.queries.embedded import EmbeddedInspector, ReaderStates
from triggerstream.engine.queries.future_arrivals import future_of_log
from triggerstream.engine.queries.index import Indexer
from triggerstream.engine.queries.view import View
from triggerstream.settings import DEFAULT_APP, SqliteAddress
from triggerstream.wire.tasksfile import Check

if TYPE_CHECKING:
    from triggerstream.engine.embedded.engine import EmbeddedEngine

_INDEX_S = 1.0
"""Time for the index of sessions to catch up at a stop; otherwise it is rebuilt at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The processes to run. ``port`` None: no intake; 0: a free one. ``celery`` None: no worker."""

    directory: Path
    celery: str | None
    broker: str | None
    port: int | None
    concurrency: int
    accept_clock: bool = False
    """Trust this machine's clock as it is, also if it was set forward."""


async def until_first_ends(tasks: Sequence[asyncio.Future[None]], *, kept: int) -> None:
    """Return once one of ``tasks`` has ended, or raise its error; cancel all but the first ``kept``."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks[kept:]:
            task.cancel()
    for task in done:
        await task


class Runtime:
    """Async context manager: all processes run after it is entered, and have ended after it is left.

    It locks the directory first and starts the worker last. It stops in the opposite order, so that the
    outcomes of the last tasks are still folded.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        on_checkpoint: Callable[[Checkpoint], None],
        write_line: Callable[[str, str], None],
    ) -> None:
        self._setup = setup
        self._on_checkpoint = on_checkpoint
        self._write_line = write_line
        self._stack = AsyncExitStack()
        self._app: CeleryApp | None = None
        self._nowhere = bootstrap.nowhere()
        self._engine: EmbeddedEngine | None = None
        self._running: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._background = Background(self._fail)
        self._worker: Worker | None = None
        self.address = SqliteAddress(path=setup.directory.absolute() / DATABASE)
        self.configurations = ConfigurationCache()
        self.reader: Reader = bootstrap.reader(self.address, self.configurations)
        self.view = View(self.reader, app=DEFAULT_APP, configurations=self.configurations)
        self._indexer = Indexer(bootstrap.index(self.address), lambda: self.engine.rules)
        self._indexed = False
        self.url: str | None = None
        self.since = 0
        """The offset from which the engine went on."""
        self.broker: str | None = None
        self._valkey: Broker | None = None

    @property
    def has_own_broker(self) -> bool:
        """True if this runtime has started the broker."""
        return self._valkey is not None

    @property
    def engine(self) -> EmbeddedEngine:
        """The engine; it must run."""
        if self._engine is None:
            raise UsageError("the engine does not run yet")
        return self._engine

    def load_app(self) -> Sequence[Check]:
        """Load the Celery app; the checks of a tasks file against it.

        Raises:
            UsageError: there is no such app.
        """
        # For `install` in the app's own module, here and in the worker.
        os.environ[variables.LOG] = str(self.address)
        spec = self._setup.celery
        if spec is None:
            return ()
        self._app = load_app(spec)
        return (executor_check([(spec, self._app)], severity="warning"),)

    def queues(self, config: Configuration) -> list[str]:
        """The queues from which the worker has to consume: those of the file and of the app's routes."""
        named = [task.queue for task in config.tasks if task.queue]
        return named if self._app is None else [*named, *bootstrap.celery_queues(self._app, config.tasks)]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        setup = self._setup
        # For `install` in the app's own module, here and in the worker.
        os.environ[variables.LOG] = str(self.address)
        if self._app is None:
            self.load_app()
        self._stack.push_async_callback(self.reader.close)
        await self._find_broker()
        dispatcher = self._nowhere if self._app is None else bootstrap.dispatcher(self._app)
        folded = await self._folded()
        self._engine, log = bootstrap.embedded(
            self.address,
            app=DEFAULT_APP,
            dispatcher=dispatcher,
            on_checkpoint=self._stored,
            configurations=self.configurations,
        )
        self._stack.push_async_callback(log.close)
        self._stack.push_async_callback(self._close_index)
        self._running = asyncio.create_task(self._engine.run())
        self._stack.push_async_callback(self._stop_engine)
        try:
            await self._engine.ready()
        except UsageError:
            await self._running  # says why it has ended
            raise
        self.since = self._engine.offset
        self._indexer.resume(str(folded))
        self._indexed = True
        self._stack.push_async_callback(self._background.close)
        await self._watch_clock()
        if setup.port is not None:
            await self._serve(setup.port, log)

    async def _watch_clock(self) -> None:
        """Say what is wrong with the clock now, and watch it from now on."""
        watch = bootstrap.clock_watch(self.address)
        if self._setup.accept_clock:
            await asyncio.to_thread(watch.accept)
        refused = await asyncio.to_thread(watch.look)
        if refused is not None:
            self._write_line("clock", refused)
        elif (ahead := await future_of_log(self.reader)) is not None:
            self._write_line("clock", ahead)
        self._background.start("clock", self._keep_clock(watch, refused=refused is not None))

    async def _keep_clock(self, watch: ClockWatch, *, refused: bool) -> None:
        while True:
            await asyncio.sleep(CLOCK_PAUSE_S)
            try:
                reason = await asyncio.to_thread(watch.look)
            except LogError:
                continue  # the engine says what the database lacks
            if (reason is not None) != refused:
                refused = reason is not None
                self._write_line("clock", reason or "the clock is back: events are accepted again")

    def _stored(self, checkpoint: Checkpoint) -> None:
        self._indexer.note(checkpoint.states)
        self._on_checkpoint(checkpoint)

    async def start_worker(self, queues: Sequence[str]) -> None:
        """Start the Celery worker, or make it consume from ``queues`` as well."""
        if self._setup.celery is None:
            return
        if self._worker is None:
            self._worker = Worker(
                self._setup.celery,
                broker=self.broker,
                address=self.address,
                concurrency=self._setup.concurrency,
                write_line=self._write_line,
            )
            self._stack.push_async_callback(self._worker.stop)
        await self._worker.consume(queues)

    async def ended(self) -> None:
        """Return once the engine, the worker or the broker has ended by itself; raises what it ended with."""
        parts: list[asyncio.Future[None] | None] = [self._running, self._failed]
        if self._worker is not None:
            parts.append(asyncio.create_task(self._worker.ended()))
        if self._valkey is not None:
            parts.append(asyncio.create_task(self._valkey.ended()))
        tasks = [task for task in parts if task is not None]
        await until_first_ends(tasks, kept=2)

    def _fail(self, exc: BaseException) -> None:
        """Make ``ended`` raise ``exc``."""
        if not self._failed.done():
            self._failed.set_exception(exc)
            self._failed.exception()  # the error is only for callers that wait for `ended`

    async def _find_broker(self) -> None:
        app = self._app
        if app is None:
            return
        self.broker = self._setup.broker
        if self.broker is None and own_broker(app) is None:
            self._valkey = await start_valkey()
            self._stack.push_async_callback(self._valkey.child.stop)
            self.broker = self._valkey.url
        if self.broker is not None:
            use_broker(app, self.broker)
        bootstrap.check_celery_broker(own_broker(app))

    async def _folded(self) -> int | None:
        """The next offset of the engine when it last ended; None if it has never run."""
        try:
            return (await self.reader.progress()).offset
        except UsageError:
            return None

    async def _close_index(self) -> None:
        if self._engine is None or not self._indexed:
            return
        with suppress(TriggerstreamError):
            await self._indexer.work(ReaderStates(self.reader), slice_s=_INDEX_S)
        self._indexer.close(str(self._engine.offset))

    async def _serve(self, port: int, log: Log) -> None:
        from triggerstream.web.access import Access
        from triggerstream.web.serving import Server, listening_socket
        from triggerstream.web.site import site

        try:
            listening = listening_socket("127.0.0.1", port)
        except OSError as exc:
            raise UsageError(f"--port {port}: {exc.strerror}: choose another one, 0 for a free one") from exc
        inspector = EmbeddedInspector(
            self.reader,
            log,
            app=DEFAULT_APP,
            indexer=self._indexer,
            decoder=bootstrap.state_decoder(self.address),
            configurations=self.configurations,
        )
        self._background.start("index of sessions", inspector.run())
        pages = site(inspector, inspector, Access(), log=log, configurations=self.configurations)
        server = Server(pages, listening)
        self._stack.push_async_callback(server.stop)
        await server.start(self._fail)
        self.url = server.url

    async def _stop_engine(self) -> None:
        if self._engine is None or self._running is None:
            return
        self._engine.stop()
        # Calls that wait for an executor that does not exist raise an error, which is expected.
        logging.getLogger("triggerstream.engine.handover.pacing").disabled = self._app is None
        self._nowhere.release()
        # Its error was raised in the call of `ended`.
        await asyncio.wait([self._running])
