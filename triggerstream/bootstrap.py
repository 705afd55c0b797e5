"""Composition root: the only module that chooses concrete classes. Each is imported when it is chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, assert_never

from triggerstream import variables
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Configuration, Task
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.ports import ClockWatch, Dispatcher, Log, OutcomeLog, Reader
from triggerstream.engine.queries.index import Index
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.settings import (
    DEFAULT_APP,
    Address,
    HttpAddress,
    KafkaAddress,
    SqliteAddress,
    parse_address,
)

if TYPE_CHECKING:
    from triggerstream.adapters.faust.worker import WebParts
    from triggerstream.adapters.kafka.connection import Connection
    from triggerstream.adapters.kafka.security import Security
    from triggerstream.adapters.nowhere import NowhereDispatcher
    from triggerstream.engine.checkpoint import LostRange
    from triggerstream.engine.configuration_cache import ConfigurationCache
    from triggerstream.engine.embedded.engine import EmbeddedEngine
    from triggerstream.engine.handover_process import HandOverProcess
    from triggerstream.engine.health.end_report import OnEnd
    from triggerstream.engine.health.liveness import PublishedHealth
    from triggerstream.engine.operations.administration import Administration, TopicFinding
    from triggerstream.engine.operations.executor_workers import HeardWorker
    from triggerstream.engine.operations.processes import Knock
    from triggerstream.engine.queries.snapshots import SessionSnapshot
    from triggerstream.engine.replay.archive import Archive, HistoryLog, RecordReader
    from triggerstream.supervision.child import Supervision
    from triggerstream.web.view import PageSettings
    from triggerstream.wire.signature import ControlKeys
    from triggerstream.wire.tasksfile import Parameters

_HEARTBEAT_S = 3.0


def log(address: str | Address, *, timeout_s: float = 10.0) -> Log:
    """The log at ``address``. Nothing is opened before the first append.

    Raises:
        UsageError: ``address`` is invalid, or of a kind that this release does not have.
    """
    match _parsed(address):
        case SqliteAddress(path=path):
            from triggerstream.adapters.sqlite.log import SqliteLog

            return SqliteLog(path)
        case HttpAddress(url=url):
            from triggerstream.adapters.http import HttpLog

            return HttpLog(url, timeout_s=timeout_s)
        case KafkaAddress(app=app) as address:
            with _extra():
                from triggerstream.adapters.kafka.log import KafkaLog

            return KafkaLog(kafka(address), app, timeout_s=timeout_s)


def outcome_log(address: str | Address) -> OutcomeLog:
    """The log to which a Celery worker reports outcomes.

    Raises:
        UsageError: ``address`` is invalid, or outcomes cannot be reported there.
    """
    parsed = _parsed(address)
    if isinstance(parsed, KafkaAddress):
        with _extra():
            from triggerstream.adapters.kafka.outcomes import KafkaOutcomeLog

        return KafkaOutcomeLog(kafka(parsed), parsed.app)
    from triggerstream.adapters.sqlite.log import SqliteLog

    return SqliteLog(_database(parsed, "outcomes are reported to").path)


def reader(address: str | Address, configurations: ConfigurationCache | None = None) -> Reader:
    """A reader of the stored data at ``address``. It takes parsed tasks files from ``configurations``.

    Raises:
        UsageError: ``address`` is invalid, or has no reader.
    """
    parsed = _parsed(address)
    if isinstance(parsed, KafkaAddress):
        with _extra():
            from triggerstream.adapters.kafka.reader import KafkaReader

        return KafkaReader(kafka(parsed), parsed.app, configurations=configurations)
    from triggerstream.adapters.sqlite.reader import SqliteReader

    return SqliteReader(_readable(parsed).path)


async def tasks_in_force(address: Address) -> Configuration | None:
    """The configuration in force at ``address``; None if none is.

    Raises:
        TriggerstreamError: it cannot be found out.
    """
    from triggerstream.engine.configuration_cache import ConfigurationCache

    match address:
        case HttpAddress(url=url):
            from triggerstream.adapters.http import configuration_text

            text = await configuration_text(url)
        case KafkaAddress():
            found = await administration(address).in_force()
            text = None if found is None else found.text
        case SqliteAddress():
            stored = reader(address)
            try:
                known = await stored.configurations()
            finally:
                await stored.close()
            text = known[-1].text if known else None
        case _:
            assert_never(address)
    return None if text is None else ConfigurationCache().read(text)


def index(address: SqliteAddress) -> Index:
    """The index of the sessions in a database, in a file beside it."""
    from triggerstream.adapters.sqlite.index import SqliteIndex

    return SqliteIndex(address.path.with_name("index.db"))


def state_decoder(address: SqliteAddress) -> StateDecoder:
    """The decoder for the states in a database."""
    from triggerstream.adapters.sqlite.database import decoder_of, locate

    return decoder_of(locate(address.path))


def clock_watch(address: SqliteAddress) -> ClockWatch:
    """The watch of this machine's clock for a database."""
    from triggerstream.adapters.sqlite.clock_guard import SqliteClockWatch

    return SqliteClockWatch(address.path)


