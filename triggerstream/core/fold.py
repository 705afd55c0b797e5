"""All that decides whether a task runs.

``step`` folds one event into a session's state. It is a function of its arguments alone: no clock, no
randomness, no I/O; it never raises and never changes its arguments. The same log gives the same
commands, whoever folds it, however often and in whatever batches.

The rules are in ``docs/semantics.md``: ``R4.7`` is rule 7 of its section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from triggerstream.core.commands import Cause, Command, Decision, Revoke
from triggerstream.core.effects import (
    APPLIED,
    NOTHING,
    Applied,
    Effect,
    Ignored,
    Nothing,
    Reason,
    Refused,
    Why,
)
from triggerstream.core.events import (
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    FailureReason,
    Finished,
    Order,
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
from triggerstream.core.orders import applicable_statuses
from triggerstream.core.sizes import SHORT_TEXT, Sizes, cut_text, held_by_resolved_alone
from triggerstream.core.state import (
    DECIDED,
    WAITING,
    Arrival,
    Inert,
    Instance,
    Note,
    Sent,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.core.tasks import Bounds, Configuration, Rules, Task, Version


class LeftOut(Struct, frozen=True, kw_only=True):
    """A trigger that follows from an outcome or an order, and was not folded because of a bound (R10.7).

    ``id`` is the id of the command whose instance it follows from.
    """

    trigger: TriggerName
    data: JsonObject
    time_us: int
    id: CommandId
    reason: str


class Folded(Struct, frozen=True, kw_only=True):
    """The state after an event, what was decided, in order, and the commands that are over (R1.2).

    ``created`` counts new instances, ``resolved`` instances resolved or changed afterwards, ``taken``
    instances that took the event's kwargs or position; they limit how much the state can have grown.
    ``prevented`` counts instances and seeds that a bound prevented; the timeline names them.
    """

    state: SessionState
    effect: Effect = NOTHING
    decisions: tuple[Decision, ...] = ()
    settled: tuple[CommandId, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    created: int = 0
    resolved: int = 0
    taken: int = 0
    prevented: int = 0


class Rejected(Struct, frozen=True, kw_only=True):
    """Result for a trigger that would break a bound: it is not folded, the state is unchanged (R10.3)."""

    reason: str


def step(
    rules: Rules, state: SessionState | None, event: Event, *, sizes: Sizes | None = None
) -> Folded | Rejected:
    """Fold ``event`` into ``state`` (None: nothing is known of the session).

    R2.1 has the order of work. A record at or below ``state.offset`` is included already and changes nothing
    (R1.4).

    Only a trigger can be rejected. Any other event is always folded: data of it beyond the bounds is refused,
    cut or left out. The bounds in bytes are checked only with ``sizes``: a caller without it must fold again
    with it if the result is beyond a bound.
    """
    if state is not None and event.offset <= state.offset:
        return Folded(state=state)
    draft = _Draft(rules, state, event.session, sizes)
    try:
        draft.fold(event)
    except _BoundError as broken:
        if not draft.followed:
            return Rejected(reason=str(broken))
        draft = _Draft(rules, state, event.session, sizes)
        draft.barred = broken
        draft.fold(event)
    return draft.folded()


def migrate(rules: Rules, state: SessionState, session: SessionId) -> Folded:
    """The state once it has met every configuration in force so far, and what timers decided (R9.2).

    ``step`` does this by itself at the session's next event; done at once, the result is the same.
    """
    draft = _Draft(rules, state, session)
    draft.meet_configurations()
    return draft.folded()


def next_due(rules: Rules, state: SessionState) -> int | None:
    """When the session's next timer is due (R8.2), in microseconds; None where it has none.

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
    """True if a configuration would decide something without a further event (R11.8).

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
    """The trigger being folded breaks a bound (``in_bytes``: one in bytes); caught in ``step``."""

    def __init__(self, reason: str, *, in_bytes: bool = False) -> None:
        super().__init__(reason)
        self.in_bytes = in_bytes


class _TooLong(Struct, frozen=True, kw_only=True):
    """Why a command is too long: ``reason`` with figures, ``error`` without, for the instance."""

    reason: str
    error: str


class _Follows(Struct, frozen=True, kw_only=True):
    """The trigger that follows from an outcome or an order; it fires after that event is folded."""

    trigger: TriggerName
    data: JsonObject
    command: CommandId


class _Beyond:
    """Effects that a bound prevented (R10.6, R10.7): a trigger left out, a count, and timeline texts."""

    __slots__ = ("left_out", "prevented", "remarks")

    def __init__(self) -> None:
        self.left_out: tuple[LeftOut, ...] = ()
        self.prevented = 0
        self.remarks: list[str] = []


class _Meter:
    """Checks the bounds in bytes while an event is folded (R10.4, R10.6).

    While a trigger is ``firing``, breaking a bound raises ``_BoundError``; all other code respects the
    bounds.
    """

    __slots__ = ("_bytes", "_stale", "decided", "firing", "sizes")

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.firing = False
        self.decided = 0
        """Bytes of all commands that the event has decided."""
        self._bytes: int | None = None
        self._stale = False

    def forget(self) -> None:
        """Discard the known size, so that the state is measured again."""
        self._bytes = None

    def shrunk(self) -> None:
        """Note that the state may be smaller than its known size."""
        self._stale = True

    def takes(self, state: SessionState, grown: int, limit: int) -> bool:
        """Whether ``state`` has room for the bytes just added; if not, the caller must remove them.

        Measures again only if the known size is not enough: up to 1,000 instances may be decided at once.
        """
        if self._bytes is None or (self._stale and self._bytes + grown > limit):
            self._bytes = self.sizes.state(state)
            self._stale = False
        else:
            self._bytes += grown
        if grown <= 0 or self._bytes <= limit:
            return True
        self._bytes -= grown
        return False

    def too_long(self, command: Decision, bounds: Bounds) -> _TooLong | None:
        """Why ``command``, the last decided one, is too long; None if it can be sent."""
        size = self.sizes.command(command) if isinstance(command, Command) else 0
        if size > bounds.command_bytes:
            limit = f"at most {bounds.command_bytes:,} ($bounds.commandBytes)"
            return _TooLong(
                reason=f"a command would have {size:,} bytes: {limit}",
                error="its command would be too long ($bounds.commandBytes)",
            )
        if self.decided + size > bounds.decided_bytes:
            limit = f"at most {bounds.decided_bytes:,} ($bounds.decidedBytes)"
            return _TooLong(
                reason=f"one event would decide {self.decided + size:,} bytes of commands: {limit}",
                error="one event would decide too many bytes of commands ($bounds.decidedBytes)",
            )
        return None

    def count(self, command: Decision) -> None:
        """Add the bytes of a command that is sent."""
        self.decided += self.sizes.command(command) if isinstance(command, Command) else 0


class _Draft:
    """Copy-on-write draft of a session state. Parts not yet copied are shared and never modified.

    ``follows`` is the trigger that follows from the event, ``barred`` the reason not to fire it, ``followed``
    whether it fired. ``meter`` is set if the bounds in bytes are checked, ``beyond`` if a bound prevented an
    effect.
    """

    __slots__ = (
        "_owned",
        "barred",
        "beyond",
        "config",
        "created",
        "decisions",
        "effect",
        "followed",
        "follows",
        "meter",
        "offset",
        "resolved",
        "rules",
        "session",
        "settled",
        "state",
        "sweep",
        "taken",
        "trace",
    )

    def __init__(
        self, rules: Rules, state: SessionState | None, session: SessionId, sizes: Sizes | None = None
    ) -> None:
        self.rules = rules
        self.session = session
        self.decisions: list[Decision] = []
        self.settled: list[CommandId] = []
        self.trace: str | None = None
        self.offset = -1
        self.created = self.resolved = self.taken = 0
        self.sweep = self.followed = False
        self.effect: Effect = NOTHING
        self.follows: _Follows | None = None
        self.barred: _BoundError | None = None
        self.beyond: _Beyond | None = None
        self.meter = None if sizes is None else _Meter(sizes)
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
        folded = Folded(
            state=self.state,
            effect=self.effect,
            decisions=tuple(self.decisions),
            settled=tuple(self.settled),
            created=self.created,
            resolved=self.resolved,
            taken=self.taken,
        )
        if self.beyond is None:
            return folded
        return replace(folded, left_out=self.beyond.left_out, prevented=self.beyond.prevented)

    # ---- the order of things ------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        """Fold an event that is not included yet, in the steps of R2.1."""
        state = self.state
        if state.config != self.rules.current.offset:
            self.meet_configurations()
        self.offset = event.offset
        state.clock_us = max(state.clock_us, event.arrival_us)  # R8.1
        if state.timer_count:
            self.fire_timers(state.clock_us)
        if state.unjudged and type(event.body) is not Timer:
            self._judge_all()
        # What was decided so far, time or a configuration decided: it belongs to no event's trace.
        self.trace = event.traceparent
        effect = self._apply(event)
        if self.follows is not None:
            self._follow(event, self.follows)
        state = self.state
        if state.timer_count:
            self.fire_timers(state.clock_us)
        state.offset = event.offset
        if self.beyond is not None and self.beyond.remarks:
            effect = _with_remarks(effect, self.beyond.remarks)
        self.effect = effect
        if not isinstance(effect, Nothing):
            note = None if effect is APPLIED else _note(effect)
            positions = [*state.positions, (event.offset, event.type, event.time_us, note)]
            limit = self.config.bounds.positions
            state.positions = positions if len(positions) <= limit else positions[-limit:]
        if self.meter is not None:
            self._keep_bounds_in_bytes(event, self.meter.sizes)

    def _keep_bounds_in_bytes(self, event: Event, sizes: Sizes) -> None:
        """Forget the oldest resolved instances (R10.9); refuse a trigger beyond the state's bound (R10.4)."""
        state, bounds = self.state, self.config.bounds
        if self.sweep and state.held:
            self._let_go()
            self.sweep = False
        self._forget_resolved(sizes, bounds.resolved_bytes)
        if self.followed or type(event.body) is Trigger:
            size = sizes.state(state)
            if size > bounds.state_bytes:
                limit = f"at most {bounds.state_bytes:,} ($bounds.stateBytes)"
                raise _BoundError(f"the state would have {size:,} bytes: {limit}", in_bytes=True)

    def _follow(self, event: Event, follows: _Follows) -> None:
        """Fire the trigger that follows (R6.9), or leave it out if a bound is known to forbid it (R10.7)."""
        if self.barred is not None:
            left_out = LeftOut(
                trigger=follows.trigger,
                data=follows.data,
                time_us=event.time_us,
                id=follows.command,
                reason=str(self.barred),
            )
            self._beyond().left_out = (left_out,)
            self._remark(f"the trigger `{follows.trigger}` that follows is left out: {self.barred}")
            return
        self.followed = True
        arrival = Arrival(
            data=follows.data,
            offset=event.offset,
            time_us=event.time_us,
            id=event.id,
            source=event.source,
        )
        self._fire(follows.trigger, arrival)

    def _beyond(self) -> _Beyond:
        if self.beyond is None:
            self.beyond = _Beyond()
        return self.beyond

    def _remark(self, what: str) -> None:
        """Add a sentence to the timeline about an effect that a bound prevented (R2.5)."""
        self._beyond().remarks.append(what)

    def _prevent(self, what: str) -> None:
        """Count an effect that a bound prevented (R10.6), and add a sentence to the timeline."""
        self._beyond().prevented += 1
        self._remark(what)

    def _apply(self, event: Event) -> Effect:
        """Fold the event itself; returns the note for the timeline. R7.10 and R8.5 need nothing here."""
        match event.body:
            case Trigger() as trigger:
                return self._trigger(event, trigger)
            case Started() | Finished() | Failed() | Skipped() | Retried() | Revoked() as outcome:
                return self._outcome(outcome)
            case Skip() as skip:
                return self._skip(skip)
            case Replay() as replay:
                return self._replay(replay)
            case Cancel() as cancel:
                return self._cancel(cancel)
            case Resend() as resend:
                return self._resend(resend)
            case Close() as close:
                return self._close(close)
            case Erase() as erase:
                return self._erase(erase)
            case Touch() | Timer():
                return NOTHING
            case _ as never:
                assert_never(never)

    # ---- triggers -----------------------------------------------------------------------------

    def _trigger(self, event: Event, trigger: Trigger) -> Effect:
        """Ignore a duplicate (R4.1); fire any other trigger."""
        name = trigger.name
        if event.id is not None and name in self.config.users:
            digests = self.state.digests.get(name)
            digest = event_digest(event.source, event.id)
            if digests is not None:
                if _holds(digests, digest):
                    return Ignored(
                        Why.DUPLICATE, "duplicate: an event of this source and id is included already"
                    )
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
        return APPLIED

    def _fire(self, name: TriggerName, arrival: Arrival) -> None:
        """Remember a trigger, and offer it to the tasks that use it (R4.2 to R4.4)."""
        state = self.state
        if state.closed:
            self._start_anew()
        latest = state.seen.get(name)
        if latest is not None:
            self._hold({name: latest})
        elif len(state.seen) >= self.config.bounds.trigger_names and name not in self.config.users:
            self._check_strangers()
        state.seen[name] = arrival
        if self.meter is not None:
            self.meter.firing = True
        for task in self.config.users.get(name, ()):
            self._offer(task, name, arrival.offset)
        if self.meter is not None:
            self.meter.firing = False

    def _check_strangers(self) -> None:
        """Raise if the session has reached the bound of trigger names that no task uses (R10.5)."""
        limit, users = self.config.bounds.trigger_names, self.config.users
        if sum(name not in users for name in self.state.seen) >= limit:
            raise _BoundError(_bound("triggerNames", limit, "distinct triggers that no task uses"))

    def _offer(self, task: Task, name: TriggerName, offset: int) -> None:
        """Offer a trigger to one task that uses it, and make an instance if one is due (R4.5, R4.6)."""
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
        """A new instance, with the latest event of each trigger of the task that the session saw (R4.7)."""
        state = self.state
        seen = state.seen
        full = self._full(1)
        if full is not None:
            raise _BoundError(full)
        instance = Instance(
            number=record.next,
            status=Status.UNSTARTED,
            created_us=state.clock_us,
            changed_us=state.clock_us,
            captured={name: seen[name].offset for name in task.needs if name in seen},
            noted={name: seen[name].offset for name in task.unless if name in seen},
        )
        record.next += 1
        record.removed = False
        record.open[instance.number] = instance
        state.open_count += 1
        self.created += 1
        return instance

    def _full(self, more: int) -> str | None:
        """Why the session cannot have ``more`` additional unresolved instances (R10.5); None if it can."""
        limit = self.config.bounds.unresolved_instances
        if self.state.open_count + more <= limit:
            return None
        return _bound("unresolvedInstances", limit, "unresolved instances")

    # ---- judging and deciding -----------------------------------------------------------------

    def _judge(self, task: Task, instance: Instance) -> None:
        """Abandon, decide, or let wait (R4.8). ``instance`` is owned."""
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
        """Judge what waits, once, after a change of configuration (R9.6)."""
        self.state.unjudged = False
        for task in self.config.among(self.state.tasks):
            for instance in self._waiting(task.name):
                self._judge(task, instance)

    def _decide(self, task: Task, instance: Instance, at_us: int, *, fits: bool = False) -> None:
        """Decide an instance's command (R5.1); ``fits``: it is known to be within the bounds in bytes."""
        if instance.status is Status.DELAYED:
            self.state.timer_count -= 1
        before = 0 if self.meter is None else self.meter.sizes.instance(instance)
        if len(instance.captured) > len(task.needs):
            # What an earlier configuration asked for is no argument of this one's task.
            instance.captured = {n: instance.captured[n] for n in task.needs if n in instance.captured}
            self.sweep = True
        instance.status = Status.SCHEDULED
        instance.decided_us = at_us
        instance.decided_at = self.offset
        instance.changed_us = at_us
        instance.reason = None
        instance.sent = self._sent_by(task)
        self._send(task.name, instance)
        if self.meter is not None:
            if fits:
                self.meter.count(self.decisions[-1])
            else:
                self._check_decision(self.meter, task.name, instance, before=before)

    def _check_decision(self, meter: _Meter, task: TaskName, instance: Instance, *, before: int) -> None:
        """Undo the last decision and fail the instance if the decision is beyond a bound in bytes (R10.6).

        A trigger whose decision is too large is refused instead. For decisions by time, an order or a
        configuration, no trigger could be refused. ``before``: the instance's bytes before the decision.
        """
        bounds = self.config.bounds
        too_long = meter.too_long(self.decisions[-1], bounds)
        if meter.firing:
            if too_long is not None:
                raise _BoundError(too_long.reason, in_bytes=True)
            meter.count(self.decisions[-1])  # the state is measured once the trigger is folded
            return
        if too_long is not None:
            error = too_long.error
        elif not meter.takes(self.state, meter.sizes.instance(instance) - before, bounds.state_bytes):
            error = _NO_ROOM
        else:
            meter.count(self.decisions[-1])
            return
        self.decisions.pop()
        instance.sent = instance.decided_us = instance.decided_at = None
        instance.status = Status.FAILED
        instance.reason = Reason.BOUND
        instance.error = error
        instance.ended_us = instance.changed_us
        self._prevent(f"{instance_id(task, instance.number)} failed: {error}")

    def _send(self, task: TaskName, instance: Instance) -> None:
        """Ask for an instance's command, as it was decided (R5.2)."""
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
        """A new instance with what ``origin`` captured and noted (R6.8). ``origin`` is resolved."""
        self._resolve(task.name, origin, Status.REPLAYED)
        if self.meter is not None:
            self.meter.forget()
        record = self._own(task.name)
        clone = self._copy_of(origin, number=record.next, kwargs=kwargs, retries=retries)
        record.next += 1
        record.removed = False
        record.open[clone.number] = clone
        self.state.open_count += 1
        self.created += 1
        return clone

    def _copy_of(self, origin: Instance, *, number: int, kwargs: JsonObject | None, retries: int) -> Instance:
        return Instance(
            number=number,
            status=Status.UNSTARTED,
            created_us=self.state.clock_us,
            changed_us=self.state.clock_us,
            captured=origin.captured,
            noted=origin.noted,
            kwargs=kwargs if kwargs is not None else origin.kwargs,
            retries=retries,
            clone_of=origin.number,
        )

    def _unfit(self, task: Task, origin: Instance, kwargs: JsonObject | None, *, retries: int) -> str | None:
        """Why a clone of ``origin`` with ``kwargs`` does not fit within the bounds (R10.6); None if it fits.

        Bounds in bytes are checked only if the event brings kwargs: a plain retry is as large as its origin.
        """
        full = self._full(0)  # the origin is resolved when the clone is made
        meter, bounds = self.meter, self.config.bounds
        if full is not None or meter is None:
            return full
        clone = self._copy_of(origin, number=self.state.tasks[task.name].next, kwargs=kwargs, retries=retries)
        if len(clone.captured) > len(task.needs):
            clone.captured = {n: clone.captured[n] for n in task.needs if n in clone.captured}
        clone.decided_us = self.state.clock_us
        clone.decided_at = self.offset
        clone.sent = self._sent_by(task)
        self._send(task.name, clone)
        too_long = meter.too_long(self.decisions.pop(), bounds)
        if too_long is not None:
            return too_long.reason
        # The origin's error may itself exceed the bound: then the clone must not add anything.
        bare = copy(origin)
        bare.error = bare.metadata = None
        grown = meter.sizes.instance(clone) - meter.sizes.instance(bare)
        if grown > 0 and meter.sizes.state(self.state) + grown > bounds.state_bytes:
            return _NO_ROOM
        return None

    def _sent_by(self, task: Task) -> Sent:
        """Parts of the file that a decision keeps (R9.7)."""
        return Sent(
            run=task.run,
            config=self.config.hash,
            params=task.with_params,
            queue=task.queue,
            expires_us=task.expires_us,
        )

    def _delay(self, instance: Instance, *, waits_us: int | None) -> None:
        instance.status = Status.DELAYED
        instance.waits_from_us = self.state.clock_us
        instance.waits_us = waits_us
        self.state.timer_count += 1

    def _resolve(self, task: TaskName, instance: Instance, status: Status) -> None:
        """Resolve an owned, open instance (R1.6), and forget the oldest beyond the bound (R10.9)."""
        state = self.state
        record = self._own(task)
        if instance.status is Status.DELAYED:
            state.timer_count -= 1
        instance.status = status
        instance.changed_us = instance.ended_us = state.clock_us
        del record.open[instance.number]
        state.open_count -= 1
        self.resolved += 1
        if self.meter is not None:
            self.meter.shrunk()
        record.resolved[instance.number] = instance
        while len(record.resolved) > self.config.bounds.resolved_instances:
            del record.resolved[min(record.resolved)]
            self.sweep = True

    def _forget_resolved(self, sizes: Sizes, limit: int) -> None:
        """Forget the oldest resolved instances until the rest is within the bound in bytes (R10.9)."""
        state = self.state
        spans = held_by_resolved_alone(state)
        held = {(name, offset): sizes.arrival(state.held[name][offset]) for name, offset in spans}
        kept = [
            (instance.ended_us or 0, place, number, name, sizes.instance(instance))
            for place, (name, record) in enumerate(state.tasks.items())
            for number, instance in record.resolved.items()
        ]
        total = sum(held.values()) + sum(size for *_, size in kept)
        if total <= limit:
            return
        for _, _, number, name, size in sorted(kept):
            record = self._own(name)
            instance = record.resolved.pop(number)
            total -= size
            for event in instance.captured.items():
                if event in spans:
                    spans[event] -= 1
                    if not spans[event]:
                        total -= held[event]
            if total <= limit:
                break
        self._let_go()

    # ---- outcomes -----------------------------------------------------------------------------

    def _outcome(self, outcome: Outcome) -> Effect:
        """Refuse an outcome, or change its instance (R6.1 to R6.4)."""
        if not isinstance(outcome, Started):
            self.settled.append(outcome.command)
        found = self._find(outcome.instance)
        if isinstance(found, Refused):
            return self._refuse(found)
        task, instance = found
        if outcome.command != self._command_id(task, instance.number):
            return self._refuse(
                Refused(Why.OTHER_COMMAND, f"command {outcome.command} is not that of {outcome.instance}")
            )
        if instance.status not in DECIDED:
            return self._late(task, instance, outcome)
        if _is_of_an_older_attempt(outcome, instance):
            self.settled.clear()
            says = (
                f"{outcome.instance} was sent again: attempt {instance.attempt} is still to be run, and this "
                "is of an earlier one"
            )
            return self._refuse(Refused(Why.OTHER_ATTEMPT, says))
        if instance.status is Status.RUNNING and isinstance(outcome, Revoked):
            self.settled.clear()
            says = f"{outcome.instance} is running now: only a scheduled one expires"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        if instance.status is not Status.RUNNING and isinstance(outcome, Retried):
            self.settled.clear()
            says = f"{outcome.instance} is {instance.status}: only a running one can be retried"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        instance = self._edit(task, instance)
        if outcome.metadata is not None:
            self._take_metadata(outcome, instance)
        match outcome:
            case Started() if instance.started_us is not None:
                # The worker was lost and another one runs the same attempt: no new entry in the timeline.
                instance.changed_us = self.state.clock_us
                return NOTHING
            case Started():
                instance.status = Status.RUNNING
                instance.started_us = instance.changed_us = self.state.clock_us
            case Finished():
                instance.result = outcome.result
                self._resolve(task, instance, Status.FINISHED)
                self._cascade(task, outcome.command, outcome.result)
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
        return Applied(f"{outcome.instance} {instance.status}")

    def _take_metadata(self, outcome: Outcome, instance: Instance) -> None:
        """Keep the executor's metadata of an attempt, unless an open instance has no room for it (R10.6)."""
        before = instance.metadata
        instance.metadata = outcome.metadata
        meter = self.meter
        if meter is None or not isinstance(outcome, Started | Failed):
            return
        bare = copy(instance)
        bare.metadata = before
        grown = meter.sizes.instance(instance) - meter.sizes.instance(bare)
        if not meter.takes(self.state, grown, self.config.bounds.state_bytes):
            instance.metadata = before
            self._remark("its metadata is left out: the state would be too long ($bounds.stateBytes)")

    def _late(self, task: TaskName, instance: Instance, outcome: Outcome) -> Effect:
        """An outcome of an instance that is not decided: only noted, and only after a cancel (R6.2)."""
        name = instance_id(task, instance.number)
        if instance.status is Status.CANCELLED and isinstance(outcome, Finished):
            if instance.result is None:
                self._edit(task, instance).result = outcome.result
                self.resolved += 1
            return Applied(
                f"{name} was cancelled before it finished: its result is kept, nothing follows from it"
            )
        says = f"{name} is {instance.status}: a second outcome changes nothing"
        return self._refuse(Refused(Why.WRONG_STATUS, says))

    def _cascade(self, task: TaskName, command: CommandId, result: Json) -> None:
        """Let the task's name follow as a trigger with the result as kwargs (R6.9)."""
        if self.state.closed:
            return
        if result is None:
            result = {}
        elif not isinstance(result, dict):
            result = {"result": result}
        self.follows = _Follows(trigger=TriggerName(task), data=result, command=command)

    def _failed(self, name: TaskName, instance: Instance, outcome: Failed) -> None:
        """Retry a failed instance, or leave it failed (R6.5)."""
        task = self.config.by_name.get(name)
        instance.error = cut_text(outcome.error)
        instance.reason = None if outcome.reason is None else Reason(outcome.reason.value)
        if (
            task is not None
            and task.retry is not None
            and instance.retries < task.retry.max
            # The task did its work: only the report failed, and would fail again.
            and outcome.reason is not FailureReason.RESULT_NOT_REPORTABLE
        ):
            reason = self._why_not_retried(task, instance)
            if reason is None:
                clone = self._clone(task, instance, kwargs=None, retries=instance.retries + 1)
                self._delay(clone, waits_us=None)
                return
            instance.reason = reason
        instance.status = Status.FAILED
        instance.changed_us = instance.ended_us = self.state.clock_us

    def _why_not_retried(self, task: Task, instance: Instance) -> Reason | None:
        """Why an instance with attempts left stays failed (R6.6); None if it is retried."""
        if self.state.closed:
            return Reason.SESSION_CLOSED
        if self._blocked(task, instance):
            return Reason.UNLESS
        full = self._full(0)
        if full is None:
            return None
        self._prevent(f"it is not retried: {full}")
        return Reason.BOUND

    def _retried(self, name: TaskName, instance: Instance, outcome: Retried) -> Applied:
        """Run a task again that asked for it (R6.7)."""
        task = self.config.by_name.get(name)
        why = (
            Reason.TASK_REMOVED
            if task is None
            else Reason.SESSION_CLOSED
            if self.state.closed
            else Reason.UNLESS
            if self._blocked(task, instance)
            else None
        )
        unfit = None
        if task is not None and why is None:
            # A retry with unchanged kwargs is checked when it is decided: another file may be in force then.
            unfit = (
                self._full(0)
                if outcome.kwargs is None
                else self._unfit(task, instance, outcome.kwargs, retries=instance.retries + 1)
            )
        if task is None or why is not None or unfit is not None:
            instance.status = Status.FAILED
            instance.reason = why
            if unfit is not None:
                instance.reason, instance.error = Reason.BOUND, unfit
                self._beyond().prevented += 1
            instance.changed_us = instance.ended_us = self.state.clock_us
            return Applied(f"{outcome.instance} is not retried: {unfit or why}")
        clone = self._clone(task, instance, kwargs=outcome.kwargs, retries=instance.retries + 1)
        self._delay(clone, waits_us=outcome.after_us)
        return Applied(f"{outcome.instance} replayed as {instance_id(name, clone.number)}")

    # ---- operators' orders --------------------------------------------------------------------

    def _skip(self, skip: Skip) -> Effect:
        """Skip a failed instance (R7.3)."""
        found = self._addressed(skip)
        if isinstance(found, Refused):
            return self._refuse(found)
        task, instance = found
        if instance.status not in applicable_statuses(skip):
            says = f"{skip.instance} is {instance.status}: only a failed one can be skipped"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        if self.barred is not None and self.barred.in_bytes:
            says = f"{skip.instance} is not skipped, its result does not fit: {self.barred}"
            return self._refuse(Refused(Why.BOUND, says))
        instance = self._edit(task, instance)
        instance.said = _said(skip.reason, skip.by)
        if skip.cascade:
            instance.result = skip.result
        self._resolve(task, instance, Status.SKIPPED)
        if skip.cascade:
            self._cascade(task, self._command_id(task, instance.number), skip.result)
        return _noted(f"{skip.instance} skipped", instance.said)

    def _replay(self, replay: Replay) -> Effect:
        """Run a failed instance again as a new one (R7.4, R7.5)."""
        found = self._addressed(replay)
        if isinstance(found, Refused):
            return self._refuse(found)
        name, instance = found
        if instance.status not in applicable_statuses(replay):
            hint = "; force replays a scheduled or running one" if instance.status in DECIDED else ""
            says = f"{replay.instance} is {instance.status}: only a failed one is replayed{hint}"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        task = self.config.by_name.get(name)
        if task is None or self.state.closed:
            why = Why.TASK_REMOVED if task is None else Why.SESSION_CLOSED
            return self._refuse(Refused(why, f"{replay.instance} cannot be replayed: {why}"))
        instance = self._edit(name, instance)
        if not replay.force and self._blocked(task, instance):
            instance.reason = Reason.UNLESS
            says = f"{replay.instance} is not replayed: its `unless` has been fulfilled"
            return self._refuse(Refused(Why.UNLESS, says))
        unfit = self._unfit(task, instance, replay.kwargs, retries=0)
        if unfit is not None:
            return self._refuse(Refused(Why.BOUND, f"{replay.instance} is not replayed: {unfit}"))
        if instance.status in DECIDED:
            self.settled.append(self._command_id(name, instance.number))
        instance.said = _said(replay.reason, replay.by)
        clone = self._clone(task, instance, kwargs=replay.kwargs, retries=0)
        self._decide(task, clone, self.state.clock_us, fits=True)
        return _noted(f"{replay.instance} replayed as {instance_id(name, clone.number)}", instance.said)

    def _cancel(self, cancel: Cancel) -> Effect:
        """End an instance that waits or runs (R7.6)."""
        found = self._addressed(cancel)
        if isinstance(found, Refused):
            return self._refuse(found)
        task, instance = found
        if instance.status not in applicable_statuses(cancel):
            says = f"{cancel.instance} is {instance.status}: only one that waits or runs is cancelled"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        instance = self._edit(task, instance)
        if instance.status in DECIDED:
            command = self._command_id(task, instance.number)
            self.settled.append(command)
            self.decisions.append(
                Revoke(id=command, session=self.session, task=task, instance=cancel.instance)
            )
        instance.said = _said(cancel.reason, cancel.by)
        self._resolve(task, instance, Status.CANCELLED)
        return _noted(f"{cancel.instance} cancelled", instance.said)

    def _resend(self, resend: Resend) -> Effect:
        """Decide an instance's command once more, with the next attempt (R7.7)."""
        found = self._addressed(resend)
        if isinstance(found, Refused):
            return self._refuse(found)
        task, instance = found
        if instance.status not in applicable_statuses(resend):
            says = f"{resend.instance} is {instance.status}: only a scheduled or running one is resent"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        if resend.attempt not in (None, instance.attempt):
            given_for = f"the order was given for {resend.attempt}"
            says = f"{resend.instance} is at attempt {instance.attempt}, {given_for}"
            return self._refuse(Refused(Why.OTHER_ATTEMPT, says))
        instance = self._edit(task, instance)
        instance.attempt += 1
        self._send(task, instance)
        bounds = self.config.bounds
        too_long = None if self.meter is None else self.meter.too_long(self.decisions[-1], bounds)
        if too_long is not None:
            instance.attempt -= 1
            self.decisions.pop()
            says = f"{resend.instance} is not sent again: {too_long.reason}"
            return self._refuse(Refused(Why.BOUND, says))
        instance.started_us = None  # of the attempt before
        instance.changed_us = self.state.clock_us
        said = _said(resend.reason, resend.by)
        return _noted(f"{resend.instance} sent again, attempt {instance.attempt}", said)

    def _close(self, close: Close) -> Effect:
        """Close the session: what waits is cancelled, the generation ends (R7.8)."""
        state = self.state
        if close.generation not in (None, state.generation):
            return self._refuse(_other_generation(state.generation, close.generation))
        if state.closed:
            return self._refuse(Refused(Why.SESSION_CLOSED, "the session is closed already"))
        said = _said(close.reason, close.by)
        for name in list(state.tasks):
            for instance in self._waiting(name):
                instance.reason, instance.said = Reason.SESSION_CLOSED, said
                self._resolve(name, instance, Status.CANCELLED)
        state.generation += 1
        state.closed = True
        self._hold(state.seen)
        state.seen = {}
        return _noted("session closed", said)

    def _erase(self, erase: Erase) -> Effect:
        """Forget all but the generation and the offset (R7.9)."""
        if erase.generation not in (None, self.state.generation):
            return self._refuse(_other_generation(self.state.generation, erase.generation))
        self.state = SessionState(
            generation=self.state.generation + 1,
            offset=self.state.offset,
            config=self.rules.current.offset,
        )
        return NOTHING

    def _start_anew(self) -> None:
        """Forget the closed generation's instances: the next one begins (R4.2)."""
        state = self.state
        state.closed = False
        state.tasks = {}
        state.held = {}
        state.open_count = state.timer_count = 0
        self._owned.clear()

    # ---- time ---------------------------------------------------------------------------------

    def first_timer(self) -> tuple[int, int, int, TaskName] | None:
        """The delayed instance that is due first (R8.3): due time, the task's place, its number, its name."""
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
        """Decide every delayed instance that is due at or before ``until_us``, in due order (R8.3, R8.4)."""
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
        """Meet every configuration that the session missed, in log order (R9.2)."""
        for applied in self.rules.missed(self.state.config):
            self.offset = applied.offset
            self.fire_timers(applied.arrival_us)
            self.meet(applied)

    def meet(self, applied: Version) -> None:
        """Bring the state under one further configuration (R9.3, R9.4); nothing is judged yet.

        A task that is new has no instance until a trigger that it uses arrives (R9.8).
        """
        state = self.state
        seeded: list[tuple[TaskRecord, Instance]] = []
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
                record = self._own(name)
                for instance in self._waiting(name):
                    instance.reason = Reason.TASK_REMOVED
                    record.removed = instance.number == record.next - 1
                    self._resolve(name, instance, Status.CANCELLED)
            elif not state.closed:
                found = list(self._seeded(task))
                if found:
                    record = self._own(name)
                    seeded += [(record, instance) for instance in found]
        if seeded:
            self._seed(seeded)

    def _seed(self, seeded: list[tuple[TaskRecord, Instance]]) -> None:
        """Replace instances by their seeded versions; replace none of them if there is no room (R10.6)."""
        meter = self.meter
        before = [record.open[instance.number] for record, instance in seeded]
        for record, instance in seeded:
            record.open[instance.number] = instance
        if meter is None:
            return
        size = meter.sizes.instance
        grown = sum(size(new) - size(old) for (_, new), old in zip(seeded, before, strict=True))
        if not meter.takes(self.state, grown, self.config.bounds.state_bytes):
            for (record, _), instance in zip(seeded, before, strict=True):
                record.open[instance.number] = instance
            self._prevent(f"the configuration at offset {self.state.config} seeds nothing: {_NO_ROOM}")

    def _seeded(self, task: Task) -> Iterator[Instance]:
        """Open instances, seeded with triggers that the session saw and they do not have (R9.5)."""
        seen = self.state.seen
        record = self.state.tasks[task.name]
        for instance in record.open.values():
            captured = {}
            if instance.status is Status.UNSTARTED:
                captured = {n: seen[n].offset for n in task.needs if n in seen and n not in instance.captured}
            noted = {n: seen[n].offset for n in task.unless if n in seen and n not in instance.noted}
            if captured or noted:
                seeded = copy(instance)
                seeded.captured = {**instance.captured, **captured}
                seeded.noted = {**instance.noted, **noted}
                yield seeded

    # ---- what instances captured --------------------------------------------------------------

    def _hold(self, arrivals: dict[TriggerName, Arrival]) -> None:
        """Keep events that are their triggers' latest no more, for instances that captured them (R4.3)."""
        self.state.held = held = self.state.held.copy()
        for name, arrival in arrivals.items():
            held[name] = {**held.get(name, {}), arrival.offset: arrival}
        self.sweep = True

    def _let_go(self) -> None:
        """Forget what is held and no instance captured (R10.9)."""
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
            record = TaskRecord(
                next=record.next,
                open=record.open.copy(),
                resolved=record.resolved.copy(),
                removed=record.removed,
            )
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

    def _addressed(self, order: Order) -> tuple[TaskName, Instance] | Refused:
        """The instance for ``order``; or why the order does not apply to the current one (R7.1)."""
        generation = self.state.instances_generation
        if order.generation not in (None, generation):
            return _other_generation(generation, order.generation)
        return self._find(order.instance)

    def _find(self, text: InstanceId) -> tuple[TaskName, Instance] | Refused:
        parts = split_instance_id(text)
        if parts is None:
            return Refused(Why.UNKNOWN_INSTANCE, f"`{text}` is no instance: write task#number")
        record = self.state.tasks.get(parts[0])
        if record is None:
            return Refused(Why.UNKNOWN_INSTANCE, f"the session has no instance of task {parts[0]}")
        instance = record.find(parts[1])
        if instance is None:
            says = f"the session has no instance {text}, or keeps it no longer"
            return Refused(Why.UNKNOWN_INSTANCE, says)
        return parts[0], instance

    def _blocked(self, task: Task, instance: Instance) -> bool:
        return bool(task.unless) and instance.noted.keys() >= task.unless_set

    def _command_id(self, task: TaskName, number: int) -> CommandId:
        generation = self.state.instances_generation
        return command_id(self.rules.app, self.session, generation=generation, task=task, number=number)

    def _refuse(self, refused: Refused) -> Refused:
        """Count a refused event (R2.4)."""
        self.state.refused += 1
        return refused


