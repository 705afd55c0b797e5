"""The tasks of a file with the places of their names and keys, as checks of several tasks need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from triggerstream.core.tasks import Bounds, Task, UnlessFrom
from triggerstream.wire.tasksfile.conditions import LocatedCondition
from triggerstream.wire.tasksfile.leaves import LocatedLeaf
from triggerstream.wire.tasksfile.nodes import LocatedName


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A task as it stands in the file. ``task`` is None where it cannot be used.

    ``after`` includes the leaf of ``andEvery``, which is ``every`` at its own place. ``clear`` is false where
    something of a condition could not be made out, so that nothing should be concluded from what is missing
    there. ``keys`` are those of the task that are given, ``null`` left out. ``run`` is the name of the Celery
    task where its value stands. ``reserved`` are keys that are kept under ``$extras`` although they have a
    meaning without it: only a file that is in force may have them.
    """

    name: LocatedName
    after: LocatedCondition
    unless: LocatedCondition
    every: LocatedLeaf | None
    unless_from: UnlessFrom
    keys: Mapping[str, LocatedName]
    params: tuple[LocatedName, ...]
    run: LocatedName | None
    reserved: tuple[LocatedName, ...]
    clear: bool
    task: Task | None

    @property
    def leaves(self) -> tuple[LocatedLeaf, ...]:
        """The leaves of both conditions, with that of ``andEvery``."""
        return (*self.after.leaves, *self.unless.leaves)


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksFile:
    """A file's tasks in its order, and its bounds."""

    entries: tuple[Entry, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)

    def triggers(self) -> dict[str, LocatedName]:
        """Each trigger where it first stands."""
        return first_places(leaf.trigger for entry in self.entries for leaf in entry.leaves)


def first_places(names: Iterable[LocatedName]) -> dict[str, LocatedName]:
    """Each name where it first stands in the file."""
    first: dict[str, LocatedName] = {}
    for name in sorted(names, key=lambda one: one.at):
        first.setdefault(name.text, name)
    return first
