"""Offers events again to leaves that a changed file has changed.

An instance keeps what its unchanged leaves hold. The rules: docs/semantics.md, R9.5, R9.9 to R9.11. Nothing
here changes a status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy

from triggerstream.core.conditions import Condition, Each, Slot, Takes
from triggerstream.core.deciding import NO_ROOM
from triggerstream.core.held import Holding, InSequence, Members, One, Several, place_of
from triggerstream.core.ids import LeafName
from triggerstream.core.makers import derived_maker, maker_to_store
from triggerstream.core.newest import forget_too_old
from triggerstream.core.offering import Offering
from triggerstream.core.sequences import meet_sequences
from triggerstream.core.slots import captured_refs, list_of, refs, take, with_list, without_list
from triggerstream.core.state import WAITING, Instance, Status, TaskRecord
from triggerstream.core.tasks import Configuration, Task, UnlessFrom


class Reoffering(Offering):
    """A draft whose leaves are offered events again under a changed file."""

    def _forget_changed_leaves(self, before: Configuration) -> None:
        """Forget what leaves remembered that the configuration changed (R9.11)."""
        for name, known in self.state.remembered.items():
            task, old = self.config.by_name.get(name), before.by_name.get(name)
            if task is None or task.every is None or old is None:
                self._set_remembered(name, {}, {})
                continue
            self._set_remembered(
                name,
                _with_same_identity(known.after, old.after, task.after),
                _with_same_identity(known.unless, old.unless, task.unless),
            )

    def _changed_instances(self, before: Task | None, task: Task) -> Iterator[Instance]:
        """Open instances of a task whose leaves hold something else under the configuration (R9.5, R9.9)."""
        names_makers = self.config.uses_language
        for instance in self.state.tasks[task.name].open.values():
            captured, noted = instance.captured, instance.noted
            made_by = instance.made_by
            if made_by is None and names_makers:
                made_by = derived_maker(before, instance)
            if instance.clone_of is None and instance.status in WAITING:
                captured = self._reoffered(before, task, instance)
            if task.unless is not None or instance.noted:
                noted = self._renoted(before, task, instance)
            differs = captured != instance.captured or noted != instance.noted
            if made_by is None and before is not None and (differs or before.every != task.every):
                made_by = maker_to_store(before, instance, task, captured, noted)
            if differs or made_by != instance.made_by:
                changed = copy(instance)
                changed.captured, changed.noted, changed.made_by = captured, noted, made_by
                if changed.opened_us == 0 and captured:
                    changed.opened_us = self.state.clock_us
                for trigger, ref in captured_refs(captured):
                    latest = self.state.seen.get(trigger)
                    if latest is not None and latest.offset == ref:
                        self._mark_captured(trigger)
                yield changed

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
            self._prevent(f"the configuration at offset {self.state.config} seeds nothing: {NO_ROOM}")

    def _store_makers(self, removed: Task | None, record: TaskRecord) -> None:
        """Store which event made an instance if only the file met before tells it (R4.13)."""
        if removed is None or removed.every is None:
            return
        for number, instance in record.open.items():
            made_by = derived_maker(removed, instance)
            if instance.made_by is None and made_by != derived_maker(None, instance):
                record.open[number] = changed = copy(instance)
                changed.made_by = made_by

    def _reoffered(self, before: Task | None, task: Task, instance: Instance) -> dict[LeafName, Holding]:
        """The holdings of the leaves of ``after``, after some were offered their events again (R9.9)."""
        held = dict(instance.captured)
        time_of = self.state.time_of
        old = {} if before is None else before.after.slots
        again: set[LeafName] = set()
        takes_any = False
        slots = sorted(task.after.slots.values(), key=lambda slot: slot.takes is Takes.MEMBERS)
        for slot in slots:
            each = slot.leaf.each
            if slot.name in held and (
                _is_new_or_changed(old.get(slot.name), slot) or (each is not None and each.of in again)
            ):
                # The event of another leaf may have brought a list meanwhile: begin with what it held before.
                before_it = instance.captured.get(slot.name)
                held = self._offered_again(task, slot, held, before_it)
                again.add(slot.name)
                takes_any = takes_any or slot.name in held
            if instance.status is Status.UNSTARTED and not _holds_event(held, slot.name):
                recalled = self._recalled(task, slot, unless=False)
                taken = None if recalled is None else take(task.after, held, (recalled,), time_of=time_of)
                if taken is not None:
                    held = taken
                    again.add(slot.name)
                    takes_any = True
        held = meet_sequences(task.after, held)
        if takes_any and instance.status is Status.UNSTARTED:
            forgetting = forget_too_old(task.after, held, time_of)
            held = held if forgetting is None else forgetting.held
        return {**{n: held[n] for n in instance.captured if n in held}, **held}

    def _offered_again(
        self, task: Task, slot: Slot, held: dict[LeafName, Holding], earlier: Holding | None
    ) -> dict[LeafName, Holding]:
        """``held``, after one leaf was offered what it held ``earlier``, in log order."""
        events = (
            () if earlier is None else sorted(refs(slot.name, earlier), key=lambda event: place_of(event[1]))
        )
        now = {name: one for name, one in held.items() if name != slot.name}
        for trigger, ref in events:
            if trigger == slot.leaf.trigger:
                found = self._match(slot, self.state.arrival(trigger, ref))
                if found is not None:
                    now = take(task.after, now, (found,), time_of=self.state.time_of) or now
        for other in slot.awaits_list:
            known = now.get(other.name)
            if slot.name not in now and isinstance(known, Members):
                now[other.name] = without_list(known)
        if slot.leaf.each is not None:
            keys = self._list_for(task, slot, now)
            if keys is not None:
                now[slot.name] = with_list(slot.leaf, now.get(slot.name), keys)
        return now

    def _list_for(self, task: Task, slot: Slot, held: Mapping[LeafName, Holding]) -> tuple[str, ...] | None:
        """The list of a leaf with ``each``, from the event that brought it; None if it has not arrived."""
        each = slot.leaf.each
        source = None if each is None else task.after.slots.get(each.of)
        if source is None or source.name not in held:
            return None
        for trigger, ref in refs(source.name, held[source.name]):
            found = self._match(source, self.state.arrival(trigger, ref))
            if found is not None:
                return found.lists[source.awaits_list.index(slot.leaf)]
        return None

    def _renoted(self, before: Task | None, task: Task, instance: Instance) -> dict[LeafName, Holding]:
        """The holdings of the leaves of ``unless`` under the configuration (R9.10)."""
        condition, time_of = task.unless, self.state.time_of
        old = {} if before is None or before.unless is None else before.unless.slots
        from_session = task.unless_from is UnlessFrom.SESSION
        noted = dict(instance.noted)
        if condition is None:
            return noted
        lists = _arrived_lists(old, noted)
        new = set()
        for name, slot in condition.slots.items():
            known = old.get(name)
            if known is not None and known.identity == slot.identity:
                if name in noted:
                    noted[name] = self._in_place(slot, noted[name])
            elif known is not None or not (
                from_session and slot.matches_all and _has_noted_its_trigger(slot, noted)
            ):
                noted.pop(name, None)
                new.add(name)
        for slot in condition.slots.values():
            for other in slot.awaits_list:
                member = noted.get(other.name)
                if slot.name in new and isinstance(member, Members):
                    noted[other.name] = without_list(member)
                elif slot.name in noted and other.name in new and other.each in lists:
                    noted[other.name] = with_list(other, None, lists[other.each])
        made_by = instance.made_by if instance.made_by is not None else derived_maker(before, instance)
        for slot in condition.slots.values():
            if slot.name in new or (from_session and slot.name not in noted):
                recalled = self._recalled(task, slot, unless=True)
                if recalled is not None and (from_session or place_of(recalled.ref) > place_of(made_by)):
                    timed = not from_session
                    noted = take(condition, noted, (recalled,), time_of=time_of, timed=timed) or noted
        return meet_sequences(condition, noted)

    def _in_place(self, slot: Slot, held: Holding) -> Holding:
        """The holding of a leaf of ``unless``, with event times if the leaf stands in a sequence now."""
        if slot.takes not in {Takes.SEQUENCE_START, Takes.SEQUENCE} or isinstance(held, InSequence):
            return held
        at, times = [], []
        known = held.times if isinstance(held, Several) else [held.time] if isinstance(held, One) else None
        for place, (trigger, ref) in enumerate(refs(slot.name, held)):
            found = self._needed_event(trigger, ref)
            time_us = None if found is None else found.time_us
            if known is not None and known[place] is not None:
                time_us = known[place]
            if time_us is not None:
                at.append(ref)
                times.append(time_us)
        return InSequence(of=slot.leaf.trigger, at=at, times=times)


def _holds_event(held: Mapping[LeafName, Holding], name: LeafName) -> bool:
    known = held.get(name)
    return known is not None and any(True for _ in refs(name, known))


def _is_new_or_changed(old: Slot | None, new: Slot) -> bool:
    """True if a configuration brought a leaf, or changed it."""
    return old is None or old != new


def _has_noted_its_trigger(slot: Slot, noted: Mapping[LeafName, Holding]) -> bool:
    """True if a leaf has noted an event of its trigger."""
    known = noted.get(slot.name)
    return known is not None and all(of == slot.leaf.trigger for of, _ in refs(slot.name, known))


def _with_same_identity(
    known: Mapping[LeafName, Holding], before: Condition | None, now: Condition | None
) -> dict[LeafName, Holding]:
    """The memory of the leaves whose identity is the same as before."""
    if before is None or now is None:
        return {}
    same = {
        name
        for name, slot in now.slots.items()
        if name in before.slots and before.slots[name].identity == slot.identity
    }
    return {name: held for name, held in known.items() if name in same}


def _arrived_lists(
    slots: Mapping[LeafName, Slot], noted: Mapping[LeafName, Holding]
) -> dict[Each | None, tuple[str, ...]]:
    """The lists that have arrived for leaves with ``each``."""
    found: dict[Each | None, tuple[str, ...]] = {}
    for name, slot in slots.items():
        keys = list_of(noted.get(name))
        if keys is not None:
            found[slot.leaf.each] = keys
    return found
