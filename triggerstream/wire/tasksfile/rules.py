"""Finds doubtful tasks in a well-formed file, and the one error that concerns several tasks."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations

from triggerstream.wire.tasksfile.conditions import condition_in_name, instead_of
from triggerstream.wire.tasksfile.keys import Entry
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, listed, shown

_CLOSE = 0.85
"""How alike a parameter's key and a trigger must be to look like a slip: one letter in seven."""
_UNLESS_AN_APPLICATION = "unless an application fires"


def check_rules(entries: Sequence[Entry], findings: Findings) -> None:
    """Report what the tasks show together, and each one by itself."""
    tasks: dict[str, Entry] = {}
    for entry in entries:
        tasks.setdefault(entry.name.text, entry)  # a second one of that name is reported as such
    loops = _endless_loops(tasks, findings)
    _rings(tasks, loops, findings)
    for entry in entries:
        _after_and_unless(entry, findings)
        _alternatives(entry, findings)
        _conditions(entry, findings)
        _identifiers(entry, findings)
        _params(entry, findings)


# Tasks that start one another


def _endless_loops(tasks: Mapping[str, Entry], findings: Findings) -> set[str]:
    """Report the rings of ``andEvery``; return the names of the tasks in them.

    A task that finishes fires its own name. Each such event makes a new instance of every task whose
    ``andEvery`` that name is, seeded with the latest of all other triggers; so nothing in such a ring uses
    itself up. A ring with one ``after`` in it does end: the instance that the ``after`` starts is made by
    another event, and starts once.
    """
    in_loop: set[str] = set()
    done: set[str] = set()
    for start in tasks:
        walk: list[str] = []
        name: str | None = start
        while name is not None and name not in done:
            done.add(name)
            walk.append(name)
            every = tasks[name].and_every
            name = every.text if every is not None and every.text in tasks else None
        if name is None or name not in walk:
            continue
        loop = walk[walk.index(name) :]
        in_loop.update(loop)
        first = min((tasks[member] for member in loop), key=lambda entry: entry.name.at)
        every = first.and_every
        if every is None:  # never: it is in the ring
            continue
        if len(loop) == 1:
            message = f"`{name}` would start itself for ever: each time it finishes, its name starts it again"
        else:
            ring = listed(sorted(loop, key=lambda member: tasks[member].name.at))
            message = f"{ring} would start one another for ever: each one's `andEvery` is another one's name"
        every.error(findings, "endless-loop", message)
    return in_loop


def _rings(tasks: Mapping[str, Entry], loops: set[str], findings: Findings) -> None:
    """Report the tasks that wait for one another in a ring."""
    edges = {name: [need.text for need in entry.needs if need.text in tasks] for name, entry in tasks.items()}
    for ring in _components(edges):
        if loops.intersection(ring):
            continue  # that is an error already
        members = sorted((tasks[name] for name in ring), key=lambda entry: entry.name.at)
        first = members[0]
        wait = next(need for need in first.needs if need.text in ring)
        if len(ring) > 1:
            message = (
                f"{listed(entry.name.text for entry in members)} wait for one another in a ring: none can "
                f"start {_UNLESS_AN_APPLICATION} a trigger that bears one of these names"
            )
            wait.warn(findings, "never-starts", message)
        elif wait.text == first.name.text:
            message = (
                f"`{wait.text}` waits for itself: it can never start {_UNLESS_AN_APPLICATION} a trigger of "
                "that name"
            )
            wait.warn(findings, "never-starts", message)