_NO_ROOM = "the session's state would be too long ($bounds.stateBytes)"


def _holds(digests: bytes, digest: bytes) -> bool:
    at = digests.find(digest)
    while at >= 0 and at % DIGEST_BYTES:
        at = digests.find(digest, at + 1)
    return at >= 0


def _was_removed(record: TaskRecord) -> bool:
    """True if a configuration without the task cancelled its last instance, and it has returned (R4.6).

    It was never decided, so one more cannot make the task run twice.
    """
    return record.removed and not record.open


def timer_due_us(task: Task, instance: Instance) -> int:
    """When a delayed instance is decided: its start instant plus what its task says now (R8.2)."""
    start = instance.waits_from_us or 0
    if instance.waits_us is not None:
        return start + instance.waits_us
    return start if task.retry is None else start + task.retry.wait_us(instance.retries - 1)


def _other_generation(generation: int, given_for: int | None) -> Refused:
    says = f"the session is in generation {generation}, the order was given for {given_for}"
    return Refused(Why.OTHER_GENERATION, says)


def _is_of_an_older_attempt(outcome: Outcome, instance: Instance) -> bool:
    """True if ``outcome`` says that one message of the command came to nothing, and another is out (R6.3).

    What the task itself did counts, whichever message it ran for.
    """
    match outcome:
        case Revoked(attempt=int(attempt)):
            return attempt < instance.attempt
        case Failed(attempt=int(attempt), reason=FailureReason() as reason):
            return attempt < instance.attempt and reason is not FailureReason.RESULT_NOT_REPORTABLE
        case _:
            return False


