"""Finds tasks that start one another for ever, and tasks that wait for one another and never start."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from triggerstream.core.conditions import Leaf, is_satisfied
from triggerstream.wire.tasksfile.entries import Entry
from triggerstream.wire.tasksfile.nodes import Findings, listed
from triggerstream.wire.tasksfile.timeouts import UNLESS_FIRED, sources_of


def check_rings(entries: Sequence[Entry], findings: Findings) -> None:
    """Report what the tasks show together."""
    tasks: dict[str, Entry] = {}
    for entry in entries:
        tasks.setdefault(entry.name.text, entry)  # a second one of that name is reported as such
    sources = sources_of(tasks)
    loops = _endless_loops(tasks, sources, findings)
    _rings(tasks, sources, loops, findings)


def _endless_loops(tasks: Mapping[str, Entry], sources: Mapping[str, str], findings: Findings) -> set[str]:
    """Report the rings of ``andEvery``; return the names of the tasks in them.

    A task that finishes fires its own name, one that expires its ``.timeout``. Each such event makes a new
    instance of every task whose ``andEvery`` that name is, seeded with the latest of all other triggers; so
    nothing in such a ring uses itself up. With a deadline in it, a ring goes round even while nothing comes,
    all by timers. A ring with one ``after`` in it does end: the instance that the ``after`` starts is made by
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
            trigger = _every_of(tasks[name])
            name = None if trigger is None else sources.get(trigger)
        if name is None or name not in walk:
            continue
        loop = walk[walk.index(name) :]
        in_loop.update(loop)
        first = min((tasks[member] for member in loop), key=lambda entry: entry.name.at)
        every = first.every
        if every is None:  # never: it is in the ring
            continue
        expires = any(trigger not in tasks for trigger in map(_every_of, map(tasks.__getitem__, loop)))
        if len(loop) == 1:
            again = f"expires, `{every.trigger.text}`" if expires else "finishes, its name"
            message = f"`{name}` would start itself for ever: each time it {again} starts it again"
        else:
            ring = listed(sorted(loop, key=lambda member: tasks[member].name.at))
            what = "name or `.timeout`" if expires else "name"
            message = (
                f"{ring} would start one another for ever: each one's `andEvery` is another one's {what}"
            )
        every.trigger.error(findings, "endless-loop", message)
    return in_loop


def _every_of(entry: Entry) -> str | None:
    """The trigger of ``andEvery``."""
    return None if entry.every is None else entry.every.trigger.text


def _rings(
    tasks: Mapping[str, Entry], sources: Mapping[str, str], loops: Collection[str], findings: Findings
) -> None:
    """Report the tasks that wait for one another in a ring."""
    stuck = _never_fired(tasks, sources)
    edges = {name: list(_waits_of(name, tasks[sources[name]], sources, stuck)) for name in sorted(stuck)}
    for ring in _components(edges):
        # The ring may hold a task's name, its `.timeout`, or both.
        in_ring = {sources[name] for name in ring}
        if not in_ring.isdisjoint(loops):
            continue  # that is an error already
        members = sorted((tasks[name] for name in in_ring), key=lambda entry: entry.name.at)
        first = members[0]
        wait = next(leaf.trigger for leaf in first.after.leaves if sources.get(leaf.trigger.text) in in_ring)
        if len(members) > 1:
            message = (
                f"{listed(entry.name.text for entry in members)} wait for one another in a ring: none can "
                f"start {UNLESS_FIRED} a trigger that bears one of these names"
            )
        elif wait.text == first.name.text:
            message = (
                f"`{wait.text}` waits for itself: it can never start {UNLESS_FIRED} a trigger of that name"
            )
        else:
            message = (
                f"`{first.name.text}` waits for its own end, `{wait.text}`: it can never start "
                f"{UNLESS_FIRED} a trigger of that name"
            )
        wait.warn(findings, "never-starts", message)


def _never_fired(tasks: Mapping[str, Entry], sources: Mapping[str, str]) -> set[str]:
    """The names of tasks, and their ``.timeout``, that do not fire however often all other triggers do."""
    waiting: dict[str, list[str]] = {}
    for name, entry in tasks.items():
        for leaf in entry.after.leaves:
            waiting.setdefault(leaf.trigger.text, []).append(name)
    fired: dict[str, list[str]] = {}
    for trigger, name in sources.items():
        fired.setdefault(name, []).append(trigger)
    stuck = set(sources)
    queue = deque(tasks)
    while queue:
        name = queue.popleft()
        for trigger in fired[name]:
            if trigger not in stuck:
                continue
            entry = tasks[name]
            fires = _can_start(entry, sources, stuck) if trigger == name else _can_wait(entry, stuck)
            if fires:
                stuck.discard(trigger)
                queue.extend(waiting.get(trigger, ()))
    return stuck


def _waits_of(name: str, entry: Entry, sources: Mapping[str, str], stuck: Collection[str]) -> Iterator[str]:
    """The names among ``stuck`` that a task waits for, or that make it so that it can expire."""
    for leaf in entry.after.leaves:
        if leaf.trigger.text in stuck:
            yield leaf.trigger.text
        elif name == entry.name.text and _is_own_timeout(leaf.trigger.text, entry, sources):
            yield name


def _is_own_timeout(trigger: str, entry: Entry, sources: Mapping[str, str]) -> bool:
    """True if the only instance of a task has expired when ``trigger`` fires."""
    name = entry.name.text
    return entry.every is None and trigger != name and sources.get(trigger) == name


def _can_start(entry: Entry, sources: Mapping[str, str], stuck: Collection[str]) -> bool:
    """True if a task can start without the triggers ``stuck``, or if not all of it could be made out."""
    if not entry.clear:
        return True
    leaves = {leaf.leaf.name: leaf.leaf for leaf in entry.after.leaves}

    def arrives(leaf: Leaf) -> bool:
        # An empty list is met at once, so that no event of the leaf itself need arrive.
        brings = leaf if leaf.each is None else leaves.get(leaf.each.of, leaf)
        return brings.trigger not in stuck and not _is_own_timeout(brings.trigger, entry, sources)

    return is_satisfied(entry.after.root, {name for name, leaf in leaves.items() if arrives(leaf)})


def _can_wait(entry: Entry, stuck: Collection[str]) -> bool:
    """True if an event of ``after`` can come without the triggers ``stuck``, so that the deadline runs."""
    return not entry.clear or any(leaf.trigger.text not in stuck for leaf in entry.after.leaves)


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
