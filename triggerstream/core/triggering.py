"""Fires triggers: keeps each, and offers it to the tasks that use it (docs/semantics.md, section 4)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from triggerstream.core.by_place import mark, unmark, with_digests, with_holding
from triggerstream.core.draft import bound_text
from triggerstream.core.effects import APPLIED, Effect, Ignored, Why
from triggerstream.core.events import Event, Trigger
from triggerstream.core.held import Ref
from triggerstream.core.ids import DIGEST_BYTES, LeafName, TriggerName, event_digest, find_digest
from triggerstream.core.meter import BoundError
from triggerstream.core.number_ranges import count_of
from triggerstream.core.offering import Offering
from triggerstream.core.state import UNSTARTED, WAITING, Arrival, Instance, Status, TaskRecord
from triggerstream.core.takers import FEW, leaf_of_first, takers_and_noters, takers_of
from triggerstream.core.tasks import Task, UnlessFrom, Use


class FiringTriggers(Offering):
    """A draft in which triggers fire."""

    def _trigger(self, event: Event, trigger: Trigger) -> Effect:
        """Ignore a duplicate (R4.1); fire any other trigger."""
        name = trigger.name
        identity = event.identity()
        if identity is not None and name in self.config.users:
            digests = self.state.digests.get(name)
            source, event_id = identity
            digest = event_digest(source, event_id)
            if digests is not None:
                at = find_digest(digests, digest)
                if at >= 0:
                    if at + DIGEST_BYTES < len(digests):
                        digests = digests[:at] + digests[at + DIGEST_BYTES :] + digest
                        self.state.digests = with_digests(self.state.digests, name, digests)
                    return Ignored(
                        Why.DUPLICATE, "duplicate: an event of this source and id is included already"
                    )
                digest = digests + digest
                excess = len(digest) - self.config.bounds.digests * DIGEST_BYTES
                if excess > 0:
                    digest = digest[excess:]
                    self._beyond().forgotten_ids += excess // DIGEST_BYTES
            self.state.digests = with_digests(self.state.digests, name, digest)
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
                state.latest_captured = unmark(state.latest_captured, name)
        elif name not in self.config.users and len(state.seen) >= self.config.bounds.trigger_names:
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
        """Offer a trigger to a task whose conditions are lists of triggers: ``_offer``, but faster."""
        task, state = use.task, self.state
        leaf: LeafName = trigger  # type: ignore[assignment]  # a leaf of a list has its trigger's name
        record = self._own(task.name)
        in_after, in_unless = use.in_after, use.in_unless
        accepted = taken = False
        changed: list[Instance] = []
        if len(record.open) <= FEW:
            concerned: Iterable[Instance] = record.open.values()
        elif in_unless:
            concerned = takers_and_noters(record, leaf, in_after=in_after)
        else:
            concerned = takers_of(record, leaf)
        for instance in concerned:
            is_unstarted = instance.status is UNSTARTED
            captures = in_after and is_unstarted and leaf not in instance.captured
            notes = in_unless and leaf not in instance.noted
            if not captures and not notes:
                continue
            # The draft writes to copies only.
            if captures:
                captured = with_holding(instance.captured, leaf, offset)
                instance = replace(instance, changed_us=state.clock_us, captured=captured)  # noqa: PLW2901
                taken = True
                if instance.opened_us == 0:
                    instance.opened_us = state.clock_us
            else:
                instance = replace(instance, changed_us=state.clock_us)  # noqa: PLW2901
            record.open[instance.number] = instance
            if notes:
                instance.noted = {**instance.noted, leaf: offset}
            if is_unstarted:
                accepted = True
                changed.append(instance)
            elif instance.status in WAITING:
                changed.append(instance)
        if taken:
            state.latest_captured = mark(state.latest_captured, trigger)
        if (
            record.next == 0
            or (use.is_every and not accepted)
            or (record.removed and _begins_again(task, record))
        ):
            changed.append(self._create(task, record, offset))
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
        visits_all = bool(unless) or len(record.open) <= FEW
        for instance in record.open.values() if visits_all else takers_of(record, leaf_of_first(after)):
            unstarted = instance.status is UNSTARTED
            takes = unstarted or (instance.status is Status.DELAYED and _is_debounced(task, instance))
            captured = self._capture(task, instance, after) if takes and after else None
            noted = self._note(task, instance, unless) if unless else None
            if captured is None and noted is None:
                continue
            instance = replace(instance)  # noqa: PLW2901 - the draft writes to copies only
            record.open[instance.number] = instance
            instance.changed_us = self.state.clock_us
            if captured is not None:
                instance.captured = captured
                if instance.opened_us == 0:
                    instance.opened_us = self.state.clock_us
                if not unstarted:
                    self._delay(task, instance)
            if noted is not None:
                instance.noted = noted
            accepted = accepted or unstarted or captured is not None
            if instance.status in WAITING:
                changed.append(instance)
            self.taken += sum(1 + len(one.lists) for one in (*after, *unless))
        makes = bool(after) or task.unless_from is UnlessFrom.SESSION
        again = not accepted and any(one.slot.name == task.every for one in after)
        if again or (makes and (record.next == 0 or (record.removed and _begins_again(task, record)))):
            changed.append(self._create(task, record, arrival.offset))
            self.taken += sum(1 + len(one.lists) for one in after)
        for instance in changed:
            self._judge(task, instance)
            if task.deadline_us is not None and instance.status is UNSTARTED:
                self._start_timer(task, instance)


def _is_debounced(task: Task, instance: Instance) -> bool:
    """True if each event that a delayed instance takes restarts its wait (R8.8)."""
    return task.debounce is not None and instance.clone_of is None and instance.repeat_of is None


def _begins_again(task: Task, record: TaskRecord) -> bool:
    """True if a task has returned whose last instance was ``removed`` by a configuration without it (R4.6).

    A task without ``andEvery`` runs once, so that none of its instances may have been decided before. Earlier
    ones that are no longer kept count as decided.
    """
    if record.open:
        return False
    if task.every is not None or record.next == 1:
        return True
    kept = record.resolved
    return (
        len(kept) + count_of(record.retired) == record.next
        and (record.undecided or not record.retired)
        and all(instance.decided_us is None for instance in kept.values())
    )
