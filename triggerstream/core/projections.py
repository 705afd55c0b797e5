"""What a person wants to know of a session: read from its state and the configurations, never stored.

The results are JSON values, the same for the command line, the API and the pages. Instants are
microseconds since the epoch (``…Us``); the callers turn them into text.
"""

from __future__ import annotations

from triggerstream.core.effects import Reason
from triggerstream.core.fold import migrate, timer_due_us
from triggerstream.core.ids import Json, JsonObject, SessionId, TaskName, TriggerName, command_id, instance_id
from triggerstream.core.merge import deep_merge
from triggerstream.core.state import DECIDED, WAITING, Arrival, Instance, SessionState, Status
from triggerstream.core.tasks import Configuration, Rules, Task


def explain(
    rules: Rules,
    session: SessionId,
    state: SessionState,
    *,
    task: TaskName | None = None,
) -> JsonObject:
    """Each task that the session has to do with: its instances, their conditions leaf by leaf, and why.

    A session that has not met the configuration in force is shown as its next event will find it. With
    ``task`` only that one, even if it has no instance yet.
    """
    met = rules.met(state.config).hash
    view = migrate(rules, state, session).state
    config = rules.current.config
    names = [known.name for known in config.among(view.tasks)]
    names += [name for name in view.tasks if name not in config.by_name]
    if task is not None:
        names = [task]
    return {
        "session": session,
        "generation": view.generation,
        "closed": view.closed,
        "clockUs": view.clock_us,
        "offset": view.offset,
        "config": {"met": met or None, "inForce": config.hash or None},
        "waitsFor": list(waits_for(rules, state, session)),
        "tasks": [_task(rules, session, view, name) for name in names],
        "seen": [
            {"trigger": name, "by": _by(arrival), "usedBy": [t.name for t in config.users.get(name, ())]}
            for name, arrival in view.seen.items()
        ],
        "refused": view.refused,
        "timeline": timeline(rules, session, view),
    }


def statuses(state: SessionState) -> dict[str, Instance]:
    """Every instance kept, by id, task by task in the order in which the session met them."""
    return {
        instance_id(name, instance.number): instance
        for name, record in state.tasks.items()
        for instance in record.instances()
    }


def waits_for(rules: Rules, state: SessionState, session: SessionId) -> tuple[TriggerName, ...]:
    """The triggers that some unstarted instance still lacks, each once (docs/semantics.md, R4.9)."""
    view = migrate(rules, state, session).state
    missing: dict[TriggerName, None] = {}
    for task in rules.current.config.among(view.tasks):
        for instance in view.tasks[task.name].open.values():
            if instance.status is Status.UNSTARTED:
                missing.update(dict.fromkeys(name for name in task.needs if name not in instance.captured))
    return tuple(missing)


def timeline(rules: Rules, session: SessionId, state: SessionState) -> list[Json]:
    """What happened, oldest first: events as they came, decisions where they were made.

    At most the last 50 events. ``what`` is one of arrived, reported, ordered, decided, abandoned, refused,
    ignored; ``why`` says for the last two why, as a code.
    """
    rows: list[tuple[tuple[int, int, int], JsonObject]] = []
    for offset, kind, time_us, note in state.positions:
        inert, why, says = note if isinstance(note, tuple) else (None, None, note)
        what = _what(kind) if inert is None else inert.value
        row: JsonObject = {"offset": offset, "timeUs": time_us, "what": what, "type": kind}
        if why is not None:
            row["why"] = why.value
        if says is not None:
            row["note"] = says
        rows.append(((offset, 0, 0), row))
    first = rows[0][0][0] if rows else 0
    for name, record in state.tasks.items():
        rows.extend(
            ((instance.decided_at, 1, instance.number), _decision(rules, session, state, name, instance))
            for instance in record.instances()
            if instance.decided_at is not None and instance.decided_at >= first
        )
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _decision(
    rules: Rules, session: SessionId, state: SessionState, name: TaskName, instance: Instance
) -> JsonObject:
    sent = instance.sent
    return {
        "offset": instance.decided_at,
        "timeUs": instance.decided_us,
        "what": "decided",
        "instance": instance_id(name, instance.number),
        "run": None if sent is None else sent.run,
        "command": _command(rules, session, state, name, instance),
        "because": [
            {"trigger": trigger, "by": _by(state.arrival(trigger, offset))}
            for trigger, offset in instance.captured.items()
        ],
    }


def _what(kind: str) -> str:
    if kind.startswith("triggerstream.task."):
        return "reported"
    return "ordered" if kind.startswith("triggerstream.") else "arrived"


def _task(rules: Rules, session: SessionId, state: SessionState, name: TaskName) -> JsonObject:
    config = rules.current.config
    task = config.by_name.get(name)
    record = state.tasks.get(name)
    shown: JsonObject = {"task": name, "inForce": task is not None}
    if task is not None:
        shown["run"] = task.run
        shown["after"] = list(task.needs)
        if task.and_every is not None:
            shown["andEvery"] = task.and_every
        if task.unless:
            shown["unless"] = list(task.unless)
    if record is None:
        shown["instances"] = []
        shown["says"] = (
            "no such task"
            if task is None
            else "no instance: none of its triggers has arrived since it exists"
        )
    else:
        shown["instances"] = [_instance(rules, session, state, name, i) for i in record.instances()]
        if record.next > len(record.open) + len(record.resolved):
            shown["forgotten"] = record.next - len(record.open) - len(record.resolved)
    return shown


