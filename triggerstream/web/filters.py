"""Filters of the session list as parameters of a request, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.state import Status


def filter_of(parameters: Mapping[str, str]) -> Filter:
    """The filter of a request; an empty parameter is ignored.

    Raises:
        DecodeError: there is no such status.
    """
    task, status, waits_for = (parameters.get(name) for name in ("task", "status", "waitsFor"))
    if status and status not in set(Status):
        raise DecodeError(f"status: is one of {', '.join(Status)}")
    return Filter(
        task=TaskName(task) if task else None,
        status=Status(status) if status else None,
        waits_for=TriggerName(waits_for) if waits_for else None,
    )


def parameters_of(wanted: Filter) -> dict[str, str | None]:
    """The parameters of a request with which another worker filters its sessions as ``wanted`` does."""
    return {"task": wanted.task, "status": wanted.status, "waitsFor": wanted.waits_for}
