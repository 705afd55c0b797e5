"""Outcomes: the command that each settles, and its effect on its instance (docs/semantics.md, section 6)."""

from __future__ import annotations

from copy import copy
from typing import assert_never

from triggerstream.core.deciding import Deciding
from triggerstream.core.effects import NOTHING, Applied, Effect, Reason, Refused, Why
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
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
from triggerstream.core.ids import CommandId, Json, TaskName, TriggerName, instance_id, split_instance_id
from triggerstream.core.results import Follows
from triggerstream.core.sizes import cut_text
from triggerstream.core.state import DECIDED, Instance, Status
from triggerstream.core.tasks import Task


def settled_by(body: Body) -> tuple[CommandId, ...]:
    """The command that an outcome settles (R6.1); none for any other event."""
    match body:
        case Finished() | Failed() | Skipped() | Retried() | Revoked():
            return (body.command,)
        case Started() | Trigger() | Skip() | Replay() | Cancel() | Resend() | Release():
            return ()
        case Close() | Erase() | Touch() | Timer():
            return ()
        case _ as never:
            assert_never(never)


def is_of_an_older_attempt(outcome: Outcome, instance: Instance) -> bool:
    """True if ``outcome`` only reports that an earlier attempt did not run its task to the end (R6.3).

    An outcome of the task itself counts, whichever attempt it ran for.
    """
    match outcome:
        case Revoked():
            return outcome.attempt is not None and outcome.attempt < instance.attempt
        case Failed():
            nobody_ran_it = outcome.reason not in (None, FailureReason.RESULT_NOT_REPORTABLE)
            return nobody_ran_it and outcome.attempt is not None and outcome.attempt < instance.attempt
        case Started() | Finished() | Skipped() | Retried():
            return False
        case _ as never:
            assert_never(never)


def why_not_taken(outcome: Outcome, instance: Instance) -> Refused | None:
    """Why an outcome neither changes its decided instance nor settles its command (R6.3); None: it counts."""
    if is_of_an_older_attempt(outcome, instance):
        says = (
            f"{outcome.instance} was sent again: attempt {instance.attempt} is still to be run, and this "
            "is of an earlier one"
        )
        return Refused(Why.OTHER_ATTEMPT, says)
    is_running = instance.status is Status.RUNNING
    if is_running and isinstance(outcome, Revoked):
        says = f"{outcome.instance} is running now: only a scheduled one expires"
        return Refused(Why.WRONG_STATUS, says)
    if not is_running and isinstance(outcome, Retried):
        says = f"{outcome.instance} is {instance.status}: only a running one can be retried"
        return Refused(Why.WRONG_STATUS, says)
    return None


def _of_other_command(outcome: Outcome) -> Refused:
    return Refused(Why.OTHER_COMMAND, f"command {outcome.command} is not that of {outcome.instance}")


class ApplyingOutcomes(Deciding):
    """A draft whose instances are changed by outcomes: started, finished, retried, failed."""

    def _outcome(self, outcome: Outcome) -> Effect:
        """Refuse an outcome, or change its instance (R6.1 to R6.4)."""
        self.settled += settled_by(outcome)
        found = self._find(outcome.instance)
        if not isinstance(found, tuple):
            named = split_instance_id(outcome.instance) if found.why is Why.OVER else None
            if named is not None and outcome.command != self._command_id(*named):
                found = _of_other_command(outcome)
            return self._refuse(found)
        task, instance = found
        if outcome.command != self._command_id(task, instance.number):
            return self._refuse(_of_other_command(outcome))
        if instance.status not in DECIDED:
            return self._record_late_outcome(task, instance, outcome)
        # Most outcomes are Finished, which always counts.
        refused = None if type(outcome) is Finished else why_not_taken(outcome, instance)
        if refused is not None:
            self.settled.clear()
            return self._refuse(refused)
        instance = self._edit(task, instance)
        if outcome.metadata is not None:
            self._take_metadata(outcome, instance)
        match outcome:
            case Finished():
                instance.result = outcome.result
                self._resolve(task, instance, Status.FINISHED)
                self._cascade(task, outcome.command, outcome.result)
            case Started() if instance.started_us is not None:
                # The worker was lost and another one runs the same attempt: no new entry in the timeline.
                instance.changed_us = self.state.clock_us
                return NOTHING
            case Started():
                instance.status = Status.RUNNING
                instance.started_us = instance.changed_us = self.state.clock_us
            case Failed():
                self._failed(task, instance, outcome)
            case Skipped():
                self._resolve(task, instance, Status.SKIPPED)
            case Retried():
                return self._retried(task, instance, outcome)
            case Revoked():
                instance.reason = Reason.REVOKED
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
        trigger: TriggerName = task  # type: ignore[assignment]  # the task's name is the trigger's
        self.follows = Follows(trigger=trigger, data=result, command=command)

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
                self._delay(task, clone)
                return
            instance.reason = reason
        self._fail(name, instance)

    def _fail(self, name: TaskName, instance: Instance) -> None:
        """Let a decided instance fail."""
        self._leave_place(name, instance)
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
            self._fail(name, instance)
            instance.reason = why
            if unfit is not None:
                instance.reason, instance.error = Reason.BOUND, unfit
                self._beyond().prevented += 1
            return Applied(f"{outcome.instance} is not retried: {unfit or why}")
        clone = self._clone(task, instance, kwargs=outcome.kwargs, retries=instance.retries + 1)
        self._delay(task, clone, waits_us=outcome.after_us)
        return Applied(f"{outcome.instance} replayed as {instance_id(name, clone.number)}")
