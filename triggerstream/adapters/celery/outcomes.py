"""Encodes outcomes of commands as events, and checks which values an event can hold."""

from __future__ import annotations

import time

from celery.exceptions import TimeLimitExceeded, WorkerLostError
from msgspec.structs import replace

from triggerstream.adapters.celery.delivery import Delivery
from triggerstream.adapters.celery.plain_values import (
    NotReportableError,
    describe,
    plain,
    plain_object,
    valid_text,
)
from triggerstream.adapters.celery.tracebacks import format_user_traceback
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    Failed,
    FailureReason,
    Finished,
    Outcome,
    Retried,
    Revoked,
    Skipped,
    Started,
    Trigger,
)
from triggerstream.core.ids import JsonObject, TriggerName
from triggerstream.wire import events
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.json import loads
from triggerstream.wire.records import Record

_ERROR_CHARS = 2_000
_TRACEBACK_CHARS = 8_000
"""Error and traceback are cut to these lengths.

They are for people, and stay far below the bound of an event.
"""


# ---- encoding ------------------------------------------------------------------------------------


def encode(delivery: Delivery, outcome: Outcome) -> bytes:
    """Encode ``outcome`` as an event with the time of this machine's clock.

    Raises:
        NotReportableError: it is longer than an event may be, or a value in it is not JSON.
    """
    try:
        value = events.encode(outcome, time_us=time.time_ns() // 1_000, traceparent=delivery.traceparent)
    except DecodeError as exc:
        raise NotReportableError(str(exc)) from exc
    if len(value) > EVENT_BYTES:
        raise NotReportableError(f"{len(value):,} bytes: an event has at most {EVENT_BYTES:,}")
    return value


def started(delivery: Delivery, *, worker: str | None) -> bytes:
    """Event: a worker begins to run the command."""
    metadata: JsonObject | None = None if worker is None else {"worker": worker}
    return encode(delivery, Started(instance=delivery.instance, command=delivery.command, metadata=metadata))


def finished(delivery: Delivery, result: object) -> bytes:
    """Event: the task returned ``result``.

    Raises:
        NotReportableError: no event can hold it.
    """
    outcome = Finished(instance=delivery.instance, command=delivery.command, result=plain(result))
    return encode(delivery, outcome)


def skipped(delivery: Delivery, metadata: object = None) -> bytes:
    """Event: the task reported that there was nothing to do.

    Raises:
        NotReportableError: no event can hold the metadata.
    """
    found = None if metadata is None else plain_object(metadata)
    return encode(delivery, Skipped(instance=delivery.instance, command=delivery.command, metadata=found))


def retried(delivery: Delivery, *, after_s: float, kwargs: object = None) -> bytes:
    """Event: the task asked to be run again.

    Raises:
        NotReportableError: no event can hold the kwargs.
    """
    outcome = Retried(
        instance=delivery.instance,
        command=delivery.command,
        after_us=round(after_s * 1_000_000),
        kwargs=None if kwargs is None else plain_object(kwargs),
    )
    return encode(delivery, outcome)


def revoked(delivery: Delivery, *, reason: str) -> bytes:
    """Event: Celery dropped the message before the task ran."""
    metadata: JsonObject = {"reason": reason}
    outcome = Revoked(
        instance=delivery.instance, command=delivery.command, attempt=delivery.attempt, metadata=metadata
    )
    return encode(delivery, outcome)


def failed(
    delivery: Delivery, error: str, *, reason: FailureReason | None = None, trace: str | None = None
) -> bytes:
    """Event: the command ended with ``error``. ``reason`` is set if the task itself is not the cause."""
    metadata: JsonObject | None = {"traceback": valid_text(trace[-_TRACEBACK_CHARS:])} if trace else None
    outcome = Failed(
        instance=delivery.instance,
        command=delivery.command,
        error=valid_text(error[:_ERROR_CHARS]),
        reason=reason,
        attempt=delivery.attempt,
        metadata=metadata,
    )
    return encode(delivery, outcome)


def failed_with(delivery: Delivery, exc: BaseException) -> bytes:
    """Event: the task raised ``exc``, or Celery ended it with ``exc``."""
    reason = None
    if isinstance(exc, WorkerLostError):
        reason = FailureReason.WORKER_LOST
    elif isinstance(exc, TimeLimitExceeded):
        reason = FailureReason.TIME_LIMIT
    return failed(delivery, describe(exc), reason=reason, trace=format_user_traceback(exc))


def not_reportable(delivery: Delivery, exc: NotReportableError) -> bytes:
    """Event: the task succeeded, but its result cannot be stored in an event."""
    return failed(
        delivery,
        f"the task ended, but its result cannot be reported: {exc}",
        reason=FailureReason.RESULT_NOT_REPORTABLE,
    )


def processes_ended(times: int) -> str:
    """The error text of a command that was abandoned after ``times`` starts."""
    return f"the processes that ran it ended without an outcome, {times} times"


def worker_lost(delivery: Delivery, why: str) -> bytes:
    """Event: no worker could run the command to its end."""
    return failed(delivery, why, reason=FailureReason.WORKER_LOST)


def fired(delivery: Delivery, name: TriggerName, data: JsonObject, *, number: int) -> bytes:
    """Event of the trigger ``name``, fired by a task as its ``number``-th.

    A rerun of the command gives the same id.

    Raises:
        NotReportableError: it is longer than an event may be, or a value in it is not JSON.
    """
    try:
        value = events.encode(
            Trigger(name=name, data=data),
            id=f"{delivery.command}/{number}",
            source=f"triggerstream.task/{name}",
            time_us=time.time_ns() // 1_000,
            traceparent=delivery.traceparent,
        )
    except DecodeError as exc:
        raise NotReportableError(str(exc)) from exc
    if len(value) > EVENT_BYTES:
        raise NotReportableError(f"{len(value):,} bytes: an event has at most {EVENT_BYTES:,}")
    return value


def of_attempt(delivery: Delivery, value: bytes) -> bytes:
    """Set the attempt of ``value``, an outcome that a guard has recorded, to that of ``delivery``.

    A recorded outcome is final for every message of the command, but names the attempt that it was made for.
    """
    outcome = decode(value)
    if isinstance(outcome, Failed | Revoked) and outcome.attempt not in {None, delivery.attempt}:
        return encode(delivery, replace(outcome, attempt=delivery.attempt))
    return value


# ---- decoding ------------------------------------------------------------------------------------


def decode(value: bytes) -> Outcome:
    """Decode an outcome that :func:`encode` encoded.

    Raises:
        DecodeError: ``value`` is not an outcome.
    """
    event = events.decode(Record(partition=0, offset=0, arrival_us=0, key=b"-", value=value))
    body = getattr(event, "body", None)
    if not isinstance(body, Outcome):
        raise DecodeError(f"not an outcome: {loads(value)!r:.80}")
    return body
