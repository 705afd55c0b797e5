"""Draws a configuration as a graph: triggers and tasks in layers, from left to right.

A task that another one waits for is drawn once: its name is the trigger that it fires. Between them lie small
boxes: a leaf that asks more than that its trigger has arrived, and conditions that are combined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from triggerstream.core.errors import ConfigError
from triggerstream.core.hold_sentences import place_keys
from triggerstream.core.tasks import Task
from triggerstream.core.time_sentences import time_keys
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.web.graph_parts import Link, Part, links_of

MOST = 400
"""Boxes that are drawn; a drawing of more is no help."""
_LETTER = 7.6
_LETTERS = 26
_LIMITS_LETTERS = 34
"""Letters of the keys of places and time: they are smaller, and three short ones have room."""
_PAD = 14
_HEIGHT = 34
_TASK_HEIGHT = 50
_LIMITS_HEIGHT = 16
"""The line of a task with its keys of places and time."""
_PART_HEIGHT = 24
_PART_PAD = 9
_GAP_X = 80
_GAP_Y = 18
_SWEEPS = 8
_TIP = 3
_CORNER = 4
"""Part of a side, at each end, that no arrow touches: the corners are round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A trigger, a task, or a part of a condition. ``x`` and ``y`` are its upper left corner."""

    name: str
    text: str
    kind: str
    run: str
    shown_limits: str = ""
    """Its keys of places and time, as far as they have room."""
    limits: str = ""
    """All of them."""
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An arrow to the task, or to the part of its condition, that waits. ``kind``: after, every or unless."""

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


def draw_file(text: str, configurations: ConfigurationCache) -> Drawing | None:
    """The drawing of a tasks file; None where it cannot be drawn, or where a later version applied it."""
    try:
        return drawing(configurations.read(text, name="configuration in force").tasks)
    except ConfigError:
        return None