def has_engine(address: SqliteAddress) -> bool:
    """True while a process has the database to itself: an engine, or a rebuild.

    Raises:
        LogError: this cannot be found out.
    """
    from triggerstream.adapters.directory_lock import is_directory_locked
    from triggerstream.adapters.sqlite.database import locate

    try:
        return is_directory_locked(locate(address.path))
    except OSError as exc:
        raise LogError(f"{address.path.parent}: cannot be used: {exc}") from exc


async def archives(
    address: str | Address, *, to_rebuild: bool, partitions: int | None = None
) -> Sequence[Archive]:
    """Archives for a replay: all partitions of the log at ``address``.

    ``partitions``: the app's number of partitions, if no checkpoint has it.

    Raises:
        UsageError: ``address`` is invalid or has no log; with ``to_rebuild``, also if workers run.
        LogError: the log cannot be reached.
    """
    parsed = _parsed(address)
    if isinstance(parsed, KafkaAddress):
        connection = kafka(parsed)
        from triggerstream.adapters.kafka.partition_archives import archives_of

        return await archives_of(connection, parsed.app, to_rebuild=to_rebuild, partitions=partitions)
    from triggerstream.adapters.sqlite.replay import SqliteArchive

    return [SqliteArchive(_readable(parsed).path, app=DEFAULT_APP)]


async def histories(address: str | Address) -> Sequence[HistoryLog]:
    """The logs of all partitions at ``address``, to be read only.

    Raises:
        UsageError: ``address`` is invalid or has no log.
        LogError: the log cannot be reached.
    """
    parsed = _parsed(address)
    if isinstance(parsed, KafkaAddress):
        connection = kafka(parsed)
        from triggerstream.adapters.kafka.partition_archives import histories_of

        return await histories_of(connection, parsed.app)
    from triggerstream.adapters.sqlite.replay import SqliteArchive
    from triggerstream.engine.replay.archive import HistoryLog

    archive = SqliteArchive(_readable(parsed).path, app=DEFAULT_APP)
    return [
        HistoryLog(app=DEFAULT_APP, number=0, partitions=1, control=None, reader=archive, close=archive.close)
    ]


async def snapshots(address: str | Address) -> Sequence[SessionSnapshot]:
    """Snapshots of all partitions at ``address``, to be read one after the other and closed.

    Raises:
        UsageError: ``address`` is invalid or has no stored sessions; or there is no log.
        LogError: the log cannot be reached.
    """
    parsed = _parsed(address)
    if isinstance(parsed, KafkaAddress):
        connection = kafka(parsed)
        from triggerstream.adapters.kafka.snapshots import snapshots_of
        from triggerstream.adapters.rocksdb import TemporaryStore

        return await snapshots_of(connection, parsed.app, open_store=TemporaryStore)
    from triggerstream.adapters.sqlite.snapshot import SqliteSnapshot

    return [SqliteSnapshot(_readable(parsed).path, app=DEFAULT_APP)]


async def find_misplaced(address: str | Address, *, partitions: int | None = None) -> TopicFinding | None:
    """Finding about records in partitions that were added to the log; None if there are none.

    Raises:
        UsageError: ``address`` is invalid or has no log.
        LogError: the log cannot be reached.
    """
    parsed = _parsed(address)
    if not isinstance(parsed, KafkaAddress):
        return None
    connection = kafka(parsed)
    from triggerstream.adapters.kafka import partition_archives

    return await partition_archives.find_misplaced(connection, parsed.app, partitions=partitions)


async def added_logs(address: str | Address, *, partitions: int | None = None) -> Mapping[int, RecordReader]:
    """Readers of partitions beyond the app's, if neither a checkpoint nor an option gives the app's number.

    Raises:
        UsageError: ``address`` is invalid or has no log.
        LogError: the log cannot be reached.
    """
    parsed = _parsed(address)
    if not isinstance(parsed, KafkaAddress) or partitions is not None:
        return {}
    connection = kafka(parsed)
    from triggerstream.adapters.kafka.partition_archives import added_partitions

    return await added_partitions(connection, parsed.app)


def control_keys(address: Address) -> ControlKeys | None:
    """The keys that sign engine events at ``address``; None if they are not signed.

    Raises:
        UsageError: the file that names the key cannot be used.
    """
    return kafka_security().control if isinstance(address, KafkaAddress) else None


