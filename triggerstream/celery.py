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
    """Make the workers of ``app`` report the outcome of each command that triggerstream sends them.

    Call it once, in the module that creates the app. It takes effect when a worker starts, and changes
    nothing for tasks that other code sends.

    Args:
        app: the Celery app.
        log: where outcomes go: an address such as ``sqlite:///triggerstream.db`` or ``kafka://host:9092/app``,
            or an outcome log. Default: the address in the environment variable ``TRIGGERSTREAM_LOG``, else in
            ``TRIGGERSTREAM_AT``.
        guard: prevents a command from taking effect twice, for every task; see also :func:`guarded`.
        allow_loss: False: a worker whose settings could lose a task refuses to start. True: it starts anyway.
            Names of tasks: the settings of these tasks are not checked.
        outcome_timeout_s: the time within which the log must acknowledge an outcome. After it the worker's
            process ends, so that the broker delivers the message again.

    Raises:
        UsageError: ``install`` was called for ``app`` before.
    """
    _worker.install(
        app, log, open_log=_open_log, guard=guard, allow_loss=allow_loss, outcome_timeout_s=outcome_timeout_s
    )


def _open_log(address: str) -> OutcomeLog:
    # Imported when a worker starts: it imports the adapter of the address, which senders do not need.
    from triggerstream import bootstrap  # noqa: PLC0415
    from triggerstream.settings import locate  # noqa: PLC0415

    return bootstrap.outcome_log(locate(address))


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of two classes
    """Import a guard on first use, because SQLAlchemy and redis are optional dependencies."""
    if name == "SqlGuard":
        from triggerstream.adapters.celery.guards.sql import SqlGuard  # noqa: PLC0415

        return SqlGuard
    if name == "RedisGuard":
        from triggerstream.adapters.celery.guards.redis import RedisGuard  # noqa: PLC0415

        return RedisGuard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
