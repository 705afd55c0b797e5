"""Conditions of an instance as branches of a tree on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from triggerstream.cli.printing import brief, text
from triggerstream.core.answers import ExplainedInstance
from triggerstream.core.condition_tree import GroupTree, LeafTree, TreeNode
from triggerstream.core.state import WAITING, Status
from triggerstream.present import condition_words

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_DATA = 60
"""Characters of an event's data."""


def add_conditions(branch: Tree, instance: ExplainedInstance) -> None:
    """Add the conditions of an instance; members of the list that a condition is stand at the top."""
    after, unless, status = instance.after.root, instance.unless, instance.status
    for member in condition_words.list_members(after):
        _add_node(branch, member, status, needed=not after.met)
    if unless is None:
        return
    if condition_words.is_list_of_plain_leaves(unless):
        for leaf in unless.leaves():
            branch.add(_unless_line(instance, condition_words.unless(instance, leaf), leaf))
        return
    blocking = branch.add(_unless_line(instance, condition_words.unless_head(instance)))
    for member in condition_words.list_members(unless.root):
        _add_node(blocking, member, status, needed=False)


def _unless_line(instance: ExplainedInstance, says: str, leaf: LeafTree | None = None) -> Text:
    style = "red" if condition_words.unless_blocks(instance, leaf) else "dim"
    return text(f"{condition_words.unless_mark(instance, leaf)} {says}", style)


def _add_node(branch: Tree, node: TreeNode, status: Status, *, needed: bool) -> None:
    """Add a node; ``needed``: the group around it is not met without it."""
    lacks = needed and not node.met
    style = "green" if node.met else "yellow" if lacks and status in WAITING else "dim"
    match node:
        case GroupTree(members=members):
            group = branch.add(text(f"{condition_words.mark(node)} {condition_words.group(node)}", style))
            for member in members:
                _add_node(group, member, status, needed=lacks)
        case LeafTree():
            _add_leaf(branch, node, status, style)
        case _ as never:
            assert_never(never)


def _add_leaf(branch: Tree, leaf: LeafTree, status: Status, style: str) -> None:
    progress = condition_words.leaf_progress(leaf, status)
    head = f"{condition_words.mark(leaf)} {condition_words.leaf_title(leaf)}"
    line = text(f"{head}: {progress}" if progress else head, style)
    one = leaf.by[0] if condition_words.takes_one(leaf) and leaf.by else None
    if one is not None:
        line.append_text(text("" if one.data is None else f" {brief(one.data, _DATA)}", style))
        line.append_text(text(f"  {condition_words.taken(one)}", "dim"))
    node = branch.add(line)
    if leaf.where is not None:
        node.add(text(f"where {leaf.where}", "dim"))
    if one is None:
        for event in leaf.by[: condition_words.MOST_EVENTS]:
            node.add(
                _event(condition_words.taken(event), "" if event.data is None else brief(event.data, _DATA))
            )
        if more := condition_words.more_events(leaf):
            node.add(text(more, "dim"))
    for says in condition_words.leaf_remarks(leaf, status):
        node.add(text(says, "dim"))


def _event(place: str, data: str) -> Text:
    return text(f"{place}  ", "dim").append_text(text(data))
