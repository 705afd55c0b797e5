"""Random tasks files with time and places, and changes of them, as JSON objects.

The files of ``changing_files`` with keys of time, and small files on purpose for each key. Durations are
short, and mostly the same few, so that instants fall together.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from tests.core.changing_files import (
    CHANGES,
    RETRIES,
    TASKS,
    File,
    changed,
    file_of,
    is_usable,
)
from tests.core.strategies import Dice

DURATIONS = ("2s", "1s", "5s", "3s", "2s", "10s", "30s", "1m30s")
DEBOUNCES: tuple[Any, ...] = (
    "2s",
    {"quiet": "2s", "atMost": "5s"},
    {"quiet": "3s", "atMost": "2s"},
    {"quiet": "1s"},
    {"quiet": "5s", "atMost": "10s"},
)
REPEATS: tuple[dict[str, Any], ...] = (
    {"every": "2s", "max": 2},
    {"every": "1s", "max": 1},
    {"every": "5s", "max": 3},
    {"every": "30s", "max": 2},
)
KEYS_OF_TIME = ("within", "deadline", "delay", "debounce", "repeat", "retry", "maxConcurrency", "paused")
TIMED_FILE_BYTES = 240
"""Bytes that the choices of one file take, about."""


def focus_of(dice: Dice) -> str | None:
    """The subject of a scenario; None for any."""
    return dice.one((*FOCUSES, None, None, None, None))


def timed_file(focus: str | None, dice: Dice) -> File:
    """A tasks file with keys of time."""
    if focus is not None:
        file = _focused(focus, dice)
        return file if is_usable(file) else {"t": {"after": ["a", "b"], "deadline": "2s", "run": "run.t"}}
    file = file_of(dice)
    for name in list(file):
        for key in dice.some(KEYS_OF_TIME, 4):
            task = deepcopy(file[name])
            _set(task, key, dice)
            if is_usable({**file, name: task}):
                file[name] = task
    if len(file) > 1:
        _wait_for_timeout(file, dice)
    return file


FOCUSES = (
    *("deadline", "chain", "chain", "delay", "debounce", "repeat", "places", "places", "within"),
    *("window", "shortened", "sequence", "unjudged", "together", "paused"),
)
CONDITIONS = {
    "unjudged": ("after where", "leaf gone", "leaf gone", "shape", "after trigger"),
    "repeat": ("leaf gone", "after where", "unlessFrom", "withParams", "new leaf"),
}
"""Kinds of changes of conditions that suit a focus."""
TIMES = {
    "within": ("within",),
    "window": ("within",),
    "shortened": ("shorter",),
    "sequence": ("within", "deadline"),
    "deadline": ("deadline",),
    "delay": ("delay", "delay", "debounce"),
    "debounce": ("debounce", "debounce", "retry"),
    "repeat": ("repeat", "repeat", "maxConcurrency"),
    "places": ("maxConcurrency", "paused", "retry"),
    "paused": ("paused",),
    "unjudged": ("deadline",),
}
"""Keys whose changes suit a focus."""
WAYS = {"shorter": ("new",), "paused": ("free", "new", "free", "free")}
"""Ways in which a key is changed; other keys are changed in any way."""


def _focused(focus: str, dice: Any) -> File:  # noqa: ANN401 - Dice, with options of any kind
    """A small file in which the keys of ``focus`` decide."""
    duration = dice.one(DURATIONS)
    task: dict[str, Any] = {"run": "run.t"}
    match focus:
        case "deadline":
            task |= {"after": ["a", dice.one(("b", {"any": ["b", "c"]}))], "deadline": duration}
            task |= dice.one(({}, {"unless": ["c", "v"]}, {"unless": ["c"], "unlessFrom": "instance"}))
            task |= dice.one(({}, {"andEvery": "a"}, {"retry": dice.one(RETRIES)}))
            if "andEvery" not in task and dice.one((False, True)):
                task["after"][0] = {"trigger": "a", "count": dice.one((2, 3))}
            late = {"after": [_timeout("t", dice)], "run": "run.u"}
            return {"t": task, "u": late} if dice.one((True, True, False)) else {"u": late, "t": task}
        case "chain":
            task |= {"after": ["a", "b"], "deadline": duration}
            after = {"after": [_timeout("t", dice)], "run": "run.u"}
            after |= dice.one(({"delay": dice.one(DURATIONS)}, {"debounce": dice.one(DEBOUNCES)}, {}))
            if dice.one((True, False)):
                after = {**after, "after": [*after["after"], "c"], "deadline": dice.one(DURATIONS)}
            last = {
                "after": [dice.one(("u.timeout", "u", "t.timeout")), *dice.one(([], ["b"]))],
                "run": "run.v",
            }
            last |= dice.one(({"repeat": dice.one(REPEATS)}, {"deadline": "2s"}, {}, {"delay": "1s"}))
            if dice.one((False, True)):
                task["andEvery"] = "a"
                after["andEvery"] = "t.timeout"
            order = dice.one((("t", "u", "v"), ("v", "u", "t"), ("u", "t", "v")))
            tasks = {"t": task, "u": after, "v": last}
            return {name: tasks[name] for name in order}
        case "delay":
            task |= {"after": ["b", *dice.one(([], ["a"]))], "unless": ["c"], "delay": duration}
            task |= dice.one(
                ({"unlessFrom": "instance"}, {}, {"unlessFrom": "instance", "retry": RETRIES[1]})
            )
            task |= dice.one(({}, {"andEvery": "b"}, {"deadline": "5s"}, {"repeat": dice.one(REPEATS)}))
            return {"t": task}
        case "debounce":
            leaf: Any = dice.one(("a", {"trigger": "a", "where": "data.level >= 2"}))
            task |= {"after": [leaf, dice.one(("b", {"any": ["b", "c"]}))], "debounce": dice.one(DEBOUNCES)}
            task |= dice.one(({}, {"andEvery": "a"}, {"andEvery": "b"}, {"deadline": "5s"}))
            task |= dice.one(({}, {"unless": ["c"], "unlessFrom": "instance"}))
            task |= dice.one(({}, {"retry": RETRIES[3]}, {"retry": {"max": 2, "backoff": "10s"}}))
            return {"t": task}
        case "repeat":
            task |= {"after": dice.one((["a"], ["a", "b"])), "repeat": dice.one(REPEATS)}
            task |= dice.one(({"unless": ["c"]}, {"unless": ["c"], "unlessFrom": "instance"}, {}))
            task |= dice.one(({}, {"unless": ["b", "c"]}, {"unless": ["b", "c"], "unlessFrom": "instance"}))
            task |= dice.one(({}, {"andEvery": "a"}, {"retry": dice.one(RETRIES)}, {"maxConcurrency": 1}))
            return {"t": task}
        case "places":
            task |= {"after": dice.one(([], ["b"])), "andEvery": "a"}
            task |= dice.one(({"maxConcurrency": 1}, {"maxConcurrency": 2}, {"paused": True}))
            task |= dice.one(({}, {"unless": ["c"], "unlessFrom": "instance"}))
            task |= dice.one(({}, {"retry": dice.one(RETRIES)}, {"retry": {"max": 2}}, {"delay": duration}))
            task |= dice.one(({}, {}, {"repeat": dice.one(REPEATS)}))
            other = {"after": dice.one((["t"], ["a"])), "run": "run.u", "maxConcurrency": 1}
            return {"t": task, "u": other} if dice.one((True, False)) else {"t": task}
        case "within":
            task |= {"after": ["a", "b", *dice.one(([], ["c"], [{"any": ["c", "t"]}]))], "within": duration}
            task |= dice.one(({}, {"andEvery": "a"}, {"deadline": dice.one(DURATIONS)}, {"delay": "10s"}))
            return {"t": task}
        case "window":
            leaf = {"trigger": "a", "count": dice.one((2, 3))} | dice.one(({}, {"key": "data.by"}))
            task |= {"after": [leaf, *dice.one(([], ["b"]))], "within": duration}
            task |= dice.one(({"paused": True}, {"delay": "10s"}, {"delay": "30s"}, {}))
            task |= dice.one(({}, {}, {"andEvery": "b"}, {"deadline": "10s"}))
            return {"t": task}
        case "shortened":
            task |= {"after": ["a", "b"], "within": dice.one(("30s", "10s", "1m30s"))}
            task |= dice.one(({"delay": "1m30s"}, {"delay": "30s"}, {"paused": True}, {"deadline": "30s"}))
            task |= dice.one(({"andEvery": "a"}, {}))
            return {"t": task}
        case "sequence":
            task |= {"after": [{"sequence": ["a", "b", *dice.one(([], ["c"]))]}], "within": duration}
            task |= dice.one(({}, {"andEvery": "a"}, {"deadline": "5s"}))
            return {"t": task, "u": {"after": [_timeout("t", dice)], "run": "run.u"}}
        case "unjudged":
            task |= {"after": ["a", {"trigger": "b", "where": "data.level >= 2"}], "deadline": duration}
            task |= dice.one(({}, {"unless": ["c"]}, {"maxConcurrency": 1}, {"andEvery": "a"}))
            return {"t": task, "u": {"after": [_timeout("t", dice)], "run": "run.u"}}
        case "together":
            keys = dice.one(({"delay": duration}, {"delay": duration}, {"debounce": duration}))
            task |= {"after": [], "andEvery": "a", **keys}
            other = {"after": dice.one((["b"], [])), "andEvery": dice.one(("a", "b")), "run": "run.u", **keys}
            tasks = {"t": task, "u": other, "v": {"after": ["c"], "run": "run.v", "delay": duration}}
            order = dice.one((("t", "u"), ("u", "t"), ("u", "v", "t")))
            return {name: tasks[name] for name in order}
        case "paused":
            task |= {"after": dice.one((["b"], [], ["b"])), "andEvery": "a", "paused": True}
            task |= dice.one(({"delay": duration}, {}, {"delay": "1s"}))
            return {"t": task}
        case _:
            raise AssertionError(focus)


def _timeout(name: str, dice: Dice) -> Any:  # noqa: ANN401 - a leaf
    """A leaf that waits for a timeout."""
    leaf: dict[str, Any] = {"trigger": f"{name}.timeout"}
    if dice.one((False, False, True)):
        leaf["as"] = "late"
    if dice.one((False, False, False, True)):
        leaf["where"] = "time < timestamp('2026-01-01T00:00:05Z')"
    return leaf["trigger"] if len(leaf) == 1 else leaf


def _wait_for_timeout(file: File, dice: Dice) -> None:
    """Have a task of a file wait for the timeout of another one, or of itself."""
    name = dice.one(list(file))
    leaf = _timeout(dice.one(TASKS), dice)
    trigger = leaf if isinstance(leaf, str) else leaf.get("as", leaf["trigger"])
    task = deepcopy(file[name])
    match dice.one(("beside", "any", "every", "unless", "none")):
        case "beside":
            task["after"] = [*task["after"], leaf]
        case "any":
            task["after"] = [{"any": [{"all": task["after"]}, leaf]}] if task["after"] else [leaf]
        case "every":
            task["andEvery"] = leaf
        case "unless":
            task["unless"] = [*task.get("unless", []), leaf]
        case _:
            return
    new = {**file, name: task}
    if trigger and is_usable(new):
        file[name] = task


def _set(task: dict[str, Any], key: str, dice: Dice) -> None:
    """Give a task a key of time, with another value if it has it."""
    match key:
        case "within" | "deadline" | "delay":
            task[key] = dice.one(DURATIONS)
        case "shorter":
            task["within"] = "1s"
        case "debounce":
            task[key] = dice.one(DEBOUNCES)
        case "repeat":
            task[key] = dice.one(REPEATS)
        case "retry":
            task[key] = dice.one(RETRIES)
        case "maxConcurrency":
            task[key] = dice.one((1, 2, 1, 3))
        case "paused":
            task[key] = dice.one((True, True, False))
        case _:
            raise AssertionError(key)


# ---- changes ------------------------------------------------------------------------------------


def changed_in_time(file: File, focus: str | None, dice: Dice) -> File:
    """A usable file that differs from ``file`` in a key of time, mostly, or in a condition."""
    kinds = CONDITIONS.get(focus or "", CHANGES)
    often = (True, True, False) if focus in CONDITIONS else (True, False, False)
    if focus not in {"shortened", "paused"} and dice.one(often):
        return changed(file, dice, kinds)
    for _ in range(dice.one((1, 1, 2))):
        new = deepcopy(file)
        _change(new[dice.one(list(new))], TIMES.get(focus or "", KEYS_OF_TIME), dice)
        if is_usable(new):
            file = new
    return file


def _change(task: dict[str, Any], keys: Sequence[str], dice: Dice) -> None:
    """Change a key of time, add one, or take one away; those in ``keys`` more often."""
    there = [key for key in KEYS_OF_TIME if key in task]
    suited = [key for key in there if key in keys]
    ways = WAYS.get(keys[0], ("gone", "other", "new", "other", "swap", "free"))
    match dice.one(ways):
        case "gone" if there:
            del task[dice.one(suited or there)]
        case "other" if there:
            _set(task, dice.one(suited or there), dice)
        case "swap" if task.keys() & {"delay", "debounce"}:
            was = "delay" if "delay" in task else "debounce"
            del task[was]
            _set(task, "debounce" if was == "delay" else "delay", dice)
        case "free" if task.keys() & {"paused", "maxConcurrency"}:
            task.pop("paused", None)
            task.pop("maxConcurrency", None)
        case _:
            _set(task, dice.one(keys), dice)
