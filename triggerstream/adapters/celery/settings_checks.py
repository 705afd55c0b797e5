"""Checks for settings under which a worker could lose a task. Each finding has the line that repairs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from triggerstream.core.commands import CELERY_PREFIX

if TYPE_CHECKING:
    from celery import Celery, Task

_PICKLE = {"pickle", "application/x-python-serialize"}
_JSON = {"json", "application/json"}
_KEEP_UNTIL_ACKNOWLEDGED = frozenset(
    {
        "amqp",
        "amqps",
        "azureservicebus",
        "gcpubsub",
        "librabbitmq",
        "pyamqp",
        "redis",
        "rediss",
        "sentinel",
        "sqs",
    }
)
"""Transports whose broker keeps a message until it is acknowledged. Others delete it on delivery."""
_WITH_VISIBILITY_TIMEOUT = frozenset({"redis", "rediss", "sentinel"})
_REDIS_VISIBILITY_TIMEOUT_S = 3_600
_WITHOUT_TIME_LIMITS = frozenset({"eventlet", "solo", "threads"})
"""Pools that ignore time limits; gevent's enforces hard ones."""
_BELOW = 0.9
"""Part of the visibility timeout that a suggested limit takes: the rest is for the start and the report."""
_NAMED = 3
"""Tasks that a warning names."""


def unsafe_always(app: Celery) -> str | None:
    """Why no worker of ``app`` may run commands, whatever `allow_loss` says; None if nothing is wrong."""
    accepted = {*app.conf.accept_content, *(app.conf.result_accept_content or ())}
    named = {app.conf.task_serializer, app.conf.result_serializer}
    if not _PICKLE.isdisjoint(accepted | named):
        return "pickle lets whoever can write to the broker run any code; " + _add(
            {"accept_content": ["json"], "task_serializer": "json", "result_serializer": "json"}
        )
    return None


def could_lose(app: Celery, *, prefetch_multiplier: int, allowed: Collection[str]) -> str | None:
    """Why a worker of ``app`` could lose a task; None if it cannot. Tasks in ``allowed`` may."""
    conf = app.conf
    wanted: dict[str, object] = {}
    if not conf.task_acks_late:
        wanted["task_acks_late"] = True
    if not conf.task_reject_on_worker_lost:
        wanted["task_reject_on_worker_lost"] = True
    if prefetch_multiplier != 1:
        wanted["worker_prefetch_multiplier"] = 1
    if not set(conf.accept_content) <= _JSON:
        wanted["accept_content"] = ["json"]
    if conf.task_serializer != "json":
        wanted["task_serializer"] = "json"
    if conf.result_serializer != "json":
        wanted["result_serializer"] = "json"
    if wanted:
        return f"this worker could lose a task; {_add(wanted)}"
    transport: object = app.connection_for_read().transport_cls
    if isinstance(transport, str) and ":" not in transport and transport not in _KEEP_UNTIL_ACKNOWLEDGED:
        return (
            f"this worker could lose a task: a {transport} broker forgets a message once it is handed over; "
            'add: app.conf.update(broker_url="redis://…") or another broker that waits for acknowledgements'
        )
    return next(_unsafe_tasks(app, transport, allowed), None)


def _unsafe_tasks(app: Celery, transport: object, allowed: Collection[str]) -> Iterator[str]:
    for task in own_tasks(app):
        if task.name in allowed:
            continue
        for option in ("acks_late", "reject_on_worker_lost"):
            if not getattr(task, option):
                yield (
                    f"this worker could lose a task: {task.name} has {option}={getattr(task, option)}; take "
                    "that out, or, if triggerstream never runs it, "
                    f"add: install(app, allow_loss={{{task.name!r}}})"
                )
        if transport in _WITH_VISIBILITY_TIMEOUT:
            options = app.conf.broker_transport_options or {}
            visible_s = options.get("visibility_timeout", _REDIS_VISIBILITY_TIMEOUT_S)
            limit = task.time_limit or app.conf.task_time_limit
            if limit is not None and limit >= visible_s:
                repaired = {**options, "visibility_timeout": limit * 2}
                yield (
                    f"{task.name} may run for {limit} s, the broker delivers it again after {visible_s} s; "
                    f"{_add({'broker_transport_options': repaired})}"
                )


def doubtful(app: Celery, *, pool: str, worker_limit_s: float | None, allowed: Collection[str]) -> list[str]:
    """Warnings about time limits of the tasks of a worker with ``pool``, each with what would be right.

    ``worker_limit_s``: the worker's own ``--time-limit``. Nothing is lost: a run that outlasts the visibility
    timeout is repeated beside itself, and only a limit that the pool enforces prevents that.
    """
    tasks = [task for task in own_tasks(app) if task.name not in allowed]
    enforces = pool not in _WITHOUT_TIME_LIMITS
    conf = app.conf
    found = []
    if not enforces:
        general = worker_limit_s or conf.task_time_limit or conf.task_soft_time_limit
        limited = [task.name for task in tasks if general or task.time_limit or task.soft_time_limit]
        if limited:
            found.append(
                f"the time limit of {_some(limited)} does nothing: the pool {pool} enforces none; start the "
                "worker with --pool prefork, or take the limit out"
            )
    transport: object = app.connection_for_read().transport_cls
    if transport in _WITH_VISIBILITY_TIMEOUT:
        options = conf.broker_transport_options or {}
        visible_s = options.get("visibility_timeout", _REDIS_VISIBILITY_TIMEOUT_S)
        general = worker_limit_s or conf.task_time_limit
        unlimited = [task.name for task in tasks if not (enforces and (task.time_limit or general))]
        if unlimited:
            repair = _add({"task_time_limit": max(1, int(visible_s * _BELOW))})
            longer = {**options, "visibility_timeout": 2 * visible_s}
            repair = repair if enforces else f"{_add({'broker_transport_options': longer})}, or more"
            found.append(
                f"no time limit ends {_some(unlimited)}, and the broker delivers a message again after "
                f"{visible_s:g} s, even if its task still runs; {repair}"
            )
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def own_tasks(app: Celery) -> list[Task[Any, Any]]:
    """The tasks of ``app`` without Celery's own."""
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith(CELERY_PREFIX)]


def _add(settings: dict[str, object]) -> str:
    return f"add: {_update(settings)}"


def _update(settings: dict[str, object]) -> str:
    return f"app.conf.update({', '.join(f'{name}={value!r}' for name, value in settings.items())})"