def drawing(tasks: Sequence[Task]) -> Drawing | None:
    """The drawing of the tasks of a configuration; None where there are none, or too many to be seen."""
    by_name: dict[str, Task] = {task.name: task for task in tasks}
    found = (link for task in tasks[: MOST + 1] for link in links_of(task, by_name))
    links = list(dict.fromkeys(found))  # several tasks may wait for one timeout
    names: list[str | Part] = list(dict.fromkeys([*(link.source for link in links), *by_name]))
    if not names or len(names) > MOST:
        return None
    depth = _depths(names, links)
    ways = [_way(index, link, depth) for index, link in enumerate(links)]
    layers: list[list[_Node]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in names:
        layers[depth[name]].append(name)
    for way, link in zip(ways, links, strict=True):
        for layer, bend in zip(layers[depth[link.source] + 1 :], way[1:-1], strict=False):
            layer.append(bend)
    _order(layers, ways)
    columns = _columns(layers, by_name)
    boxes = _placed(layers, columns, by_name)
    ends = _ends(ways, boxes)
    arrows = tuple(
        _arrow(
            [boxes[node] for node in way],
            [columns[layer] for layer in _layers_of(way, depth)],
            link,
            end_y=end_y,
        )
        for way, link, end_y in zip(ways, links, ends, strict=True)
    )
    return Drawing(
        width=max(box.x + box.width for box in boxes.values()) + _PAD,
        height=max(box.y + box.height for box in boxes.values()) + _PAD,
        boxes=tuple(box for node, box in boxes.items() if not isinstance(node, tuple)),
        arrows=arrows,
    )


_Node: TypeAlias = str | Part | tuple[int, int]
"""The name of a trigger or task, a part of a condition, or the bend of an arrow: its number and its layer."""


def _depths(names: Sequence[str | Part], links: Sequence[Link]) -> dict[str | Part, int]:
    """The depth of each node: its longest path. A cycle is cut at the node where it was entered."""
    sources: dict[str | Part, list[str | Part]] = {name: [] for name in names}
    for link in links:
        sources[link.target].append(link.source)
    depth: dict[str | Part, int] = {}
    for name in names:
        _measure(name, sources, depth)
    return depth


def _way(index: int, link: Link, depth: Mapping[str | Part, int]) -> list[_Node]:
    """The nodes that the arrow of ``link`` goes through: a bend in each layer that it passes."""
    bends = [(index, layer) for layer in range(depth[link.source] + 1, depth[link.target])]
    return [link.source, *bends, link.target]


def _measure(
    name: str | Part, sources: Mapping[str | Part, Sequence[str | Part]], depth: dict[str | Part, int]
) -> None:
    """Set how deep ``name`` lies, without recursion: a chain of tasks may be long."""
    entered: set[str | Part] = set()
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


_Column: TypeAlias = tuple[float, float]
"""The left side of a layer, and its right side."""


def _columns(layers: Sequence[Sequence[_Node]], by_name: Mapping[str, Task]) -> list[_Column]:
    columns: list[_Column] = []
    x = float(_PAD)
    for layer in layers:
        width = max(_width(node, by_name) for node in layer)
        columns.append((x, x + width))
        x += width + _GAP_X
    return columns


def _layers_of(way: Sequence[_Node], depth: Mapping[str | Part, int]) -> list[int]:
    return [node[1] if isinstance(node, tuple) else depth[node] for node in way]


def _placed(
    layers: Sequence[Sequence[_Node]], columns: Sequence[_Column], by_name: Mapping[str, Task]
) -> dict[_Node, Box]:
    heights = [sum(_height(node, by_name) + _GAP_Y for node in layer) for layer in layers]
    boxes: dict[_Node, Box] = {}
    for layer, height, (left, right) in zip(layers, heights, columns, strict=True):
        y = _PAD + (max(heights) - height) / 2
        for node in layer:
            boxes[node] = _box(node, by_name, x=left, y=y, width=right - left)
            y += _height(node, by_name) + _GAP_Y
    return boxes


def _box(node: _Node, by_name: Mapping[str, Task], *, x: float, y: float, width: float) -> Box:
    height = _height(node, by_name)
    if isinstance(node, Part):
        # A part is as wide as its words, in the middle of its layer.
        own = _width(node, by_name)
        x, width = x + (width - own) / 2, own
        return Box(
            name=node.says, text=_short(node.text), kind="part", run="", x=x, y=y, width=width, height=height
        )
    name = node if isinstance(node, str) else ""
    task = by_name.get(name)
    return Box(
        name=name,
        text=_short(name),
        kind="trigger" if task is None else "task",
        run="" if task is None else _short(task.run),
        shown_limits="" if task is None else _short_limits(task),
        limits="" if task is None else _limits(task),
        x=x,
        y=y,
        width=width,
        height=height,
    )


def _ends(ways: Sequence[Sequence[_Node]], boxes: Mapping[_Node, Box]) -> list[float]:
    """The height at which each arrow ends: spread over the side of its box, so that each tip is seen."""
    incoming: dict[_Node, list[int]] = {}
    for index, way in enumerate(ways):
        incoming.setdefault(way[-1], []).append(index)
    ends = [0.0] * len(ways)
    for target, arrows in incoming.items():
        box = boxes[target]
        room = box.height - 2 * _CORNER
        # From top to bottom as they come, so that they do not cross before the box.
        arrows.sort(key=lambda index: boxes[ways[index][-2]].y + boxes[ways[index][-2]].height / 2)
        for place, index in enumerate(arrows, 1):
            ends[index] = box.y + _CORNER + room * place / (len(arrows) + 1)
    return ends


def _height(node: _Node, by_name: Mapping[str, Task]) -> int:
    match node:
        case Part():
            return _PART_HEIGHT
        case str():
            task = by_name.get(node)
            if task is None:
                return _HEIGHT
            return _TASK_HEIGHT + (_LIMITS_HEIGHT if _limits(task) else 0)
        case tuple():
            return 0


def _width(node: _Node, by_name: Mapping[str, Task]) -> float:
    match node:
        case Part(text=text):
            return len(_short(text)) * _LETTER + 2 * _PART_PAD
        case str():
            task = by_name.get(node)
            lines = [_short(node)] if task is None else [_short(node), _short(task.run), _short_limits(task)]
            letters = max(map(len, lines))
            return letters * _LETTER + 2 * _PAD
        case tuple():
            return 0


def _limits(task: Task) -> str:
    return " · ".join([*place_keys(task), *time_keys(task)])


def _short_limits(task: Task) -> str:
    return _short(_limits(task), letters=_LIMITS_LETTERS)


def _short(text: str, *, letters: int = _LETTERS) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _arrow(way: Sequence[Box], columns: Sequence[_Column], link: Link, *, end_y: float) -> Arrow:
    """An arrow bends between the layers only, so that it crosses no box."""
    first, last = way[0], way[-1]
    x, y = columns[0][1], first.y + first.height / 2
    path = f"M{first.x + first.width:.0f} {y:.0f}"
    if x > first.x + first.width:
        path += f" H{x:.0f}"
    for box, (left, right) in zip(way[1:], columns[1:], strict=True):
        tip = _TIP if box is last and box.x == left else 0
        to_x, to_y = left - tip, end_y if box is last else box.y + box.height / 2
        bend = max((to_x - x) / 2, 40)
        path += f" C{x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        x, y = right, to_y
        if box is not last:
            path += f" H{x:.0f}"
    if last.x > columns[-1][0]:
        path += f" H{last.x - _TIP:.0f}"
    return Arrow(kind=link.kind, path=path, says=link.says)
