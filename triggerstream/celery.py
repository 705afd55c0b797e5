"""Celery's side of triggerstream: what an application's Celery module needs.

from celery import Celery
from triggerstream.celery import SqlGuard, current, install

app = Celery("shop", broker="redis://…")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
install(app, guard=SqlGuard("postgresql+psycopg://…"))

@app.task
def charge(orderPlaced, **triggers):
    current().connection.execute(…)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from triggerstream.adapters.celery import worker as _worker
from triggerstream.adapters.celery.context import CommandContext, current
from triggerstream.adapters.celery.guards import Guard, guarded
from triggerstream.adapters.celery.task import TriggerTask
from triggerstream.engine.ports import OutcomeLog

if TYPE_CHECKING:
    from celery import Celery

    from triggerstream.adapters.celery.guards.redis import RedisGuard
    from triggerstream.adapters.celery.guards.sql import SqlGuard

__all__ = [
    "CommandContext",
    "Guard",
    "RedisGuard",
    "SqlGuard",
    "TriggerTask",
    "current",
    "guarded",
    "install",
]


def install(
    app: Celery,
    log: OutcomeLog | str | None = None,
    *,
    guard: Guard | None = None,
    allow_loss: bool | Collection[str] = False,
    outcome_timeout_s: float = _worker.DEFAULT_OUTCOME_TIMEOUT_S,
) -> None:
    """Have the workers of ``app`` report what becomes of the commands that triggerstream hands them.

    Call it once, beside the app. It does nothing until a worker starts, and nothing to tasks that other code
    sends.

    Args:
        app: the Celery app.
        log: where outcomes go: ``sqlite:///triggerstream.db``, ``kafka://host:9092/app``, an outcome log, or,
            if left out, the address in the environment variable ``TRIGGERSTREAM_LOG``.
        guard: keeps a command from taking effect twice, for every task; see also :func:`guarded`.
        allow_loss: a worker whose settings could lose a task refuses to start. True: it starts. Names of
            tasks:
            these may have settings of their own.
        outcome_timeout_s: when the log has not acknowledged an outcome by then, the worker's process ends, so
            that
            the broker delivers the message again.

    Raises:
        UsageError: ``app`` has it already.
    """
    _worker.install(
        app, log, open_log=_open_log, guard=guard, allow_loss=allow_loss, outcome_timeout_s=outcome_timeout_s
    )


def _open_log(address: str) -> OutcomeLog:
    # Imported in the worker's process only: it brings whatever adapter the address needs.
    from triggerstream import bootstrap  # noqa: PLC0415

    return bootstrap.outcome_log(address)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of two classes
    """Import a guard once it is asked for: what it stands on is an optional dependency."""
    if name == "SqlGuard":
        from triggerstream.adapters.celery.guards.sql import SqlGuard  # noqa: PLC0415

        return SqlGuard
    if name == "RedisGuard":
        from triggerstream.adapters.celery.guards.redis import RedisGuard  # noqa: PLC0415

        return RedisGuard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
