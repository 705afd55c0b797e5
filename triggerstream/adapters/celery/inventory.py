"""The tasks that a Celery app has, with their parameters, and the queues that its routes can choose."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from celery.app.trace import task_has_custom

from triggerstream.adapters.celery.settings_checks import own_tasks
from triggerstream.adapters.celery.task import TriggerTask
from triggerstream.core.tasks import Task as FileTask
from triggerstream.wire.tasksfile.executor import Parameters

if TYPE_CHECKING:
    from celery import Celery, Task


def parameters_of_tasks(app: Celery) -> dict[str, Parameters | None]:
    """The app's own tasks by name, with the keyword arguments that each takes; None: not known.

    It imports the modules that the app names, as a worker does.
    """
    app.loader.import_default_modules()
    return {task.name: _parameters(task) for task in own_tasks(app)}


def _parameters(task: Task[Any, Any]) -> Parameters | None:
    if task_has_custom(task, "__call__"):
        return None  # it may pass other arguments on than it is called with
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError):
        return None
    return Parameters.of(signature, any_=isinstance(task, TriggerTask))


def queues_of_routes(app: Celery, tasks: Iterable[FileTask]) -> list[str]:
    """The names of the queues that the app's routes can choose, for its own tasks and for those of a file.

    A route that is a function is asked about each task, with empty arguments.
    """
    found: dict[str, None] = dict.fromkeys(_named_queues(app.conf.task_routes))
    logger = logging.getLogger(__name__)
    asked: dict[str, Mapping[str, Any]] = {task.name: {} for task in own_tasks(app)}
    asked.update({task.run: {name: {} for name in task.after.slots} | task.with_params for task in tasks})
    for name, kwargs in asked.items():
        known: Any = app.tasks.get(name)
        queue = getattr(known, "queue", None)
        options: dict[str, Any] = {} if queue is None else {"queue": queue}
        try:
            route: Mapping[str, Any] = app.amqp.router.route(options, name, (), dict(kwargs), known)
        except Exception as exc:  # noqa: BLE001 - the app's own function may raise anything
            logger.warning("The app's routes refuse a task", extra={"task_name": name, "error": str(exc)})
            continue
        chosen = route.get("queue")
        if chosen is not None:
            found[str(getattr(chosen, "name", chosen))] = None
    return list(found)


def _named_queues(routes: object) -> Iterator[str]:
    """Names of the queues in `task_routes`: a map, a pair of pattern and route, or a list of either."""
    if isinstance(routes, Mapping):
        for route in routes.values():
            yield from _queue_of(route)
    elif isinstance(routes, tuple) and len(routes) == _PAIR and isinstance(routes[1], Mapping | str):
        yield from _queue_of(routes[1])
    elif isinstance(routes, list | tuple):
        for part in routes:
            yield from _named_queues(part)


_PAIR = 2


def _queue_of(route: object) -> Iterator[str]:
    queue = route.get("queue") if isinstance(route, Mapping) else route
    name = getattr(queue, "name", queue)
    if isinstance(name, str) and name:
        yield name