def administration(address: Address) -> Administration:
    """The administration of the app at ``address``.

    Raises:
        UsageError: ``address`` is not administered, the extra is not installed, or the file with TLS and SASL
            cannot be used.
    """
    if not isinstance(address, KafkaAddress):
        raise UsageError(f"{address}: has no topics to administer")
    connection = kafka(address)
    from triggerstream.adapters.kafka.administration import KafkaAdministration

    return KafkaAdministration(connection, address.app)


def kafka(address: KafkaAddress) -> Connection:
    """The connection to the cluster of ``address``.

    Raises:
        UsageError: the extra is not installed, or the file with TLS and SASL cannot be used.
    """
    with _extra():
        from triggerstream.adapters.kafka.connection import Connection

    return Connection(bootstrap=address.bootstrap, security=kafka_security())


def kafka_security() -> Security:
    """TLS and SASL for Kafka, from the file that the environment names.

    Raises:
        UsageError: the file cannot be used.
    """
    from triggerstream.adapters.kafka.security import PLAINTEXT, read

    path = os.environ.get(variables.KAFKA_CONFIG)
    return read(Path(path)) if path else PLAINTEXT


@contextmanager
def probes(
    health: PublishedHealth,
    *,
    host: str,
    port: int | None,
    supervision: Supervision,
    store: Path | None = None,
) -> Iterator[str | None]:
    """Serve probes and metrics. Yields the URL; None, and no server, if there is no ``port``.

    ``store``: the directory of a worker's states; None if it is not a worker.

    Raises:
        UsageError: it cannot listen there.
    """
    if port is None:
        yield None
        return
    from triggerstream.web.metrics import bridge_registry, worker_registry
    from triggerstream.web.probes import probes, served

    registry = bridge_registry(health) if store is None else worker_registry(health, store=store)
    served_probes = served(
        probes(health, registry), host=host, port=port, supervision=supervision, on_end=health.fail
    )
    with served_probes as url:
        yield url


def own_worker_directory(directory: Path, app: AppId) -> IO[str]:
    """The lock of a worker of ``app`` on its directory, held until it is closed or the process ends.

    Raises:
        UsageError: another worker holds it.
    """
    from triggerstream.adapters.directory_lock import lock_directory
    from triggerstream.engine.private_files import make_private_directory

    make_private_directory(directory)
    taken = "another worker{by} keeps its states here: give each worker a directory of its own with --dir"
    return lock_directory(directory / f"{app}-worker.lock", taken=taken)


def web_parts(pages: PageSettings, *, supervision: Supervision) -> WebParts:
    """The web view of a worker. It listens from now on.

    Raises:
        UsageError: it cannot listen at the address; other machines could reach it and there are no tokens; or
            a file with secrets cannot be used.
    """
    with _extra():
        from triggerstream.adapters.faust.worker import WebParts
    from triggerstream.adapters.sqlite.index import SqliteIndex
    from triggerstream.web.view import WebView

    view = WebView(pages, supervision=supervision)
    return WebParts(view=view, index=lambda path, of: SqliteIndex(path, of=of))


def run_worker(
    address: KafkaAddress,
    *,
    directory: Path,
    session_timeout_s: float,
    instance_id: str | None,
    leaves: bool,
    lasting: bool,
    lost: Sequence[LostRange],
    web_parts: WebParts | None,
    health: PublishedHealth,
    on_end: OnEnd,
) -> int:
    """Run a worker of the app at ``address`` until SIGTERM or SIGINT. Returns the exit status.

    ``directory`` stores its states. ``instance_id``: its name as a static member of the group. ``leaves``: it
    leaves the group at an orderly end. ``lasting``: an operator gave it its name. ``lost``: ranges of the log
    that an operator has declared lost.
    """
    with _extra():
        from triggerstream.adapters.faust import worker
        from triggerstream.adapters.faust.settings import WorkerSettings

    settings = WorkerSettings(
        bootstrap=address.bootstrap,
        app=address.app,
        directory=directory,
        web_url=None if web_parts is None else web_parts.view.url,
        session_timeout_s=session_timeout_s,
        heartbeat_s=min(_HEARTBEAT_S, session_timeout_s / 6),
        instance_id=instance_id,
        leaves=leaves,
        lasting=lasting,
        security=kafka_security(),
        lost=lost,
    )
    return worker.run_worker(settings, health=health, web_parts=web_parts, on_end=on_end)


def bridge(
    address: KafkaAddress,
    *,
    dispatcher: Dispatcher,
    session_timeout_s: float,
    member: str | None,
    lost: Collection[LostRange] = (),
    on_ready: Callable[[Collection[int]], None],
    on_failure: Callable[[str], None] = lambda _reason: None,
) -> HandOverProcess:
    """The process that hands the commands of an app over; made within the event loop that it runs in."""
    from triggerstream.adapters.clock import SystemClock

    connection = kafka(address)
    with _extra():
        from triggerstream.adapters.kafka.bridge import Bridge

    return Bridge(
        connection,
        address.app,
        dispatcher=dispatcher,
        clock=SystemClock(),
        session_timeout_s=session_timeout_s,
        member=member,
        lost=lost,
        on_ready=on_ready,
        on_failure=on_failure,
    )


