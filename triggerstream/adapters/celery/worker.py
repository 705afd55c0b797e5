"""`install`: makes the workers of one Celery app report the outcomes of triggerstream's commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from celery import bootsteps, signals
from celery._state import get_current_app
from celery.app.trace import build_tracer, task_has_custom
from celery.concurrency import get_implementation
from celery.exceptions import Reject
from celery.utils.imports import symbol_by_name

from triggerstream import variables
from triggerstream.adapters.celery.delivery import delivery_of
from triggerstream.adapters.celery.execution import Execution, handled
from triggerstream.adapters.celery.guards import Guard
from triggerstream.adapters.celery.logfacts import show_facts
from triggerstream.adapters.celery.redelivery import Redelivery, hand_back_step
from triggerstream.adapters.celery.reporting import Reporter
from triggerstream.adapters.celery.republish import Republisher
from triggerstream.adapters.celery.request import report_rejected, reporting_request
from triggerstream.adapters.celery.settings_checks import could_lose, doubtful, own_tasks, unsafe_always
from triggerstream.adapters.celery.task import TriggerTask, accepted_kwargs
from triggerstream.adapters.celery.tracebacks import show_user_tracebacks
from triggerstream.core.errors import TriggerstreamError, UsageError
from triggerstream.core.events import FailureReason
from triggerstream.engine.ports import OutcomeLog

if TYPE_CHECKING:
    from celery import Celery, Task

DEFAULT_OUTCOME_TIMEOUT_S = 30.0
"""Long enough for a broker's fail-over, short enough for a supervisor to notice a log that is gone."""
_INSTALLED = "_triggerstream_installed"
REPORTS = "reports_to_triggerstream"
"""Attribute of a task whose outcomes are reported. Celery lists attributes without an underscore only."""
_WRONG_USAGE = 2


def install(
    app: Celery,
    log: OutcomeLog | str | None = None,
    *,
    open_log: Callable[[str], OutcomeLog],
    guard: Guard | None = None,
    allow_loss: bool | Collection[str] = False,
    outcome_timeout_s: float = DEFAULT_OUTCOME_TIMEOUT_S,
) -> None:
    """See :func:`triggerstream.celery.install`; ``open_log`` opens the log that an address names.

    Raises:
        UsageError: ``app`` has it already.
    """
    if getattr(app, _INSTALLED, False):
        raise UsageError(f"triggerstream is installed in {app} already")
    setattr(app, _INSTALLED, True)

    def opened() -> OutcomeLog:
        if log is not None and not isinstance(log, str):
            return log
        return open_log(_address(log))

    republisher = Republisher(app)
    execution = Execution(
        reporter=Reporter(opened, timeout_s=outcome_timeout_s), guard=guard, republisher=republisher
    )
    redelivery = Redelivery(execution, republisher)
    installed = _Installed(
        app=app, execution=execution, redelivery=redelivery, open_log=opened, allow_loss=allow_loss
    )
    uid = f"triggerstream-{id(app)}"
    signals.worker_init.connect(installed.on_worker_init, weak=False, dispatch_uid=uid)
    signals.worker_process_init.connect(installed.on_worker_process_init, weak=False, dispatch_uid=uid)
    signals.task_postrun.connect(installed.on_postrun, weak=False, dispatch_uid=uid)
    signals.after_setup_logger.connect(show_facts, weak=False, dispatch_uid="triggerstream-facts")
    app.steps["consumer"].add(_rejections_step(execution))
    app.steps["consumer"].add(hand_back_step(redelivery))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Installed:
    """The receivers of Celery's signals for one app."""

    app: Celery
    execution: Execution
    redelivery: Redelivery
    open_log: Callable[[], OutcomeLog]
    allow_loss: bool | Collection[str]

    def on_worker_init(self, sender: Any, **_: object) -> None:  # noqa: ANN401 - a Celery WorkController
        """Refuse a worker that could lose outcomes; have all others report."""
        if sender.app is not self.app:
            return
        try:
            self.open_log()
        except UsageError as exc:
            _refuse(str(exc))
        wrong = unsafe_always(self.app)
        if wrong is None and self.allow_loss is not True:
            allowed = self.allow_loss or ()
            wrong = could_lose(self.app, prefetch_multiplier=sender.prefetch_multiplier, allowed=allowed)
        if wrong is not None:
            _refuse(wrong)
        if self.allow_loss is not True:
            self._warn(sender, allowed=self.allow_loss or ())
        show_user_tracebacks()
        for task in own_tasks(self.app):
            if _adopt(task, self.execution):
                _take_messages(task, self.execution, self.redelivery)

    def _warn(self, worker: Any, *, allowed: Collection[str]) -> None:  # noqa: ANN401 - a Celery WorkController
        """Print what is doubtful, though nothing is lost. With a broker of `dev`, nothing is worth it."""
        if variables.DEV_BROKER in os.environ:
            return
        for doubt in doubtful(
            self.app,
            pool=_pool_name(worker.pool_cls),
            worker_limit_s=worker.time_limit,
            allowed=allowed,
        ):
            sys.stderr.write(f"triggerstream: warning: {doubt}\n")

    def on_worker_process_init(self, **_: object) -> None:
        """Adopt again in a process that was not forked from the main one."""
        here = get_current_app()
        if not self._is_ours(here):
            return
        show_user_tracebacks()
        for task in own_tasks(here):
            if _adopt(task, self.execution):
                task.__trace__ = build_tracer(task.name, task, here.loader, app=here)

    def on_postrun(self, sender: Task[Any, Any], retval: object, **_: object) -> None:
        """Report what ended outside of the body: an error of Celery or of the task's own hooks.

        The exception is in flight where Celery has no state for it yet.
        """
        request = sender.request
        delivery = delivery_of(vars(request))
        if delivery is None or handled(request) or not self._is_ours(sender.app):
            return
        exc = retval if isinstance(retval, Exception) else sys.exception()
        if isinstance(exc, Exception) and not isinstance(exc, MemoryError | Reject):
            self.execution.settle_unrun(sender, delivery, exc)

    def _is_ours(self, other: object) -> bool:
        """True for the app, and for the copy of it that Celery makes in a process that was not forked."""
        copied = "FORKED_BY_MULTIPROCESSING" in os.environ and getattr(other, "main", None) == self.app.main
        return other is self.app or copied


