"""The conditions of an instance as trees in the form of the file: what meets each leaf, what it still lacks.

What an instance stores decides. An instance that is decided or resolved is shown in the form of the file that
was in force then, where that is known; otherwise the leaves that it captured are shown as a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

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
    Path,
    Sequence,
    Slot,
    Takes,
)
from triggerstream.core.held import Holding, InSequence, Keyed, Members, One, Ref, Several
from triggerstream.core.ids import Instant, LeafName, SessionId, TaskName, TriggerName, instance_id
from triggerstream.core.slots import (
    MOST_IN_SEQUENCE,
    MOST_KEYS,
    is_met,
    key_text,
    list_keys,
    refs,
    value_at,
)
from triggerstream.core.state import WAITING, Arrival, Instance, SessionState, Stage, Status, stage_of
from triggerstream.core.tasks import Rules, Task, UnlessFrom
from triggerstream.core.where import Answer, evaluate_where

_BECAME: Final = 20
"""Instances that a leaf on a task's name shows, the newest."""
_TOO_EARLY: Final = "too early for its place in the sequence"
_Counted: TypeAlias = list[tuple[str | None, Ref]]
"""The events of a leaf that count, with their keys."""


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
        shown = _task_shown(self.rules, name, instance)
        # Every configuration offers an unresolved instance what its own `unless` waits for.
        is_resolved = stage_of(instance.status) is Stage.RESOLVED
        blocking = shown if is_resolved else self.rules.current.config.by_name.get(name)
        unless = None if blocking is None else blocking.unless
        noted = instance.noted if is_resolved else {}
        if unless is not None and not _fits(unless, noted):
            unless = None
        after = _Side(
            explainer=self,
            instance=instance,
            held=instance.captured,
            condition=None if shown is None else shown.after,
            unless_from=None,
        )
        if unless is None and not noted:
            return Conditions(after=after.tree(), unless=None)
        blocked = _Side(
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
            self._no_match[slot] = _no_match(slot, latest, self.session)
        return self._no_match[slot]

    def became(self, trigger: TriggerName) -> list[TaskInstance] | None:
        """The newest instances of the task of that name; None if it is no task's name."""
        name = TaskName(trigger)
        record = self.state.tasks.get(name)
        if record is None:
            return [] if name in self.rules.current.config.by_name else None
        if name not in self._became:
            newest = list(record.instances())[-_BECAME:]
            self._became[name] = [
                TaskInstance(instance=instance_id(name, one.number), status=one.status) for one in newest
            ]
        return self._became[name]


# ---- the file in whose form an instance is shown ------------------------------------------------


def _task_shown(rules: Rules, name: TaskName, instance: Instance) -> Task | None:
    """The task as a file had it that explains what the instance captured; None: no known file does."""
    current = rules.current.config.by_name.get(name)
    if instance.status in WAITING and instance.clone_of is None:
        return current
    was_decided = _was_decided(instance)
    for task in _versions(rules, name, instance):
        if _fits(task.after, instance.captured) and (
            not was_decided or _is_complete(task.after, instance.captured)
        ):
            return task
    return None


def _was_decided(instance: Instance) -> bool:
    """True once later events and tasks files do not change what the instance runs with."""
    return instance.sent is not None or instance.clone_of is not None or instance.status is Status.FAILED


def _versions(rules: Rules, name: TaskName, instance: Instance) -> Iterator[Task]:
    """The task as the file had it under which the instance was decided, then as other files have it."""
    history = list(reversed(rules.history))
    if instance.sent is not None:
        decided_under = instance.sent.config
        history.sort(key=lambda version: version.hash != decided_under)
    for version in history:
        task = version.config.by_name.get(name)
        if task is not None:
            yield task


def _fits(condition: Condition, held: Mapping[LeafName, Holding]) -> bool:
    """True if each leaf that holds something is in the condition, and can hold that."""
    slots = condition.slots
    return all(name in slots and _can_hold(slots[name], name, one) for name, one in held.items())


def _can_hold(slot: Slot, name: LeafName, held: Holding) -> bool:
    if any(trigger != slot.leaf.trigger for trigger, _ in refs(name, held)):
        return False
    match slot.takes:
        case Takes.FIRST:
            return isinstance(held, int | One)
        case Takes.COUNT:
            return isinstance(held, Several)
        case Takes.KEYS:
            return isinstance(held, Keyed)
        case Takes.MEMBERS:
            return isinstance(held, Members)
        case Takes.SEQUENCE_START | Takes.SEQUENCE:
            # A decided instance keeps only the events that met the leaf.
            if isinstance(held, InSequence):
                return True
            return isinstance(held, int | One) if slot.leaf.count is None else isinstance(held, Several)
        case _ as never:
            assert_never(never)


def _is_complete(condition: Condition, captured: Mapping[LeafName, Holding]) -> bool:
    """True if the condition is satisfied by the leaves that a decided instance captured."""
    return condition.is_satisfied({name for name in captured if _leaf_is_met(condition, name, captured)})


def _leaf_is_met(condition: Condition, name: LeafName, held: Mapping[LeafName, Holding]) -> bool:
    slot, holding = condition.slots[name], held.get(name)
    if slot.takes in {Takes.SEQUENCE_START, Takes.SEQUENCE} and not isinstance(holding, InSequence):
        return holding is not None
    return is_met(slot, holding)


# ---- one of the two conditions ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
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
        counted = _counted(condition, slot, self.held)
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
            met=_leaf_is_met(condition, slot.name, self.held),
            need=need,
            have=len(counted),
            by=self._events(leaf.trigger, counted),
            missing=missing,
            last=self._last(condition, slot, counted),
            became=self.explainer.became(leaf.trigger),
        )

    def _unexplained(self, name: LeafName, held: Holding) -> LeafTree:
        """A leaf of which no known file says what it needs; one that is plain, or of a command, was met."""
        counted = _events_of(held)
        trigger = next((of for of, _ in refs(name, held)), TriggerName(name))
        met = _was_decided(self.instance) or isinstance(held, int | One)
        return LeafTree(
            leaf=name,
            trigger=trigger,
            met=met,
            need=len(counted) if met else None,
            have=len(counted),
            by=self._events(trigger, counted),
            became=self.explainer.became(trigger),
        )

    def _events(self, trigger: TriggerName, counted: _Counted) -> list[TakenEvent]:
        return [self._event(trigger, ref, key) for key, ref in counted]

    def _event(self, trigger: TriggerName, ref: Ref, key: str | None) -> TakenEvent:
        state = self.explainer.state
        arrival = state.find(trigger, ref)
        if arrival is None:
            # The events of `unless` are not kept.
            times = (time_us for offset, _, time_us, _ in state.positions if offset == ref)
            time_us = next(times, None)
            return TakenEvent(offset=ref, time_us=None if time_us is None else Instant(time_us), key=key)
        return TakenEvent(
            offset=ref,
            time_us=Instant(arrival.time_us),
            id=arrival.id,
            source=arrival.source,
            key=key,
            data=arrival.data if self.unless_from is None else None,
        )

    # ---- why the latest event was not taken -----------------------------------------------------

    def _last(self, condition: Condition, slot: Slot, counted: _Counted) -> NotTaken | None:
        """The trigger's latest event, and why it does not count; None if it does, or none has arrived."""
        latest = self.explainer.state.seen.get(slot.leaf.trigger)
        if latest is None or any(ref == latest.offset for _, ref in counted):
            return None
        says = (
            self.explainer.no_match(slot, latest)
            or self._too_early(latest)
            or self._not_taken(condition, slot, latest)
            or self._takes_no_more()
            or "it came under an earlier tasks file, and is not offered again"
        )
        return NotTaken(offset=latest.offset, says=says)

    def _too_early(self, event: Arrival) -> str | None:
        """Why an event does not count that came before the instance; None if it did not, or counts."""
        made_by = self.instance.made_by
        if self.unless_from is UnlessFrom.INSTANCE and made_by is not None and event.offset <= made_by:
            return "it came before the instance (`unlessFrom`)"
        return None

    def _takes_no_more(self) -> str | None:
        """Why the instance takes no event; None if it does."""
        status = self.instance.status
        takes = stage_of(status) is not Stage.RESOLVED if self.unless_from else status is Status.UNSTARTED
        return None if takes else f"the instance takes no more events: it is {status}"

    def _not_taken(self, condition: Condition, slot: Slot, event: Arrival) -> str | None:
        """Why a leaf that an event matches did not take it (R3.8); None if it could have."""
        leaf, held = slot.leaf, self.held.get(slot.name)
        key = "" if leaf.key is None else key_text(value_at(event.data, leaf.key)) or ""
        match held:
            case None:
                return None
            case int() | One() as one:
                return f"the leaf holds event {one if isinstance(one, int) else one.ref} already"
            case Several(at=at):
                return _full(leaf) if len(at) >= (leaf.count or 1) else None
            case Keyed(by=by):
                if key in by:
                    return f"the leaf holds event {by[key]} of the key {_quoted(key)} already"
                return _full(leaf) if len(by) >= (leaf.count or 1) else None
            case Members(by=members, left=left):
                if members.get(key) is not None:
                    return f"the leaf holds event {members[key]} of the key {_quoted(key)} already"
                if left is not None:
                    return None if key in members else f"the key {_quoted(key)} is not in the list"
                return f"full: the leaf holds {MOST_KEYS:,} keys" if len(members) >= MOST_KEYS else None
            case InSequence() as in_sequence:
                return self._no_place(condition, slot, in_sequence, event)
            case _ as never:
                assert_never(never)

    def _no_place(self, condition: Condition, slot: Slot, held: InSequence, event: Arrival) -> str | None:
        """Why an event of a leaf in a sequence does not count (R3.9)."""
        if held.met is not None:
            first = held.met if isinstance(held.met, int) else held.met[-1]
            return f"not needed: event {first} holds its place in the sequence"
        if event.offset not in held.at:
            full = len(held.at) >= MOST_IN_SEQUENCE
            return f"full: a place in a sequence holds {MOST_IN_SEQUENCE} events" if full else None
        before = _leaf_before(condition, slot.name)
        if before is None:
            return None
        known = self.held.get(before.name)
        if isinstance(known, InSequence) and known.met is not None:
            last = known.met if isinstance(known.met, int) else known.met[-1]
            return f"{_TOO_EARLY}: it happened before event {last} of `{before.name}`"
        return f"{_TOO_EARLY}: `{before.name}` is not met yet"


