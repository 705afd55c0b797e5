"""Runs the body of one command in a worker process: claim, started, body, record, report.

The order, and what a crash between two steps leaves behind:

1. the guard grants the claim. Without a guard nothing keeps a repeat from running.
2. `started` is in the log. After a crash the message comes again and the claim is taken over.
3. the body runs.
4. the guard records the outcome, for SQL together with the effect. After a crash the repeat reports the
   record.
5. the outcome is in the log. After a crash Celery delivers again: the guard reports again, which changes
   nothing; without a guard the body runs again.
6. Celery stores its result and acknowledges the message.

All of it happens inside of Celery's call of the body, not in its signals: a signal's exceptions are
swallowed, and `task_success` comes after the result backend has stored SUCCESS. From then on Celery
acknowledges the message even if the process died.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import uuid4

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # missing in the stubs
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    WorkerShutdown,
    WorkerTerminate,
)

from triggerstream.adapters.celery import outcomes
from triggerstream.adapters.celery.context import CommandContext, RetryRequested, SkipRequested, running
from triggerstream.adapters.celery.delivery import BEGUN, HEADER, PUT_BACK, STARTS, Delivery, delivery_of
from triggerstream.adapters.celery.guards import (
    MAX_TAKEOVERS,
    Busy,
    EffectRefusedError,
    Exhausted,
    Granted,
    Guard,
    GuardUnavailableError,
    Held,
    Settled,
    guard_for,
)
from triggerstream.adapters.celery.guards.lease import kept_alive
from triggerstream.adapters.celery.guards.unguarded import Unguarded
from triggerstream.adapters.celery.interrupts import uninterrupted
from triggerstream.adapters.celery.plain_values import NotReportableError, describe
from triggerstream.adapters.celery.reporting import Reporter, end_process
from triggerstream.adapters.celery.republish import Republisher
from triggerstream.core.errors import LogError
from triggerstream.core.events import Finished
from triggerstream.core.ids import Json
from triggerstream.engine.loglimit import RecurringLines

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

logger = logging.getLogger(__name__)

_FIRST_PUT_BACK_S = 0.5
"""First pause: Celery's own retry sends its second message shortly before the first releases its claim."""
_LONGEST_PUT_BACK_S = 10.0
"""Longest pause before a repeated message is tried again: its holder may end long before its lease."""
_AFTER_LEASE_S = 0.1
_HANDLED = "triggerstream_handled"


class TaskExitedError(Exception):
    """Exception passed to Celery in place of one that would end the process, such as ``SystemExit``."""


class _EndedBeforeError(Ignore):
    """Ends Celery's call of the body where the outcome is on record and is no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A task's body, ready to be called for a command."""

    task: Task[Any, Any]
    delivery: Delivery
    kwargs: Mapping[str, Any]
    body: Callable[[], object]