def _components(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """The strongly connected components that hold a cycle (Tarjan's algorithm, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    on_path: dict[str, None] = {}
    for root in edges:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = []
        following: str | None = root
        while following is not None or work:
            if following is not None:
                index[following] = low[following] = len(index)
                on_path[following] = None
                work.append((following, iter(edges[following])))
                following = None
            name, rest = work[-1]
            for target in rest:
                if target not in index:
                    following = target
                    break
                if target in on_path:
                    low[name] = min(low[name], index[target])
            if following is not None:
                continue
            work.pop()
            if work:
                above = work[-1][0]
                low[above] = min(low[above], low[name])
            if low[name] == index[name]:
                component: list[str] = []
                while name in on_path:
                    component.append(on_path.popitem()[0])
                if len(component) > 1 or name in edges[name]:
                    yield component


# One task by itself


def _after_and_unless(entry: Entry, findings: Findings) -> None:
    needs = {need.text for need in entry.needs}
    shared = [name for name in entry.unless if name.text in needs]
    if not shared:
        return
    if entry.clear and len({name.text for name in shared}) == len({name.text for name in entry.unless}):
        names = listed(dict.fromkeys(name.text for name in shared))
        message = f"can never start: what it waits for includes all that abandons it, {names}"
        shared[0].warn(findings, "never-starts", message)
        return
    for name in shared:
        message = f"`{name.text}` is also waited for: once the others of `unless` have arrived, it abandons"
        name.warn(findings, "after-and-unless", message)


def _alternatives(entry: Entry, findings: Findings) -> None:
    """Warn about an ``unless`` list of alternatives: all its names must arrive, but usually any is meant."""
    names = list(dict.fromkeys(name.text for name in entry.unless))
    alike = next((pair for pair in combinations(names, 2) if _are_alternatives(*pair)), None)
    if alike is None:
        return
    message = (
        f"all of these must arrive to abandon the task, yet {listed(alike)} look like alternatives: if any "
        "one should abandon it, have the application fire one trigger for all of them and name that"
    )
    at = LocatedName(text="", at=entry.unless_at, path=(entry.name.text, "unless"))
    at.warn(findings, "unless-alternatives", message)


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")


def _are_alternatives(one: str, other: str) -> bool:
    """Names that differ in a single word, not in a number: ``orderRejected``, ``orderCancelled``."""
    left, right = ([word.lower() for word in _WORDS.findall(name)] for name in (one, other))
    if len(left) != len(right) or len(left) == 1:
        return False
    differing = [pair for pair in zip(left, right, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and not any(word.isdigit() for word in differing[0])


def _conditions(entry: Entry, findings: Findings) -> None:
    """Warn about names that look like conditions. Such a name is allowed: a trigger may have it."""
    for names, key in ((entry.needs, "after"), (entry.unless, "unless")):
        for name in names:
            operator = condition_in_name(name.text)
            if operator is not None:
                instead = instead_of("or" if operator == "or" else "not" if key == "unless" else "and")
                message = f"`{shown(name.text)}` is read as the name of one trigger: {instead}"
                name.warn(findings, "condition-in-name", message)


def _identifiers(entry: Entry, findings: Findings) -> None:
    """A task is called with one keyword argument for each trigger."""
    for name in (*entry.needs, *entry.params):
        if condition_in_name(name.text):
            continue  # reported as such
        if not name.text.isidentifier() or keyword.iskeyword(name.text):
            message = (
                f"`{shown(name.text)}` is no Python identifier, so the Celery task can take it only through "
                "`**kwargs`"
            )
            name.warn(findings, "not-an-identifier", message)


def _params(entry: Entry, findings: Findings) -> None:
    """A parameter's key that is no trigger is passed on; one that nearly is was meant to be one."""
    needs = {need.text: None for need in entry.needs}
    given = {name.text for name in entry.params}
    open_needs = [need for need in needs if need not in given]
    for name in entry.params:
        if name.text in needs or not entry.clear:
            continue
        close = get_close_matches(name.text, open_needs, n=1, cutoff=_CLOSE)
        if close:
            message = (
                f"`{shown(name.text)}` is none of the task's triggers, so it is passed on as it is: did you "
                f"mean `{close[0]}`?"
            )
            name.warn(findings, "params-key-typo", message)