def celery_app(broker: str) -> Any:  # noqa: ANN401 - as below
    """A Celery app with a broker and no tasks.

    Raises:
        UsageError: a package that the broker needs is not installed.
    """
    from triggerstream.adapters.celery.bare import app_at

    check_celery_broker(broker)
    return app_at(broker)


def check_celery_broker(url: str | None) -> None:
    """Check that the package that the Celery broker at ``url`` needs is installed; None: no URL is known.

    Raises:
        UsageError: it is not; the message names the extra that brings it.
    """
    from triggerstream.adapters.celery.broker_packages import check_transport

    check_transport(url)


def celery_parameters(
    app: Any,  # noqa: ANN401 - as below
) -> dict[str, Parameters | None]:
    """The keyword arguments that each task of a Celery app takes, by its name."""
    from triggerstream.adapters.celery.inventory import parameters_of_tasks

    return parameters_of_tasks(app)


def celery_queues(
    app: Any,  # noqa: ANN401 - as below
    tasks: Iterable[Task],
) -> list[str]:
    """The queues that the routes of a Celery app can choose, for its own tasks and for those of a file."""
    from triggerstream.adapters.celery.inventory import queues_of_routes

    return queues_of_routes(app, tasks)


def hear_celery_workers(app: Any) -> Sequence[HeardWorker]:  # noqa: ANN401 - as below
    """The workers of the Celery app ``app`` that answer."""
    from triggerstream.adapters.celery.inspection import hear_workers

    return hear_workers(app)


async def knock(url: str | None) -> Knock:
    """Check that a worker's pages answer at the address that it announces."""
    from triggerstream.adapters.knock import knock

    return await knock(url)


def dispatcher(
    app: Any,  # noqa: ANN401 - a Celery app, which only its adapter names
    *,
    allow: Collection[str] | None = None,
) -> Dispatcher:
    """The dispatcher to the Celery app ``app`` for tasks on ``allow``; None: all but Celery's own."""
    from triggerstream.adapters.celery.dispatch import CeleryDispatcher

    return CeleryDispatcher(app, allow=allow)


def nowhere() -> NowhereDispatcher:
    """The dispatcher of an engine without an executor, which keeps commands."""
    from triggerstream.adapters.nowhere import NowhereDispatcher

    return NowhereDispatcher()


def embedded(
    address: str | Address,
    *,
    app: AppId,
    dispatcher: Dispatcher,
    on_checkpoint: Callable[[Checkpoint], None],
    configurations: ConfigurationCache | None = None,
) -> tuple[EmbeddedEngine, Log]:
    """The embedded engine of the database at ``address``, and its log. A missing database is created.

    Raises:
        UsageError: ``address`` is invalid, or not a database.
    """
    from triggerstream.adapters.clock import SystemClock
    from triggerstream.adapters.sqlite.database import decoder_of, locate
    from triggerstream.adapters.sqlite.log import SqliteLog
    from triggerstream.adapters.sqlite.store import SqliteStore
    from triggerstream.engine.embedded.engine import EmbeddedEngine

    path = _database(address, "the embedded engine has").path
    log = SqliteLog(path)
    engine = EmbeddedEngine(
        app=app,
        log=log,
        store=SqliteStore(path, app=app, log=log),
        dispatcher=dispatcher,
        clock=SystemClock(),
        on_checkpoint=on_checkpoint,
        decoder=decoder_of(locate(path)),
        configurations=configurations,
    )
    return engine, log


@contextmanager
def _extra() -> Iterator[None]:
    """Raise an error with the repair if the packages of the extra are not installed."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("triggerstream"):
            raise
        raise UsageError(
            f"Kafka needs the package {exc.name}: {advice.install_extra('kafka')} brings it"
        ) from exc


def _parsed(address: str | Address) -> Address:
    return parse_address(address) if isinstance(address, str) else address


def _readable(address: SqliteAddress | HttpAddress) -> SqliteAddress:
    if isinstance(address, HttpAddress):
        raise UsageError(
            f"{address}: an HTTP intake takes triggers only: name the engine's state directory or database"
        )
    return address


def _database(address: str | Address, what: str) -> SqliteAddress:
    parsed = _parsed(address)
    if not isinstance(parsed, SqliteAddress):
        raise UsageError(f"{parsed}: {what} a database, such as sqlite:///path/to/triggerstream.db")
    return parsed
