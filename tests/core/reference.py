"""Second implementation of ``docs/semantics.md`` for one configuration, as slow and plain as it can be.

Written from the text alone, with nothing of ``core.fold``: instances in one list that is searched anew for
every question, nothing shared, nothing indexed, nothing forgotten. The laws compare the two.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TypeAlias

from triggerstream.core.events import (
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    FailureReason,
    Finished,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.ids import (
    AppId,
    CommandId,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
)
from triggerstream.core.tasks import Configuration, Task

Asked: TypeAlias = "tuple[str, str, int, int, JsonObject]"
"""A decision: ``run`` or ``revoke``, instance, attempt, retries, kwargs."""

OPEN = ("unstarted", "delayed", "scheduled", "running", "failed")


class BoundError(Exception):
    """A trigger would break a bound in numbers."""


@dataclass
class One:
    """An instance."""

    task: Task
    number: int
    status: str = "unstarted"
    stored: JsonObject = field(default_factory=dict)
    replaced: JsonObject | None = None
    unless_seen: set[TriggerName] = field(default_factory=set)
    attempt: int = 0
    retries: int = 0
    due_us: int = 0
    params: JsonObject = field(default_factory=dict)
    forgotten: bool = False

    @property
    def name(self) -> str:
        return f"{self.task.name}#{self.number}"

    def kwargs(self) -> JsonObject:
        return self.stored if self.replaced is None else self.replaced

    def blocked(self) -> bool:
        return len(self.task.unless_triggers) > 0 and set(self.task.unless_triggers) <= self.unless_seen


@dataclass
class Session:
    """A session."""

    generation: int = 0
    closed: bool = False
    clock_us: int = 0
    latest: dict[TriggerName, JsonObject] = field(default_factory=dict)
    ids: dict[TriggerName, list[tuple[str | None, str]]] = field(default_factory=dict)
    instances: list[One] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    left_out: list[tuple[TriggerName, JsonObject]] = field(default_factory=list)


class Reference:
    """Folds events under one configuration that was there from the start."""

    def __init__(self, config: Configuration, app: AppId) -> None:
        self.tasks = config.tasks
        self.bounds = config.bounds
        self.app = app
        self.sessions: dict[SessionId, Session] = {}

    def fold(self, event: Event) -> tuple[list[Asked], list[tuple[TriggerName, JsonObject]]] | None:
        """What was decided and what was left out; None for a trigger that would break a bound."""
        known = self.sessions.get(event.session)
        if known is None and not isinstance(event.body, Trigger):  # R2.6
            return [], []
        session = self.sessions[event.session] = known or Session()
        before = deepcopy(known)
        session.asked, session.left_out = [], []
        session.clock_us = max(session.clock_us, event.arrival_us)
        try:
            self.let_time_pass(session)
            self.apply(session, event)
        except BoundError:
            if before is None:
                del self.sessions[event.session]
            else:
                self.sessions[event.session] = before
            return None
        session = self.sessions[event.session]
        self.let_time_pass(session)
        return session.asked, session.left_out

    def statuses(self, name: SessionId) -> dict[str, tuple[str, JsonObject]]:
        session = self.sessions.get(name, Session())
        return {one.name: (one.status, one.kwargs()) for one in session.instances if not one.forgotten}

    def uses(self, trigger: TriggerName) -> bool:
        return any(trigger in (*task.needs, *task.unless_triggers) for task in self.tasks)

    def end(self, session: Session, one: One, status: str) -> None:
        one.status = status
        kept = [other for other in self.of(session, one.task) if other.status not in OPEN]
        for other in kept[: max(0, len(kept) - self.bounds.resolved_instances)]:
            other.forgotten = True

    def check_room(self, session: Session) -> None:
        unresolved = [one for one in session.instances if one.status in OPEN]
        if len(unresolved) + 1 > self.bounds.unresolved_instances:
            raise BoundError

    # ---- R4.2 to R4.8

    def fire(self, session: Session, trigger: TriggerName, data: JsonObject) -> None:
        if session.closed:  # R4.2
            session.closed = False
            session.instances = []
            session.latest = {}
        strangers = [name for name in {*session.latest, trigger} if not self.uses(name)]
        is_new = trigger in strangers and trigger not in session.latest
        if is_new and len(strangers) > self.bounds.trigger_names:
            raise BoundError
        for task in self.tasks:
            after = list(task.needs)
            if trigger not in after and trigger not in task.unless_triggers:
                continue
            accepted = False
            for one in self.of(session, task):  # R4.5
                if one.status == "unstarted" and trigger in after and trigger not in one.stored:
                    one.stored[trigger] = deepcopy(data)
                    accepted = True
                noted = trigger in task.unless_triggers and trigger not in one.unless_seen
                accepted = accepted or (one.status == "unstarted" and noted)
                if one.status in OPEN and trigger in task.unless_triggers:
                    one.unless_seen.add(trigger)
            never = self.made(session, task) == 0
            if never or (trigger == task.and_every and not accepted):  # R4.6, R4.7
                self.check_room(session)
                one = One(task=task, number=self.made(session, task))
                for name in after:
                    if name in session.latest:
                        one.stored[name] = deepcopy(session.latest[name])
                for name in task.unless_triggers:
                    if name in session.latest:
                        one.unless_seen.add(name)
                if trigger in after:
                    one.stored[trigger] = deepcopy(data)
                if trigger in task.unless_triggers:
                    one.unless_seen.add(trigger)
                session.instances.append(one)
            for one in self.of(session, task):  # R4.8
                if one.status in {"unstarted", "delayed"} and one.blocked():
                    self.end(session, one, "abandoned")
                elif one.status == "unstarted" and all(name in one.stored for name in after):
                    self.decide(session, one)
        session.latest[trigger] = deepcopy(data)  # R4.3

    def decide(self, session: Session, one: One) -> None:
        one.status = "scheduled"
        one.params = deepcopy(one.task.with_params)
        self.ask(session, one)

    def ask(self, session: Session, one: One) -> None:
        session.asked.append(("run", one.name, one.attempt, one.retries, merged(one.params, one.kwargs())))

    def of(self, session: Session, task: Task) -> list[One]:
        return [one for one in session.instances if one.task.name == task.name and not one.forgotten]

    def made(self, session: Session, task: Task) -> int:
        return sum(one.task.name == task.name for one in session.instances)

    # ---- time: R8.3

    def let_time_pass(self, session: Session) -> None:
        while True:
            due = [
                (one.due_us, place, one.number, one)
                for place, task in enumerate(self.tasks)
                for one in self.of(session, task)
                if one.status == "delayed" and one.due_us <= session.clock_us
            ]
            if not due:
                return
            self.decide(session, min(due, key=lambda entry: entry[:3])[3])

    # ---- outcomes and orders: sections 6 and 7

    def apply(self, session: Session, event: Event) -> None:
        match event.body:
            case Trigger() as trigger:
                identity = event.identity()
                if identity is not None and self.uses(trigger.name):
                    known = session.ids.setdefault(trigger.name, [])
                    repeated = identity in known[-self.bounds.digests :]
                    session.ids[trigger.name] = [one for one in known if one != identity] + [identity]
                    if repeated:
                        return
                self.fire(session, trigger.name, trigger.data)
            case Started() | Finished() | Failed() | Skipped() | Retried() | Revoked() as outcome:
                one = self.find(session, outcome.instance)
                if one is not None and outcome.command == self.command(event.session, session, one):
                    self.outcome(session, one, outcome)
            case Skip() | Replay() | Cancel() | Resend() | Release() as order:
                one = self.find(session, order.instance)
                if one is not None:
                    self.order(session, one, order)
            case Close():
                if not session.closed:
                    for one in session.instances:
                        if one.status in {"unstarted", "delayed"}:
                            self.end(session, one, "cancelled")
                    session.generation += 1
                    session.closed = True
            case Erase():
                self.sessions[event.session] = Session(
                    generation=session.generation + 1, asked=session.asked, left_out=session.left_out
                )
            case Touch() | Timer():
                pass

    def find(self, session: Session, instance: InstanceId) -> One | None:
        found = [one for one in session.instances if one.name == instance and not one.forgotten]
        return found[0] if found else None

    def command(self, name: SessionId, session: Session, one: One) -> CommandId:
        generation = session.generation - 1 if session.closed else session.generation
        return command_id(self.app, name, generation=generation, task=one.task.name, number=one.number)

    def outcome(
        self,
        session: Session,
        one: One,
        outcome: Started | Finished | Failed | Skipped | Retried | Revoked,
    ) -> None:
        if isinstance(outcome, Revoked | Failed) and (outcome.attempt or 0) < one.attempt:
            came_to_nothing = isinstance(outcome, Revoked) or outcome.reason not in {
                None,
                FailureReason.RESULT_NOT_REPORTABLE,
            }
            if outcome.attempt is not None and came_to_nothing:
                return
        match outcome, one.status:
            case Started(), "scheduled":
                one.status = "running"
            case Finished(), "scheduled" | "running":
                self.end(session, one, "finished")
                self.cascade(session, one.task.name, outcome.result)
            case Failed(), "scheduled" | "running":
                retry = one.task.retry
                left = retry is not None and one.retries < retry.max
                left = left and outcome.reason is not FailureReason.RESULT_NOT_REPORTABLE
                if retry is not None and left and not one.blocked() and not session.closed:
                    clone = self.clone(session, one, retries=one.retries + 1)
                    clone.status = "delayed"
                    wait = retry.backoff_us * retry.factor**one.retries
                    if retry.max_backoff_us is not None:
                        wait = min(wait, retry.max_backoff_us)
                    clone.due_us = session.clock_us + int(wait)
                else:
                    one.status = "failed"
            case Skipped(), "scheduled" | "running":
                self.end(session, one, "skipped")
            case Retried(), "running":
                if one.blocked() or session.closed:
                    one.status = "failed"
                else:
                    clone = self.clone(session, one, retries=one.retries + 1)
                    if outcome.kwargs is not None:
                        clone.replaced = deepcopy(outcome.kwargs)
                    clone.status = "delayed"
                    clone.due_us = session.clock_us + outcome.after_us
            case Revoked(), "scheduled":
                self.end(session, one, "expired")
            case _:
                pass

    def order(self, session: Session, one: One, order: Skip | Replay | Cancel | Resend | Release) -> None:
        match order, one.status:
            case Skip(), "failed":
                self.end(session, one, "skipped")
                if order.cascade:
                    self.cascade(session, one.task.name, order.result)
            case Replay(), "failed" | "scheduled" | "running" if one.status == "failed" or order.force:
                if session.closed or (one.blocked() and not order.force):
                    return
                clone = self.clone(session, one, retries=0)
                if order.kwargs is not None:
                    clone.replaced = deepcopy(order.kwargs)
                self.decide(session, clone)
            case Cancel(), "unstarted" | "delayed":
                self.end(session, one, "cancelled")
            case Cancel(), "scheduled" | "running":
                self.end(session, one, "cancelled")
                session.asked.append(("revoke", one.name, 0, 0, {}))
            case Resend(), "scheduled" | "running":
                one.attempt += 1
                self.ask(session, one)
            case Release(), "delayed":
                self.decide(session, one)
            case _:
                pass

    def clone(self, session: Session, one: One, *, retries: int) -> One:
        self.end(session, one, "replayed")
        clone = One(
            task=one.task,
            number=self.made(session, one.task),
            stored=deepcopy(one.stored),
            replaced=deepcopy(one.replaced),
            unless_seen=set(one.unless_seen),
            retries=retries,
        )
        session.instances.append(clone)
        return clone

    def cascade(self, session: Session, task: TaskName, result: Json) -> None:
        if session.closed:  # R6.9
            return
        if result is None:
            result = {}
        if not isinstance(result, dict):
            result = {"result": result}
        before = deepcopy(session)
        try:
            self.fire(session, TriggerName(task), result)
        except BoundError:  # R10.7
            vars(session).update(vars(before))
            session.left_out.append((TriggerName(task), result))


def merged(under: Json, over: Json) -> JsonObject:
    """``over`` laid upon ``under``, leaf by leaf."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        raise TypeError
    result: JsonObject = deepcopy(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result
