"""All that decides whether a task runs.

``step`` folds one event into a session's state. It is a function of its arguments alone: no clock, no
randomness, no I/O; it never raises and never changes its arguments. The same log gives the same
commands, whoever folds it, however often and in whatever batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import assert_never

from msgspec import Struct

from triggerstream.core.commands import Cause, Command, Decision, Revoke
from triggerstream.core.events import (
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    FailureReason,
    Finished,
    Outcome,
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
    DIGEST_BYTES,
    CommandId,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    event_digest,
    instance_id,
    split_instance_id,
)
from triggerstream.core.merge import deep_merge
from triggerstream.core.state import (
    DECIDED,
    WAITING,
    Arrival,
    Instance,
    Sent,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.core.tasks import Applied, Configuration, Rules, Task


class Folded(Struct, frozen=True, kw_only=True):
    """The state after an event, what was decided, in order, and the commands that are over.

    ``created`` instances are new, ``taken`` is how many took the event's kwargs or position: what the state
    can have grown by.
    """

    state: SessionState
    decisions: tuple[Decision, ...] = ()
    settled: tuple[CommandId, ...] = ()
    created: int = 0
    taken: int = 0


class Rejected(Struct, frozen=True, kw_only=True):
    """The event would break a bound. It is not folded; the state is what it was."""

    reason: str


def step(
    rules: Rules,
    state: SessionState | None,
    event: Event,
    *,
    unsendable: frozenset[CommandId] = frozenset(),
) -> Folded | Rejected:
    """Fold ``event`` into ``state`` (None: nothing is known of the session).

    In this order: configurations that the session missed, timers that are due, instances that a new
    configuration has to judge, the event itself, timers that it made due. A record at or below
    ``state.offset`` is included already and changes nothing.

    An instance whose command is among ``unsendable`` fails where it would be decided.
    """
    if state is not None and event.offset <= state.offset:
        return Folded(state=state)
    draft = _Draft(rules, state, event.session)
    draft.unsendable = unsendable
    try:
        draft.fold(event)
    except _BoundError as broken:
        return Rejected(reason=str(broken))
    return draft.folded()


def migrate(rules: Rules, state: SessionState, session: SessionId) -> Folded:
    """The state once it has met every configuration in force so far, and what timers decided on the way.

    ``step`` does this by itself at the session's next event; done at once, the result is the same.
    """
    draft = _Draft(rules, state, session)
    draft.meet_configurations()
    return draft.folded()


def next_due(rules: Rules, state: SessionState) -> int | None:
    """When the session's next timer is due, in microseconds; None where it has none.

    A session that has not met the latest configurations is judged as if it had.
    """
    if not state.timer_count:
        return None
    draft = _Draft(rules, state, SessionId(""))
    for applied in rules.missed(state.config):
        due = draft.first_timer()
        if due is not None and due[0] <= applied.arrival_us:
            return due[0]
        draft.meet(applied)
    due = draft.first_timer()
    return None if due is None else due[0]


def needs_touch(rules: Rules, state: SessionState) -> bool:
    """True if a configuration would decide something without a further event.

    One that the session has not met, or since which its waiting instances have not been judged.
    """
    if (state.config >= rules.current.offset and not state.unjudged) or not state.open_count:
        return False
    event = Event(
        session=SessionId(""),
        offset=max(state.offset, rules.current.offset) + 1,
        arrival_us=state.clock_us,
        time_us=state.clock_us,
        type="",
        body=Touch(),
    )
    folded = step(rules, state, event)
    return isinstance(folded, Folded) and bool(folded.decisions)


class _BoundError(Exception):
    """The event being folded breaks a bound; caught in ``step``."""


class _Draft:
    """A copy of a state under change. What it has not copied yet it shares, and never writes to."""

    __slots__ = (
        "_owned",
        "config",
        "created",
        "decisions",
        "offset",
        "rules",
        "session",
        "settled",
        "state",
        "sweep",
        "taken",
        "trace",
        "unsendable",
    )

    def __init__(self, rules: Rules, state: SessionState | None, session: SessionId) -> None:
        self.rules = rules
        self.session = session
        self.decisions: list[Decision] = []
        self.settled: list[CommandId] = []
        self.trace: str | None = None
        self.offset = -1
        self.created = 0
        self.taken = 0
        self.sweep = False
        self.unsendable: frozenset[CommandId] = frozenset()
        self._owned: set[TaskName] = set()
        if state is None:
            self.state = SessionState(config=rules.current.offset)
            self.config: Configuration = rules.current.config
            return
        new = copy(state)
        new.seen = state.seen.copy()
        new.tasks = state.tasks.copy()
        self.state = new
        current = rules.current
        if state.config == current.offset:
            self.config = current.config
        elif state.seen or state.tasks:
            self.config = rules.met(state.config).config
        else:
            # No configuration means anything to a session of which nothing is known.
            new.config = current.offset
            self.config = current.config

    def folded(self) -> Folded:
        if self.sweep and self.state.held:
            self._let_go()
        return Folded(
            state=self.state,
            decisions=tuple(self.decisions),
            settled=tuple(self.settled),
            created=self.created,
            taken=self.taken,
        )

    # ---- the order of things ------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        state = self.state
        if state.config != self.rules.current.offset:
            self.meet_configurations()
        self.offset = event.offset
        state.clock_us = max(state.clock_us, event.arrival_us)
        if state.timer_count:
            self.fire_timers(state.clock_us)
        if state.unjudged and type(event.body) is not Timer:
            self._judge_all()
        # What was decided so far, time or a configuration decided: it belongs to no event's trace.
        self.trace = event.traceparent
        note = self._apply(event)
        state = self.state
        if state.timer_count:
            self.fire_timers(state.clock_us)
        state.offset = event.offset
        if note is not _SILENT:
            positions = [*state.positions, (event.offset, event.type, event.time_us, note)]
            limit = self.config.bounds.positions
            state.positions = positions if len(positions) <= limit else positions[-limit:]

    def _apply(self, event: Event) -> str | None:
        """Fold the event itself; returns the note for the timeline."""
        match event.body:
            case Trigger() as trigger:
                return self._trigger(event, trigger)
            case Started() | Finished() | Failed() | Skipped() | Retried() | Revoked() as outcome:
                return self._outcome(event, outcome)
            case Skip() as skip:
                return self._skip(event, skip)
            case Replay() as replay:
                return self._replay(replay)
            case Cancel() as cancel:
                return self._cancel(cancel)
            case Resend() as resend:
                return self._resend(resend)
            case Close() as close:
                return self._close(close)
            case Erase():
                return self._erase()
            case Touch() | Timer():
                return _SILENT
            case _ as never:
                assert_never(never)

    # ---- triggers -----------------------------------------------------------------------------

    def _trigger(self, event: Event, trigger: Trigger) -> str | None:
        name = trigger.name
        if event.id is not None and name in self.config.users:
            digests = self.state.digests.get(name)
            digest = event_digest(event.source, event.id)
            if digests is not None:
                if _holds(digests, digest):
                    return "duplicate: an event of this source and id is included already"
                digest = (digests + digest)[-self.config.bounds.digests * DIGEST_BYTES :]
            self.state.digests = {**self.state.digests, name: digest}
        self._fire(
            name,
            Arrival(
                data=trigger.data,
                offset=event.offset,
                time_us=event.time_us,
                id=event.id,
                source=event.source,
            ),
        )
        return None

    def _fire(self, name: TriggerName, arrival: Arrival) -> None:
        state = self.state
        if state.closed:
            self._start_anew()
        latest = state.seen.get(name)
        if latest is not None:
            self._hold({name: latest})
        elif len(state.seen) >= self.config.bounds.trigger_names:
            raise _BoundError(_bound("triggerNames", self.config.bounds.trigger_names, "distinct triggers"))
        state.seen[name] = arrival
        for task in self.config.users.get(name, ()):
            self._offer(task, name, arrival.offset)

    def _offer(self, task: Task, name: TriggerName, offset: int) -> None:
        """Offer a trigger to one task that uses it (DESIGN 4, rules 1 to 4)."""
        record = self._own(task.name)
        in_needs = name in task.needs_set
        in_unless = name in task.unless_set
        accepted = False
        changed: list[Instance] = []
        for instance in record.open.values():
            captures = in_needs and instance.status is Status.UNSTARTED and name not in instance.captured
            if not captures and not in_unless:
                continue
            instance = copy(instance)  # noqa: PLW2901 - the draft writes to copies only
            record.open[instance.number] = instance
            instance.changed_us = self.state.clock_us
            if captures:
                instance.captured = {**instance.captured, name: offset}
            if in_unless:
                instance.noted = {**instance.noted, name: offset}
            if instance.status is Status.UNSTARTED:
                accepted = True
            if instance.status in WAITING:
                changed.append(instance)
        if record.next == 0 or (name == task.and_every and not accepted) or _was_removed(record):
            changed.append(self._create(task, record))
        self.taken += len(changed)
        for instance in changed:
            self._judge(task, instance)

    def _create(self, task: Task, record: TaskRecord) -> Instance:
        """A new instance, with the latest event of each of the task's triggers that the session has seen."""
        state = self.state
        seen = state.seen
        limit = self.config.bounds.unresolved_instances
        if state.open_count >= limit:
            raise _BoundError(_bound("unresolvedInstances", limit, "unresolved instances"))
        instance = Instance(
            number=record.next,
            status=Status.UNSTARTED,
            created_us=state.clock_us,
            changed_us=state.clock_us,
            captured={name: seen[name].offset for name in task.needs if name in seen},
            noted={name: seen[name].offset for name in task.unless if name in seen},
        )
        record.next += 1
        record.open[instance.number] = instance
        state.open_count += 1
        self.created += 1
        return instance

    # ---- judging and deciding -----------------------------------------------------------------

    def _judge(self, task: Task, instance: Instance) -> None:
        """Abandon, decide, or let wait (DESIGN 4, rule 4). ``instance`` is owned."""
        if task.unless and self._blocked(task, instance):
            self._resolve(task.name, instance, Status.ABANDONED)
        elif (
            instance.status is Status.UNSTARTED
            # Nearly all events leave something to wait for: a length is known sooner than a subset.
            and len(instance.captured) >= len(task.needs)
            and instance.captured.keys() >= task.needs_set
        ):
            self._decide(task, instance, self.state.clock_us)

    def _judge_all(self) -> None:
        """Judge what waits, once, after a change of configuration."""
        self.state.unjudged = False
        for task in self.config.among(self.state.tasks):
            for instance in self._waiting(task.name):
                self._judge(task, instance)

    def _decide(self, task: Task, instance: Instance, at_us: int) -> None:
        if instance.status is Status.DELAYED:
            self.state.timer_count -= 1
        if self.unsendable and self._command_id(task.name, instance.number) in self.unsendable:
            instance.status = Status.FAILED
            instance.error = "its command would be too long ($bounds.commandBytes)"
            instance.changed_us = instance.ended_us = at_us
            return
        if len(instance.captured) > len(task.needs):
            # What an earlier configuration asked for is no argument of this one's task.
            instance.captured = {n: instance.captured[n] for n in task.needs if n in instance.captured}
            self.sweep = True
        instance.status = Status.SCHEDULED
        instance.decided_us = at_us
        instance.decided_at = self.offset
        instance.changed_us = at_us
        instance.reason = None
        instance.sent = Sent(
            run=task.run,
            config=self.config.hash,
            params=task.with_params,
            queue=task.queue,
            expires_us=task.expires_us,
        )
        self._send(task.name, instance)

    def _send(self, task: TaskName, instance: Instance) -> None:
        """Ask for an instance's command, as it was decided."""
        sent = instance.sent
        if sent is None or instance.decided_us is None:
            return
        state = self.state
        self.decisions.append(
            Command(
                id=self._command_id(task, instance.number),
                session=self.session,
                task=task,
                instance=instance_id(task, instance.number),
                run=sent.run,
                kwargs=deep_merge(sent.params, state.stored_kwargs(instance)),
                config=sent.config,
                causes=[
                    Cause(trigger=name, offset=offset, id=state.arrival(name, offset).id)
                    for name, offset in instance.captured.items()
                ],
                decided_us=instance.decided_us,
                attempt=instance.attempt,
                retries=instance.retries,
                queue=sent.queue,
                expires_us=sent.expires_us,
                traceparent=self.trace,
            )
        )

    def _clone(
        self,
        task: Task,
        origin: Instance,
        *,
        kwargs: JsonObject | None,
        retries: int,
    ) -> Instance:
        """An instance of its own number with what ``origin`` captured and noted. ``origin`` is resolved."""
        self._resolve(task.name, origin, Status.REPLAYED)
        record = self._own(task.name)
        clone = Instance(
            number=record.next,
            status=Status.UNSTARTED,
            created_us=self.state.clock_us,
            changed_us=self.state.clock_us,
            captured=origin.captured,
            noted=origin.noted,
            kwargs=kwargs if kwargs is not None else origin.kwargs,
            retries=retries,
            clone_of=origin.number,
        )
        record.next += 1
        record.open[clone.number] = clone
        self.state.open_count += 1
        self.created += 1
        return clone

    def _delay(self, instance: Instance, *, waits_us: int | None) -> None:
        instance.status = Status.DELAYED
        instance.waits_from_us = self.state.clock_us
        instance.waits_us = waits_us
        self.state.timer_count += 1

    def _resolve(self, task: TaskName, instance: Instance, status: Status) -> None:
        """Close an owned, open instance; the oldest resolved ones beyond the bound are forgotten."""
        state = self.state
        record = self._own(task)
        if instance.status is Status.DELAYED:
            state.timer_count -= 1
        instance.status = status
        instance.changed_us = instance.ended_us = state.clock_us
        del record.open[instance.number]
        state.open_count -= 1
        record.resolved[instance.number] = instance
        while len(record.resolved) > self.config.bounds.resolved_instances:
            del record.resolved[min(record.resolved)]
            self.sweep = True

    # ---- outcomes -----------------------------------------------------------------------------

    def _outcome(self, event: Event, outcome: Outcome) -> str | None:
        if not isinstance(outcome, Started):
            self.settled.append(outcome.command)
        found = self._find(outcome.instance)
        if isinstance(found, str):
            return self._refuse(found)
        task, instance = found
        if outcome.command != self._command_id(task, instance.number):
            return self._refuse(f"command {outcome.command} is not that of {outcome.instance}")
        if instance.status not in DECIDED:
            return self._late(task, instance, outcome)
        if instance.status is Status.RUNNING and isinstance(outcome, Revoked):
            self.settled.clear()
            return self._refuse(f"{outcome.instance} is running now: only a scheduled one expires")
        if instance.status is not Status.RUNNING and isinstance(outcome, Retried):
            self.settled.clear()
            return self._refuse(f"{outcome.instance} is {instance.status}: only a running one can be retried")
        instance = self._edit(task, instance)
        if outcome.metadata is not None:
            instance.metadata = outcome.metadata
        match outcome:
            case Started() if instance.started_us is not None:
                # Its worker was lost and another one runs it: the same attempt, no news in the timeline.
                instance.changed_us = self.state.clock_us
                return _SILENT
            case Started():
                instance.status = Status.RUNNING
                instance.started_us = instance.changed_us = self.state.clock_us
            case Finished():
                instance.result = outcome.result
                self._resolve(task, instance, Status.FINISHED)
                self._cascade(event, task, outcome.result)
            case Failed():
                self._failed(task, instance, outcome)
            case Skipped():
                self._resolve(task, instance, Status.SKIPPED)
            case Retried():
                return self._retried(task, instance, outcome)
            case Revoked():
                self._resolve(task, instance, Status.EXPIRED)
            case _ as never:
                assert_never(never)
        return f"{outcome.instance} {instance.status}"

    def _late(self, task: TaskName, instance: Instance, outcome: Outcome) -> str:
        """An outcome of an instance that is over: only noted, and only where a cancel came between."""
        name = instance_id(task, instance.number)
        if instance.status is Status.CANCELLED and isinstance(outcome, Finished):
            if instance.result is None:
                self._edit(task, instance).result = outcome.result
            return f"{name} was cancelled before it finished: its result is kept, nothing follows from it"
        return self._refuse(f"{name} is {instance.status}: a second outcome changes nothing")

    def _cascade(self, event: Event, task: TaskName, result: Json) -> None:
        """Fire a task's name with its result as kwargs, unless its session has been closed."""
        if self.state.closed:
            return
        if result is None:
            result = {}
        elif not isinstance(result, dict):
            result = {"result": result}
        arrival = Arrival(
            data=result,
            offset=event.offset,
            time_us=event.time_us,
            id=event.id,
            source=event.source,
        )
        self._fire(TriggerName(task), arrival)

    def _failed(self, name: TaskName, instance: Instance, outcome: Failed) -> None:
        task = self.config.by_name.get(name)
        instance.error = outcome.error
        instance.reason = None if outcome.reason is None else outcome.reason.value
        if (
            task is not None
            and task.retry is not None
            and instance.retries < task.retry.max
            # The task did its work: only the report failed, and would fail again.
            and outcome.reason is not FailureReason.RESULT_NOT_REPORTABLE
        ):
            if not self._blocked(task, instance) and not self.state.closed:
                clone = self._clone(task, instance, kwargs=None, retries=instance.retries + 1)
                self._delay(clone, waits_us=None)
                return
            instance.reason = "unless" if not self.state.closed else "session closed"
        instance.status = Status.FAILED
        instance.changed_us = instance.ended_us = self.state.clock_us

    def _retried(self, name: TaskName, instance: Instance, outcome: Retried) -> str:
        task = self.config.by_name.get(name)
        why = (
            _REMOVED
            if task is None
            else "session closed"
            if self.state.closed
            else "unless"
            if self._blocked(task, instance)
            else None
        )
        if task is None or why is not None:
            instance.status = Status.FAILED
            instance.reason = why
            instance.changed_us = instance.ended_us = self.state.clock_us
            return f"{outcome.instance} is not retried: {why}"
        clone = self._clone(task, instance, kwargs=outcome.kwargs, retries=instance.retries + 1)
        self._delay(clone, waits_us=outcome.after_us)
        return f"{outcome.instance} replayed as {instance_id(name, clone.number)}"

    # ---- operators' orders --------------------------------------------------------------------

    def _skip(self, event: Event, skip: Skip) -> str | None:
        found = self._find(skip.instance)
        if isinstance(found, str):
            return self._refuse(found)
        task, instance = found
        if instance.status is not Status.FAILED:
            return self._refuse(f"{skip.instance} is {instance.status}: only a failed one can be skipped")
        instance = self._edit(task, instance)
        instance.reason = _said(skip.reason, skip.by)
        if skip.cascade:
            instance.result = skip.result
        self._resolve(task, instance, Status.SKIPPED)
        if skip.cascade:
            self._cascade(event, task, skip.result)
        return _noted(f"{skip.instance} skipped", instance.reason)

    def _replay(self, replay: Replay) -> str | None:
        found = self._find(replay.instance)
        if isinstance(found, str):
            return self._refuse(found)
        name, instance = found
        allowed = instance.status is Status.FAILED or (replay.force and instance.status in DECIDED)
        if not allowed:
            hint = "; force replays a scheduled or running one" if instance.status in DECIDED else ""
            return self._refuse(
                f"{replay.instance} is {instance.status}: only a failed one is replayed{hint}"
            )
        task = self.config.by_name.get(name)
        if task is None or self.state.closed:
            why = _REMOVED if task is None else "session closed"
            return self._refuse(f"{replay.instance} cannot be replayed: {why}")
        instance = self._edit(name, instance)
        if not replay.force and self._blocked(task, instance):
            instance.reason = "unless"
            return self._refuse(f"{replay.instance} is not replayed: its `unless` has been fulfilled")
        if instance.status in DECIDED:
            self.settled.append(self._command_id(name, instance.number))
        instance.reason = _said(replay.reason, replay.by)
        clone = self._clone(task, instance, kwargs=replay.kwargs, retries=0)
        self._decide(task, clone, self.state.clock_us)
        return _noted(f"{replay.instance} replayed as {instance_id(name, clone.number)}", instance.reason)

    def _cancel(self, cancel: Cancel) -> str | None:
        found = self._find(cancel.instance)
        if isinstance(found, str):
            return self._refuse(found)
        task, instance = found
        if instance.status not in WAITING and instance.status not in DECIDED:
            return self._refuse(
                f"{cancel.instance} is {instance.status}: only one that waits or runs is cancelled"
            )
        instance = self._edit(task, instance)
        if instance.status in DECIDED:
            command = self._command_id(task, instance.number)
            self.settled.append(command)
            self.decisions.append(
                Revoke(id=command, session=self.session, task=task, instance=cancel.instance)
            )
        instance.reason = _said(cancel.reason, cancel.by)
        self._resolve(task, instance, Status.CANCELLED)
        return _noted(f"{cancel.instance} cancelled", instance.reason)

    def _resend(self, resend: Resend) -> str | None:
        found = self._find(resend.instance)
        if isinstance(found, str):
            return self._refuse(found)
        task, instance = found
        if instance.status not in DECIDED:
            return self._refuse(
                f"{resend.instance} is {instance.status}: only a scheduled or running one is resent"
            )
        instance = self._edit(task, instance)
        instance.attempt += 1
        instance.started_us = None  # of the attempt before
        instance.changed_us = self.state.clock_us
        self._send(task, instance)
        said = _said(resend.reason, resend.by)
        return _noted(f"{resend.instance} sent again, attempt {instance.attempt}", said)

    def _close(self, close: Close) -> str | None:
        state = self.state
        if state.closed:
            return self._refuse("the session is closed already")
        for name in list(state.tasks):
            for instance in self._waiting(name):
                instance.reason = _said(close.reason, close.by) or "session closed"
                self._resolve(name, instance, Status.CANCELLED)
        state.generation += 1
        state.closed = True
        self._hold(state.seen)
        state.seen = {}
        return _noted("session closed", _said(close.reason, close.by))

    def _erase(self) -> str | None:
        self.state = SessionState(
            generation=self.state.generation + 1,
            offset=self.state.offset,
            config=self.rules.current.offset,
        )
        return _SILENT

    def _start_anew(self) -> None:
        """Forget the closed generation's instances: the next one begins."""
        state = self.state
        state.closed = False
        state.tasks = {}
        state.held = {}
        state.open_count = state.timer_count = 0
        self._owned.clear()

    # ---- time ---------------------------------------------------------------------------------

    def first_timer(self) -> tuple[int, int, int, TaskName] | None:
        """The delayed instance that is due first: due time, the task's place, its number, its name."""
        first: tuple[int, int, int, TaskName] | None = None
        for name, record in self.state.tasks.items():
            for instance in record.open.values():
                if instance.status is Status.DELAYED and name in self.config.places:
                    due_us = timer_due_us(self.config.by_name[name], instance)
                    entry = (due_us, self.config.places[name], instance.number, name)
                    if first is None or entry < first:
                        first = entry
        return first

    def fire_timers(self, until_us: int) -> None:
        """Decide every delayed instance that is due at or before ``until_us``, in due order."""
        while self.state.timer_count:
            first = self.first_timer()
            if first is None or first[0] > until_us:
                return
            due_us, _, number, name = first
            task = self.config.by_name[name]
            instance = self._edit(name, self.state.tasks[name].open[number])
            if self._blocked(task, instance):
                self._resolve(name, instance, Status.ABANDONED)
            else:
                self._decide(task, instance, due_us)

    # ---- configuration ------------------------------------------------------------------------

    def meet_configurations(self) -> None:
        """Meet every configuration that the session missed, in log order."""
        for applied in self.rules.missed(self.state.config):
            self.offset = applied.offset
            self.fire_timers(applied.arrival_us)
            self.meet(applied)

    def meet(self, applied: Applied) -> None:
        """Bring the state under one further configuration; nothing is judged yet."""
        state = self.state
        self.config = config = applied.config
        state.config = applied.offset
        if state.is_empty():
            return
        state.clock_us = max(state.clock_us, applied.arrival_us)
        if not state.closed:
            state.unjudged = True
        for name in list(state.tasks):
            task = config.by_name.get(name)
            if task is None:
                for instance in self._waiting(name):
                    instance.reason = _REMOVED
                    self._resolve(name, instance, Status.CANCELLED)
            elif not state.closed:
                self._seed(task)

    def _seed(self, task: Task) -> None:
        """Give open instances what the session has seen of triggers that the task did not use before."""
        seen = self.state.seen
        record = self._own(task.name)
        for instance in list(record.open.values()):
            captured = {}
            if instance.status is Status.UNSTARTED:
                captured = {n: seen[n].offset for n in task.needs if n in seen and n not in instance.captured}
            noted = {n: seen[n].offset for n in task.unless if n in seen and n not in instance.noted}
            if captured or noted:
                seeded = copy(instance)
                seeded.captured = {**instance.captured, **captured}
                seeded.noted = {**instance.noted, **noted}
                record.open[seeded.number] = seeded

    # ---- what instances captured --------------------------------------------------------------

    def _hold(self, arrivals: dict[TriggerName, Arrival]) -> None:
        """Keep events that are their triggers' latest no more, for the instances that captured them."""
        self.state.held = held = self.state.held.copy()
        for name, arrival in arrivals.items():
            held[name] = {**held.get(name, {}), arrival.offset: arrival}
        self.sweep = True

    def _let_go(self) -> None:
        """Forget what is held and no instance captured."""
        state = self.state
        captured = {
            event
            for record in state.tasks.values()
            for instance in (*record.open.values(), *record.resolved.values())
            for event in instance.captured.items()
        }
        kept = {}
        for name, arrivals in state.held.items():
            left = {offset: arrival for offset, arrival in arrivals.items() if (name, offset) in captured}
            if left:
                kept[name] = left
        state.held = kept

    # ---- small things -------------------------------------------------------------------------

    def _own(self, name: TaskName) -> TaskRecord:
        """The task's record, as a copy that this draft may write to; made where there is none."""
        tasks = self.state.tasks
        record = tasks.get(name)
        if record is None:
            record = TaskRecord()
        elif name in self._owned:
            return record
        else:
            record = TaskRecord(next=record.next, open=record.open.copy(), resolved=record.resolved.copy())
        self._owned.add(name)
        tasks[name] = record
        return record

    def _edit(self, name: TaskName, instance: Instance) -> Instance:
        """A copy of ``instance``, in its place, that this draft may write to."""
        record = self._own(name)
        edited = copy(instance)
        where = record.open if instance.number in record.open else record.resolved
        where[edited.number] = edited
        return edited

    def _waiting(self, name: TaskName) -> Iterator[Instance]:
        """Owned copies of the task's waiting instances, by number; each may be resolved on the way."""
        for instance in list(self.state.tasks[name].open.values()):
            if instance.status in WAITING:
                yield self._edit(name, instance)

    def _find(self, text: InstanceId) -> tuple[TaskName, Instance] | str:
        parts = split_instance_id(text)
        if parts is None:
            return f"`{text}` is no instance: write task#number"
        record = self.state.tasks.get(parts[0])
        if record is None:
            return f"the session has no instance of task {parts[0]}"
        instance = record.find(parts[1])
        if instance is None:
            return f"the session has no instance {text}, or keeps it no longer"
        return parts[0], instance

    def _blocked(self, task: Task, instance: Instance) -> bool:
        return bool(task.unless) and instance.noted.keys() >= task.unless_set

    def _command_id(self, task: TaskName, number: int) -> CommandId:
        generation = self.state.instances_generation
        return command_id(self.rules.app, self.session, generation=generation, task=task, number=number)

    def _refuse(self, why: str) -> str:
        self.state.refused += 1
        return f"refused: {why}"


