"""How a session is listed, and which sessions a list is for."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.ids import JsonObject, SessionId, TaskName, TriggerName, instance_id
from triggerstream.core.projections import waits_for
from triggerstream.core.state import DECIDED, WAITING, Instance, SessionState, Status
from triggerstream.core.tasks import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Sessions with an instance of ``task`` in ``status``, that wait for the trigger ``waits_for``."""

    task: TaskName | None = None
    status: Status | None = None
    waits_for: TriggerName | None = None

    def is_empty(self) -> bool:
        """True where every session passes."""
        return self.task is None and self.status is None and self.waits_for is None

    def marks(self) -> tuple[str, ...]:
        """The marks that a session must have; see :func:`marks`."""
        found = []
        if self.task is not None or self.status is not None:
            found.append(_mark(self.task, self.status))
        if self.waits_for is not None:
            found.append(_WAITS + self.waits_for)
        return tuple(found)


_WAITS = "waits\0"


def _mark(task: TaskName | None, status: Status | None) -> str:
    return f"is\0{status.value if status is not None else ''}\0{task if task is not None else ''}"


def marks(rules: Rules, session: SessionId, state: SessionState) -> frozenset[str]:
    """What a list may choose the session by: a session passes a filter if it has each of its marks."""
    found: set[str] = {_WAITS + name for name in waits_for(rules, state, session)}
    for name, record in state.tasks.items():
        for instance in (*record.open.values(), *record.resolved.values()):
            found.add(_mark(name, None))
            found.add(_mark(None, instance.status))
            found.add(_mark(name, instance.status))
    return frozenset(found)


def is_stuck(instance: Instance, before_us: int) -> bool:
    """True if its command was handed over before ``before_us`` and nothing was heard since."""
    return instance.status in DECIDED and instance.changed_us < before_us


def counts(state: SessionState) -> JsonObject:
    """How many instances wait, run, failed and are done, and the session's clock."""
    found = {"waiting": 0, "running": 0, "failed": 0, "done": 0}
    for record in state.tasks.values():
        for instance in record.open.values():
            kind = instance.status
            name = "waiting" if kind in WAITING else "running" if kind in DECIDED else "failed"
            found[name] += 1
        found["done"] += record.next - len(record.open)
    return {**found, "closed": state.closed, "clockUs": state.clock_us}


def failures(state: SessionState) -> list[JsonObject]:
    """The failed instances of a session, each with its error."""
    return [
        {
            "instance": instance_id(name, instance.number),
            "error": instance.error,
            "reason": instance.reason,
            "changedUs": instance.changed_us,
        }
        for name, record in state.tasks.items()
        for instance in record.open.values()
        if instance.status is Status.FAILED
    ]