def _no_match(slot: Slot, event: Arrival, session: SessionId) -> str | None:
    """Why an event does not match a leaf (R3.7); None if it does."""
    leaf = slot.leaf
    if leaf.where is not None:
        found = evaluate_where(
            leaf.where, event.data, time_us=event.time_us, session=session, event_id=event.id
        )
        if found.answer is Answer.ERROR:
            return f"its `where` fails: {found.text}"
        if found.answer is not Answer.TRUE:
            return f"its `where` {found.text}"
    if leaf.key is not None and key_text(value_at(event.data, leaf.key)) is None:
        return f"it has no key: {path_text(leaf.key)} is no string and no integer"
    for other in slot.awaits_list:
        if other.each is not None and list_keys(value_at(event.data, other.each.path)) is None:
            path, usable = (
                path_text(other.each.path),
                f"list of at most {MOST_KEYS:,} strings and integers",
            )
            return f"{path} is no {usable}, which `{other.name}` needs"
    return None


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


def _leaf_before(condition: Condition, name: LeafName) -> Leaf | None:
    """The leaf before the leaf ``name`` in its sequence."""
    for sequence in condition.sequences:
        for before, leaf in zip(sequence.leaves, sequence.leaves[1:], strict=False):
            if leaf.name == name:
                return before
    return None


