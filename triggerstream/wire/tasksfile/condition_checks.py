"""Errors about whole conditions: leaves that contradict one another, keys that ``unless`` cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from triggerstream.core.similar_names import nearest
from triggerstream.wire.tasksfile.conditions import EVERY_WITH_EACH, Every, LocatedCondition
from triggerstream.wire.tasksfile.leaves import LocatedLeaf, bare_leaf
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, shown

MOST_LEAVES: Final = 100
"""Leaves of a task, by name. A list of triggers may name more: see ``workable``."""


def add_every(
    after: LocatedCondition, every: Every, findings: Findings
) -> tuple[LocatedCondition, LocatedLeaf | None]:
    """``after`` with the leaf of ``andEvery``, and that leaf at the place of ``andEvery``.

    The name of a leaf that stands in ``after`` marks it; any other is added.
    """
    if every.name is None:
        return after, None
    marked = after.by_name.get(every.name.text)
    if marked is None:
        added = every.leaf or bare_leaf(every.name)
        return after.add(added), added
    if "each" in marked.keys:
        every.name.error(findings, "conflicting-keys", EVERY_WITH_EACH)
    if every.leaf is not None and every.leaf.leaf != marked.leaf:
        _report_ambiguous(every.leaf, marked, findings)
    place = replace(every.name, text=marked.leaf.trigger)
    return after, replace(marked, name=every.name, trigger=place, keys={})


def check_leaves(condition: LocatedCondition, findings: Findings) -> None:
    """Report leaves of one list that contradict one another."""
    first: dict[str, LocatedLeaf] = {}
    for leaf in condition.leaves:
        earlier = first.setdefault(leaf.leaf.name, leaf)
        if earlier is not leaf:
            _check_same(leaf, earlier, findings)
    for leaf in condition.leaves:
        if leaf.of is not None and condition.clear:
            _check_of(leaf.of, first, findings)


def _check_same(leaf: LocatedLeaf, earlier: LocatedLeaf, findings: Findings) -> None:
    if leaf.leaf != earlier.leaf:
        _report_ambiguous(leaf, earlier, findings)
    elif leaf.in_sequence or earlier.in_sequence:
        message = (
            f"`{shown(leaf.name.text)}` stands in this list already, at {findings.where(earlier.name.at)}: a "
            "place in a sequence needs a name of its own, so give it an `as`"
        )
        leaf.name.error(findings, "ambiguous-leaf", message)


def _report_ambiguous(leaf: LocatedLeaf, earlier: LocatedLeaf, findings: Findings) -> None:
    message = (
        f"`{shown(leaf.name.text)}` at {findings.where(earlier.name.at)} says something else, and in one "
        "list one name is one leaf: give one of them an `as` of its own"
    )
    leaf.name.error(findings, "ambiguous-leaf", message)


def _check_of(of: LocatedName, leaves: Mapping[str, LocatedLeaf], findings: Findings) -> None:
    target = leaves.get(of.text)
    if target is None:
        likely = nearest(of.text, leaves)
        hint = f"did you mean `{shown(likely)}`?" if likely else "name one that brings the list"
        of.error(findings, "unknown-leaf", f"there is no leaf `{shown(of.text)}` in this list: {hint}")
        return
    other = next((key for key in ("each", "count") if key in target.keys), None)
    if other is not None or target.in_sequence:
        why = "stands in a sequence" if other is None else f"has `{other}`"
        message = f"`{shown(of.text)}` {why}: the list comes from a leaf that takes one event"
        of.error(findings, "unknown-leaf", message)


def check_unless(unless: LocatedCondition, findings: Findings) -> None:
    """Report what ``unless`` cannot be where it counts what came before the instance."""
    message = (
        '`{}` in `unless` needs `"unlessFrom": "instance"`: of what the session has seen before the '
        "instance, one event a leaf is remembered"
    )
    for place in unless.sequences:
        place.error(findings, "needs-unless-from", message.format("sequence"))
    for leaf in unless.leaves:
        key = next((leaf.keys[key] for key in ("count", "each", "key") if key in leaf.keys), None)
        if key is not None and not leaf.in_sequence:
            key.error(findings, "needs-unless-from", message.format(key.text))


def check_number_of_leaves(
    name: LocatedName, conditions: Sequence[LocatedCondition], findings: Findings
) -> None:
    """Report a task with too many leaves; lists of triggers have a bound of their own."""
    if all(condition.is_list for condition in conditions):
        return
    count = sum(len(condition.by_name) for condition in conditions)
    if count > MOST_LEAVES:
        message = (
            f"waits for {count:,} leaves: at most {MOST_LEAVES}; let tasks wait for parts of them, and this "
            "one for those tasks"
        )
        name.error(findings, "too-many-leaves", message)
