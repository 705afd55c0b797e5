"""Values of tasks as JSON, within the bounds of an event."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from celery.canvas import Signature
from celery.result import ResultBase

from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.bounds import INTEGER_LIMIT, JSON_DEPTH

_ENVELOPE_DEPTH = 2
"""An outcome's value lies in ``data`` of the event, two levels below the event itself."""


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


def describe(exc: BaseException) -> str:
    """``Type: message``, the text of an outcome's ``error``."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - the application's class may have a broken __str__
        text = ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def valid_text(text: str) -> str:
    """``text`` without lone surrogates, which JSON cannot hold."""
    return text.encode(errors="backslashreplace").decode()
