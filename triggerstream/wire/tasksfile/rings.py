"""Finds tasks that start one another for ever, and tasks that wait for one another and never start."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from triggerstream.core.conditions import Leaf, is_satisfied
from triggerstream.wire.tasksfile.entries import Entry
from triggerstream.wire.tasksfile.nodes import Findings, listed

UNLESS_FIRED = "unless an application fires"


def check_rings(entries: Sequence[Entry], findings: Findings) -> None:
    """Report what the tasks show together."""
    tasks: dict[str, Entry] = {}
    for entry in entries:
        tasks.setdefault(entry.name.text, entry)  # a second one of that name is reported as such
    loops = _endless_loops(tasks, findings)
    _rings(tasks, loops, findings)


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
            every = tasks[name].every
            name = every.trigger.text if every is not None and every.trigger.text in tasks else None
        if name is None or name not in walk:
            continue
        loop = walk[walk.index(name) :]
        in_loop.update(loop)
        first = min((tasks[member] for member in loop), key=lambda entry: entry.name.at)
        every = first.every
        if every is None:  # never: it is in the ring
            continue
        if len(loop) == 1:
            message = f"`{name}` would start itself for ever: each time it finishes, its name starts it again"
        else:
            ring = listed(sorted(loop, key=lambda member: tasks[member].name.at))
            message = f"{ring} would start one another for ever: each one's `andEvery` is another one's name"
        every.trigger.error(findings, "endless-loop", message)
    return in_loop


def _rings(tasks: Mapping[str, Entry], loops: Collection[str], findings: Findings) -> None:
    """Report the tasks that wait for one another in a ring."""
    stuck = _never_started(tasks)
    edges = {
        name: [leaf.trigger.text for leaf in tasks[name].after.leaves if leaf.trigger.text in stuck]
        for name in tasks
        if name in stuck
    }
    for ring in _components(edges):
        if not set(ring).isdisjoint(loops):
            continue  # that is an error already
        members = sorted((tasks[name] for name in ring), key=lambda entry: entry.name.at)
        first = members[0]
        wait = next(leaf.trigger for leaf in first.after.leaves if leaf.trigger.text in ring)
        if len(ring) > 1:
            message = (
                f"{listed(entry.name.text for entry in members)} wait for one another in a ring: none can "
                f"start {UNLESS_FIRED} a trigger that bears one of these names"
            )
        else:
            message = (
                f"`{wait.text}` waits for itself: it can never start {UNLESS_FIRED} a trigger of that name"
            )
        wait.warn(findings, "never-starts", message)


def _never_started(tasks: Mapping[str, Entry]) -> set[str]:
    """The tasks that cannot start however often all triggers are fired that are no names of tasks."""
    waiting: dict[str, list[str]] = {}
    for name, entry in tasks.items():
        for leaf in entry.after.leaves:
            waiting.setdefault(leaf.trigger.text, []).append(name)
    stuck = set(tasks)
    queue = deque(tasks)
    while queue:
        name = queue.popleft()
        if name in stuck and _can_start(tasks[name], stuck):
            stuck.discard(name)
            queue.extend(waiting.get(name, ()))
    return stuck


def _can_start(entry: Entry, stuck: Collection[str]) -> bool:
    """True if ``entry`` can start without the tasks ``stuck``, or if not all of it could be made out."""
    if not entry.clear:
        return True
    leaves = {leaf.leaf.name: leaf.leaf for leaf in entry.after.leaves}

    def arrives(leaf: Leaf) -> bool:
        # An empty list is met at once, so that no event of the leaf itself need arrive.
        brings = leaf if leaf.each is None else leaves.get(leaf.each.of, leaf)
        return brings.trigger not in stuck

    return is_satisfied(entry.after.root, {name for name, leaf in leaves.items() if arrives(leaf)})


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
