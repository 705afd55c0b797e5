"""Random tasks files that use the language of conditions, and changes of them, as JSON objects.

``file_of(dice)`` makes one, ``changed(file, dice)`` the next one of the same installation: a leaf, a shape, a
key, or a task is another one. Every file is usable: ``config check`` finds no error in it.
``language_files`` draws files for tests of the reader, in all the ways in which they can be written; here
they are such that small logs satisfy them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

from tests.core.filters import FILTERS
from tests.core.strategies import Dice

File: TypeAlias = dict[str, Any]
"""A tasks file as JSON: task name to task."""
Node: TypeAlias = Any
"""A condition as JSON: a leaf is a trigger's name or an object."""

TRIGGERS = ("a", "b", "c")
TASKS = ("t", "u", "v")
WHERES = tuple(FILTERS)
KEYS = ("data.by", "data.by", 'data["by"]', "data.o.by")
LISTS = ("data.ids", "data.ids", 'data["ids"]', "data.o.ids")
PARAMS: tuple[dict[str, Any], ...] = (
    {"p": 1},
    {"level": 9, "p": {"q": 1}},
    {"o": {"by": "default", "p": 2}},
    {},
)
RETRIES: tuple[dict[str, Any], ...] = (
    {"max": 1},
    {"max": 1, "backoff": "1s"},
    {"max": 2, "backoff": "1s", "factor": 2.0},
    {"max": 2, "backoff": "5s", "factor": 1.5, "maxBackoff": "6s"},
)
FILE_BYTES = 180
"""Bytes that the choices of one file take, about."""
CHANGE_BYTES = 24
"""The same for one change of a file."""


def file_of(dice: Dice) -> File:
    """A tasks file of one to three tasks."""
    names = dice.one((TASKS[:1], TASKS[:2], ("u",), TASKS, ("v", "t"), TASKS[:1], ("u", "t", "v")))
    return {name: task_of(name, dice) for name in names}


def focused_file(focus: str, dice: Dice) -> File:
    """A file of one simple task whose leaves ``focus`` is about, to see what changes of them do."""
    filtered: dict[str, Any] = {"trigger": "a"}
    if dice.one((True, True, False)):
        filtered["where"] = dice.one(WHERES)
    task: dict[str, Any] = {"after": [filtered, "b"], "run": "run.t"}
    match focus:
        case "leaf":
            filtered |= dice.one(({}, {"count": 2}, {"count": 2, "key": "data.by"}))
            task["after"].append(
                dice.one(("c", {"any": ["c", "t"]}, {"trigger": "c", "where": "data.level >= 2"}))
            )
        case "memory":
            task |= {"after": [filtered], "andEvery": "b"}
        case "unless":
            task |= {"after": ["b", dice.one(("c", {"trigger": "c", "count": 2}))], "unless": [filtered]}
            task |= dice.one(({}, {"unlessFrom": "instance"}))
            if dice.one((False, True)):
                task["unless"].append({"trigger": dice.one(TRIGGERS), "as": "other"})
        case "retry":
            task |= {
                "after": [filtered],
                "retry": dice.one(RETRIES[1:]),
                "withParams": {"a": dice.one(PARAMS)},
            }
            task |= dice.one(({}, {"andEvery": "b"}, {"unless": ["c"]}))
            return {"t": task}
        case _:
            raise AssertionError(focus)
    if dice.one((False, True)):
        task["retry"] = {"max": 2, "backoff": "1s"}
    return {"t": task}


FOCUSED = {
    "leaf": (
        *("after where", "after where", "after count", "after key", "after trigger"),
        *("leaf gone", "new leaf"),
    ),
    "memory": ("after where", "after where", "after where", "after key", "after trigger", "andEvery"),
    "unless": (
        *("unless where", "unless where", "unless trigger", "unlessFrom", "unlessFrom"),
        *("shape", "removed"),
    ),
    "retry": ("retry", "retry", "run", "withParams", "after where", "leaf gone", "removed"),
}
"""Kinds of changes that suit a focus."""


