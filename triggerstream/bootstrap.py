"""The only place that picks concrete classes. Each is imported once it is chosen."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.ports import Dispatcher, Log, OutcomeLog, Reader
from triggerstream.settings import Address, HttpAddress, SqliteAddress, parse_address

if TYPE_CHECKING:
    from triggerstream.adapters.nowhere import NowhereDispatcher
    from triggerstream.engine.embedded import EmbeddedEngine


def collect_less() -> None:
    """Have an engine's process look for reference cycles less often.

    Folding an event makes some hundred objects that outlive a few others and hardly a cycle; at Python's
    default threshold the looking takes 10 to 15 % of the fold's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def log(address: str | Address, *, timeout_s: float = 10.0) -> Log:
    """The log at ``address``; nothing is opened before the first append.

    Raises:
        UsageError: ``address`` is none, or of a kind that this release does not have.
    """
    match _parsed(address):
        case SqliteAddress(path=path):
            from triggerstream.adapters.sqlite.log import SqliteLog

            return SqliteLog(path)
        case HttpAddress(url=url):
            from triggerstream.adapters.http import HttpLog

            return HttpLog(url, timeout_s=timeout_s)


def outcome_log(address: str | Address) -> OutcomeLog:
    """Where a worker process reports outcomes.

    Raises:
        UsageError: ``address`` is none, or outcomes cannot be reported there.
    """
    from triggerstream.adapters.sqlite.log import SqliteLog

    return SqliteLog(_database(address, "outcomes are reported to").path)


def reader(address: str | Address) -> Reader:
    """A view of what is known at ``address``.

    Raises:
        UsageError: ``address`` is none, or cannot be looked into.
    """
    from triggerstream.adapters.sqlite.reader import SqliteReader

    return SqliteReader(_database(address, "sessions are read from").path)


def dispatcher(app: Any) -> Dispatcher:  # noqa: ANN401 - a Celery app, which only its adapter names
    """What hands commands to the Celery app ``app``: all tasks but Celery's own."""
    from triggerstream.adapters.celery.dispatch import CeleryDispatcher

    return CeleryDispatcher(app)


def nowhere() -> NowhereDispatcher:
    """What keeps commands where there is no executor."""
    from triggerstream.adapters.nowhere import NowhereDispatcher

    return NowhereDispatcher()


def embedded(
    address: str | Address,
    *,
    app: AppId,
    dispatcher: Dispatcher,
    on_checkpoint: Callable[[Checkpoint], None],
) -> tuple[EmbeddedEngine, Log]:
    """The embedded engine of the database at ``address``, which it makes where there is none, and its log.

    Raises:
        UsageError: ``address`` is none, or no database.
    """
    from triggerstream.adapters.clock import SystemClock
    from triggerstream.adapters.sqlite.log import SqliteLog
    from triggerstream.adapters.sqlite.store import SqliteStore
    from triggerstream.engine.embedded import EmbeddedEngine

    path = _database(address, "the embedded engine has").path
    log = SqliteLog(path)
    engine = EmbeddedEngine(
        app=app,
        log=log,
        store=SqliteStore(path, app=app, log=log),
        dispatcher=dispatcher,
        clock=SystemClock(),
        on_checkpoint=on_checkpoint,
    )
    return engine, log


def _parsed(address: str | Address) -> Address:
    return parse_address(address) if isinstance(address, str) else address


def _database(address: str | Address, what: str) -> SqliteAddress:
    parsed = _parsed(address)
    if not isinstance(parsed, SqliteAddress):
        raise UsageError(f"{parsed}: {what} a database, such as sqlite:///path/to/triggerstream.db")
    return parsed
