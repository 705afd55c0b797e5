"""Finds what is doubtful in a well-formed task."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import Final

from triggerstream.core.conditions import Leaf, is_satisfied
from triggerstream.core.ids import TIMEOUT_SUFFIX, LeafName
from triggerstream.core.similar_names import have_different_numbers
from triggerstream.core.tasks import UnlessFrom
from triggerstream.core.where import comparison_of_two_types, lasting_answer
from triggerstream.wire.tasksfile.conditions import LocatedCondition
from triggerstream.wire.tasksfile.entries import Entry
from triggerstream.wire.tasksfile.leaves import LocatedLeaf
from triggerstream.wire.tasksfile.logic import ways
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, listed, shown
from triggerstream.wire.tasksfile.timeouts import is_met_by_any_event
from triggerstream.wire.tasksfile.tried_keys import (
    Operator,
    condition_in_name,
    instead_of_operator,
    names_between_slashes,
    operator_as_name,
)

_CLOSE: Final = 0.85
"""How alike a parameter's key and a leaf must be to look like a slip: one letter in seven."""


def check_rules(entries: Sequence[Entry], findings: Findings) -> None:
    """Report what is doubtful in each task by itself."""
    known = {name.text for entry in entries for name in (entry.name, *(one.trigger for one in entry.leaves))}
    for entry in entries:
        _after_and_unless(entry, findings)
        _alternatives(entry, findings)
        for condition in (entry.after, entry.unless):
            _equal_leaves(condition, findings)
            _constant_expressions(condition, findings)
        _conditions_in_names(entry, known, findings)
        _identifiers(entry, known, findings)
        _params(entry, findings)
        _times_and_places(entry, findings)


def _after_and_unless(entry: Entry, findings: Findings) -> None:
    """Warn where an event that ``after`` waits for counts for ``unless`` too.

    ``"unlessFrom": "instance"`` gets no warning: the event that makes the instance does not count there.
    """
    if entry.unless_from is UnlessFrom.INSTANCE:
        return
    after = [leaf.leaf for leaf in entry.after.leaves]
    shared = [leaf for leaf in entry.unless.leaves if any(_is_noted(leaf.leaf, one) for one in after)]
    if not shared:
        return
    if entry.clear and _always_abandoned(entry):
        names = listed(dict.fromkeys(shown(leaf.name.text) for leaf in shared))
        message = f"can never start: what it waits for includes all that abandons it, {names}"
        shared[0].name.warn(findings, "never-starts", message)
        return
    for leaf in shared:
        alone = is_satisfied(entry.unless.root, {leaf.leaf.name})
        then = "once it has arrived" if alone else "once the others of `unless` have arrived"
        message = f"`{shown(leaf.name.text)}` is also waited for: {then}, it abandons"
        leaf.name.warn(findings, "after-and-unless", message)


def _is_noted(unless: Leaf, after: Leaf) -> bool:
    """True if each event that ``after`` takes also meets ``unless``."""
    same = unless.trigger == after.trigger and (unless.where is None or unless.where == after.where)
    return same and unless.count is None and unless.each is None


def _always_abandoned(entry: Entry) -> bool:
    """True if ``unless`` is satisfied whenever ``after`` is."""
    found = ways(entry.after.root)
    if not found or not entry.unless.root.members:
        return False
    after = {leaf.leaf.name: leaf.leaf for leaf in entry.after.leaves}
    unless = [leaf.leaf for leaf in entry.unless.leaves]
    noted: dict[LeafName, set[LeafName]] = {
        name: {one.name for one in unless if leaf.each is None and _is_noted(one, leaf)}
        for name, leaf in after.items()
    }
    return all(
        is_satisfied(entry.unless.root, set().union(*(noted.get(name, set()) for name in way)))
        for way in found
    )


def _alternatives(entry: Entry, findings: Findings) -> None:
    """Warn about an ``unless`` list of alternatives: all of it must arrive, but usually any is meant.

    Only the list itself is checked: a person who writes ``any`` or ``all`` knows both.
    """
    members = [one.trigger for one in entry.unless.root.members if isinstance(one, Leaf)]
    if len(members) < len(entry.unless.root.members):
        return
    names = list(dict.fromkeys(map(str, members)))
    alike = next((pair for pair in combinations(names, 2) if _are_alternatives(*pair)), None)
    if alike is None:
        return
    message = (
        f"all of these must arrive to abandon the task, yet {listed(alike)} look like alternatives: if any "
        'one should abandon it, write `[{"any": […]}]`'
    )
    at = LocatedName(text="", at=entry.unless.at, path=(entry.name.text, "unless"))
    at.warn(findings, "unless-alternatives", message)


def _times_and_places(entry: Entry, findings: Findings) -> None:
    """Warn of keys of time and places that do nothing beside the others of the task."""
    keys, task = entry.keys, entry.task
    if task is None:
        return
    if is_met_by_any_event(entry):
        message = "has no effect: a single event meets all of `after`"
        instead = "; to wait before the task runs, write `delay`"
        for key, hint in (("within", ""), ("deadline", instead)):
            if key in keys:
                keys[key].warn(findings, "no-effect", message + hint)
    elif (
        task.within_us is not None
        and task.deadline_us is not None
        and task.within_us > task.deadline_us
        and entry.every is None  # else an instance begins with older events, which `within` drops
    ):
        message = "is longer than `deadline`: what lies further apart comes after the task has expired"
        keys["within"].warn(findings, "no-effect", message)
    if "maxConcurrency" in keys and entry.every is None and "repeat" not in keys:
        message = "has no effect without `andEvery` or `repeat`: the task runs once in a session"
        keys["maxConcurrency"].warn(findings, "no-effect", message)


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")