def task_of(name: str, dice: Dice) -> dict[str, Any]:
    """A task whose condition uses the language, mostly."""
    after = dice.one((True, True, True, True, False))
    task: dict[str, Any] = {"after": _conditions(dice, rich=True) if after else []}
    if not after or dice.one((False, True, False)):
        task["andEvery"] = _every(name, task["after"], dice)
    if dice.one((False, True, False)):
        rich = dice.one((True, False))
        task["unless"] = _conditions(dice, rich=rich)
        if rich:
            task["unlessFrom"] = "instance"
    task["run"] = dice.one((f"run.{name}", f"new.{name}"))
    if dice.one((False, True, False)):
        params = _params(task, dice)
        if params:
            task["withParams"] = params
    if dice.one((False, True, False)):
        task["retry"] = dice.one(RETRIES)
    if dice.one((False,) * 5 + (True,)):
        task["appliesTo"] = "existing"
    return task if is_usable({name: task}) else {**task, "after": ["a"], "unless": ["b"]}


# ---- conditions ---------------------------------------------------------------------------------


def _conditions(dice: Dice, *, rich: bool) -> list[Node]:
    """A list of conditions. ``rich``: with leaves that hold more than one event, and sequences."""
    known: dict[str, Node] = {}
    shape = dice.one(RICH_SHAPES if rich else PLAIN_SHAPES)

    def leaf() -> Node:
        return _leaf(dice, known, rich=rich)

    def plain() -> Node:
        return _leaf(dice, known, rich=False)

    match shape:
        case "one":
            return [leaf()]
        case "two":
            return [leaf(), leaf()]
        case "three":
            return [leaf(), leaf(), leaf()]
        case "any":
            return [{"any": [leaf(), leaf()]}]
        case "any of lists":
            first = leaf()
            return [{"any": [[first, leaf()], [first, leaf()]]}]
        case "at least":
            members = [leaf(), leaf(), leaf()]
            return [{"atLeast": dice.one((2, 1, 3)), "of": members}]
        case "nested":
            return [leaf(), {"any": [leaf(), {"all": [leaf(), leaf()]}]}]
        case "sequence":
            return [{"sequence": _places(dice, known)}]
        case "sequence beside":
            return [{"sequence": _places(dice, known)}, plain()]
        case "any of sequence":
            return [{"any": [{"sequence": _places(dice, known)}, leaf()]}]
        case "each":
            return [*_each(dice, known)]
        case "each beside":
            return [*_each(dice, known), plain()]
        case "any of each":
            listed, each = _each(dice, known)
            return [{"any": [[listed, each], plain()]}]
        case _:
            raise AssertionError(shape)


PLAIN_SHAPES = ("one", "two", "any", "one", "any of lists", "at least", "nested", "two")
RICH_SHAPES = (
    *("one", "two", "three", "any", "any of lists", "at least", "nested"),
    *("sequence", "sequence beside", "sequence", "any of sequence"),
    *("each", "each beside", "any of each", "each"),
)
POOL = (*TRIGGERS, *TRIGGERS, *TRIGGERS, *TASKS)


def _leaf(dice: Dice, known: dict[str, Node], *, rich: bool, kind: str | None = None) -> Node:
    leaf: dict[str, Any] = {"trigger": dice.one(POOL)}
    if dice.one((False, True, False)):
        leaf["where"] = dice.one(WHERES)
    if kind is None and rich:
        kind = dice.one(("plain", "count", "plain", "key", "plain", "count"))
    if kind in {"count", "key"}:
        leaf["count"] = dice.one((2, 2, 3, 1))
    if kind == "key":
        leaf["key"] = dice.one(KEYS)
    return _named(leaf, known, own_name=dice.one((False, False, False, True)))


def _named(leaf: dict[str, Any], known: dict[str, Node], *, own_name: bool = False) -> Node:
    """The leaf with a name that no other one of its list has."""
    if own_name or leaf["trigger"] in known:
        leaf["as"] = next(name for name in ("p", "q", "r", "s", "w", "x", "y") if name not in known)
    known[leaf.get("as", leaf["trigger"])] = leaf
    return leaf["trigger"] if len(leaf) == 1 else leaf


def _places(dice: Dice, known: dict[str, Node]) -> list[Node]:
    """The leaves of a sequence."""
    kinds = ("plain", "plain", "count")
    return [_leaf(dice, known, rich=False, kind=dice.one(kinds)) for _ in range(dice.one((2, 2, 3)))]