_REMOVED = "task removed"
_SILENT = "\0"
"""A note for events that leave no trace in the timeline."""


def _holds(digests: bytes, digest: bytes) -> bool:
    at = digests.find(digest)
    while at >= 0 and at % DIGEST_BYTES:
        at = digests.find(digest, at + 1)
    return at >= 0


def _was_removed(record: TaskRecord) -> bool:
    """True if the task's last instance was lost to a configuration without the task, which has returned.

    It was never decided, so one more cannot make the task run twice.
    """
    if record.open:
        return False
    last = record.resolved.get(record.next - 1)
    return last is not None and last.status is Status.CANCELLED and last.reason == _REMOVED


def timer_due_us(task: Task, instance: Instance) -> int:
    """When a delayed instance is decided: its start instant plus what its task says now."""
    start = instance.waits_from_us or 0
    if instance.waits_us is not None:
        return start + instance.waits_us
    return start if task.retry is None else start + task.retry.wait_us(instance.retries - 1)


def _bound(key: str, limit: int, what: str) -> str:
    return f"a session holds at most {limit:,} {what} ($bounds.{key})"


def _noted(what: str, reason: str | None) -> str:
    return f"{what}: {reason}" if reason else what


def _said(reason: str | None, by: str | None) -> str | None:
    if reason == _REMOVED and not by:
        by = "an operator"  # that reason alone is the engine's own
    if reason and by:
        return f"{reason} ({by})"
    return reason or (f"by {by}" if by else None)
