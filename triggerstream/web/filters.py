"""Filters of the session list as parameters of a request, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.state import Status
from triggerstream.wire.durations import parse_duration
from triggerstream.wire.instants import format_instant, parse_instant

ANY_TIME = "any"
OVERDUE = "overdue"
DUE_WITHIN: Final = ("1h", "1d", "7d")
"""The durations that the page offers; any other one is accepted too."""
_LAST_US = 253_402_300_799 * 1_000_000
"""The last instant that RFC 3339 can say."""


def filter_of(parameters: Mapping[str, str], *, now_us: int) -> Filter:
    """The filter of a request at ``now_us``; an empty parameter is ignored.

    Raises:
        DecodeError: there is no such status, or the due time is none.
    """
    task, status, waits_for = (parameters.get(name) for name in ("task", "status", "waitsFor"))
    if status and status not in set(Status):
        raise DecodeError(f"status: is one of {', '.join(Status)}")
    return Filter(
        task=TaskName(task) if task else None,
        status=Status(status) if status else None,
        waits_for=TriggerName(waits_for) if waits_for else None,
        due_by_us=_due_by(parameters.get("due"), now_us),
    )


def _due_by(text: str | None, now_us: int) -> int | None:
    """The latest due time that a parameter asks for."""
    if not text:
        return None
    if text == OVERDUE:
        return now_us
    if text == ANY_TIME:
        return _LAST_US
    duration_us = parse_duration(text)
    if duration_us is not None:
        return min(now_us + duration_us, _LAST_US)
    try:
        return parse_instant(text)
    except DecodeError as exc:
        raise DecodeError(
            f"due: is `{OVERDUE}`, `{ANY_TIME}`, a duration such as 2h, or an RFC 3339 instant"
        ) from exc


def parameters_of(wanted: Filter) -> dict[str, str | None]:
    """The parameters of a request with which another worker filters its sessions as ``wanted`` does."""
    due_by_us = wanted.due_by_us
    return {
        "task": wanted.task,
        "status": wanted.status,
        "waitsFor": wanted.waits_for,
        # An instant: the clocks of workers differ.
        "due": None if due_by_us is None else format_instant(due_by_us),
    }