def _address(log: str | None) -> str:
    address = log or os.environ.get(variables.LOG) or os.environ.get(variables.AT)
    if not address:
        _refuse(
            f"no log to report to; set {variables.AT}=sqlite:////path/to/triggerstream.db, "
            'or add: install(app, "sqlite:////path/to/triggerstream.db")'
        )
    return address


def _pool_name(pool: Any) -> str:  # noqa: ANN401 - a class, or its name
    """The name of a pool on Celery's command line; another text for one that Celery does not come with."""
    module = get_implementation(pool).__module__
    name = module.rpartition(".")[2]
    return "threads" if name == "thread" else name


def _refuse(why: str) -> NoReturn:
    # Celery swallows what a signal's receiver raises, but for this.
    sys.stderr.write(f"triggerstream: {why}\n")
    raise SystemExit(_WRONG_USAGE)


def _adopt(task: Task[Any, Any], execution: Execution) -> bool:
    """Have ``task`` run through ``execution``; False if it does already.

    Celery calls ``task.run``, or ``task`` itself where its class defines ``__call__``; either is wrapped, so
    that what is reported is what Celery gets.
    """
    if vars(task).get(REPORTS):
        return False
    setattr(task, REPORTS, True)
    accept = accepted_kwargs(task.run) if isinstance(task, TriggerTask) else dict
    if task_has_custom(task, "__call__"):
        base: Any = type(task)

        class Reporting(base):  # type: ignore[misc]  # the base is the application's
            """The task's own class, called through ``execution``."""

            def __call__(self, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - the task's own
                body = super().__call__
                return execution.call(self, lambda *a, **k: body(*a, **accept(k)), args, kwargs)

        task.__class__ = Reporting
        return True
    run = task.run

    @wraps(run)
    def running(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - the task's own
        return execution.call(task, lambda *a, **k: run(*a, **accept(k)), args, kwargs)

    task.run = running  # type: ignore[method-assign]  # as Celery itself does for automatic retries
    return True


def _take_messages(task: Any, execution: Execution, redelivery: Redelivery) -> None:  # noqa: ANN401 - also names of classes are set
    """Make the worker's main process count and report the messages of ``task``."""
    task.Request = reporting_request(symbol_by_name(task.Request), execution, redelivery)
    task.Strategy = redelivery.counting(task.Strategy)


def _rejections_step(execution: Execution) -> type[bootsteps.Step]:
    """A step of Celery's consumer that reports messages of tasks that it does not know, or cannot read."""

    class Rejections(bootsteps.Step):
        """Reports before Celery rejects."""

        def create(self, parent: Any) -> None:  # noqa: ANN401 - a Celery Consumer
            on_unknown, on_invalid = parent.on_unknown_task, parent.on_invalid_task

            def unknown(body: object, message: Any, exc: BaseException) -> None:  # noqa: ANN401 - a kombu Message
                why = f"task_unknown: no task {message.headers.get('task')!r} in this worker"
                report_rejected(execution, message, why, reason=FailureReason.TASK_UNKNOWN)
                on_unknown(body, message, exc)

            def invalid(body: object, message: Any, exc: BaseException) -> None:  # noqa: ANN401
                why = f"task_rejected: {exc}"
                report_rejected(execution, message, why, reason=FailureReason.MESSAGE_REJECTED)
                on_invalid(body, message, exc)

            parent.on_unknown_task, parent.on_invalid_task = unknown, invalid

    return Rejections


__all__ = ["DEFAULT_OUTCOME_TIMEOUT_S", "TriggerstreamError", "install"]
