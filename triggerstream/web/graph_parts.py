"""The conditions of a task as links of a graph: from triggers through small boxes to the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Condition, Leaf, Node, Sequence
from triggerstream.core.durations import format_duration
from triggerstream.core.ids import TIMEOUT_SUFFIX
from triggerstream.core.paths import format_path
from triggerstream.core.tasks import Task

Kind: TypeAlias = Literal["after", "every", "unless"]
_WORDS: dict[Kind, str] = {"after": "waits for", "every": "runs with every", "unless": "is abandoned by"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A small box: the demands of a leaf on its trigger, or the way in which conditions are combined.

    ``place`` tells the parts of a configuration apart; ``says`` is the part in words.
    """

    place: tuple[str, ...]
    text: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An arrow from a trigger, task or part to the part or task that waits for it."""

    source: str | Part
    target: str | Part
    kind: Kind
    says: str


def links_of(task: Task, by_name: Mapping[str, Task]) -> list[Link]:
    """The links that end at ``task``, those of its parts included, each once.

    ``by_name`` are all tasks: the trigger ``<task>.timeout`` comes from the task whose deadline fires it.
    """
    found = list(_links(task, task.after, "after"))
    if task.unless is not None:
        found += _links(task, task.unless, "unless")
    sources = {link.source: _timeout(link.source, by_name) for link in found if isinstance(link.source, str)}
    parts = {name: part for name, part in sources.items() if part is not None}
    found = [replace(link, source=parts.get(str(link.source), link.source)) for link in found]
    found += [
        Link(source=part.place[0], target=part, kind="after", says=part.says) for part in parts.values()
    ]
    return list(dict.fromkeys(found))


def _timeout(trigger: str, by_name: Mapping[str, Task]) -> Part | None:
    """The small box between a task and those that wait for its ``.timeout``."""
    task = by_name.get(trigger.removesuffix(TIMEOUT_SUFFIX))
    if task is None or task.deadline_us is None or trigger in by_name:
        return None
    text = f"not in {format_duration(task.deadline_us)}"
    return Part(place=(task.name, "timeout"), text=text, says=f"{trigger}: {task.name} {text}")


def _links(task: Task, condition: Condition, kind: Kind) -> Iterator[Link]:
    root = condition.root
    members = root.members if isinstance(root, AllOf) else (root,)
    for number, member in enumerate(members):
        yield from _into(task, member, task.name, kind, (task.name, kind, str(number)))


def _into(task: Task, node: Node, target: str | Part, kind: Kind, place: tuple[str, ...]) -> Iterator[Link]:
    """The links from the triggers of ``node`` to ``target``."""
    if isinstance(node, Leaf):
        yield from _leaf_into(task, node, target, kind)
        return
    text = _combined(node)
    part = Part(place=place, text=text, says=f"{task.name}: {text}")
    if isinstance(node, Sequence):
        for number, leaf in enumerate(node.leaves, 1):
            yield from _leaf_into(task, leaf, part, kind, number=number)
    else:
        for number, member in enumerate(node.members):
            yield from _into(task, member, part, kind, (*place, str(number)))
    yield Link(source=part, target=target, kind=kind, says=f"{task.name} {_WORDS[kind]} {text}")


def _combined(node: AllOf | AnyOf | AtLeast | Sequence) -> str:
    match node:
        case Sequence():
            return "in order"
        case AllOf():
            return "all"
        case AnyOf():
            return "any"
        case AtLeast(need=need, members=members):
            return f"{need} of {len(members)}"
        case _ as never:
            assert_never(never)


def _leaf_into(
    task: Task, leaf: Leaf, target: str | Part, kind: Kind, *, number: int | None = None
) -> Iterator[Link]:
    """The link of a leaf; through a part of its own if it asks more than that its trigger has arrived."""
    if kind == "after" and leaf.name == task.every:
        kind = "every"
    says = f"{task.name} {_WORDS[kind]} {leaf.trigger}"
    text = leaf_text(leaf, number=number)
    if not text:
        yield Link(source=leaf.trigger, target=target, kind=kind, says=says)
        return
    name = "" if str(leaf.name) == leaf.trigger else f" as {leaf.name}"
    part = Part(
        place=(task.name, "unless" if kind == "unless" else "after", "leaf", leaf.name),
        text=text,
        says=f"{task.name}: {leaf.trigger}{name} {text}",
    )
    yield Link(source=leaf.trigger, target=part, kind=kind, says=says)
    yield Link(source=part, target=target, kind=kind, says=says)


def leaf_text(leaf: Leaf, *, number: int | None = None) -> str:
    """The demands of a leaf on its trigger, in few words; empty if it has none."""
    words: list[str] = []
    if leaf.count is not None:
        words.append(f"×{leaf.count}")
    if leaf.each is not None:
        words.append(f"each of {leaf.each.of}")
    if leaf.key is not None:
        words.append(f"by {format_path(leaf.key)}")
    if leaf.where is not None:
        words.append(leaf.where.text)
    asked = " · ".join(words)
    return asked if number is None else f"{number}. {asked}".rstrip()
