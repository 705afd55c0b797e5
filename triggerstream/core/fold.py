"""The fold: all decisions whether a task runs, in the order in which an event causes them.

``step`` folds one event into a session's state. It is a function of its arguments alone: no clock, no
randomness, no I/O; it never raises and never changes its arguments. The same log gives the same
commands, whoever folds it, however often and in whatever batches.

The rules are in ``docs/semantics.md``: ``R4.7`` is rule 7 of its section 4. Configurations are folded
here, triggers in :mod:`triggerstream.core.triggering`, outcomes in :mod:`triggerstream.core.outcomes`,
operators' orders in :mod:`triggerstream.core.orders`; timers fire in :mod:`triggerstream.core.firing`.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from triggerstream.core.deciding import NO_ROOM
from triggerstream.core.effects import APPLIED, NOTHING, Effect, Nothing, Reason
from triggerstream.core.events import (
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    Finished,
    Order,
    Outcome,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    SessionEvent,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.firing import FiringTimers
from triggerstream.core.ids import SessionId
from triggerstream.core.meter import BoundError, Meter
from triggerstream.core.orders import ApplyingOrders
from triggerstream.core.outcomes import settled_by
from triggerstream.core.reoffering import Reoffering
from triggerstream.core.results import Folded, Follows, LeftOut, Rejected, Unknown
from triggerstream.core.retiring import Retiring
from triggerstream.core.sizes import Sizes
from triggerstream.core.state import Arrival, Instance, SessionState, Status, TaskRecord
from triggerstream.core.tasks import Rules, Task, Version
from triggerstream.core.timeline_effects import stored_effect, with_remarks
from triggerstream.core.timeline_lines import with_entry
from triggerstream.core.timers import timers_of, with_exact_due
from triggerstream.core.triggering import FiringTriggers


def step(
    rules: Rules, state: SessionState | None, event: Event, *, sizes: Sizes | None = None
) -> Folded | Rejected | Unknown:
    """Fold ``event`` into ``state`` (None: nothing is known of the session).

    R2.1 has the order of work. A record at or below ``state.offset`` is included already and changes nothing
    (R1.4). Only a trigger makes a session known (R2.6).

    Only a trigger can be rejected. Any other event of a known session is always folded: data of it beyond the
    bounds is refused, cut or left out. The bounds in bytes are checked only with ``sizes``: a caller without
    it must fold again with it if the result is beyond a bound.
    """
    if state is None:
        if type(event.body) is not Trigger:
            return Unknown(settled=settled_by(event.body))
    elif event.offset <= state.offset:
        return Folded(state=state)
    draft = _draft_of(rules, state, event.session, event.offset, sizes)
    try:
        effect = draft.fold(event)
    except BoundError as broken:
        if not draft.followed:
            return Rejected(reason=str(broken))
        draft = _draft_of(rules, state, event.session, event.offset, sizes)
        draft.barred = broken
        effect = draft.fold(event)
    return draft.folded(effect)


def migrate(rules: Rules, state: SessionState, session: SessionId) -> Folded:
    """The state after it has met every configuration so far, and the decisions of timers (R9.2).

    ``step`` does the same at the session's next event, with the same result.
    """
    draft = _draft_of(rules, state, session, -1)
    draft.meet_configurations()
    return draft.folded(NOTHING)


def next_due(rules: Rules, state: SessionState) -> int | None:
    """The due time of the session's next timer (R8.2), in microseconds; None if it has none.

    A session that has not met the latest configurations is judged as if it had.
    """
    if state.config >= rules.current.offset:
        return with_exact_due(rules, state).due_us
    missed = rules.missed(state.config)
    if state.due_us is None and not any(version.config.starts_timers for version in missed):
        return None
    draft = _draft_of(rules, with_exact_due(rules, state), SessionId(""), -1)
    for applied in missed:
        due_us = draft.state.due_us
        if due_us is not None and due_us <= max(draft.state.clock_us, applied.arrival_us):
            return due_us
        draft.meet(applied)
    return draft.state.due_us


def needs_touch(rules: Rules, session: SessionId, state: SessionState) -> bool:
    """True if a configuration would decide, hold or make an instance without a further event (R11.8).

    Such a configuration was not met by the session yet, or its waiting instances were not judged under it.
    """
    if state.config >= rules.current.offset and not state.unjudged:
        return False
    missed = rules.missed(state.config)
    if not state.open_count and not any(version.config.for_existing for version in missed):
        return False
    event = Event(
        session=session,
        offset=max(state.offset, rules.current.offset) + 1,
        arrival_us=state.clock_us,
        time_us=state.clock_us,
        type="",
        body=Touch(),
    )
    folded = step(rules, state, event)
    if not isinstance(folded, Folded):
        return False
    # A held one is touched, so that a state tells whether a file that gives places concerns it.
    return bool(folded.decisions or folded.created) or folded.state.holds > state.holds


class _Fold(FiringTriggers, FiringTimers, Reoffering, ApplyingOrders, Retiring):
    """Folds one event into a draft, by the rules of ``docs/semantics.md``."""

    def folded(self, effect: Effect) -> Folded:
        """The result of the fold of an event that had ``effect``."""
        state, before, beyond = self.state, self.before, self.beyond
        folded = Folded(
            state=state,
            effect=effect,
            decisions=tuple(self.decisions) if self.decisions else (),
            created=self.created,
            resolved=self.resolved,
            taken=self.taken,
            touched=self.owned,
        )
        if (
            beyond is None
            and not self.resolved
            and not self.settled
            and (before is None or (before.generation == state.generation and before.closed is state.closed))
        ):
            return folded  # mostly there is nothing else
        return replace(
            folded,
            settled=tuple(self.settled),
            left_out=() if beyond is None else beyond.left_out,
            prevented=0 if beyond is None else beyond.prevented,
            forgotten_ids=0 if beyond is None else beyond.forgotten_ids,
            retired=self._retired(),
            dropped=self._dropped(),
        )

    # ---- the steps of a fold ------------------------------------------------------------------

    def fold(self, event: Event) -> Effect:
        """Fold an event that the state does not include yet, in the steps of R2.1; returns its effect."""
        state = self.state
        if state.config != self.rules.current.offset:
            self.meet_configurations()
            self.offset = event.offset
            state = self.state
        clock_us = event.arrival_us
        if clock_us < state.clock_us:  # noqa: PLR1730 - a call of `max` takes six times as long
            clock_us = state.clock_us  # R8.1
        if state.due_us is not None and state.due_us <= clock_us:
            self.fire_timers(clock_us)
            state = self.state
        state.clock_us = clock_us
        if state.unjudged and type(event.body) is not Timer:
            self._judge_all()
        if self.resolved:
            self._retire_resolved()  # as if events of timers had come at their time
        # Decisions so far were caused by time or a configuration, so they get no trace context of an event.
        if event.traceparent is not None:
            self.trace = event.traceparent
        body = event.body
        effect = self._trigger(event, body) if isinstance(body, Trigger) else self._apply(body)
        if self.follows is not None:
            self._follow(event, self.follows)
        if self.freed is not None:
            self._give_places(self.config.among(self.freed))
        state = self.state
        if state.due_us is not None and state.due_us <= state.clock_us:
            self.fire_timers(state.clock_us)
            state = self.state
        state.offset = event.offset
        if self.resolved:
            self._retire_resolved()
        if state.recent:
            self._file_recent_events()
        if self.beyond is not None and self.beyond.remarks:
            effect = with_remarks(effect, self.beyond.remarks)
        if type(effect) is not Nothing:
            note = None if effect is APPLIED else stored_effect(effect)
            entry = (event.offset, event.type, event.time_us, note)
            state.positions = with_entry(state.positions, entry, self.config.bounds.positions)
        if self.meter is not None:
            self._keep_bounds_in_bytes(event, self.meter.sizes)
        return effect

    def _keep_bounds_in_bytes(self, event: Event, sizes: Sizes) -> None:
        """Forget the oldest resolved instances (R10.9); refuse a trigger beyond the state's bound (R10.4)."""
        state, bounds = self.state, self.config.bounds
        self._forget_resolved(sizes, bounds.resolved_bytes)
        if self.followed or type(event.body) is Trigger:
            size = sizes.state(state)
            if size > bounds.state_bytes:
                limit = f"at most {bounds.state_bytes:,} ($bounds.stateBytes)"
                raise BoundError(f"the state would have {size:,} bytes: {limit}", in_bytes=True)

    def _follow(self, event: Event, follows: Follows) -> None:
        """Fire the trigger that follows (R6.9), or leave it out if a bound is known to forbid it (R10.7)."""
        if self.barred is not None:
            left_out = LeftOut(
                trigger=follows.trigger,
                data=follows.data,
                time_us=event.time_us,
                id=follows.command,
                reason=str(self.barred),
            )
            self._beyond().left_out += (left_out,)
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

    def _apply(self, body: Outcome | Order | SessionEvent) -> Effect:
        """Fold an event that is no trigger; returns its effect. R7.10 and R8.5 need nothing here."""
        match body:
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
            case Release() as release:
                return self._release(release)
            case Close() as close:
                return self._close(close)
            case Erase() as erase:
                return self._erase(erase)
            case Touch() | Timer():
                return NOTHING
            case _ as never:
                assert_never(never)

    # ---- configuration ------------------------------------------------------------------------

    def meet_configurations(self) -> None:
        """Meet every configuration that the session missed, in log order (R9.2)."""
        for applied in self.rules.missed(self.state.config):
            self.offset = applied.offset
            clock_us = max(self.state.clock_us, applied.arrival_us)
            due_us = self.state.due_us
            if due_us is not None and due_us <= clock_us:
                self.fire_timers(clock_us)
            self.meet(applied)
        if self.resolved:
            self._retire_resolved()

    def meet(self, applied: Version) -> None:
        """Bring the state under one further configuration (R9.3, R9.4); nothing is judged yet.

        A task that is new has no instance until a trigger that it uses arrives (R9.8).
        """
        state, before = self.state, self.config
        seeded: list[tuple[TaskRecord, Instance]] = []
        self.config = config = applied.config
        self.needed = None
        state.config = applied.offset
        if state.is_empty():
            return
        state.clock_us = max(state.clock_us, applied.arrival_us)
        if not state.closed:
            state.unjudged = True
        if state.remembered:
            self._forget_changed_leaves(before)
        for name in list(state.tasks):
            task = config.by_name.get(name)
            if state.tasks[name].takers is not None:
                self._own(name).takers = None  # leaves may take other events now
            if task is None:
                record = self._own(name)
                self._store_makers(before.by_name.get(name), record)
                for instance in self._waiting(name):
                    instance.reason = Reason.TASK_REMOVED
                    record.removed = instance.number == record.next - 1
                    self._resolve(name, instance, Status.CANCELLED)
            elif not state.closed:
                found = list(self._changed_instances(before.by_name.get(name), task))
                if found:
                    record = self._own(name)
                    seeded += [(record, instance) for instance in found]
        if seeded:
            self._seed(seeded)
        for task in config.for_existing:
            self._begin_in_existing(task, applied.offset)
        if state.due_us is not None or config.starts_timers:
            first = min(timers_of(config, state), default=None)
            state.due_us = None if first is None else first[0]

    def _begin_in_existing(self, task: Task, offset: int) -> None:
        """Make the first instance of a task in a session that it applies to (R9.12)."""
        state = self.state
        known = state.tasks.get(task.name)
        if state.closed or (known is not None and known.next):
            return
        if all(self._recalled(task, slot, unless=False) is None for slot in task.after.slots.values()):
            return
        full = self._full(1)
        if full is not None:
            self._prevent(f"the configuration at offset {offset} makes no instance of {task.name}: {full}")
            return
        record = self._own(task.name)
        instance = self._create(task, record, offset)
        meter = self.meter
        if meter is None:
            return
        grown = meter.sizes.instance(instance)
        if not meter.takes(state, grown, self.config.bounds.state_bytes):
            del record.open[instance.number]
            record.next -= 1
            state.open_count -= 1
            self.created -= 1
            if known is None:
                del state.tasks[task.name]
                self.owned.discard(task.name)
            self._prevent(f"the configuration at offset {offset} makes no instance of {task.name}: {NO_ROOM}")


def _draft_of(
    rules: Rules, state: SessionState | None, session: SessionId, offset: int, sizes: Sizes | None = None
) -> _Fold:
    """A draft of ``state`` (None: nothing is known of the session) for the event at ``offset``.

    With ``sizes``, the bounds in bytes are checked.
    """
    current = rules.current
    config = current.config
    if state is None:
        new = SessionState(config=current.offset)
    else:
        new = replace(state, seen=state.seen.copy(), tasks=state.tasks.copy())
        if state.config != current.offset:
            if state.is_empty():
                new.config = current.offset  # an unknown session has no configuration to meet
            else:
                config = rules.met(state.config).config
    meter = None if sizes is None else Meter(sizes)
    return _Fold(rules, session, offset, new, config, before=state, meter=meter)
