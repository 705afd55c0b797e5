"""Upcasts: states of earlier versions, changed step by step into the form that this release reads.

An upcast works on plain JSON values and is never changed again: ``tests/wire/version1`` keeps states as they
were written. An error in an old state is not repaired; it is refused when the result is read.

Version 2 (docs/decisions): reasons of the engine are codes, the text of an operator is a separate field, and
earlier events that an instance captured are in `kept`, in version 1 in `held`.
"""

from __future__ import annotations

from typing import Any

_REASONS = {
    "failed": frozenset(
        {
            *("bound", "unless", "session closed", "not dispatchable", "task unknown", "message rejected"),
            *("worker lost", "time limit", "terminated", "result not reportable"),
        }
    ),
    "cancelled": frozenset({"task removed", "session closed"}),
}
"""Version 1 had one field for both: the engine gave these, in these statuses; the rest is an operator's."""


def upcast(state: Any, version: int) -> Any:  # noqa: ANN401 - any JSON value
    """Upcast ``state`` from the earlier ``version`` to this release's version."""
    if version == 1 and isinstance(state, dict):
        return _from_version_1(state)
    return state


def _from_version_1(state: dict[str, Any]) -> dict[str, Any]:
    state["version"] = 2
    if "held" in state:
        state["kept"] = state.pop("held")
    positions = state.get("positions")
    if isinstance(positions, list):
        state["positions"] = [_position(position) for position in positions]
    tasks = state.get("tasks")
    for record in tasks.values() if isinstance(tasks, dict) else ():
        for group in ("open", "resolved"):
            instances = record.get(group) if isinstance(record, dict) else None
            for instance in instances if isinstance(instances, list) else ():
                if isinstance(instance, dict) and isinstance(instance.get("reason"), str):
                    _split_reason(instance)
    return state


def _position(position: Any) -> Any:  # noqa: ANN401 - any JSON value
    match position:
        case [offset, kind, time, [inert, says]]:
            why = "duplicate" if inert == "ignored" else "not recorded"
            return [offset, kind, time, [inert, why, says]]
        case _:
            return position


def _split_reason(instance: dict[str, Any]) -> None:
    reason, status = instance["reason"], instance.get("status")
    if reason not in _REASONS.get(status, ()):  # type: ignore[arg-type]  # a status is a string, too
        instance["note"] = instance.pop("reason")
