"""States and commands that hold what those of the worker hold, for the one task of the benchmark.

Plain dictionaries, under the names of ``schemas/session-state.schema.json`` and ``command.schema.json``. The
Java peer has the same in ``streams/src/main/java/peer/SameContent.java``.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid5

from tests.benchmarks.peers.arguments import PARTS

TASK = "t_report"
RUN = "bench.tasks.report"
CONFIG = "085c9c5cbda36fe235b64e71c17c4522cc43589a3f6162b1604d45c25302143a"
"""The hash of the benchmark's tasks file."""
_NAMESPACE = UUID("3b0c1d3e-94cb-4c8e-9d3c-0f4f6f2a7c51")
_TIMELINE = 50
_DIGEST_BYTES = 8

Fields = dict[str, Any]


def begin() -> Fields:
    """The state of a session without events."""
    return {
        "version": 3,
        "generation": 0,
        "config": 0,
        "seen": {},
        "tasks": {},
        "digests": {},
        "positions": [],
    }


def fold(state: Fields, event: Fields, *, app: str, session: str, offset: int, time_us: int) -> Fields | None:
    """Change ``state`` by an event; the command, if the instance now has all that it needs."""
    trigger = event["type"]
    identity = b64encode(blake2b(f"0:{event['id']}".encode(), digest_size=_DIGEST_BYTES).digest()).decode()
    is_repeated = state["digests"].get(trigger) == identity
    state["offset"] = offset
    state["clock"] = max(state.get("clock", 0), time_us)
    state["positions"].append([offset, trigger, time_us, "ignored" if is_repeated else None])
    del state["positions"][:-_TIMELINE]
    if is_repeated:
        return None
    state["digests"][trigger] = identity
    state["seen"][trigger] = {"data": event["data"], "offset": offset, "time": time_us, "id": event["id"]}
    if trigger not in PARTS:
        return None
    instance = _instance(state, time_us)
    if instance["status"] != "unstarted":
        return None
    instance["changed"] = time_us
    instance["captured"].setdefault(trigger, offset)
    if len(instance["captured"]) < len(PARTS):
        return None
    instance.update(status="scheduled", decided=time_us, decidedAt=offset, sent={"run": RUN})
    return _command(state, instance, app=app, session=session)


def _instance(state: Fields, time_us: int) -> Fields:
    task = state["tasks"].setdefault(TASK, {"next": 0, "open": []})
    if not task["open"]:
        begun = {"number": 0, "status": "unstarted", "created": time_us, "changed": time_us, "captured": {}}
        task["open"].append(begun)
        task["next"] = 1
    instance: Fields = task["open"][0]
    return instance


def _command(state: Fields, instance: Fields, *, app: str, session: str) -> Fields:
    number = instance["number"]
    name = f"{app}/{session}/{state['generation']}/{TASK}/{number}"
    seen = {trigger: state["seen"][trigger] for trigger in instance["captured"]}
    decided = datetime.fromtimestamp(instance["decided"] / 1_000_000, tz=UTC)
    return {
        "kind": "run",
        "id": str(uuid5(_NAMESPACE, name)),
        "session": session,
        "task": TASK,
        "instance": f"{TASK}#{number}",
        "attempt": 0,
        "retries": 0,
        "run": RUN,
        "kwargs": {trigger: one["data"] for trigger, one in seen.items()},
        "config": CONFIG,
        "causes": [
            {"trigger": trigger, "offset": one["offset"], "id": one["id"]} for trigger, one in seen.items()
        ],
        "decided": decided.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "decidedAt": instance["decidedAt"],
    }
