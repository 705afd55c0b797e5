"""The fold: all decisions whether a task runs.

``step`` folds one event into a session's state. It is a function of its arguments alone: no clock, no
randomness, no I/O; it never raises and never changes its arguments. The same log gives the same
commands, whoever folds it, however often and in whatever batches.

The rules are in ``docs/semantics.md``: ``R4.7`` is rule 7 of its section 4.
"""

from __future__ import annotations

from copy import copy
from typing import assert_never

from triggerstream.core.commands import Revoke
from triggerstream.core.deciding import NO_ROOM
from triggerstream.core.draft import bound_text, other_generation
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
    Outcome,
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
from triggerstream.core.held import Ref
from triggerstream.core.ids import (
    DIGEST_BYTES,
    CommandId,
    Json,
    LeafName,
    SessionId,
    TaskName,
    TriggerName,
    event_digest,
    find_digest,
    instance_id,
)
from triggerstream.core.makers import derived_maker, is_derivable
from triggerstream.core.meter import BoundError
from triggerstream.core.orders import applicable_statuses
from triggerstream.core.outcomes import is_of_an_older_attempt, settled_by
from triggerstream.core.reoffering import Reoffering
from triggerstream.core.results import Folded, Follows, LeftOut, Rejected, Unknown
from triggerstream.core.sizes import Sizes, cut_text
from triggerstream.core.state import (
    DECIDED,
    WAITING,
    Arrival,
    Instance,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.core.tasks import Rules, Task, UnlessFrom, Use, Version
from triggerstream.core.timeline_effects import (
    join_reason_and_author,
    note_applied,
    stored_effect,
    with_remarks,
)


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
    draft = _Fold(rules, state, event.session, sizes)
    try:
        draft.fold(event)
    except BoundError as broken:
        if not draft.followed:
            return Rejected(reason=str(broken))
        draft = _Fold(rules, state, event.session, sizes)
        draft.barred = broken
        draft.fold(event)
    return draft.folded()


def migrate(rules: Rules, state: SessionState, session: SessionId) -> Folded:
    """The state after it has met every configuration so far, and the decisions of timers (R9.2).

    ``step`` does the same at the session's next event, with the same result.
    """
    draft = _Fold(rules, state, session)
    draft.meet_configurations()
    return draft.folded()


def next_due(rules: Rules, state: SessionState) -> int | None:
    """The due time of the session's next timer (R8.2), in microseconds; None if it has none.

    A session that has not met the latest configurations is judged as if it had.
    """
    if not state.timer_count:
        return None
    draft = _Fold(rules, state, SessionId(""))
    for applied in rules.missed(state.config):
        due = draft.first_timer()
        if due is not None and due[0] <= applied.arrival_us:
            return due[0]
        draft.meet(applied)
    due = draft.first_timer()
    return None if due is None else due[0]


def needs_touch(rules: Rules, session: SessionId, state: SessionState) -> bool:
    """True if a configuration would decide something or make an instance without a further event (R11.8).

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
    return isinstance(folded, Folded) and bool(folded.decisions or folded.created)


class _Fold(Reoffering):
    """Folds one event into a draft, by the rules of ``docs/semantics.md``."""

    __slots__ = ()

    def folded(self) -> Folded:
        beyond = self.beyond
        return Folded(
            state=self.state,
            effect=self.effect,
            decisions=tuple(self.decisions),
            settled=tuple(self.settled),
            created=self.created,
            resolved=self.resolved,
            taken=self.taken,
            left_out=() if beyond is None else beyond.left_out,
            prevented=0 if beyond is None else beyond.prevented,
            forgotten_ids=0 if beyond is None else beyond.forgotten_ids,
            touched=self._owned,
        )

    # ---- the steps of a fold ------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        """Fold an event that the state does not include yet, in the steps of R2.1."""
        state = self.state
        if state.config != self.rules.current.offset:
            self.meet_configurations()
        self.offset = event.offset
        state.clock_us = max(state.clock_us, event.arrival_us)  # R8.1
        if state.timer_count:
            self.fire_timers(state.clock_us)
        if state.unjudged and type(event.body) is not Timer:
            self._judge_all()
        # Decisions so far were caused by time or a configuration, so they get no trace context of an event.
        self.trace = event.traceparent
        effect = self._apply(event)
        if self.follows is not None:
            self._follow(event, self.follows)
        state = self.state
        if state.timer_count:
            self.fire_timers(state.clock_us)
        state.offset = event.offset
        if state.recent:
            self._file_recent_events()
        if self.beyond is not None and self.beyond.remarks:
            effect = with_remarks(effect, self.beyond.remarks)
        self.effect = effect
        if not isinstance(effect, Nothing):
            note = None if effect is APPLIED else stored_effect(effect)
            positions = [*state.positions, (event.offset, event.type, event.time_us, note)]
            limit = self.config.bounds.positions
            state.positions = positions if len(positions) <= limit else positions[-limit:]
        if self.meter is not None:
            self._keep_bounds_in_bytes(event, self.meter.sizes)

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

    # ---- triggers -----------------------------------------------------------------------------

    def _trigger(self, event: Event, trigger: Trigger) -> Effect:
        """Ignore a duplicate (R4.1); fire any other trigger."""
        name = trigger.name
        identity = event.identity()
        if identity is not None and name in self.config.users:
            digests = self.state.digests.get(name)
            digest = event_digest(*identity)
            if digests is not None:
                at = find_digest(digests, digest)
                if at >= 0:
                    if at + DIGEST_BYTES < len(digests):
                        digests = digests[:at] + digests[at + DIGEST_BYTES :] + digest
                        self.state.digests = {**self.state.digests, name: digests}
                    return Ignored(
                        Why.DUPLICATE, "duplicate: an event of this source and id is included already"
                    )
                digest = digests + digest
                excess = len(digest) - self.config.bounds.digests * DIGEST_BYTES
                if excess > 0:
                    digest = digest[excess:]
                    self._beyond().forgotten_ids += excess // DIGEST_BYTES
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
            self._start_generation()
        previous = state.seen.get(name)
        if previous is not None:
            if name in state.latest_captured:
                self._keep(name, previous)
                state.latest_captured -= {name}
        elif len(state.seen) >= self.config.bounds.trigger_names and name not in self.config.users:
            self._check_strangers()
        state.seen[name] = arrival
        if self.meter is not None:
            self.meter.firing = True
        for use in self.config.users.get(name, ()):
            if use.is_list:
                self._offer_list(use, name, arrival.offset)
            else:
                self._offer(use, arrival, previous)
        if self.meter is not None:
            self.meter.firing = False

    def _check_strangers(self) -> None:
        """Raise if the session has reached the bound of trigger names that no task uses (R10.5)."""
        limit, users = self.config.bounds.trigger_names, self.config.users
        if sum(name not in users for name in self.state.seen) >= limit:
            raise BoundError(bound_text("triggerNames", limit, "distinct triggers that no task uses"))

    def _offer_list(self, use: Use, trigger: TriggerName, offset: Ref) -> None:
        """The same as ``_offer`` for a task whose conditions are lists of triggers."""
        task, state = use.task, self.state
        leaf: LeafName = trigger  # type: ignore[assignment]  # a leaf of a list has its trigger's name
        record = self._own(task.name)
        in_after, in_unless = use.in_after, use.in_unless
        accepted = taken = False
        changed: list[Instance] = []
        for instance in record.open.values():
            captures = instance.status is Status.UNSTARTED and leaf not in instance.captured and in_after
            notes = in_unless and leaf not in instance.noted
            if not captures and not notes:
                continue
            instance = copy(instance)  # noqa: PLW2901 - the draft writes to copies only
            record.open[instance.number] = instance
            instance.changed_us = state.clock_us
            if captures:
                instance.captured = {**instance.captured, leaf: offset}
                taken = True
            if notes:
                instance.noted = {**instance.noted, leaf: offset}
            if instance.status is Status.UNSTARTED:
                accepted = True
            if instance.status in WAITING:
                changed.append(instance)
        if taken and trigger not in state.latest_captured:
            state.latest_captured = state.latest_captured.union((trigger,))
        if record.next == 0 or (use.is_every and not accepted) or _begins_again(task, record):
            changed.append(self._create(task, record, made_by=offset))
        self.taken += len(changed)
        for instance in changed:
            # Mostly a trigger is still missing.
            if use.needs <= len(instance.captured) or task.unless is not None:
                self._judge(task, instance)

    def _offer(self, use: Use, arrival: Arrival, previous: Arrival | None) -> None:
        """Offer a trigger to one task that uses it, and make an instance if one is due (R4.5, R4.6)."""
        task = use.task
        after, unless = self._matching(use.after, arrival), self._matching(use.unless, arrival)
        if task.every is not None:
            self._remember(use, previous, after, unless)
        if not after and not unless:
            return
        record = self._own(task.name)
        accepted = False
        changed: list[Instance] = []
        for instance in record.open.values():
            unstarted = instance.status is Status.UNSTARTED
            captured = self._capture(task, instance, after) if unstarted and after else None
            noted = self._note(task, instance, unless) if unless else None
            if captured is None and noted is None:
                continue
            instance = copy(instance)  # noqa: PLW2901 - the draft writes to copies only
            record.open[instance.number] = instance
            instance.changed_us = self.state.clock_us
            if captured is not None:
                instance.captured = captured
            if noted is not None:
                instance.noted = noted
            accepted = accepted or unstarted
            if instance.status in WAITING:
                changed.append(instance)
            self.taken += sum(1 + len(one.lists) for one in (*after, *unless))
        makes = bool(after) or task.unless_from is UnlessFrom.SESSION
        again = not accepted and any(one.slot.name == task.every for one in after)
        if again or (makes and (record.next == 0 or _begins_again(task, record))):
            changed.append(self._create(task, record, made_by=arrival.offset))
            self.taken += sum(1 + len(one.lists) for one in after)
        for instance in changed:
            self._judge(task, instance)

    def _create(self, task: Task, record: TaskRecord, *, made_by: Ref) -> Instance:
        """A new instance that holds what the leaves of its task remember (R4.7, R4.11)."""
        state = self.state
        full = self._full(1)
        if full is not None:
            raise BoundError(full)
        captured, noted = self._seeds(task)
        instance = Instance(
            number=record.next,
            status=Status.UNSTARTED,
            created_us=state.clock_us,
            changed_us=state.clock_us,
            captured=captured,
            noted=noted,
        )
        # An instance that holds one event was made by it.
        if self.config.uses_language or (
            (len(captured) + len(noted) > 1 or task.every is not None)
            and not is_derivable(task, instance, made_by)
        ):
            instance.made_by = made_by
        record.next += 1
        record.removed = False
        record.open[instance.number] = instance
        state.open_count += 1
        self.created += 1
        return instance

    # ---- outcomes -----------------------------------------------------------------------------

    def _outcome(self, outcome: Outcome) -> Effect:
        """Refuse an outcome, or change its instance (R6.1 to R6.4)."""
        self.settled += settled_by(outcome)
        found = self._find(outcome.instance)
        if isinstance(found, Refused):
            return self._refuse(found)
        task, instance = found
        if outcome.command != self._command_id(task, instance.number):
            return self._refuse(
                Refused(Why.OTHER_COMMAND, f"command {outcome.command} is not that of {outcome.instance}")
            )
        if instance.status not in DECIDED:
            return self._record_late_outcome(task, instance, outcome)
        if is_of_an_older_attempt(outcome, instance):
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

    def _record_late_outcome(self, task: TaskName, instance: Instance, outcome: Outcome) -> Effect:
        """Note an outcome of an instance that is not decided, after a cancel; otherwise refuse it (R6.2)."""
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
        self.follows = Follows(trigger=TriggerName(task), data=result, command=command)

    def _failed(self, name: TaskName, instance: Instance, outcome: Failed) -> None:
        """Retry a failed instance, or leave it failed (R6.5)."""
        task = self.config.by_name.get(name)
        instance.error = cut_text(outcome.error)
        instance.reason = None if outcome.reason is None else Reason(outcome.reason.value)
        if (
            task is not None
            and task.retry is not None
            and instance.retries < task.retry.max
            # The task did its work. Only the report failed, and it would fail again.
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
        instance.note = join_reason_and_author(skip.reason, skip.by)
        if skip.cascade:
            instance.result = skip.result
        self._resolve(task, instance, Status.SKIPPED)
        if skip.cascade:
            self._cascade(task, self._command_id(task, instance.number), skip.result)
        return note_applied(f"{skip.instance} skipped", instance.note)

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
        instance.note = join_reason_and_author(replay.reason, replay.by)
        clone = self._clone(task, instance, kwargs=replay.kwargs, retries=0)
        self._decide(task, clone, self.state.clock_us, fits=True)
        return note_applied(f"{replay.instance} replayed as {instance_id(name, clone.number)}", instance.note)

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
        instance.note = join_reason_and_author(cancel.reason, cancel.by)
        self._resolve(task, instance, Status.CANCELLED)
        return note_applied(f"{cancel.instance} cancelled", instance.note)

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
        instance.started_us = None  # from the previous attempt
        instance.changed_us = self.state.clock_us
        note = join_reason_and_author(resend.reason, resend.by)
        return note_applied(f"{resend.instance} sent again, attempt {instance.attempt}", note)

    def _release(self, release: Release) -> Effect:
        """Decide a delayed or held instance now (R7.11)."""
        found = self._addressed(release)
        if isinstance(found, Refused):
            return self._refuse(found)
        name, instance = found
        if instance.status not in applicable_statuses(release):
            says = f"{release.instance} is {instance.status}: only a delayed or held one is released"
            return self._refuse(Refused(Why.WRONG_STATUS, says))
        instance = self._edit(name, instance)
        instance.note = join_reason_and_author(release.reason, release.by)
        # A file without the task would have cancelled an instance that waits.
        self._decide(self.config.by_name[name], instance, self.state.clock_us)
        return note_applied(f"{release.instance} released", instance.note)

    def _close(self, close: Close) -> Effect:
        """Close the session: waiting instances are cancelled, and the generation ends (R7.8)."""
        state = self.state
        if close.generation not in (None, state.generation):
            return self._refuse(other_generation(state.generation, close.generation))
        if state.closed:
            return self._refuse(Refused(Why.SESSION_CLOSED, "the session is closed already"))
        note = join_reason_and_author(close.reason, close.by)
        for name in list(state.tasks):
            for instance in self._waiting(name):
                instance.reason, instance.note = Reason.SESSION_CLOSED, note
                self._resolve(name, instance, Status.CANCELLED)
        state.generation += 1
        state.closed = True
        latest = {(name, state.seen[name].offset): state.seen[name] for name in state.latest_captured}
        state.recent = {**state.recent, **latest}
        state.latest_captured = frozenset()
        state.remembered = {}
        state.seen = {}
        return note_applied("session closed", note)

    def _erase(self, erase: Erase) -> Effect:
        """Forget all but the generation and the offset (R7.9)."""
        if erase.generation not in (None, self.state.generation):
            return self._refuse(other_generation(self.state.generation, erase.generation))
        self.state = SessionState(
            generation=self.state.generation + 1,
            offset=self.state.offset,
            config=self.rules.current.offset,
        )
        return NOTHING

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
        state, before = self.state, self.config
        seeded: list[tuple[TaskRecord, Instance]] = []
        self.config = config = applied.config
        self._needed = None
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

    def _store_makers(self, removed: Task | None, record: TaskRecord) -> None:
        """Store which event made an instance if only the file met before tells it (R4.13)."""
        if removed is None or removed.every is None:
            return
        for number, instance in record.open.items():
            made_by = derived_maker(removed, instance)
            if instance.made_by is None and made_by != derived_maker(None, instance):
                record.open[number] = changed = copy(instance)
                changed.made_by = made_by

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
        instance = self._create(task, record, made_by=offset)
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
                self._owned.discard(task.name)
            self._prevent(f"the configuration at offset {offset} makes no instance of {task.name}: {NO_ROOM}")


def _begins_again(task: Task, record: TaskRecord) -> bool:
    """True if a configuration without the task cancelled its last instance, and it has returned (R4.6).

    A task without ``andEvery`` runs once, so that none of its instances may have been decided before. Earlier
    ones that are no longer kept count as decided.
    """
    if not record.removed or record.open:
        return False
    if task.every is not None or record.next == 1:
        return True
    kept = record.resolved
    return len(kept) == record.next and all(instance.decided_us is None for instance in kept.values())
