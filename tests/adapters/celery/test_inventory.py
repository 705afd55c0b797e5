"""The tasks of a Celery app, and the queues that its routes can choose."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from triggerstream.adapters.celery.inventory import parameters_of_tasks, queues_of_routes
from triggerstream.adapters.celery.task import TriggerTask
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.tasks import Task, plain_task
from triggerstream.wire.tasksfile import Parameters

pytestmark = pytest.mark.usefixtures("own_tasks_only")


@pytest.fixture
def app() -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)

    @app.task(name="plain", shared=False)
    def plain(orderPlaced: object, *, language: str = "en") -> None: ...  # noqa: N803 - a trigger

    @app.task(name="bound", bind=True, shared=False)
    def bound(self: object, orderPlaced: object) -> None: ...  # noqa: N803

    @app.task(name="with_context", bind=True, base=TriggerTask, shared=False)
    def with_context(self: object) -> None: ...

    class Calling(app.Task):  # type: ignore[name-defined,misc]  # Celery makes it
        def __call__(self, **kwargs: object) -> object:
            return self.run(kwargs)

    @app.task(name="called", base=Calling, shared=False)
    def called(everything: object) -> None: ...

    @app.task(name="retried", autoretry_for=(ValueError,), shared=False)
    def retried(orderPlaced: object) -> None: ...  # noqa: N803

    setattr(app.tasks["bound"], "queue", "of-the-task")  # noqa: B010 - the stubs lack it
    return app


def test_each_task_has_the_arguments_of_its_function(app: Celery) -> None:
    order = frozenset({"orderPlaced"})
    assert parameters_of_tasks(app) == {
        "plain": Parameters(names=order | {"language"}, required=order),
        "bound": Parameters(names=order, required=order),
        "with_context": Parameters(any=True),
        "called": None,
        "retried": Parameters(names=order, required=order),
    }


def file_task(run: str) -> Task:
    return plain_task(name=TaskName("t"), run=run, after=(TriggerName("orderPlaced"),))


def by_kwargs(
    name: str, _args: object, kwargs: dict[str, Any], *_: object, **__: object
) -> dict[str, str] | None:
    return {"queue": "asked"} if name == "elsewhere" and "orderPlaced" in kwargs else None


@pytest.mark.parametrize(
    ("routes", "queues"),
    [
        (None, set()),
        ({"plain": "slow"}, {"slow"}),
        ({"pl*": {"queue": "by-pattern"}}, {"by-pattern"}),
        (([("plain", {"queue": "listed"})], {"elsewhere": {"queue": "other"}}), {"listed", "other"}),
        (by_kwargs, {"asked"}),
        ({"plain": {"queue": "slow"}, "never_called.*": {"queue": "unused"}}, {"slow", "unused"}),
    ],
)
def test_every_queue_that_the_routes_can_choose_is_named(app: Celery, routes: Any, queues: set[str]) -> None:  # noqa: ANN401
    app.conf.task_routes = routes
    found = queues_of_routes(app, [file_task("elsewhere")])
    assert set(found) == queues | {"of-the-task", "celery"}


def test_a_route_that_raises_does_not_hide_the_others(app: Celery) -> None:
    def broken(name: str, *_: object, **__: object) -> dict[str, str]:
        if name == "plain":
            raise ZeroDivisionError
        return {"queue": "found"}

    app.conf.task_routes = broken
    assert "found" in queues_of_routes(app, [])