def _events_of(held: Holding) -> _Counted:
    """The events that a leaf holds and that count, with their keys."""
    match held:
        case int():
            return [(None, held)]
        case One(ref=ref):
            return [(None, ref)]
        case Several(at=at):
            return [(None, ref) for ref in at]
        case Keyed(by=by):
            return list(by.items())
        case Members(by=members):
            return [(key, ref) for key, ref in members.items() if ref is not None]
        case InSequence(met=list() as met):
            return [(None, ref) for ref in met]
        case InSequence(met=int() as met):
            return [(None, met)]
        case InSequence():
            return []
        case _ as never:
            assert_never(never)


def _counted(condition: Condition, slot: Slot, held: Mapping[LeafName, Holding]) -> _Counted:
    """The events of a leaf that count: of a leaf in a sequence, those that stand in their place."""
    holding = held.get(slot.name)
    if holding is None:
        return []
    if slot.takes in {Takes.FIRST, Takes.COUNT}:
        # A leaf of `unless` keeps what it noted when a file makes it another kind of leaf.
        events = [ref for _, ref in refs(slot.name, holding)]
        return [(None, ref) for ref in events[: slot.leaf.count or 1]]
    if not isinstance(holding, InSequence) or holding.met is not None or slot.leaf.count is None:
        return _events_of(holding)
    # Fewer than its `count` have come; those count that are later than the leaf before.
    order = sorted(zip(holding.times, holding.at, strict=True))
    before = _leaf_before(condition, slot.name)
    if before is not None:
        known = held.get(before.name)
        if not isinstance(known, InSequence) or known.met is None:
            return []
        met = {known.met} if isinstance(known.met, int) else set(known.met)
        place = max(pair for pair in zip(known.times, known.at, strict=True) if pair[1] in met)
        order = [pair for pair in order if pair > place]
    return [(None, ref) for ref in sorted(ref for _, ref in order)]


def _full(leaf: Leaf) -> str:
    return f"full: the leaf has its `count` of {leaf.count}"


def path_text(path: Path) -> str:
    """A path as it is written in a tasks file."""
    return "data" + "".join(f".{key}" if key.isidentifier() else f"[{_quoted(key)}]" for key in path)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
