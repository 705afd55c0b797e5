"""Operators' orders: their names, the statuses that each applies to, their effects.

The rules: docs/semantics.md, section 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from triggerstream.core.commands import Revoke
from triggerstream.core.draft import other_generation
from triggerstream.core.effects import NOTHING, Effect, Reason, Refused, Why
from triggerstream.core.events import TYPES, Cancel, Close, Erase, Order, Release, Replay, Resend, Skip
from triggerstream.core.ids import InstanceId, instance_id
from triggerstream.core.outcomes import ApplyingOutcomes
from triggerstream.core.state import DECIDED, WAITING, SessionState, Status
from triggerstream.core.timeline_effects import join_reason_and_author, note_applied

_FAILED = frozenset({Status.FAILED})
_FAILED_OR_DECIDED = _FAILED | DECIDED
_WAITING_OR_DECIDED = WAITING | DECIDED
_SET_ASIDE = frozenset({Status.DELAYED, Status.HELD})


def applicable_statuses(order: Order) -> frozenset[Status]:
    """Statuses of an instance that ``order`` applies to (R7.3, R7.4, R7.6, R7.7, R7.11).

    In these statuses the fold may still refuse an order for another reason; in all others it refuses it.
    """
    match order:
        case Skip():
            return _FAILED
        case Replay():
            return _FAILED_OR_DECIDED if order.force else _FAILED
        case Cancel():
            return _WAITING_OR_DECIDED
        case Resend():
            return DECIDED
        case Release():
            return _SET_ASIDE
        case _:
            assert_never(order)


def order_name(kind: type[Order | Close | Erase]) -> str:
    """Name of a kind of order for people and programs: the last part of its event type."""
    return TYPES[kind].rpartition(".")[2]


ORDERS: Mapping[str, type[Order]] = {
    order_name(kind): kind for kind in (Replay, Skip, Resend, Release, Cancel)
}
"""Kinds of orders by name."""
_EXAMPLE = InstanceId("task#0")


def applicable_orders(status: Status) -> list[str]:
    """Names of the orders that apply, without `force`, to an instance in ``status``."""
    return [name for name, kind in ORDERS.items() if status in applicable_statuses(kind(instance=_EXAMPLE))]


class ApplyingOrders(ApplyingOutcomes):
    """A draft that is changed by operators' orders.

    It extends the draft for outcomes because the result of a skipped instance is fired, as that of a finished
    one (R7.3).
    """

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
        decide = self._decide if replay.force else self._decide_or_hold
        decide(task, clone, self.state.clock_us, fits=True)
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
        # In this order, so that it does not matter whether they stood in that of `seen` before.
        state.digests = dict(sorted(state.digests.items()))
        state.seen = {}
        state.due_us = None
        state.timeouts = state.holds = 0
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
