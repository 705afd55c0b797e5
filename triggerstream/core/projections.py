"""Answers to people's questions about a session, computed from its state and the configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from triggerstream.core import advice
from triggerstream.core.answers import (
    ConfigurationsMet,
    ExplainedInstance,
    ExplainedSession,
    ExplainedTask,
    HandOver,
    HandOverState,
    ReasonToDecide,
    SeenTrigger,
    StoredInstance,
    StoredSession,
)
from triggerstream.core.blocks import holdings_of, instances_where, shapes_of
from triggerstream.core.explain import Explainer
from triggerstream.core.fold import migrate
from triggerstream.core.ids import (
    CommandId,
    InstanceId,
    Instant,
    SessionId,
    TaskName,
    TriggerName,
    instance_id,
)
from triggerstream.core.lacking import missing_triggers
from triggerstream.core.places import Hold, holds_of
from triggerstream.core.reruns import Rerun, reruns_of
from triggerstream.core.retired import forgotten_count
from triggerstream.core.sentences import status_sentence
from triggerstream.core.similar_names import nearest
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Instance, SessionState, Status
from triggerstream.core.tasks import Configuration, Rules, Task
from triggerstream.core.time_sentences import max_retries, round_of
from triggerstream.core.timeline import (
    command_of,
    included_events,
    latest_captured,
    latest_timeout,
    origin_of,
    reason_to_decide,
    timeline,
)
from triggerstream.core.timers import due

_COMPARED = 5
"""Unused triggers of a session that are compared with the names of the file: with 3,000 of them, each takes
0.1 s."""

SILENT_US: Final = 5 * 60 * 1_000_000
"""Time without a worker's report after which people are told what to look for. Most Celery tasks of a queue
that is served start within seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Facts beside a state: how far hand-overs have come, by instance, and the time now, if it matters."""

    hand_overs: Mapping[InstanceId, HandOver] = field(default_factory=dict)
    now_us: int | None = None


NOTHING_SEEN: Final = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentCommand:
    """A decided command that no worker has reported about.

    ``decided_at`` is the offset of the event in whose fold its first record was decided.
    """

    instance: InstanceId
    command: CommandId
    attempt: int
    decided_at: int


def silent_commands(rules: Rules, session: SessionId, state: SessionState) -> list[SilentCommand]:
    """The commands of the session that no worker has reported about, task by task."""
    return [
        SilentCommand(
            instance=instance_id(name, instance.number),
            command=command_of(rules, session, state, name, instance),
            attempt=instance.attempt,
            decided_at=instance.decided_at,
        )
        for name, record in state.tasks.items()
        for instance in instances_where(record.open, lambda shape: shape.status is Status.SCHEDULED)
        if instance.decided_at is not None
    ]


def explain(
    rules: Rules,
    session: SessionId,
    state: SessionState,
    *,
    task: TaskName | None = None,
    beside: Seen = NOTHING_SEEN,
) -> ExplainedSession:
    """Every task that concerns the session: its instances, their conditions leaf by leaf, and reasons.

    A session that has not met the configuration in force is shown as if it had. With ``task`` only that task
    is returned, even if it has no instance yet. Tasks that use what has arrived are there without an instance
    too: an event that does not match (R3.7) begins none.
    """
    met = rules.met(state.config).hash
    view = migrate(rules, state, session).state
    config = rules.current.config
    explainer = Explainer(rules, session, view)
    names = [task] if task is not None else _concerned(config, view)
    return ExplainedSession(
        session=session,
        generation=view.generation,
        closed=view.closed,
        clock_us=_instant(view.clock_us or None),
        last_event_us=last_event_us(view),
        offset=view.offset,
        config=ConfigurationsMet(met=met or None, in_force=config.hash or None),
        waits_for=list(waits_for(rules, state, session)),
        tasks=[_task(explainer, name, beside) for name in names],
        seen=_seen(config, view),
        refused=view.refused,
        timeline=timeline(rules, session, view),
    )


def _concerned(config: Configuration, state: SessionState) -> list[TaskName]:
    """Tasks with an instance and those that use what has arrived; removed ones come last."""
    using = {use.task.name for trigger in state.seen for use in config.users.get(trigger, ())}
    names = [known.name for known in config.among(using | state.tasks.keys())]
    return names + [
        name for name, record in state.tasks.items() if name not in config.by_name and record.next
    ]


def _seen(config: Configuration, state: SessionState) -> list[SeenTrigger]:
    seen, compared = [], 0
    known = _used_by_instances(state)
    for name, arrival in state.seen.items():
        users = [use.task.name for use in config.users.get(name, ())]
        unused = not users and TaskName(name) not in config.by_name and name not in known
        likely = nearest(name, config.users) if unused and compared < _COMPARED else None
        compared += unused
        seen.append(
            SeenTrigger(
                trigger=name,
                by=origin_of(arrival),
                used_by=users,
                unused=unused,
                nearest=None if likely is None else TriggerName(likely),
            )
        )
    return seen


def _used_by_instances(state: SessionState) -> set[str]:
    """Names that a kept instance captured or noted, and those that follow from the session's tasks.

    Tasks that were removed count as well: such a name was no mistake.
    """
    names: set[str] = set(state.tasks)
    for record in state.tasks.values():
        for instance in record.instances():
            names.update(of for of, _ in captured_refs(instance.captured))
            names.update(of for of, _ in captured_refs(instance.noted))
    return names


def statuses(state: SessionState) -> dict[str, Instance]:
    """Every instance kept, by id, task by task in the order in which the session met them."""
    return {
        instance_id(name, instance.number): instance
        for name, record in state.tasks.items()
        for instance in record.instances()
    }


def last_event_us(state: SessionState) -> Instant | None:
    """The time of the latest event in the timeline; the session's clock if the timeline is empty.

    The clock itself may be later: timers move it, and an event's time may be before its arrival.
    """
    return Instant(state.positions[-1][2]) if state.positions else _instant(state.clock_us or None)


def stored(session: SessionId, state: SessionState, *, rules: Rules | None = None) -> StoredSession:
    """The stored session, without configurations that it still has to meet.

    ``rules`` None: due times are left out.
    """
    tasks = {} if rules is None else rules.met(state.config).config.by_name
    return StoredSession(
        session=session,
        generation=state.generation,
        closed=state.closed,
        offset=state.offset,
        clock_us=_instant(state.clock_us or None),
        last_event_us=last_event_us(state),
        refused=state.refused,
        seen=list(state.seen),
        instances={
            instance_id(name, instance.number): _stored(
                state, instance, reruns.get(instance.number), task=tasks.get(name)
            )
            for name, record in state.tasks.items()
            for reruns in [reruns_of(name, record)]
            for instance in record.instances()
        },
    )


def _stored(
    state: SessionState, instance: Instance, rerun: Rerun | None, *, task: Task | None
) -> StoredInstance:
    timer = None if task is None else due(task, instance)
    return StoredInstance(
        status=instance.status,
        kwargs=state.stored_kwargs(instance),
        result=instance.result,
        error=instance.error,
        reason=None if instance.reason is None else instance.reason.value,
        note=instance.note,
        metadata=instance.metadata,
        attempt=instance.attempt,
        retries=instance.retries,
        created_us=Instant(instance.created_us),
        decided_us=_instant(instance.decided_us),
        started_us=_instant(instance.started_us),
        ended_us=_instant(instance.ended_us),
        changed_us=Instant(instance.changed_us),
        due_us=None if timer is None else Instant(timer.us),
        due_of=None if timer is None else timer.of,
        repeats=instance.repeats,
        retried_as=None if rerun is None or not rerun.retries else rerun.instance,
    )


def waits_for(rules: Rules, state: SessionState, session: SessionId) -> tuple[TriggerName, ...]:
    """The triggers that could still complete an unstarted instance, each once (docs/semantics.md, R4.9)."""
    view = state if state.config >= rules.current.offset else migrate(rules, state, session).state
    missing: dict[TriggerName, None] = {}
    for task in rules.current.config.among(view.tasks):
        for shape in shapes_of(view.tasks[task.name].open):
            if shape.status is Status.UNSTARTED:
                missing.update(dict.fromkeys(missing_triggers(task.after, holdings_of(shape))))
    return tuple(missing)


def _task(explainer: Explainer, name: TaskName, beside: Seen) -> ExplainedTask:
    rules, state = explainer.rules, explainer.state
    task = rules.current.config.by_name.get(name)
    record = state.tasks.get(name)
    instances, says, forgotten = [], None, 0
    if record is not None and record.next:
        reruns = reruns_of(name, record)
        holds = {} if task is None else holds_of(task, record)
        instances = [
            _instance(
                explainer,
                name,
                one,
                rerun=reruns.get(one.number),
                hold=holds.get(one.number),
                beside=beside,
            )
            for one in record.instances()
        ]
        forgotten = forgotten_count(record)
    elif task is None:
        likely = nearest(name, rules.current.config.by_name)
        says = "no such task" if likely is None else f"no such task; the nearest name is {likely}"
    else:
        says = explainer.why_no_instance(task)
    return ExplainedTask(
        task=name,
        in_force=task is not None,
        run=None if task is None else task.run,
        after=None if task is None else list(task.needs),
        and_every=None if task is None else task.and_every,
        unless=None if task is None or task.unless is None else list(task.unless_triggers),
        instances=instances,
        says=says,
        forgotten=forgotten if forgotten > 0 else None,
    )


def _instance(
    explainer: Explainer,
    name: TaskName,
    instance: Instance,
    *,
    rerun: Rerun | None,
    hold: Hold | None,
    beside: Seen,
) -> ExplainedInstance:
    rules, session, state = explainer.rules, explainer.session, explainer.state
    task = rules.current.config.by_name.get(name)
    named = instance_id(name, instance.number)
    hand_over = beside.hand_overs.get(named) if instance.status is Status.SCHEDULED else None
    conditions = explainer.conditions(name, instance)
    timer = None if task is None else due(task, instance)
    in_round = round_of(task, instance)
    shown = ExplainedInstance(
        instance=named,
        status=instance.status,
        says=status_sentence(rules.current.config, task, instance, hand_over, rerun=rerun, hold=hold),
        hand_over=hand_over,
        advice=_advice(instance, hand_over, beside.now_us),
        after=conditions.after,
        created_us=Instant(instance.created_us),
        changed_us=Instant(instance.changed_us),
        unless=conditions.unless,
        due_us=None if timer is None else Instant(timer.us),
        due_of=None if timer is None else timer.of,
        held_for=None if hold is None else hold.reason,
        completed_by=_completed_by(state, instance),
        clone_of=None if instance.clone_of is None else instance_id(name, instance.clone_of),
        retries=None if instance.clone_of is None else instance.retries,
        max_retries=None if instance.clone_of is None else max_retries(task, instance),
        round=None if in_round is None else in_round.number,
        rounds=None if in_round is None else in_round.of,
        repeat_of=None if instance.repeat_of is None else instance_id(name, instance.repeat_of),
        retried_as=None if rerun is None or not rerun.retries else rerun.instance,
        replayed_as=None if rerun is None or rerun.retries else rerun.instance,
        decided_us=_instant(instance.decided_us),
        decided_at=instance.decided_at,
        started_us=_instant(instance.started_us),
        ended_us=_instant(instance.ended_us),
        reason=None if instance.reason is None else instance.reason.value,
        note=instance.note,
        result=instance.result,
        error=instance.error,
        metadata=instance.metadata,
    )
    if instance.sent is None:
        return shown
    return replace(
        shown,
        command=command_of(rules, session, state, name, instance),
        run=instance.sent.run,
        kwargs=state.kwargs(instance),
        config=instance.sent.config,
        attempt=instance.attempt,
        retries=instance.retries,
    )


def _advice(instance: Instance, hand_over: HandOver | None, now_us: int | None) -> str | None:
    """Advice shown when no worker has reported for a long time; None before that."""
    if instance.status is not Status.SCHEDULED or now_us is None:
        return None
    since_us = instance.changed_us  # its decision, or the newest resend
    if hand_over is not None and hand_over.at_us is not None:
        since_us = max(since_us, hand_over.at_us)
    if now_us - since_us < SILENT_US:
        return None
    if hand_over is not None and hand_over.state in {HandOverState.DECIDED, HandOverState.UNCONFIRMED}:
        return advice.look_for_bridge()
    return advice.look_for_workers("" if instance.sent is None else instance.sent.queue or "")


def _instant(instant_us: int | None) -> Instant | None:
    return None if instant_us is None else Instant(instant_us)


def _completed_by(state: SessionState, instance: Instance) -> ReasonToDecide | None:
    """The included event that completed the condition of an instance; None if a file or an order did."""
    if instance.decided_at is None:
        return None
    timeout = latest_timeout(state, instance)
    by_timeout = timeout is not None and timeout.time_us == instance.decided_us
    if by_timeout or instance.clone_of is not None or instance.waits_from_us is not None:
        latest = latest_captured(instance)
        return None if latest is None else reason_to_decide(state, latest)
    included = included_events(state, instance)
    return next((one for one in included if one.by.offset == instance.decided_at), None)