def _are_alternatives(one: str, other: str) -> bool:
    """Names that differ in a single word, not in a number: ``orderRejected``, ``orderCancelled``.

    So are a task's name and that of its timeout: it finishes or expires.
    """
    if TIMEOUT_SUFFIX in (one.removeprefix(other), other.removeprefix(one)):
        return True
    left, right = ([word.lower() for word in _WORDS.findall(name)] for name in (one, other))
    if len(left) != len(right) or len(left) == 1:
        return False
    differing = [pair for pair in zip(left, right, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and not any(word.isdigit() for word in differing[0])


def _equal_leaves(condition: LocatedCondition, findings: Findings) -> None:
    """Warn of leaves that differ in nothing but their names. In a sequence each takes an event of its own."""
    first: dict[tuple[object, ...], LocatedLeaf] = {}
    for leaf in condition.by_name.values():
        if leaf.in_sequence:
            continue
        one = leaf.leaf
        earlier = first.setdefault((one.trigger, one.where, one.key, one.count, one.each), leaf)
        if earlier is not leaf:
            message = (
                f"`{shown(leaf.name.text)}` is the same as `{shown(earlier.name.text)}` at "
                f"{findings.where(earlier.name.at)} but for its name, so the same event meets both: to count "
                "events write `count`"
            )
            leaf.name.warn(findings, "equal-leaves", message)


def _constant_expressions(condition: LocatedCondition, findings: Findings) -> None:
    """Warn of expressions that match every event, or none, and of comparisons that cannot be true."""
    for leaf in condition.by_name.values():
        where = leaf.leaf.where
        answer = None if where is None else lasting_answer(where)
        if answer is not None:
            says = "every event: leave it out" if answer else "no event: the leaf is never met"
            leaf.keys["where"].warn(findings, "constant-where", f"matches {says}")
        elif where is not None and (mistake := comparison_of_two_types(where)) is not None:
            leaf.keys["where"].warn(findings, "mixed-types", mistake)


def _conditions_in_names(entry: Entry, known: set[str], findings: Findings) -> None:
    """Warn about names that look like conditions. Such a name is allowed: a trigger may have it."""
    for condition, key in ((entry.after, "after"), (entry.unless, "unless")):
        for leaf in condition.leaves:
            operator = _operator_in(leaf, known)
            if operator is not None:
                meant = "except" if operator == "and" and key == "unless" else operator
                instead = instead_of_operator(meant)
                message = f"`{shown(leaf.trigger.text)}` is read as the name of one trigger: {instead}"
                leaf.trigger.warn(findings, "condition-in-name", message)


def _operator_in(leaf: LocatedLeaf, known: set[str]) -> Operator | None:
    """The operator in a trigger's name, or that is one. Only a slash between ``known`` names is one."""
    name = leaf.trigger.text
    joined = condition_in_name(name)
    if joined is not None:
        return joined.operator
    if not leaf.keys and (operator := operator_as_name(name)) is not None:
        return operator
    parts = names_between_slashes(name)
    return "several" if parts and known >= set(parts) else None


def _identifiers(entry: Entry, known: set[str], findings: Findings) -> None:
    """Warn of names that no parameter can have: a task is called with a keyword argument for each leaf."""
    leaves = entry.after.by_name
    for leaf in leaves.values():
        if _operator_in(leaf, known) is None:  # else it is reported as such
            hint = "give it another `as`" if "as" in leaf.keys else "give it an `as`"
            if leaf.name is leaf.trigger and names_between_slashes(leaf.name.text):
                hint += f"; if these are several triggers, {instead_of_operator('several')}"
            _identifier(leaf.name, f": {hint}", findings)
    for name in entry.params:
        if name.text not in leaves and condition_in_name(name.text) is None:
            _identifier(name, "", findings)


def _identifier(name: LocatedName, hint: str, findings: Findings) -> None:
    if not name.text.isidentifier() or keyword.iskeyword(name.text):
        message = (
            f"`{shown(name.text)}` is no Python identifier, so the Celery task can take it only through "
            f"`**kwargs`{hint}"
        )
        name.warn(findings, "not-an-identifier", message)


def _params(entry: Entry, findings: Findings) -> None:
    """A parameter's key that is no leaf is passed on; one that nearly is was meant to be one."""
    leaves = entry.after.by_name
    given = {name.text for name in entry.params}
    open_leaves = [name for name in leaves if name not in given]
    for name in entry.params:
        if name.text in leaves or not entry.clear:
            continue
        likely = _likely_leaf(name.text, open_leaves, leaves.values())
        if likely is not None:
            message = (
                f"`{shown(name.text)}` is none of the task's triggers, so it is passed on as it is: did you "
                f"mean `{shown(likely)}`?"
            )
            name.warn(findings, "params-key-typo", message)


def _likely_leaf(name: str, open_leaves: Sequence[str], leaves: Iterable[LocatedLeaf]) -> str | None:
    """The leaf that was probably meant by ``name``: one whose trigger it is, or nearly its own name."""
    for leaf in leaves:
        if leaf.trigger.text == name and leaf.name.text in open_leaves:
            return leaf.name.text
    possible = [leaf for leaf in open_leaves if not have_different_numbers(name, leaf)]
    close = get_close_matches(name, possible, n=1, cutoff=_CLOSE)
    return close[0] if close else None