def _each(dice: Dice, known: dict[str, Node]) -> tuple[Node, Node]:
    """A leaf that brings a list, and one that waits for an event for each element of it."""
    listed = _leaf(dice, known, rich=False)
    of = listed if isinstance(listed, str) else name_of(listed)
    each: dict[str, Any] = {"trigger": dice.one(POOL)}
    if dice.one((False, False, False, True)):
        each["where"] = dice.one(WHERES)
    each["key"] = dice.one(KEYS)
    each["each"] = {"of": of, "list": dice.one(LISTS)}
    return listed, _named(each, known, own_name=dice.one((False, False, True)))


def _every(name: str, after: list[Node], dice: Dice) -> Node:
    """A leaf for ``andEvery``: one of ``after``, or an added one. No tasks start one another in a ring."""
    leaves = {name_of(leaf): leaf for leaf in leaves_of(after)}
    later = TASKS[TASKS.index(name) + 1 :]
    marked = [
        one
        for one, leaf in leaves.items()
        if isinstance(leaf, str) or "each" not in leaf
        if trigger_of(leaf) in (*TRIGGERS, *later)
    ]
    added = [trigger for trigger in (*TRIGGERS, *later) if trigger not in leaves]
    if marked and (not added or dice.one((True, False, True))):
        return dice.one(marked)
    trigger = dice.one(added)
    if dice.one((True, False, False)):
        return {"trigger": trigger, "where": dice.one(WHERES)}
    return trigger


def _params(task: dict[str, Any], dice: Dice) -> dict[str, Any]:
    names = list(dict.fromkeys([*map(name_of, leaves_of(task["after"])), "extra"]))
    return {one: dice.one(PARAMS) for one in dice.some(names, 2)}


# ---- looking at conditions ----------------------------------------------------------------------


def leaves_of(node: Node) -> Iterator[Node]:
    """The leaves of a condition, in order; one that stands in two places comes twice."""
    if isinstance(node, list):
        for member in node:
            yield from leaves_of(member)
    elif isinstance(node, dict) and "trigger" not in node:
        for key in ("all", "any", "of", "sequence"):
            yield from leaves_of(node.get(key, []))
    else:
        yield node


def name_of(leaf: Node) -> str:
    """A leaf's name."""
    return leaf if isinstance(leaf, str) else leaf.get("as", leaf["trigger"])


def trigger_of(leaf: Node) -> str:
    """A leaf's trigger."""
    return leaf if isinstance(leaf, str) else leaf["trigger"]


def _nodes(node: Node) -> Iterator[Node]:
    """Every condition in ``node``, itself included."""
    yield node
    members: Sequence[Node] = ()
    if isinstance(node, list):
        members = node
    elif isinstance(node, dict) and "trigger" not in node:
        members = [member for key in ("all", "any", "of", "sequence") for member in node.get(key, [])]
    for member in members:
        yield from _nodes(member)


def is_usable(file: File) -> bool:
    """True if the file breaks none of the rules for conditions."""
    return all(_is_usable_task(task) for task in file.values()) and not _has_ring(file)


def _is_usable_task(task: dict[str, Any]) -> bool:
    after, unless = task["after"], task.get("unless", [])
    if not _is_usable_list(after) or not _is_usable_list(unless):
        return False
    if not after and "andEvery" not in task:
        return False
    if "unlessFrom" in task and not unless:
        return False
    if task.get("unlessFrom") != "instance":
        for node in _nodes(unless):
            if isinstance(node, dict) and node.keys() & {"count", "key", "each", "sequence"}:
                return False
    leaves = {name_of(leaf): leaf for leaf in leaves_of(after)}
    every = task.get("andEvery")
    if isinstance(every, dict) and leaves.get(name_of(every), every) != every:
        return False
    marked = leaves.get(name_of(every)) if every is not None else None
    if isinstance(marked, dict) and "each" in marked:
        return False
    if not all(isinstance(params, dict) for params in task.get("withParams", {}).values()):
        return False
    return _is_usable_in_time(task)


def _is_usable_in_time(task: dict[str, Any]) -> bool:
    """True if the keys of time go together, and with the leaves of ``after``."""
    used = {
        key
        for node in _nodes([*task["after"], task.get("andEvery", "a")])
        if isinstance(node, dict)
        for key in node
    }
    if "debounce" in task and (
        task.keys() & {"delay", "within"} or used & {"count", "key", "each", "sequence"}
    ):
        return False
    return not ("within" in task and "each" in used)


