"""Encodes outcomes of commands as events, and checks which values an event can hold."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from celery.canvas import Signature
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.result import ResultBase
from msgspec.structs import replace

from triggerstream.adapters.celery.delivery import Delivery
from triggerstream.core.errors import DecodeError, TriggerstreamError
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
from triggerstream.core.ids import Json, JsonObject, TriggerName
from triggerstream.wire import events
from triggerstream.wire.bounds import EVENT_BYTES, INTEGER_LIMIT, JSON_DEPTH
from triggerstream.wire.json import loads
from triggerstream.wire.records import Record

_ENVELOPE_DEPTH = 2
"""An outcome's value lies in ``data`` of the event, two levels below the event itself."""
_ERROR_CHARS = 2_000
_TRACEBACK_CHARS = 8_000
"""Error and traceback are cut to these lengths.

They are for people, and stay far below the bound of an event.
"""


class NotReportableError(TriggerstreamError):
    """A value that no event can hold. The message names the place in it and the reason."""


def plain(value: object, *, depth: int = JSON_DEPTH - _ENVELOPE_DEPTH) -> Json:
    """Convert ``value`` to JSON's own types. Tuples become arrays.

    Raises:
        NotReportableError: a part of it is not JSON, is too deep, or is a number that JSON readers read
            differently.
    """
    try:
        return _plain(value, "", depth)
    except NotReportableError:
        raise
    except Exception as exc:
        # Reading an object of the application calls its methods; their errors are not errors of the task.
        raise NotReportableError(f"a value cannot be read: {describe(exc)}") from exc


def plain_object(value: object) -> JsonObject:
    """Convert ``value`` as :func:`plain` does. It must be an object."""
    found = plain(value)
    if not isinstance(found, dict):
        raise NotReportableError(f"must be an object, is {type(value).__name__}")
    return found


def _plain(value: object, path: str, depth: int) -> Json:
    match value:
        case None | bool():
            return value
        case int():
            if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
                raise NotReportableError(f"{path or '/'}: an integer beyond ±2^63: write it as a string")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise NotReportableError(f"{path or '/'}: {value} is no JSON number")
            return float(value)
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as exc:
                raise NotReportableError(f"{path or '/'}: not valid Unicode") from exc
            return str(value)
        case Signature():
            # A signature is a dict: without this check it would count as a result, and would never run.
            raise NotReportableError(
                f"{path or '/'}: a Celery signature ({value.get('task')!s:.80}) is no JSON; it was not "
                "applied, so nothing of it ran: call its apply_async() in the task and return the id of what "
                "that gives"
            )
        case dict() | list() | tuple() if depth <= 0:
            raise NotReportableError(f"{path[:80]}…: nested deeper than {JSON_DEPTH}")
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise NotReportableError(f"{path or '/'}: the key {key!r:.40} is no string")
            return {
                str(_plain(key, path, 0)): _plain(item, f"{path}/{key}", depth - 1)
                for key, item in value.items()
            }
        case list() | tuple():
            return [_plain(item, f"{path}/{index}", depth - 1) for index, item in enumerate(value)]
        case _:
            advice = _advice(value)
            raise NotReportableError(
                f"{path or '/'}: {type(value).__name__} is no JSON{f'; {advice}' if advice else ''}"
            )


def _advice(value: object) -> str | None:
    """Advice on what to return in place of ``value``; None if there is none."""
    match value:
        case type():
            return None
        case ResultBase():
            return (
                "what was sent runs on its own: return its id (`result.id`), and let its last task fire a "
                "trigger where something has to follow"
            )
        case Awaitable() | AsyncIterator():
            return "nothing of it ran: Celery awaits nothing, so run it in the task, with asyncio.run(…)"
        case set() | frozenset() | Iterator():
            return "return a list of what it holds"
        case bytes() | bytearray() | memoryview():
            return "return text: decode it, or use base64"
        case date() | time_of_day():
            return "return its isoformat()"
        case Decimal() | UUID() | PurePath():
            return "return str(…) of it"
        case Enum():
            return "return its value"
        case BaseException():
            return "raise it, or return str(…) of it"
        case _ if dataclasses.is_dataclass(value):
            return "return dataclasses.asdict(…) of it"
        case _ if hasattr(value, "model_dump"):
            return 'return its model_dump(mode="json")'
        case _ if hasattr(value, "tolist"):
            return "return its tolist()"
        case _:
            return "return what describes it: text, numbers, lists, objects with text as keys"


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
    metadata: JsonObject | None = {"traceback": _valid(trace[-_TRACEBACK_CHARS:])} if trace else None
    outcome = Failed(
        instance=delivery.instance,
        command=delivery.command,
        error=_valid(error[:_ERROR_CHARS]),
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
    trace = "".join(traceback.format_exception(exc))
    return failed(delivery, describe(exc), reason=reason, trace=trace)


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


def describe(exc: BaseException) -> str:
    """``Type: message``, the text of an outcome's ``error``."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - the application's class may have a broken __str__
        text = ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _valid(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


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
    if not isinstance(body, Started | Finished | Failed | Skipped | Retried | Revoked):
        raise DecodeError(f"not an outcome: {loads(value)!r:.80}")
    return body