def _bound(key: str, limit: int, what: str) -> str:
    return f"a session holds at most {limit:,} {what} ($bounds.{key})"


def _with_remarks(effect: Effect, remarks: list[str]) -> Effect:
    match effect:
        case Refused() | Ignored():
            return replace(effect, says="; ".join([effect.says, *remarks]))
        case Applied(says=str(says)):
            return Applied("; ".join([says, *remarks]))
        case Applied() | Nothing():
            return Applied("; ".join(remarks))
        case _ as never:
            assert_never(never)


def _note(effect: Applied | Refused | Ignored) -> Note:
    """The effect as a timeline keeps it."""
    match effect:
        case Applied():
            return None if effect.says is None else _short(effect.says)
        case Refused():
            return Inert.REFUSED, effect.why, _short(effect.says)
        case Ignored():
            return Inert.IGNORED, effect.why, _short(effect.says)
        case _ as never:
            assert_never(never)


def _short(text: str) -> str:
    return text if len(text) <= SHORT_TEXT else cut_text(text)


def _noted(what: str, said: str | None) -> Applied:
    return Applied(f"{what}: {said}" if said else what)


def _said(reason: str | None, by: str | None) -> str | None:
    """An order's reason and author as one text (R7.2)."""
    reason = None if reason is None else cut_text(reason)
    if reason and by:
        return cut_text(f"{reason} ({by})")
    return reason or (cut_text(f"by {by}") if by else None)