class Execution:
    """Runs the task of a command under the settings of `install`: claim, body, record, report."""

    def __init__(self, *, reporter: Reporter, guard: Guard | None, republisher: Republisher) -> None:
        self.reporter = reporter
        self._lines = RecurringLines(logger)
        self._republisher = republisher
        self._guard = guard
        # Chosen in the main process, before it forks, so that it can name the claims of its children.
        self._node: Final = f"{socket.gethostname()[:100]}/{uuid4().hex[:12]}"

    def guard_of(self, task: Task[Any, Any]) -> Guard | None:
        """The guard of ``task``, if it has one."""
        return guard_for(task.run, self._guard)

    def holder(self, pid: int) -> str:
        """The name under which the child process ``pid`` of this worker claims commands."""
        return f"{self._node}/{pid}"

    def call(
        self,
        task: Task[Any, Any],
        body: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> object:
        """Call ``body``, and treat it as the run of a command if the task's message carries one."""
        request = task.request
        delivery = delivery_of(vars(request))
        if delivery is None or request.called_directly or running().get() is not None:
            return body(*args, **kwargs)
        call = _Call(task=task, delivery=delivery, kwargs=kwargs, body=lambda: body(*args, **kwargs))
        guard = self.guard_of(task)
        if guard is None:
            return self._run(call, Unguarded(), nullcontext())
        try:
            claim = guard.claim(delivery.command, holder=self.holder(os.getpid()))
            match claim:
                case Granted(held=held):
                    lease = kept_alive(held, lease_s=guard.lease_s, end_process=end_process)
                    return self._run(call, held, lease)
                case Settled(value=value):
                    return self._report(request, delivery, value)
                case Busy(for_s=for_s):
                    logger.info("Running elsewhere: put back", extra={"command": delivery.command})
                    self._put_back(task, delivery, within_s=for_s + _AFTER_LEASE_S)
                case Exhausted():
                    why = outcomes.processes_ended(MAX_TAKEOVERS + 1)
                    value = guard.conclude(delivery.command, outcomes.worker_lost(delivery, why))
                    return self._report(request, delivery, value)
        except GuardUnavailableError:
            self._lines.write(
                "The guard does not answer: command put back",
                level=logging.ERROR,
                extra={"command": delivery.command},
                exc_info=True,
            )
            self._put_back(task, delivery, within_s=_LONGEST_PUT_BACK_S)

    def settle_unrun(self, task: Task[Any, Any], delivery: Delivery, exc: BaseException) -> None:
        """Report ``exc``, which ended the call of the task outside of its body."""
        self.conclude(task, delivery, outcomes.failed_with(delivery, exc))

    def conclude(self, task: Task[Any, Any], delivery: Delivery, value: bytes) -> None:
        """Report ``value``, an outcome that does not come from the body.

        An outcome that the guard has wins.
        """
        guard = self.guard_of(task)
        if guard is not None:
            try:
                value = guard.conclude(delivery.command, value)
            except GuardUnavailableError:
                self._lines.write(
                    "The guard did not record an outcome",
                    level=logging.ERROR,
                    extra={"command": delivery.command},
                    exc_info=True,
                )
        self.reporter.report(delivery.session, outcomes.of_attempt(delivery, value))

    def _run(self, call: _Call, held: Held, lease: AbstractContextManager[None]) -> object:
        delivery, request = call.delivery, call.task.request
        if request.retries == delivery.retries and not delivery.begun:
            self._report_started(call, held)
        # A retry by Celery is a separate call, for a guard too: it does not inherit the count of lost starts.
        (request.headers or {}).pop(STARTS, None)
        context = self._context(call, held)
        with lease, uninterrupted() as interrupts:
            mark = running().set(context)
            try:
                with interrupts.allowed():
                    result = call.body()
                value = held.settle(outcomes.finished(delivery, result))
            except Retry:
                # Celery has sent the message again, with the same id and our header. That message continues
                # the command.
                held.release()
                _mark_handled(request)
                raise
            except GuardUnavailableError:
                held.release()
                raise
            except BaseException as exc:
                if _ends_worker(exc):
                    held.abandon()
                    raise
                if isinstance(exc, Reject) and exc.requeue:  # type: ignore[attr-defined]  # missing in the stubs
                    # Requeued by the broker, the message would look redelivered, as after a lost process.
                    held.release()
                    self._put_back(call.task, delivery, within_s=_LONGEST_PUT_BACK_S, begun=True)
                value = _settle_exception(held, delivery, exc)
                self._report_value(request, delivery, value)
                if _is_result(value):
                    return _result_of(value)
                if isinstance(exc, SkipRequested | RetryRequested):
                    # Celery pickles a raised exception, and these hold values of the task.
                    raise _EndedBeforeError(str(exc)) from None
                if isinstance(exc, MemoryError) or not isinstance(exc, Exception):
                    # Celery would end the process for it, and the broker would deliver the message again.
                    raise TaskExitedError(describe(exc)) from exc
                raise
            finally:
                running().reset(mark)
            return self._report(request, delivery, value)

    def _report_started(self, call: _Call, held: Held) -> None:
        value = outcomes.started(call.delivery, worker=call.task.request.hostname)
        try:
            self.reporter.append(call.delivery.session, value)
        except LogError:
            # The task has not started: an unavailable log must not count as a take-over or a start.
            held.release()
            self._lines.write(
                "The log does not answer: command put back",
                level=logging.ERROR,
                extra={"command": call.delivery.command},
                exc_info=True,
            )
            self._put_back(call.task, call.delivery, within_s=_LONGEST_PUT_BACK_S, expires=True)

    def _report(self, request: Context, delivery: Delivery, value: bytes) -> Json:
        """Report the recorded outcome. Returns the task's result; raises ``Ignore`` if it has none."""
        self._report_value(request, delivery, value)
        if _is_result(value):
            return _result_of(value)
        raise _EndedBeforeError("its outcome is on record")

    def _report_value(self, request: Context, delivery: Delivery, value: bytes) -> None:
        self.reporter.report(delivery.session, outcomes.of_attempt(delivery, value))
        _mark_handled(request)

    def _context(self, call: _Call, held: Held) -> CommandContext:
        delivery = call.delivery
        return CommandContext(
            session=delivery.session,
            task=delivery.task,
            instance=delivery.instance,
            command=delivery.command,
            attempt=delivery.attempt,
            retries=delivery.retries,
            config=delivery.config,
            causes=delivery.causes,
            traceparent=delivery.traceparent,
            trigger_kwargs=dict(call.kwargs),
            token=held.token or None,
            _delivery=delivery,
            _max_retries=call.task.max_retries,
            _append=self.reporter.append,
            _connect=held.connection,
        )

    def _put_back(
        self,
        task: Task[Any, Any],
        delivery: Delivery,
        *,
        within_s: float,
        expires: bool = False,
        begun: bool = False,
    ) -> NoReturn:
        """Send the message again with a delay of at most ``within_s``, and let Celery acknowledge this one.

        The delay grows each time. A crash between the two steps leaves both messages; with a guard, the
        second one has no effect. ``expires``: the command can still expire; without it, the command was
        started in time. ``begun``: `started` is in the log and need not be appended again.
        """
        request = task.request
        _mark_handled(request)
        delay_s = min(_FIRST_PUT_BACK_S * 2.0 ** min(delivery.put_back, 16), _LONGEST_PUT_BACK_S, within_s)
        headers = dict(request.headers or {})
        ours = {**headers.get(HEADER, {}), PUT_BACK: delivery.put_back + 1}
        if begun:
            ours[BEGUN] = True
        headers[HEADER] = ours
        limit: dict[str, Any] = {} if expires else {"expires": None}
        try:
            self._republisher.apply(
                task.signature_from_request(
                    request, countdown=delay_s, retries=request.retries, headers=headers, **limit
                )
            )
        except Exception as exc:
            self._lines.write(
                "A command could not be put back: its message is requeued at once",
                level=logging.ERROR,
                exc_info=True,
            )
            raise Reject(exc, requeue=True) from exc
        raise _EndedBeforeError(f"put back for {delay_s:g} s")


def handled(request: Context) -> bool:
    """True once nothing is left to report for the message that ``request`` came from."""
    return bool(vars(request).get(_HANDLED))


def _mark_handled(request: Context) -> None:
    vars(request)[_HANDLED] = True


def _ends_worker(exc: BaseException) -> bool:
    """True if ``exc`` was raised into the task because its process must end, not by the task itself.

    The SIGTERM handler of a prefork child raises ``SystemExit``; cleanup code may then raise any exception.
    The other pools run tasks in the main process, where Celery raises two exceptions of its own.
    """
    return isinstance(exc, WorkerShutdown | WorkerTerminate) or bool(terminate_handler_fired())


def _settle_exception(held: Held, delivery: Delivery, exc: BaseException) -> bytes:
    """Record the outcome for ``exc``, which the body raised. Returns the recorded value."""
    try:
        match exc:
            case SkipRequested():
                return held.settle(outcomes.skipped(delivery, exc.metadata))
            case RetryRequested():
                return held.undo(outcomes.retried(delivery, after_s=exc.after_s, kwargs=exc.kwargs))
            case Ignore():
                # "Don't record a state": the task ended, and has no result that could cascade.
                return held.settle(outcomes.skipped(delivery, {"reason": describe(exc)}))
            case NotReportableError():
                return held.undo(outcomes.not_reportable(delivery, exc))
            case EffectRefusedError():
                return held.undo(outcomes.failed_with(delivery, exc.__cause__ or exc))
            case _:
                return held.undo(outcomes.failed_with(delivery, exc))
    except NotReportableError as found:
        return held.undo(outcomes.not_reportable(delivery, found))
    except EffectRefusedError as found:
        return held.undo(outcomes.failed_with(delivery, found.__cause__ or found))


def _is_result(value: bytes) -> bool:
    """True if ``value`` is the event of a task that returned."""
    return isinstance(outcomes.decode(value), Finished)


def _result_of(value: bytes) -> Json:
    outcome = outcomes.decode(value)
    return outcome.result if isinstance(outcome, Finished) else None
