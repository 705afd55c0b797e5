"""The conditions of an instance as trees in the form of the file: what meets each leaf, what it still lacks.

The trees follow what the instance stores. An instance that is decided or resolved is shown in the form of
the file that was in force then, where that is known; otherwise its captured leaves are shown as a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from triggerstream.core.condition_tree import (
    ConditionTree,
    GroupKind,
    GroupTree,
    LeafTree,
    NotTaken,
    TakenEvent,
    TaskInstance,
    TreeNode,
)
from triggerstream.core.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    Leaf,
    Node,
    Sequence,
    Slot,
)
from triggerstream.core.counted_events import CountedEvents, counted_events, events_of
from triggerstream.core.held import Holding, Members, One, Ref, event_words, offset_of, place_of
from triggerstream.core.ids import (
    TIMEOUT_SUFFIX,
    Instant,
    LeafName,
    SessionId,
    TaskName,
    TriggerName,
    instance_id,
)
from triggerstream.core.lacking import leaf_title
from triggerstream.core.shown_file import fits, leaf_is_met, task_shown, was_decided
from triggerstream.core.slots import (
    refs,
)
from triggerstream.core.state import Arrival, Instance, SessionState, Stage, Status, stage_of
from triggerstream.core.tasks import Rules, Task, UnlessFrom
from triggerstream.core.untaken import why_no_match, why_not_taken

_BECAME: Final = 20
"""Instances that a leaf on a task's name shows, the newest."""
_EARLIER_FILE: Final = "it came under an earlier tasks file"
_BEGINS_NONE: Final = "it begins no instance (`unlessFrom`)"
_REASONS: Final = 10
"""Leaves of a task without an instance that its sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions of an instance as they are shown."""

    after: ConditionTree
    unless: ConditionTree | None


class Explainer:
    """Explains the instances of one session.

    It keeps what many of them share: why a trigger's latest event matches no leaf, and what became of a task.
    """

    def __init__(self, rules: Rules, session: SessionId, state: SessionState) -> None:
        self.rules = rules
        self.session = session
        self.state = state
        self._no_match: dict[Slot, str | None] = {}
        self._became: dict[TaskName, list[TaskInstance]] = {}

    def conditions(self, name: TaskName, instance: Instance) -> Conditions:
        """The conditions of an instance of the task ``name``, leaf by leaf."""
        shown = task_shown(self.rules, name, instance)
        # Every configuration offers an unresolved instance what its own `unless` waits for.
        is_resolved = stage_of(instance.status) is Stage.RESOLVED
        blocking = shown if is_resolved else self.rules.current.config.by_name.get(name)
        unless = None if blocking is None else blocking.unless
        noted = instance.noted if is_resolved else {}
        if unless is not None and not fits(unless, noted):
            unless = None
        after = _ShownCondition(
            explainer=self,
            instance=instance,
            held=instance.captured,
            condition=None if shown is None else shown.after,
            unless_from=None,
        )
        if unless is None and not noted:
            return Conditions(after=after.tree(), unless=None)
        blocked = _ShownCondition(
            explainer=self,
            instance=instance,
            held=instance.noted,
            condition=unless,
            unless_from=UnlessFrom.SESSION if blocking is None else blocking.unless_from,
        )
        return Conditions(after=after.tree(), unless=blocked.tree())

    def no_match(self, slot: Slot, latest: Arrival) -> str | None:
        """Why the trigger's latest event does not match a leaf (R3.7); None if it does."""
        if slot not in self._no_match:
            self._no_match[slot] = why_no_match(slot, latest, self.session)
        return self._no_match[slot]

    def why_no_instance(self, task: Task) -> str:
        """Why no event has made an instance of ``task``: the latest event of each leaf's trigger."""
        slots = [(slot, _EARLIER_FILE) for slot in task.after.slots.values()]
        if task.unless is not None:
            from_session = task.unless_from is UnlessFrom.SESSION
            otherwise = _EARLIER_FILE if from_session else _BEGINS_NONE
            slots += [(slot, otherwise) for slot in task.unless.slots.values()]
        reasons = []
        for slot, otherwise in slots:
            latest = self.state.seen.get(slot.leaf.trigger)
            if latest is not None:
                why = self.no_match(slot, latest) or otherwise
                title = leaf_title(slot.leaf.name, slot.leaf.trigger)
                reasons.append(f"{title}: {event_words(latest.offset)} does not count: {why}")
        if not reasons:
            return "no instance yet: none of its triggers has arrived since the task was added"
        more = f"; and {len(reasons) - _REASONS} more" if len(reasons) > _REASONS else ""
        return f"no instance yet: {'; '.join(reasons[:_REASONS])}{more}"

    def became(self, trigger: TriggerName) -> list[TaskInstance] | None:
        """The newest instances of the task of that name, or with that timeout; None if there is none."""
        by_name = self.rules.current.config.by_name
        name = TaskName(trigger)
        if name not in by_name and name not in self.state.tasks:
            name = TaskName(trigger.removesuffix(TIMEOUT_SUFFIX))
        record = self.state.tasks.get(name)
        if record is None:
            return [] if name in by_name else None
        if name not in self._became:
            newest = list(record.instances())[-_BECAME:]
            self._became[name] = [
                TaskInstance(instance=instance_id(name, one.number), status=one.status) for one in newest
            ]
        return self._became[name]


