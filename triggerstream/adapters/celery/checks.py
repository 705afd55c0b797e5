"""Checks for settings under which a worker could lose a task. Each finding has the line that repairs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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


def own_tasks(app: Celery) -> list[Task[Any, Any]]:
    """The tasks of ``app`` without Celery's own."""
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith(CELERY_PREFIX)]


def _add(settings: dict[str, object]) -> str:
    return f"add: {_update(settings)}"


def _update(settings: dict[str, object]) -> str:
    return f"app.conf.update({', '.join(f'{name}={value!r}' for name, value in settings.items())})"
