"""Offers events to the leaves of tasks: which events match, what leaves remember, what a new instance holds.

The rules: docs/semantics.md, R3.6 to R3.11, R4.7, R4.10 to R4.14. Nothing here changes a status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triggerstream.core.conditions import Condition, Slot, Takes
from triggerstream.core.deciding import Deciding
from triggerstream.core.held import Holding, Ref, Remembered, hold_one
from triggerstream.core.ids import LeafName, TaskName, instance_id
from triggerstream.core.makers import is_derivable
from triggerstream.core.meter import BoundError
from triggerstream.core.slots import Match, captured_refs, is_full, match, refs, take
from triggerstream.core.state import UNSTARTED, Arrival, Instance, TaskRecord
from triggerstream.core.takers import add_taker
from triggerstream.core.tasks import Task, UnlessFrom, Use


class Offering(Deciding):
    """A draft whose leaves are offered events."""

    # ---- matching and taking ------------------------------------------------------------------

    def _match(self, slot: Slot, arrival: Arrival) -> Match | None:
        """The match of an event of the leaf's trigger; None if it does not match (R3.7)."""
        if slot.matches_all:
            return Match(slot, arrival.offset, arrival.time_us)
        return match(
            slot,
            arrival.offset,
            arrival.data,
            time_us=arrival.time_us,
            session=self.session,
            event_id=arrival.id,
        )

    def _matching(self, slots: Sequence[Slot], arrival: Arrival) -> list[Match]:
        """The matches of an event among leaves of its trigger."""
        return [one for slot in slots if (one := self._match(slot, arrival)) is not None]

    def _capture(
        self, task: Task, instance: Instance, matches: Sequence[Match]
    ) -> dict[LeafName, Holding] | None:
        """What an instance captures with the latest event of a trigger; None if no leaf takes it."""
        taken = take(task.after, instance.captured, matches, time_of=self.state.time_of)
        if taken is not None:
            self._mark_captured(matches[0].slot.leaf.trigger)
        for one in matches:
            if one.slot.takes is Takes.MEMBERS and is_full(one, instance.captured):
                self._remark(f"{instance_id(task.name, instance.number)}: leaf `{one.slot.name}` is full")
        return taken

    def _note(
        self, task: Task, instance: Instance, matches: Sequence[Match]
    ) -> dict[LeafName, Holding] | None:
        """What an instance notes for ``unless``; None if no leaf notes it."""
        if task.unless is None:
            return None
        timed = task.unless_from is UnlessFrom.INSTANCE
        return take(task.unless, instance.noted, matches, time_of=self.state.time_of, timed=timed)

    # ---- what leaves remember -----------------------------------------------------------------

    def _remember(
        self, use: Use, previous: Arrival | None, after: Sequence[Match], unless: Sequence[Match]
    ) -> None:
        """Remember latest matches that are no longer the latest events of their trigger (R4.12).

        ``previous`` was the trigger's latest event; the matches are those of the event that takes its place.
        """
        known = self.state.remembered.get(use.task.name) or Remembered()
        now_after = self._remembered_now(known.after, use.after, previous, after)
        now_unless = self._remembered_now(known.unless, use.unless, previous, unless)
        if previous is not None and now_after.keys() - known.after.keys():
            self._keep(use.after[0].leaf.trigger, previous)
        self._set_remembered(use.task.name, now_after, now_unless)

    def _remembered_now(
        self,
        known: Mapping[LeafName, Holding],
        slots: Sequence[Slot],
        previous: Arrival | None,
        matches: Sequence[Match],
    ) -> dict[LeafName, Holding]:
        now = dict(known)
        matched = {one.slot.name for one in matches}
        for slot in slots:
            if slot.name in matched:
                now.pop(slot.name, None)
            elif slot.name not in now and previous is not None and self._match(slot, previous) is not None:
                now[slot.name] = hold_one(slot.leaf, previous.offset)
        return now

    def _set_remembered(
        self, task: TaskName, after: dict[LeafName, Holding], unless: dict[LeafName, Holding]
    ) -> None:
        state = self.state
        old = state.remembered.get(task)
        if not after and not unless:
            if old is not None:
                state.remembered = {name: one for name, one in state.remembered.items() if name != task}
        elif old is None or old.after != after or old.unless != unless:
            state.remembered = {**state.remembered, task: Remembered(after=after, unless=unless)}

    def _recalled(self, task: Task, slot: Slot, *, unless: bool) -> Match | None:
        """The latest event that a leaf remembers (R4.12)."""
        known = self.state.remembered.get(task.name)
        if known is not None:
            held = (known.unless if unless else known.after).get(slot.name)
            for trigger, ref in () if held is None else refs(slot.name, held):
                # Of ``unless``, a leaf that is offered this is plain: its event's data is not kept.
                return Match(slot, ref) if unless else self._match(slot, self.state.arrival(trigger, ref))
        latest = self.state.seen.get(slot.leaf.trigger)
        return None if latest is None else self._match(slot, latest)

    def _seeds(self, task: Task) -> tuple[dict[LeafName, Holding], dict[LeafName, Holding]]:
        """What a new instance has captured and noted: what its leaves remember (R4.7, R4.11)."""
        state, unless = self.state, task.unless
        if task.is_list:
            # A leaf's name is its trigger.
            seen = state.seen
            held: dict[LeafName, Holding] = {n: seen[n].offset for n in task.needs if n in seen}  # type: ignore[misc]
            if not state.latest_captured.issuperset(held):
                state.latest_captured = state.latest_captured.union(held)  # type: ignore[arg-type]
            if unless is None:
                return held, {}
            return held, {n: seen[n].offset for n in task.unless_triggers if n in seen}  # type: ignore[misc]
        captured = self._remembered_holdings(task, task.after, unless=False)
        for trigger, ref in captured_refs(captured):
            if ref == state.seen[trigger].offset:
                self._mark_captured(trigger)
        if unless is None or task.unless_from is not UnlessFrom.SESSION:
            return captured, {}
        return captured, self._remembered_holdings(task, unless, unless=True)

    def _remembered_holdings(
        self, task: Task, condition: Condition, *, unless: bool
    ) -> dict[LeafName, Holding]:
        """The holdings of a condition's leaves, after each was offered the latest event that it remembers."""
        held: dict[LeafName, Holding] = {}
        for slot in condition.slots.values():
            recalled = self._recalled(task, slot, unless=unless)
            if recalled is not None:
                held = take(condition, held, (recalled,), time_of=self.state.time_of) or held
        return {name: held[name] for name in condition.slots if name in held}

    # ---- a new instance ----------------------------------------------------------------------

    def _create(self, task: Task, record: TaskRecord, made_by: Ref) -> Instance:
        """A new instance that holds what the leaves of its task remember (R4.7, R4.11)."""
        state = self.state
        full = self._full(1)
        if full is not None:
            raise BoundError(full)
        captured, noted = self._seeds(task)
        instance = Instance(
            number=record.next,
            status=UNSTARTED,
            created_us=state.clock_us,
            changed_us=state.clock_us,
            captured=captured,
            noted=noted,
            opened_us=None if captured else 0,
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
        add_taker(record, instance.number)
        state.open_count += 1
        self.created += 1
        return instance
