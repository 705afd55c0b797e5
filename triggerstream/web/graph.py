"""Draws a configuration as a graph: triggers and tasks in layers, from left to right.

A task that another one waits for is drawn once: its name is the trigger that it fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from triggerstream.engine.queries.answers import TaskRow

MOST = 400
"""Boxes that are drawn; a drawing of more is no help."""
_LETTER = 7.6
_LETTERS = 26
_PAD = 14
_HEIGHT = 34
_TASK_HEIGHT = 50
_GAP_X = 80
_GAP_Y = 18
_SWEEPS = 8
_TIP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A trigger or a task. ``x`` and ``y`` are its upper left corner."""

    name: str
    text: str
    kind: str
    run: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An arrow from a trigger or task to the task that waits for it. ``kind``: after, every or unless."""

    kind: str
    path: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The whole drawing."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def drawing(tasks: Sequence[TaskRow]) -> Drawing | None:
    """The drawing of the tasks of a configuration; None where there are none, or too many to be seen."""
    by_name: dict[str, TaskRow] = {task.task: task for task in tasks}
    links = [link for task in tasks for link in _links(task)]
    names = list(dict.fromkeys([*(source for source, _, _ in links), *by_name]))
    if not names or len(names) > MOST:
        return None
    depth = _depths(names, links)
    ways = [_way(index, link, depth) for index, link in enumerate(links)]
    layers: list[list[_Node]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in names:
        layers[depth[name]].append(name)
    for way in ways:
        for layer, bend in zip(layers[depth[str(way[0])] + 1 :], way[1:-1], strict=False):
            layer.append(bend)
    _order(layers, ways)
    boxes = _placed(layers, by_name)
    arrows = tuple(_arrow([boxes[node] for node in way], link) for way, link in zip(ways, links, strict=True))
    shown = tuple(box for node, box in boxes.items() if isinstance(node, str))
    return Drawing(
        width=max(box.x + box.width for box in boxes.values()) + _PAD,
        height=max(box.y + box.height for box in boxes.values()) + _PAD,
        boxes=shown,
        arrows=arrows,
    )


_Link = tuple[str, str, str]
_Node = str | tuple[int, int]
"""A trigger's or a task's name; or the bend of an arrow: its number, and the layer that it passes."""


def _links(task: TaskRow) -> list[_Link]:
    found: list[_Link] = [(source, task.task, "after") for source in task.after]
    if task.and_every is not None:
        found.append((task.and_every, task.task, "every"))
    found += [(source, task.task, "unless") for source in task.unless]
    return list(dict.fromkeys(found))


def _depths(names: Sequence[str], links: Sequence[_Link]) -> dict[str, int]:
    """The depth of each node: its longest path. A cycle is cut at the node where it was entered."""
    sources: dict[str, list[str]] = {name: [] for name in names}
    for source, target, _ in links:
        sources[target].append(source)
    depth: dict[str, int] = {}
    for name in names:
        _measure(name, sources, depth)
    return depth


def _way(index: int, link: _Link, depth: Mapping[str, int]) -> list[_Node]:
    """The nodes that the arrow of ``link`` goes through: a bend in each layer that it passes."""
    source, target, _ = link
    return [source, *((index, layer) for layer in range(depth[source] + 1, depth[target])), target]


def _measure(name: str, sources: Mapping[str, Sequence[str]], depth: dict[str, int]) -> None:
    """Set how deep ``name`` lies, without recursion: a chain of tasks may be long."""
    entered: set[str] = set()
    stack = [name]
    while stack:
        top = stack[-1]
        if top in depth:
            stack.pop()
            continue
        entered.add(top)
        left = [source for source in sources[top] if source not in depth and source not in entered]
        if left:
            stack.append(left[0])
            continue
        depth[top] = max((depth[source] + 1 for source in sources[top] if source in depth), default=0)
        stack.pop()


def _order(layers: list[list[_Node]], ways: Sequence[Sequence[_Node]]) -> None:
    """Sort each layer by where its neighbours are, so that few arrows cross."""
    near: dict[_Node, set[_Node]] = {node: set() for layer in layers for node in layer}
    for way in ways:
        for source, target in pairwise(way):
            near[source].add(target)
            near[target].add(source)
    for sweep in range(_SWEEPS):
        place = {node: row / len(layer) for layer in layers for row, node in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            layer.sort(key=lambda node: _middle([place[one] for one in near[node]], place[node]))
            place.update({node: row / len(layer) for row, node in enumerate(layer)})


def _middle(places: Iterable[float], own: float) -> float:
    found = list(places)
    return sum(found) / len(found) if found else own


def _placed(layers: Sequence[Sequence[_Node]], by_name: Mapping[str, TaskRow]) -> dict[_Node, Box]:
    heights = [sum(_height(node, by_name) + _GAP_Y for node in layer) for layer in layers]
    boxes: dict[_Node, Box] = {}
    x = float(_PAD)
    for layer, height in zip(layers, heights, strict=True):
        y = _PAD + (max(heights) - height) / 2
        width = max(_width(node, by_name) for node in layer)
        for node in layer:
            boxes[node] = _box(node, by_name, x=x, y=y, width=width)
            y += _height(node, by_name) + _GAP_Y
        x += width + _GAP_X
    return boxes


def _box(node: _Node, by_name: Mapping[str, TaskRow], *, x: float, y: float, width: float) -> Box:
    name = node if isinstance(node, str) else ""
    task = by_name.get(name)
    return Box(
        name=name,
        text=_short(name),
        kind="trigger" if task is None else "task",
        run="" if task is None else _short(task.run),
        x=x,
        y=y,
        width=width,
        height=_height(node, by_name),
    )


def _height(node: _Node, by_name: Mapping[str, TaskRow]) -> int:
    if not isinstance(node, str):
        return 0
    return _TASK_HEIGHT if node in by_name else _HEIGHT


def _width(node: _Node, by_name: Mapping[str, TaskRow]) -> float:
    if not isinstance(node, str):
        return 0
    task = by_name.get(node)
    letters = max(len(_short(node)), 0 if task is None else len(_short(task.run)))
    return letters * _LETTER + 2 * _PAD


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _arrow(way: Sequence[Box], link: _Link) -> Arrow:
    source, target, kind = link
    first = way[0]
    x, y = first.x + first.width, first.y + first.height / 2
    path = f"M{x:.0f} {y:.0f}"
    for box in way[1:]:
        to_x, to_y = box.x - (0 if box is not way[-1] else _TIP), box.y + box.height / 2
        bend = max((to_x - x) / 2, 40)
        path += f" C{x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        x, y = to_x + (0 if box is way[-1] else box.width), to_y
        if box is not way[-1]:
            path += f" H{x:.0f}"
    words = {"after": "waits for", "every": "runs with every", "unless": "is abandoned by"}
    return Arrow(kind=kind, path=path, says=f"{target} {words[kind]} {source}")