def _is_usable_list(conditions: list[Node]) -> bool:
    known: dict[str, Node] = {}
    in_sequence: list[str] = []
    outside: list[str] = []
    for leaf in leaves_of(conditions):
        if known.setdefault(name_of(leaf), leaf) != leaf:
            return False
    for node in _nodes(conditions):
        if isinstance(node, dict) and "sequence" in node:
            names = [name_of(leaf) for leaf in node["sequence"]]
            if len(names) < 2 or len(set(names)) < len(names):
                return False
            if any(isinstance(leaf, dict) and leaf.keys() & {"key", "each"} for leaf in node["sequence"]):
                return False
            in_sequence += names
        elif isinstance(node, list):
            outside += [name_of(leaf) for leaf in node if _is_leaf(leaf)]
        elif isinstance(node, dict) and "trigger" not in node:
            members = next(node[key] for key in ("all", "any", "of") if key in node)
            if not members or ("all" not in node and any(members.count(one) > 1 for one in members)):
                return False
            if not 1 <= node.get("atLeast", 1) <= len(members):
                return False
            outside += [name_of(leaf) for leaf in members if _is_leaf(leaf)]
    if len(set(in_sequence)) < len(in_sequence) or set(in_sequence) & set(outside):
        return False
    return all(_is_usable_leaf(leaf, known, in_sequence) for leaf in known.values())


def _is_leaf(node: Node) -> bool:
    return isinstance(node, str) or (isinstance(node, dict) and "trigger" in node)


def _is_usable_leaf(leaf: Node, known: dict[str, Node], in_sequence: list[str]) -> bool:
    if isinstance(leaf, str):
        return True
    if ("key" in leaf) != ("each" in leaf or ("count" in leaf and "key" in leaf)):
        return False
    if "each" not in leaf:
        return True
    of = known.get(leaf["each"]["of"])
    if of is None or "count" in leaf or leaf["each"]["of"] in in_sequence:
        return False
    return isinstance(of, str) or not of.keys() & {"count", "key", "each"}


def _has_ring(file: File) -> bool:
    """True if tasks would start one another for ever by ``andEvery``, on their names or timeouts."""
    follows = {}
    for name, task in file.items():
        every = task.get("andEvery")
        if every is not None:
            leaves = {name_of(leaf): leaf for leaf in leaves_of(task["after"])}
            trigger = trigger_of(leaves.get(every, every) if isinstance(every, str) else every)
            follows[name] = trigger.removesuffix(".timeout")
    for name in follows:
        at, steps = name, 0
        while at in follows and steps <= len(follows):
            at, steps = follows[at], steps + 1
        if steps > len(follows):
            return True
    return False


# ---- changes ------------------------------------------------------------------------------------


CHANGES = (
    *(
        "where",
        "where",
        "where",
        "where",
        "key",
        "count",
        "count",
        "as",
        "trigger",
        "trigger",
        "list",
        "list",
    ),
    *("shape", "shape", "new leaf", "leaf gone", "leaf gone"),
    *("unless", "unlessFrom", "unlessFrom", "andEvery", "run", "withParams", "retry"),
    *("removed", "added", "applies", "applies", "order", "another"),
)
"""Kinds of changes, as often as they should come."""


def changed(file: File, dice: Dice, kinds: Sequence[str] = CHANGES) -> File:
    """A usable file that differs from ``file`` in one thing or two; sometimes in none."""
    for _ in range(dice.one((1, 1, 2))):
        new = deepcopy(file)
        _change(new, dice.one(kinds), dice)
        if new and is_usable(new):
            file = new
    return file


