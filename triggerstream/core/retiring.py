"""Lets resolved instances leave the state for entries of their own (docs/semantics.md, R10.11)."""

from __future__ import annotations

from itertools import islice

from triggerstream.core.draft import Draft
from triggerstream.core.ids import TaskName
from triggerstream.core.number_ranges import each_of, is_among, with_number
from triggerstream.core.retired import KEPT_RESOLVED, Retired, is_retired_in, retired_of


class Retiring(Draft):
    """A draft whose older resolved instances leave the state."""

    def _retire_resolved(self) -> None:
        """Let the resolved instances of a task but the newest leave the state (R10.11)."""
        state, meter = self.state, self.meter
        for name in sorted(self.owned):
            record = state.tasks.get(name)
            if record is None or len(record.resolved) <= KEPT_RESOLVED:
                continue
            for number in list(islice(record.resolved, len(record.resolved) - KEPT_RESOLVED)):
                retired = retired_of(state, name, record.resolved.pop(number))
                if meter is not None and not meter.has_room_for_entry(retired, self.config.bounds):
                    continue
                undecided = retired.instance.decided_us is None
                record.undecided = undecided and (record.undecided or not record.retired)
                record.retired = with_number(record.retired, number)
                self.retired.append(retired)

    def _dropped(self) -> tuple[tuple[TaskName, int], ...]:
        """The retired instances whose entries are to be deleted (R10.11)."""
        before, now = self.before, self.state
        if before is None:
            return ()
        if before.instances_generation != now.instances_generation:
            return tuple((name, n) for name, record in before.tasks.items() for n in each_of(record.retired))
        if not self.resolved:
            return ()
        dropped: list[tuple[TaskName, int]] = []
        for name in sorted(self.owned):
            known = before.tasks.get(name)
            if known is None or not known.retired:
                continue
            kept = now.tasks[name].retired
            for number in each_of(known.retired):
                if is_among(number, kept):
                    break  # the lowest numbers go first
                dropped.append((name, number))
        return tuple(dropped)

    def _retired(self) -> tuple[Retired, ...]:
        """The instances that have left the state, without those that a bound or an order dropped since."""
        return tuple(one for one in self.retired if is_retired_in(self.state, one))
