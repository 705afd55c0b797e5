"""The state of a session: a fold of its events and nothing else (docs/semantics.md, R1.5).

These classes are mutable, because copying is most of what a step does: making a frozen dataclass of ten
fields costs 1.6 µs, copying a ``Struct`` 0.3 µs. The rule that keeps them safe: only the fold (``core.fold``
and the drafts that it extends) writes to them, and only to copies that it made in the same step. A
``Struct`` is stored as it is, under the names in its ``rename``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import copy

from msgspec import Struct

from triggerstream.core.blocks import Instances, LatestEvents, latest_ref
from triggerstream.core.by_place import CapturedByPlace, Digests, Marked, MarkedTriggers, whole
from triggerstream.core.held import EventTime, InSequence, Ref, Remembered
from triggerstream.core.holders import FEW, EarlierEvents, Holders, KeptEvents, add_captured
from triggerstream.core.ids import JsonObject, LeafName, TaskName, TriggerName
from triggerstream.core.instances import (
    DECIDED,
    RESOLVED,
    UNSTARTED,
    WAITING,
    Arrival,
    Count,
    Instance,
    NoEffect,
    Sent,
    Stage,
    Status,
    StoredEffect,
    StoredInstant,
    Text,
    TimelineEntry,
    stage_of,
)
from triggerstream.core.merge import deep_merge, merge_under_each
from triggerstream.core.number_ranges import Numbers
from triggerstream.core.slots import brought, captured_refs
from triggerstream.core.timeline_lines import Timeline

__all__ = [
    "DECIDED",
    "RESOLVED",
    "UNSTARTED",
    "WAITING",
    "Arrival",
    "Count",
    "EarlierEvents",
    "Instance",
    "Instances",
    "LatestEvents",
    "NoEffect",
    "Sent",
    "SessionState",
    "Stage",
    "Status",
    "StoredEffect",
    "StoredInstant",
    "TaskPlaces",
    "TaskRecord",
    "Text",
    "TimelineEntry",
    "stage_of",
]
"""With the values that a state consists of (:mod:`triggerstream.core.instances`)."""


class TaskPlaces(Struct):
    """The places of one task: ``taken`` instances are scheduled or running.

    ``held`` has the numbers of those that are held, in the order in which they were held.
    """

    taken: int
    held: dict[int, None]


class TaskRecord(Struct, kw_only=True):
    """A task's instances in a session by number: those still ``open``, and the newest ``resolved`` ones.

    Open ones are in the order of their numbers, resolved ones in that in which they were resolved.
    ``retired`` has the numbers of those that have entries of their own (R10.11); ``undecided``: none of these
    was decided. ``next`` is the number of the next instance. ``removed``: a configuration without the task
    cancelled the last instance while it waited.
    """

    next: int = 0
    open: Instances = {}
    resolved: dict[int, Instance] = {}
    removed: bool = False
    retired: Numbers = ()
    undecided: bool = False
    takers: dict[LeafName | None, tuple[int, ...]] | None = None
    """The numbers of the instances that may take an event, by leaf (None: any leaf); derived, not stored.

    It has the leaves that were asked for, and may have further numbers below ``next``. It is replaced, never
    modified: drafts share it."""
    places: TaskPlaces | None = None
    """Counted when first needed, then kept up to date; derived, not stored. Counting 1,000 instances for each
    event would take ten times as long as the rest of a step."""

    def with_names(self) -> TaskRecord:
        """The same record, in which no instance in a dict has captured events by their places."""
        record = copy(self)
        record.resolved = {number: _with_names(one) for number, one in self.resolved.items()}
        if isinstance(self.open, dict):
            record.open = {number: _with_names(one) for number, one in self.open.items()}
        return record

    def find(self, number: int) -> Instance | None:
        """The instance of that number, if the state has it."""
        return self.open.get(number) or self.resolved.get(number)

    def instances(self) -> Iterator[Instance]:
        """Every instance in the state, in the order of their numbers."""
        return iter(sorted((*self.open.values(), *self.resolved.values()), key=lambda i: i.number))


class SessionState(Struct, kw_only=True):
    """State of one session.

    ``generation`` counts its closings and erasures. ``offset`` is the last record included, ``clock_us`` the
    greatest arrival so far, ``config`` the position of the configuration met last. ``closed``: the instances
    are those of the generation before, and the next trigger starts anew. ``unjudged``: a configuration came
    since the waiting instances were judged. ``refused`` counts the events that applied to nothing. ``seen``
    holds each trigger's latest event, ``kept`` the earlier ones that an instance captured. ``kept`` may hold
    further events, which are dropped when the state is stored (:meth:`needed_events`).
    ``remembered`` holds the latest matches of leaves that are not in ``seen``. ``timeouts`` is the ref of the
    last event that a timer fired, 0 before the first. ``holds`` counts the instances that were held.
    """

    generation: int = 0
    offset: int = -1
    clock_us: int = 0
    config: int = -1
    closed: bool = False
    unjudged: bool = False
    refused: int = 0
    seen: LatestEvents = {}
    kept: dict[TriggerName, EarlierEvents] = {}
    tasks: dict[TaskName, TaskRecord] = {}
    remembered: dict[TaskName, Remembered] = {}
    digests: Digests = {}
    positions: Timeline = []
    timeouts: Ref = 0
    holds: int = 0
    open_count: int = 0
    """The number of open instances; derived, not stored."""
    due_us: int | None = None
    """A lower bound for the next due time under the configuration met last; None: no timer. It is exact where
    it is stored."""
    latest_captured: Marked = frozenset()
    """The triggers whose event in ``seen`` an instance may have captured; derived, not stored."""
    recent: dict[tuple[TriggerName, Ref], Arrival] = {}
    """Events that are to be added to ``kept``, few enough to be copied for each event; not stored."""
    collect_at: int = 0
    """Number of kept events below which unneeded ones are not looked for again; not stored."""

    @property
    def instances_generation(self) -> int:
        """The generation that the instances belong to."""
        return self.generation - 1 if self.closed else self.generation

    def is_empty(self) -> bool:
        """True where nothing is left that a configuration could mean anything to."""
        return not (self.tasks or self.seen)

    def needed_events(self, *, by_resolved: bool = True) -> dict[TriggerName, EarlierEvents]:
        """The events of ``kept`` that an instance has captured or a leaf of ``after`` remembers (R10.9).

        ``by_resolved``: also those that only resolved instances have captured.
        """
        if not self.kept and not self.recent:
            return {}
        return self._needed_beside(self._captured(by_resolved=by_resolved))

    def _needed_beside(self, captured: dict[TriggerName, set[Ref]]) -> dict[TriggerName, EarlierEvents]:
        """The events of ``kept`` that instances have ``captured``, or that a leaf remembers.

        The latter are added to ``captured``.
        """
        for name, ref in self.referenced_by_leaves():
            captured.setdefault(name, set()).add(ref)
        recent = self._recent_by_trigger()
        found: dict[TriggerName, EarlierEvents] = {}
        for name in dict.fromkeys((*self.kept, *recent)):
            needed = _needed(self.kept.get(name, {}), recent.get(name, {}), captured.get(name, set()))
            if needed:
                found[name] = needed
        return found

    def collected(self) -> SessionState:
        """The state without events that nothing needs: as it would be decoded."""
        state = copy(self)
        by_place: list[CapturedByPlace] = []
        captured = self._captured(by_place=by_place)
        if by_place and isinstance(self.seen, dict):
            # The session was closed, and the events are among the earlier ones now.
            state.tasks = {name: record.with_names() for name, record in self.tasks.items()}
        marked = frozenset(name for name, refs in captured.items() if latest_ref(self.seen, name) in refs)
        state.latest_captured = marked
        if by_place and not isinstance(self.seen, dict):
            unmarked = frozenset(self.seen.changed)
            state.latest_captured = MarkedTriggers(marked, tuple(by_place), unmarked)
        state.kept, state.recent = self._needed_beside(captured), {}
        state.collect_at = 0
        return state

    def collected_after(self, unpacked: Mapping[TaskName, TaskRecord]) -> tuple[SessionState, Holders]:
        """The same state as :meth:`collected` returns, and the holders of its earlier events.

        It takes less time if few of many instances were changed. The tasks of this state are packed;
        ``unpacked`` are the same before that.
        """
        holders = Holders(self.tasks, self.remembered, self.seen)
        marked, by_place = holders.captured_latest(), holders.by_place
        state = copy(self)
        state.latest_captured = marked
        if by_place:
            if isinstance(self.seen, dict):
                state = self.collected()
                return state, Holders(state.tasks, state.remembered, state.seen)
            state.latest_captured = MarkedTriggers(marked, tuple(by_place), frozenset(self.seen.changed))
        state.kept = {}
        recent = self._recent_by_trigger()
        for name in dict.fromkeys((*self.kept, *recent)):
            kept, added = self.kept.get(name, {}), recent.get(name, {})
            needed: EarlierEvents | None = None
            if isinstance(kept, KeptEvents):
                needed = kept.needed(name, added, holders, unpacked)
            elif len(kept) + len(added) <= FEW:
                needed = {ref: one for ref, one in (kept | added).items() if holders.holds(name, ref)}
            if needed is None:
                needed = _needed(kept, added, holders.refs(name))
            if needed:
                state.kept[name] = needed
        state.recent = {}
        state.collect_at = 0
        return state, holders

    def _recent_by_trigger(self) -> dict[TriggerName, dict[Ref, Arrival]]:
        found: dict[TriggerName, dict[Ref, Arrival]] = {}
        for (name, ref), arrival in self.recent.items():
            found.setdefault(name, {})[ref] = arrival
        return found

    def _captured(
        self, *, by_resolved: bool = True, by_place: list[CapturedByPlace] | None = None
    ) -> dict[TriggerName, set[Ref]]:
        """The events that instances hold, by trigger, but for latest ones that they hold by their place.

        ``by_resolved``: also those that resolved ones hold. ``by_place`` gets what is held by place.
        """
        found: dict[TriggerName, set[Ref]] = {}
        for record in self.tasks.values():
            open_ = record.open
            if not isinstance(open_, dict):
                for name, refs in open_.captured():
                    found.setdefault(name, set()).update(refs)
                open_ = open_.changed
            add_captured(found, open_, self.seen, by_place)
            if by_resolved:
                add_captured(found, record.resolved, self.seen, by_place)
        return found

    def captured_by_open(self) -> Iterator[tuple[TriggerName, Collection[Ref]]]:
        """The events that open instances hold, by trigger; a trigger may come several times."""
        for record in self.tasks.values():
            open_ = record.open
            if not isinstance(open_, dict):
                yield from open_.captured()
                open_ = open_.changed
            for instance in open_.values():
                for name, ref in captured_refs(instance.captured):
                    yield name, (ref,)

    def find(self, name: TriggerName, ref: Ref) -> Arrival | None:
        """An event of a trigger, if the state still has it."""
        latest = self.seen.get(name)
        return latest if latest is not None and latest.offset == ref else self._earlier(name, ref)

    def arrival(self, name: TriggerName, ref: Ref) -> Arrival:
        """The event of a trigger that an instance captured."""
        latest = self.seen.get(name)
        if latest is not None and latest.offset == ref:
            return latest
        earlier = self._earlier(name, ref)
        if earlier is None:
            raise KeyError(name, ref)
        return earlier

    def time_of(self, name: TriggerName, ref: Ref) -> EventTime:
        """The event time of an event that an instance captured."""
        return self.arrival(name, ref).time_us

    def _earlier(self, name: TriggerName, ref: Ref) -> Arrival | None:
        found = self.recent.get((name, ref))
        if found is None:
            arrivals = self.kept.get(name)
            found = None if arrivals is None else arrivals.get(ref)
        return found

    def referenced_by_leaves(self) -> Iterator[tuple[TriggerName, Ref]]:
        """The events that leaves of ``after`` remember beside ``seen``."""
        for remembered in self.remembered.values():
            yield from captured_refs(remembered.after)

    def refusal(self, offset: int) -> str | None:
        """Why the event at ``offset`` was refused; None if it was not, or is no longer in the timeline."""
        for at, _, _, note in reversed(self.positions):
            if at == offset:
                return note[2] if isinstance(note, tuple) and note[0] is NoEffect.REFUSED else None
        return None

    def stored_kwargs(self, instance: Instance) -> JsonObject:
        """An instance's kwargs as stored (R5.3, R5.9): without ``withParams`` of the task."""
        if instance.kwargs is not None:
            return instance.kwargs
        kwargs: JsonObject = {}
        for name, held in instance.captured.items():
            if type(held) is int:
                kwargs[name] = self.arrival(name, held).data  # type: ignore[arg-type]  # equal names
            elif not isinstance(held, InSequence) or held.met is not None:
                kwargs[name] = brought(name, held, self._data_of)
        return kwargs

    def kwargs(self, instance: Instance) -> JsonObject:
        """The kwargs of a decided instance's command (R5.4, R5.8)."""
        stored = self.stored_kwargs(instance)
        sent = instance.sent
        if sent is None:
            return stored
        if not sent.per_element and not sent.per_member:
            return deep_merge(sent.params, stored)
        params, passed = dict(sent.params), dict(stored)
        for name in sent.per_element:
            if name in params and name in passed:
                members = name in sent.per_member
                passed[name] = merge_under_each(params.pop(name), passed[name], members=members)
        return deep_merge(params, passed)

    def _data_of(self, trigger: TriggerName, ref: Ref) -> JsonObject:
        return self.arrival(trigger, ref).data


def _with_names(instance: Instance) -> Instance:
    if isinstance(instance.captured, dict):
        return instance
    instance = copy(instance)
    instance.captured = whole(instance.captured)
    return instance


def _needed(kept: EarlierEvents, recent: dict[Ref, Arrival], refs: set[Ref]) -> EarlierEvents:
    """The events of a trigger, kept or recent, that have one of ``refs``; ``kept`` itself if it is all."""
    if isinstance(kept, dict):
        return {ref: one for ref, one in (kept | recent).items() if ref in refs}
    needed = kept
    if not kept.is_within(refs):
        needed = kept.copy()
        for ref in kept.keys_beside(refs):
            del needed[ref]
    added = {ref: one for ref, one in recent.items() if ref in refs}
    if added:
        needed = needed.copy()
        needed.update(added)
    return needed
