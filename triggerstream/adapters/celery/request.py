"""Outcomes that a worker's main process reports: dropped messages, and runs that were ended from outside.

Celery lets a task name the class of its requests; this one reports before Celery acknowledges. The signals
for the same occasions come after the acknowledgement, when a crash would lose the outcome.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from billiard.einfo import (  # type: ignore[attr-defined]  # missing in the stubs
    ExceptionInfo,
    ExceptionWithTraceback,
)
from celery.exceptions import (
    Ignore,
    InvalidTaskError,
    Reject,
    Retry,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker.request import Request

from triggerstream.adapters.celery import outcomes
from triggerstream.adapters.celery.delivery import HEADER, Delivery, delivery_of, read_delivery
from triggerstream.adapters.celery.execution import Execution
from triggerstream.adapters.celery.guards import GuardUnavailableError
from triggerstream.adapters.celery.redelivery import Redelivery
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import FailureReason

if TYPE_CHECKING:
    from kombu.message import Message

logger = logging.getLogger(__name__)

_Request: Any = Request


class ReportingRequest(_Request):  # type: ignore[misc]  # the stubs lack most of it
    """Reports outcomes that no child process can report, before Celery acknowledges the message."""

    execution: Execution
    """Through which outcomes are reported."""
    redelivery: Redelivery
    """Keeps the requests that wait for their start."""

    def __init_subclass__(cls, **options: object) -> None:
        """Extend the class that Celery derives for each task: handle a lost worker in the main process.

        If a hook of the task, not its body, raises ``SystemExit``, the pools `threads` and `solo` pass a
        lost worker as if it were a result. Celery fails on this value, and the message hangs.
        """
        super().__init_subclass__(**options)
        on_success = cls.__dict__.get("on_success")
        if on_success is None:
            return

        def on_end(self: Any, answer: Any, **more: object) -> object:  # noqa: ANN401 - Celery's values
            if isinstance(answer, ExceptionInfo):
                return self.on_failure(answer)
            return on_success(self, answer, **more)

        cls.on_success = on_end

    def __init__(self, message: Message, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's signature
        try:
            read_delivery(message.headers)
        except DecodeError as exc:
            # Without a valid header, the outcome would reach no session. Celery refuses the message.
            raise InvalidTaskError(f"header {HEADER}: {exc}") from exc
        try:
            super().__init__(message, *args, **options)
            for limit in _pair(self.time_limits):
                if limit is not None:
                    float(limit)
        except InvalidTaskError:
            raise
        except Exception as exc:
            # Celery's own headers have another form: other exceptions would end the consumer, again and
            # again.
            raise InvalidTaskError(f"malformed headers: {type(exc).__name__}: {exc}") from exc
        self.redelivery.add_waiting(self)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self.redelivery.remove_waiting(self)
        super().on_accepted(pid, time_accepted)

    def acknowledge(self) -> None:
        self.redelivery.remove_waiting(self)
        super().acknowledge()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        self.redelivery.remove_waiting(self)
        super().reject(requeue=requeue)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: ANN401, FBT001
        delivery = self._unreported()
        if delivery is not None:
            if terminated:
                why = f"Terminated: {signum or reason}"
                value = outcomes.failed(delivery, why, reason=FailureReason.TERMINATED)
                self._conclude(delivery, value)
            else:
                self._drop(delivery, reason)
        super()._announce_revoked(reason, terminated, signum, expired)

    def on_failure(
        self,
        exc_info: ExceptionInfo,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        return_ok: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:  # noqa: ANN401
        delivery = self._unreported()
        if delivery is not None and not return_ok:
            exc: Any = exc_info.exception
            if isinstance(exc, ExceptionWithTraceback):
                exc = exc.exc
            self._on_end(delivery, exc)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        delivery = self._unreported()
        if delivery is not None and not soft:
            self._on_end(delivery, TimeLimitExceeded(timeout))
        super().on_timeout(soft, timeout)

    def _unreported(self) -> Delivery | None:
        if self.acknowledged or getattr(self, "_triggerstream_reported", False):
            return None
        return delivery_of(self.request_dict)

    def _on_end(self, delivery: Delivery, exc: BaseException) -> None:
        if isinstance(exc, Terminated | MemoryError | Retry | Ignore):
            return  # `_drop` reports Terminated; else the message stays, or the child has reported
        if isinstance(exc, WorkerLostError | SystemExit | KeyboardInterrupt):
            self._expire_lease(delivery)
        if not self._comes_again(exc):
            self._conclude(delivery, outcomes.failed_with(delivery, exc))

    def _comes_again(self, exc: BaseException) -> bool:
        """True if Celery will deliver the message again, so that the command has not ended."""
        task = self.task
        if isinstance(exc, Reject):
            return bool(exc.requeue)  # type: ignore[attr-defined]  # missing in the stubs
        if isinstance(exc, TimeLimitExceeded):
            return bool(task.acks_late and not _acks_on_timeout(task))
        if isinstance(exc, WorkerLostError | SystemExit | KeyboardInterrupt):
            limit = task.max_retries
            if getattr(task, "retry_on_worker_lost", False):
                return limit is None or self._context.retries < limit
            return bool(task.acks_late and task.reject_on_worker_lost)
        return False

    def _expire_lease(self, delivery: Delivery) -> None:
        guard = self.execution.guard_of(self.task)
        if guard is None or self.worker_pid is None:
            return
        try:
            guard.lost(delivery.command, holder=self.execution.holder(self.worker_pid))
        except GuardUnavailableError:
            logger.warning("The lease of a lost process could not be ended; it expires", exc_info=True)

    def _conclude(self, delivery: Delivery, value: bytes) -> None:
        self.execution.conclude(self.task, delivery, value)
        self._triggerstream_reported = True

    def _drop(self, delivery: Delivery, reason: str) -> None:
        """Report a message that was dropped before it ran: expired, or revoked.

        If the command was started before and redelivered, its instance is no longer `scheduled`, and
        `revoked` does not change it. Such a command is also reported as failed, because no worker
        finished it in time.
        """
        guard = self.execution.guard_of(self.task)
        if guard is not None:
            try:
                recorded = guard.recorded(delivery.command)
            except GuardUnavailableError:
                logger.exception("The guard does not answer", extra={"command": delivery.command})
            else:
                if recorded is not None:
                    value = outcomes.of_attempt(delivery, recorded)
                    self.execution.reporter.report(delivery.session, value)
                    self._triggerstream_reported = True
                    return
        self.execution.reporter.report(delivery.session, outcomes.revoked(delivery, reason=reason))
        if self._came_before(delivery):
            value = outcomes.worker_lost(delivery, f"{reason} before it could be run again")
            self.execution.reporter.report(delivery.session, value)
        self._triggerstream_reported = True

    def _came_before(self, delivery: Delivery) -> bool:
        redelivered = (self.delivery_info or {}).get("redelivered") or delivery.starts
        return bool(redelivered) or self.request_dict.get("retries", 0) != delivery.retries


def reporting_request(base: type[Request], execution: Execution, redelivery: Redelivery) -> type[Request]:
    """``base``, the task's own choice, as a :class:`ReportingRequest`."""
    namespace = {"execution": execution, "redelivery": redelivery}
    return type("ReportingRequest", (ReportingRequest, base), namespace)


def _pair(value: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as the message has it
    first, second = value
    return first, second


def _acks_on_timeout(task: Any) -> bool:  # noqa: ANN401 - the two settings are newer than the stubs
    split = getattr(task, "acks_on_timeout", None)
    return bool(task.acks_on_failure_or_timeout if split is None else split)


def report_rejected(execution: Execution, message: Message, why: str, *, reason: FailureReason) -> None:
    """Report a message that does not name a task of this worker, or is invalid."""
    delivery = delivery_of(message.headers)
    if delivery is not None:
        execution.reporter.report(delivery.session, outcomes.failed(delivery, why, reason=reason))
