"""Keys of a task in a tasks file."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

TaskKey: TypeAlias = Literal[
    "after",
    "run",
    "unless",
    "andEvery",
    "unlessFrom",
    "appliesTo",
    "withParams",
    "using",
    "within",
    "deadline",
    "delay",
    "debounce",
    "repeat",
    "retry",
    "queue",
    "priority",
    "expires",
    "maxConcurrency",
    "paused",
]
TASK_KEYS: Final[tuple[TaskKey, ...]] = get_args(TaskKey)
