"""Values of tasks as JSON, within the bounds of an event."""

from __future__ import annotations

from celery.result import ResultBase

from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.values import FIELD_DEPTH, ValueNotJsonError, object_to_json, value_to_json

_OF_A_RESULT = (
    "what was sent runs on its own: use its id (`result.id`), and let its last task fire a trigger where "
    "something has to follow"
)


class NotReportableError(TriggerstreamError):
    """A value that no event can hold. The message names the place in it and the reason."""


def plain(value: object) -> Json:
    """Convert ``value`` to JSON's own types (:mod:`triggerstream.wire.values`).

    Raises:
        NotReportableError: no event can hold it.
    """
    try:
        return value_to_json(value)
    except ValueNotJsonError as exc:
        raise _not_reportable(exc) from exc


def plain_object(value: object, *, depth: int = FIELD_DEPTH) -> JsonObject:
    """Convert ``value`` as :func:`plain` does. It must be an object."""
    try:
        return object_to_json(value, depth=depth)
    except ValueNotJsonError as exc:
        raise _not_reportable(exc) from exc


def _not_reportable(exc: ValueNotJsonError) -> NotReportableError:
    if isinstance(exc.value, ResultBase):
        exc = ValueNotJsonError(exc.place, exc.value, exc.reason, _OF_A_RESULT)
    return NotReportableError(str(exc))


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