def _change(file: File, what: str, dice: Dice) -> None:
    name = dice.one(list(file))
    task = file[name]
    side, _, attribute = what.rpartition(" ")
    if side in {"after", "unless"}:
        _change_leaf(task, attribute, dice, side)
        return
    match what:
        case "where" | "key" | "count" | "as" | "trigger" | "list":
            _change_leaf(task, what, dice, _side(task, dice))
        case "shape":
            task["after"] = _reshaped(task["after"], dice)
        case "new leaf":
            side = _side(task, dice)
            known = {name_of(leaf): leaf for leaf in leaves_of(task[side])}
            task[side].append(_leaf(dice, known, rich=side == "after"))
        case "leaf gone":
            side = _side(task, dice)
            if task[side]:
                task[side].remove(dice.one(task[side]))
        case "unless":
            rich = dice.one((True, False))
            task["unless"] = _conditions(dice, rich=rich)
            task["unlessFrom"] = "instance" if rich else dice.one(("session", "instance"))
        case "unlessFrom":
            if "unless" in task:
                task["unlessFrom"] = "session" if task.get("unlessFrom") == "instance" else "instance"
        case "andEvery":
            if task.pop("andEvery", None) is None:
                task["andEvery"] = _every(name, task["after"], dice)
        case "run":
            task["run"] = f"other.{name}"
        case "withParams":
            task["withParams"] = _params(task, dice)
        case "retry":
            if task.pop("retry", None) is None or dice.one((True, False)):
                task["retry"] = dice.one(RETRIES)
        case "removed":
            del file[name]
        case "added" | "applies":
            free = [one for one in TASKS if one not in file]
            if free:
                added = file[dice.one(free)] = task_of(free[0], dice)
                if what == "applies":
                    added["appliesTo"] = "existing"
        case "order":
            file[name] = file.pop(name)
        case "another":
            file[name] = task_of(name, dice)
        case _:
            raise AssertionError(what)


def _side(task: dict[str, Any], dice: Dice) -> str:
    return dice.one(("after", "unless")) if task.get("unless") else "after"


def _change_leaf(task: dict[str, Any], what: str, dice: Dice, side: str) -> None:
    """Change one leaf, wherever it stands in its list."""
    leaves = list({name_of(leaf): leaf for leaf in leaves_of(task.get(side, []))}.values())
    if what == "list":
        leaves = [leaf for leaf in leaves if isinstance(leaf, dict) and "each" in leaf]
    if not leaves:
        return
    old = dice.one(leaves)
    new: dict[str, Any] = {"trigger": old} if isinstance(old, str) else deepcopy(old)
    match what:
        case "where":
            if new.pop("where", None) is None or dice.one((True, False)):
                new["where"] = dice.one(WHERES)
        case "key":
            if "each" in new:
                new["key"] = dice.one(KEYS)
            elif new.pop("key", None) is None:
                new |= {"key": dice.one(KEYS), "count": new.get("count", 2)}
        case "count":
            if "each" not in new:
                count = dice.one((1, 2, 3, None))
                new["count"] = count
                if count is None:
                    new = {key: value for key, value in new.items() if key not in {"count", "key"}}
        case "as":
            new["as"] = dice.one(("p", "q", "z"))
        case "trigger":
            new = {"as": name_of(old), **new, "trigger": dice.one(TRIGGERS)}
        case "list":
            new["each"]["list"] = dice.one(LISTS)
        case _:
            raise AssertionError(what)
    if new.get("as") == new["trigger"]:
        del new["as"]
    task[side] = _replaced(task[side], old, new["trigger"] if len(new) == 1 else new)
    if what == "as":
        _rename(task, side, name_of(old), new["as"] if "as" in new else new["trigger"])


def _rename(task: dict[str, Any], side: str, old: str, new: str) -> None:
    for leaf in leaves_of(task[side]):
        if isinstance(leaf, dict) and leaf.get("each", {}).get("of") == old:
            leaf["each"]["of"] = new
    if side == "after" and task.get("andEvery") == old:
        task["andEvery"] = new


def _replaced(node: Node, old: Node, new: Node) -> Node:
    if node == old:
        return deepcopy(new)
    if isinstance(node, list):
        return [_replaced(member, old, new) for member in node]
    if isinstance(node, dict) and "trigger" not in node:
        return {key: _replaced(value, old, new) for key, value in node.items()}
    return node


def _reshaped(conditions: list[Node], dice: Dice) -> list[Node]:
    """The same leaves, mostly, in another shape."""
    leaves = list({name_of(leaf): leaf for leaf in leaves_of(conditions)}.values())
    if len(leaves) < 2:
        return [*conditions, _leaf(dice, {name_of(one): one for one in leaves}, rich=True)]
    match dice.one(("any", "all", "sequence", "at least", "nested", "backwards")):
        case "any":
            return [{"any": leaves}]
        case "all":
            return leaves
        case "sequence":
            return [{"sequence": leaves}]
        case "at least":
            return [{"atLeast": dice.one((1, 2)), "of": leaves}]
        case "nested":
            return [leaves[0], {"any": leaves[1:]}]
        case "backwards":
            return [{"sequence": leaves[::-1]}] if "sequence" in str(conditions) else leaves[::-1]
        case other:
            raise AssertionError(other)
