"""Words for the conditions of an instance, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from triggerstream.core import lacking
from triggerstream.core.answers import ExplainedInstance
from triggerstream.core.condition_tree import (
    ConditionTree,
    GroupKind,
    GroupTree,
    LeafTree,
    TakenEvent,
    TreeNode,
)
from triggerstream.core.ids import TIMEOUT_SUFFIX
from triggerstream.core.state import RESOLVED, WAITING, Status
from triggerstream.present.words import event_number, origin_words

_ONLY_RERUNS = ": only a retry or replay of it is blocked"
_NAMED = 10
"""Keys or instances that one sentence names."""
MOST_EVENTS = 20
"""Events of one leaf that people see; the JSON has all of them."""


def group(node: GroupTree) -> str:
    """The line above the members of a group, in the words of a tasks file."""
    says = _group_words(node)
    return f"{says}: {node.have} of {node.need}" if node.need > 1 else says


def _group_words(node: GroupTree) -> str:
    match node.kind:
        case GroupKind.ALL:
            return "all of"
        case GroupKind.ANY:
            return "any of"
        case GroupKind.AT_LEAST:
            return f"at least {node.need} of"
        case GroupKind.SEQUENCE:
            return "in this order"
        case _ as never:
            assert_never(never)


def mark(node: TreeNode) -> str:
    """The sign before a node: whether it is met."""
    return "✓" if node.met else "○"


def list_members(root: TreeNode) -> list[TreeNode]:
    """The members of the list that a condition is in the file."""
    return root.members if isinstance(root, GroupTree) and root.kind is GroupKind.ALL else [root]


def is_list_of_plain_leaves(tree: ConditionTree) -> bool:
    """True if the condition is a list of triggers."""
    return all(
        isinstance(node, LeafTree) and takes_one(node) and node.where is None
        for node in list_members(tree.root)
    )


def takes_one(leaf: LeafTree) -> bool:
    """True if one event is enough for the leaf."""
    return leaf.need == 1 and not leaf.missing and all(event.key is None for event in leaf.by)


def leaf_title(leaf: LeafTree) -> str:
    """The name of a leaf: its trigger, and its own name where that differs."""
    return lacking.leaf_title(leaf.leaf, leaf.trigger)


def leaf_progress(leaf: LeafTree, status: Status) -> str:
    """Progress of a leaf, in words; empty for one that takes one event, and has it."""
    if takes_one(leaf):
        return "" if leaf.met else _missing(leaf, status)
    if leaf.need is None:
        return f"{leaf.have} so far, and its list has not arrived"
    lacks = f"; lacks {_some(leaf.missing)}" if leaf.missing else ""
    return f"{leaf.have} of {leaf.need}{lacks}"


def leaf_remarks(leaf: LeafTree, status: Status) -> list[str]:
    """Why a leaf that is not met did not take its trigger's latest event; what became of its task."""
    if leaf.met:
        return []
    remarks = []
    if (why := _not_counted(leaf, status)) is not None:
        remarks.append(why)
    if leaf.became:
        # One that was run again says nothing about the task any more.
        last = [one for one in leaf.became if one.status is not Status.REPLAYED] or leaf.became
        remarks.append(", ".join(f"{one.instance}: {one.status.value}" for one in last[-_NAMED:]))
    elif leaf.became is not None:
        remarks.append(f"task {leaf.trigger.removesuffix(TIMEOUT_SUFFIX)} has no instance yet")
    return remarks


def _not_counted(leaf: LeafTree, status: Status) -> str | None:
    """Why the latest event of a leaf's trigger does not count; None if none has come in time."""
    last = leaf.last
    if last is None or last.late:
        return None
    verb = "does" if status in WAITING else "did"
    named = "the event of a timer" if last.offset is None else event_number(last.offset)
    return f"{named} {verb} not count: {last.says}"


def more_events(leaf: LeafTree) -> str:
    """The number of events of a leaf beyond those that are shown; empty if there are none."""
    more = len(leaf.by) - MOST_EVENTS
    return f"and {more} more" if more > 0 else ""


def unless(instance: ExplainedInstance, leaf: LeafTree) -> str:
    """A trigger of an ``unless`` that is a list of triggers."""
    if not leaf.met:
        why = _not_counted(leaf, instance.status) or _missing(leaf, instance.status)
        return f"unless {leaf_title(leaf)}: {why}"
    numbers = "".join(f" ({event_number(event.offset)})" for event in leaf.by)
    if _is_met_since(instance, leaf):
        return f"unless {leaf_title(leaf)}: arrived after it was decided{numbers}{_now_blocked(instance)}"
    return f"unless {leaf_title(leaf)}: arrived{numbers}"


def unless_head(instance: ExplainedInstance) -> str:
    """The line above an ``unless`` that is more than a list of triggers."""
    if _is_fulfilled_since(instance):
        return f"unless: was not fulfilled when it was decided; fulfilled since{_now_blocked(instance)}"
    if instance.unless is not None and instance.unless.met:
        return "unless: fulfilled"
    return "unless: not fulfilled" if instance.status in WAITING else "unless: was not fulfilled"


def unless_blocks(instance: ExplainedInstance, leaf: LeafTree | None = None) -> bool:
    """True if ``unless``, or one trigger of its list, stopped the instance, or stops its rerun.

    Something that came after the decision stops nothing but a retry or replay of a failed instance.
    """
    if leaf is not None:
        since, met = _is_met_since(instance, leaf), leaf.met
    else:
        since, met = _is_fulfilled_since(instance), instance.unless is not None and instance.unless.met
    return met and (not since or instance.status is Status.FAILED)


def unless_mark(instance: ExplainedInstance, leaf: LeafTree | None = None) -> str:
    """The sign before ``unless``, or before one trigger of its list."""
    return "✗" if unless_blocks(instance, leaf) else "·"


def _is_fulfilled_since(instance: ExplainedInstance) -> bool:
    """True if ``unless`` was fulfilled after the decision; false for one replayed by force in spite of it."""
    tree = instance.unless
    return tree is not None and tree.met and any(_is_met_since(instance, leaf) for leaf in tree.leaves())


def _is_met_since(instance: ExplainedInstance, leaf: LeafTree) -> bool:
    """True if the leaf has an event that came after the decision.

    One with the offset of the decision came after it too: it let the timer fire that decided. Had it come
    before, it would have abandoned the instance.
    """
    decided_at, decided_us = instance.decided_at, instance.decided_us
    if not leaf.met or decided_at is None or decided_us is None:
        return False
    return any(
        event.offset >= decided_at if event.offset is not None else (event.time_us or 0) >= decided_us
        for event in leaf.by
    )


def _now_blocked(instance: ExplainedInstance) -> str:
    """The consequence of an ``unless`` that was fulfilled after the decision; empty if there is none."""
    is_resolved = instance.status in RESOLVED
    return "" if is_resolved or not _is_fulfilled_since(instance) else _ONLY_RERUNS


def taken(event: TakenEvent) -> str:
    """An event that a leaf holds, with its key."""
    key = "" if event.key is None else f"{event.key}: "
    return key + origin_words(event)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _missing(leaf: LeafTree, status: Status) -> str:
    """The remark about a leaf without an event. One whose event came too late had none when it mattered."""
    waits = status in WAITING
    if _not_counted(leaf, status) is not None:
        return "no event counts yet" if waits else "no event counted"
    return "not arrived" if waits and leaf.last is None else "had not arrived"