# ---- one of the two conditions ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownCondition:
    """``after`` or ``unless`` of an instance: the condition, and what its leaves hold.

    ``condition`` None: no known file explains what they hold. ``unless_from`` None: it is ``after``.
    """

    explainer: Explainer
    instance: Instance
    condition: Condition | None
    held: Mapping[LeafName, Holding]
    unless_from: UnlessFrom | None

    def tree(self) -> ConditionTree:
        """The condition in the form of the file; without a file, all of the leaves that hold something."""
        if self.condition is None:
            return ConditionTree(
                _group(GroupKind.ALL, [self._unexplained(*one) for one in self.held.items()])
            )
        leaves = {name: self._leaf(self.condition, slot) for name, slot in self.condition.slots.items()}
        return ConditionTree(_node(self.condition.root, leaves))

    def _leaf(self, condition: Condition, slot: Slot) -> LeafTree:
        leaf, held = slot.leaf, self.held.get(slot.name)
        counted = counted_events(condition, slot, self.held)
        need: int | None = leaf.count or 1
        missing: list[str] = []
        if leaf.each is not None:
            need = None
            if isinstance(held, Members) and held.left is not None:
                need = len(held.by)
                missing = [key for key, ref in held.by.items() if ref is None]
        return LeafTree(
            leaf=leaf.name,
            trigger=leaf.trigger,
            where=None if leaf.where is None else leaf.where.text,
            met=leaf_is_met(condition, slot.name, self.held),
            need=need,
            have=len(counted),
            by=self._events(leaf.trigger, counted),
            missing=missing,
            last=self._last(condition, slot, counted),
            became=self.explainer.became(leaf.trigger),
        )

    def _unexplained(self, name: LeafName, held: Holding) -> LeafTree:
        """A leaf of which no known file says what it needs; one that is plain, or of a command, was met."""
        counted = events_of(held)
        trigger = next((of for of, _ in refs(name, held)), TriggerName(name))
        met = was_decided(self.instance) or isinstance(held, int | One)
        return LeafTree(
            leaf=name,
            trigger=trigger,
            met=met,
            need=len(counted) if met else None,
            have=len(counted),
            by=self._events(trigger, counted),
            became=self.explainer.became(trigger),
        )

    def _events(self, trigger: TriggerName, counted: CountedEvents) -> list[TakenEvent]:
        return [self._event(trigger, ref, key) for key, ref in counted]

    def _event(self, trigger: TriggerName, ref: Ref, key: str | None) -> TakenEvent:
        state = self.explainer.state
        arrival = state.find(trigger, ref)
        if arrival is None:
            # The events of `unless` are not kept.
            times = (time_us for offset, _, time_us, _ in state.positions if offset == ref)
            time_us = next(times, None)
            return TakenEvent(
                offset=offset_of(ref), time_us=None if time_us is None else Instant(time_us), key=key
            )
        return TakenEvent(
            offset=offset_of(ref),
            time_us=Instant(arrival.time_us),
            id=arrival.id,
            source=arrival.source,
            key=key,
            data=arrival.data if self.unless_from is None else None,
        )

    # ---- why the latest event was not taken -----------------------------------------------------

    def _last(self, condition: Condition, slot: Slot, counted: CountedEvents) -> NotTaken | None:
        """The trigger's latest event, and why it does not count; None if it does, or none has arrived."""
        latest = self.explainer.state.seen.get(slot.leaf.trigger)
        if latest is None or any(ref == latest.offset for _, ref in counted):
            return None
        says = (
            self.explainer.no_match(slot, latest)
            or self._too_early(latest)
            or why_not_taken(condition, slot, self.held, latest, time_of=self.explainer.state.time_of)
        )
        if says is None and (says := self._takes_no_more()) is not None:
            return NotTaken(offset=offset_of(latest.offset), says=says, late=True)
        return NotTaken(
            offset=offset_of(latest.offset),
            says=says or f"{_EARLIER_FILE}, and is not offered again",
            late=self._came_after_decision(latest),
        )

    def _came_after_decision(self, event: Arrival) -> bool:
        decided_at = self.instance.decided_at
        return (
            was_decided(self.instance)
            and decided_at is not None
            and place_of(event.offset) > place_of(decided_at)
        )

    def _too_early(self, event: Arrival) -> str | None:
        """Why an event does not count that came before the instance; None if it did not, or counts."""
        made_by = self.instance.made_by
        if self.unless_from is not UnlessFrom.INSTANCE or made_by is None:
            return None
        if place_of(event.offset) <= place_of(made_by):
            return "it came before the instance (`unlessFrom`)"
        return None

    def _takes_no_more(self) -> str | None:
        """Why the instance takes no event; None if it does."""
        status = self.instance.status
        takes = stage_of(status) is not Stage.RESOLVED if self.unless_from else status is Status.UNSTARTED
        return None if takes else f"the instance takes no more events: it is {status}"


# ---- nodes --------------------------------------------------------------------------------------


def _node(node: Node, leaves: Mapping[LeafName, LeafTree]) -> TreeNode:
    match node:
        case Leaf(name=name):
            return leaves[name]
        case AllOf(members=members):
            return _group(GroupKind.ALL, [_node(member, leaves) for member in members])
        case AnyOf(members=members):
            return _group(GroupKind.ANY, [_node(member, leaves) for member in members], need=1)
        case AtLeast(need=need, members=members):
            return _group(GroupKind.AT_LEAST, [_node(member, leaves) for member in members], need=need)
        case Sequence(leaves=places):
            return _group(GroupKind.SEQUENCE, [leaves[leaf.name] for leaf in places])
        case _ as never:
            assert_never(never)


def _group(kind: GroupKind, members: list[TreeNode], *, need: int | None = None) -> GroupTree:
    need = len(members) if need is None else need
    have = sum(member.met for member in members)
    return GroupTree(kind=kind, members=members, need=need, have=have, met=have >= need)