def _instance(
    rules: Rules,
    session: SessionId,
    state: SessionState,
    name: TaskName,
    instance: Instance,
) -> JsonObject:
    task = rules.current.config.by_name.get(name)
    shown: JsonObject = {
        "instance": instance_id(name, instance.number),
        "status": instance.status.value,
        "says": _says(rules.current.config, task, instance),
        "after": _leaves(task, state, instance),
        "createdUs": instance.created_us,
        "changedUs": instance.changed_us,
    }
    if task is not None and task.unless:
        shown["unless"] = [
            {"trigger": t, "arrived": t in instance.noted, "offset": instance.noted.get(t)}
            for t in task.unless
        ]
    if instance.sent is not None:
        shown["command"] = _command(rules, session, state, name, instance)
        shown["run"] = instance.sent.run
        shown["kwargs"] = deep_merge(instance.sent.params, state.stored_kwargs(instance))
        shown["config"] = instance.sent.config
        shown["attempt"] = instance.attempt
        shown["retries"] = instance.retries
    if instance.status is Status.DELAYED and task is not None:
        shown["dueUs"] = timer_due_us(task, instance)
    optional: dict[str, Json] = {
        "cloneOf": None if instance.clone_of is None else instance_id(name, instance.clone_of),
        "decidedUs": instance.decided_us,
        "decidedAt": instance.decided_at,
        "startedUs": instance.started_us,
        "endedUs": instance.ended_us,
        "reason": None if instance.reason is None else instance.reason.value,
        "said": instance.said,
        "result": instance.result,
        "error": instance.error,
        "metadata": instance.metadata,
    }
    shown.update({key: value for key, value in optional.items() if value is not None})
    return shown


def _leaves(task: Task | None, state: SessionState, instance: Instance) -> list[Json]:
    names = task.needs if task is not None else tuple(instance.captured)
    leaves: list[Json] = []
    for name in names:
        offset = instance.captured.get(name)
        leaf: JsonObject = {"trigger": name, "met": offset is not None}
        if offset is not None:
            arrival = state.arrival(name, offset)
            leaf["by"] = _by(arrival)
            leaf["data"] = arrival.data
        leaves.append(leaf)
    return leaves


def _says(config: Configuration, task: Task | None, instance: Instance) -> str:
    """The instance's case in one sentence."""
    missing = [] if task is None else [name for name in task.needs if name not in instance.captured]
    blockers = [] if task is None else [name for name in task.unless if name not in instance.noted]
    says = instance.status.value
    match instance.status:
        case Status.UNSTARTED if missing:
            says = f"waits for {_and(missing)}"
        case Status.UNSTARTED:
            says = "has all it needs and is judged at the session's next event"
        case Status.DELAYED:
            says = "waits to be tried again"
        case Status.HELD:
            says = "is held"
        case Status.SCHEDULED:
            says = "was decided and handed over; no worker has reported yet"
        case Status.RUNNING:
            says = "is running"
        case Status.FAILED:
            says = f"failed: {instance.error or 'no error was given'}"
        case Status.FINISHED:
            says = "finished"
        case Status.SKIPPED:
            says = "was skipped"
        case Status.REPLAYED:
            says = "was replayed as a later instance"
        case Status.ABANDONED:
            says = f"is blocked by `unless`: {_and(list(instance.noted))} arrived first"
        case Status.EXPIRED:
            says = "expired: the executor dropped it before it ran"
        case Status.CANCELLED:
            says = "was cancelled"
    if instance.status in WAITING and instance.noted and blockers:
        says += f"; abandoned once {_and(blockers)} arrives too"
    if instance.reason is Reason.UNLESS and instance.status is Status.FAILED:
        says += "; not tried again, because its `unless` was fulfilled"
    elif instance.said is not None and instance.status not in WAITING:
        says += f" ({instance.said})"
    elif instance.reason is not None and instance.status in {Status.FAILED, Status.CANCELLED}:
        says += f" ({instance.reason})"
    if task is not None and instance.status in DECIDED and instance.sent is not None:
        current = config.hash
        if instance.sent.config != current:
            says += "; decided under an earlier configuration"
    return says


def _and(names: list[TriggerName]) -> str:
    *others, last = names or [TriggerName("nothing")]
    return f"{', '.join(others)} and {last}" if others else last


def _by(arrival: Arrival) -> JsonObject:
    by: JsonObject = {"offset": arrival.offset, "timeUs": arrival.time_us}
    if arrival.id is not None:
        by["id"] = arrival.id
    if arrival.source is not None:
        by["source"] = arrival.source
    return by


def _command(
    rules: Rules, session: SessionId, state: SessionState, name: TaskName, instance: Instance
) -> str:
    return command_id(
        rules.app,
        session,
        generation=state.instances_generation,
        task=name,
        number=instance.number,
    )
