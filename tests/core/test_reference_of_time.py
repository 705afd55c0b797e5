"""Examples of time and places, written by hand from the rules: what the reference evaluator says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.core.logs_of_conditions import APP
from tests.core.logs_of_time import numbered_timed_scenario, report_of_time
from tests.core.reference_of_conditions import SECOND_US, File, Line, Reference

AFTER = "instance"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A log of one session, in seconds: ``2 a`` is the trigger a, ``3 a@1`` with event time 1."""

    name: str
    file: File
    log: tuple[Any, ...]
    decided: tuple[str, ...]
    """``t#0 5``: the instance was decided at the fifth second."""
    statuses: dict[str, str] = field(default_factory=dict)
    kwargs: dict[str, dict[str, Any]] = field(default_factory=dict)


def task(after: list[Any], **keys: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"after": after, "run": "run", **keys}


EXAMPLES = (
    Example(
        name="a deadline expires exactly D after the first event",
        file={"t": task(["a", "b"], deadline="5s"), "u": task(["t.timeout"])},
        log=("0 a", "5 b"),
        decided=("u#0 5",),
        statuses={"t#0": "expired", "u#0": "scheduled"},
        kwargs={"u#0": {"t.timeout": {"a": {"n": 0}}}},
    ),
    Example(
        name="what comes before the deadline is in time",
        file={"t": task(["a", "b"], deadline="5s")},
        log=("0 a", "4.999999 b", "9 timer"),
        decided=("t#0 4.999999",),
    ),
    Example(
        name="an event of unless starts no deadline",
        file={"t": task(["a", "b"], unless=["c", "d"], deadline="5s")},
        log=("0 c", "4 a", "8.999999 b"),
        decided=("t#0 8.999999",),
    ),
    Example(
        name="a deadline counts from the first event of after",
        file={"t": task(["a", "b"], unless=["c", "d"], deadline="5s")},
        log=("0 c", "4 a", "9 b"),
        decided=(),
        statuses={"t#0": "expired"},
    ),
    Example(
        name="a chain of timers over one silence",
        file={"t": task(["a", "b"], deadline="5s"), "u": task(["t.timeout"], delay="3s"), "v": task(["z"])},
        log=("0 a", "600 z"),
        decided=("u#0 8", "v#0 600"),
        statuses={"t#0": "expired", "u#0": "scheduled", "v#0": "scheduled"},
    ),
    Example(
        name="timers fire by due time, then by place",
        file={"t": task(["a"], delay="5s"), "u": task(["b"], delay="3s"), "v": task(["a"], delay="2s")},
        log=("0 a", "0 b", "2 b", "9 timer"),
        decided=("v#0 2", "u#0 3", "t#0 5"),
    ),
    Example(
        name="B, and no C within the hour",
        file={"t": task(["b"], unless=["c"], unlessFrom=AFTER, delay="1h", andEvery="b")},
        log=("0 b", "1 c", "10 b", "3609 timer", "3610 c"),
        decided=("t#1 3610",),
        statuses={"t#0": "abandoned", "t#1": "scheduled"},
    ),
    Example(
        name="a debounced task is decided after a silence with the newest events",
        file={"t": task(["a"], debounce="3s")},
        log=("0 a", "2 a", "4 a@1", "6.9 timer", "7 timer"),
        decided=("t#0 7",),
        kwargs={"t#0": {"a": {"n": 1}}},
    ),
    Example(
        name="a debounced task waits no longer than atMost after it was satisfied",
        file={"t": task(["a"], debounce={"quiet": "3s", "atMost": "5s"}, andEvery="a")},
        log=("0 a", "2 a", "4 a", "5 a", "20 timer"),
        decided=("t#0 5", "t#1 8"),
        kwargs={"t#0": {"a": {"n": 2}}, "t#1": {"a": {"n": 3}}},
    ),
    Example(
        name="a repeat ends after n further rounds",
        file={"t": task(["a"], repeat={"every": "5s", "max": 2})},
        log=("0 a", "100 timer"),
        decided=("t#0 0", "t#1 5", "t#2 10"),
    ),
    Example(
        name="a repeat ends with unless",
        file={"t": task(["a"], unless=["c"], repeat={"every": "5s", "max": 9})},
        log=("0 a", "5 c", "100 timer"),
        decided=("t#0 0", "t#1 5"),
        statuses={"t#0": "scheduled", "t#1": "scheduled", "t#2": "abandoned"},
    ),
    Example(
        name="a clone repeats nothing and is not delayed",
        file={"t": task(["a"], delay="5s", repeat={"every": "60s", "max": 1})},
        log=("0 a", "5 timer", "6 failed t#0", "7 replay t#0"),
        decided=("t#0 5", "t#2 7"),
        statuses={"t#0": "replayed", "t#1": "delayed", "t#2": "scheduled"},
    ),
    Example(
        name="within: the newest within D",
        file={"t": task(["a", "b", "c"], within="5s")},
        log=("0 a", "3 b", "6 c", "7 a"),
        decided=("t#0 7",),
        kwargs={"t#0": {"a": {"n": 3}, "b": {"n": 1}, "c": {"n": 2}}},
    ),
    Example(
        name="within: exactly D apart is within D",
        file={"t": task(["a", "b"], within="5s")},
        log=("0 a", "5 b"),
        decided=("t#0 5",),
    ),
    Example(
        name="within: what comes too late fits to nothing",
        file={"t": task(["a", "b"], within="5s", andEvery="a")},
        log=("10 a", "11 b@4", "12 b@5"),
        decided=("t#0 12",),
        statuses={"t#0": "scheduled"},
    ),
    Example(
        name="held ones are decided first in, first out",
        file={"t": task([], andEvery="a", maxConcurrency=1)},
        log=("0 a", "1 a", "2 a", "3 finished t#0", "4 timer", "5 failed t#1"),
        decided=("t#0 0", "t#1 3", "t#2 5"),
    ),
    Example(
        name="a retry waits for a place behind the held ones",
        file={"t": task([], andEvery="a", maxConcurrency=1, retry={"max": 1})},
        log=("0 a", "1 a", "2 failed t#0", "3 finished t#1"),
        decided=("t#0 0", "t#1 2", "t#2 3"),
    ),
    Example(
        name="a forced replay asks for no place",
        file={"t": task([], andEvery="a", maxConcurrency=1)},
        log=("0 a", "1 failed t#0", "2 a", "3 a", "4 replay t#0", "5 force t#1"),
        decided=("t#0 0", "t#1 2", "t#4 5"),
        statuses={"t#0": "replayed", "t#1": "replayed", "t#2": "held", "t#3": "held", "t#4": "scheduled"},
    ),
    Example(
        name="a paused task holds until a file without paused is there and the instances were judged",
        file={"t": task(["a"], paused=True, andEvery="a")},
        log=("0 a", "1 a", {"t": task(["a"], andEvery="a")}, "3 timer", "4 z"),
        decided=("t#0 4", "t#1 4"),
    ),
    Example(
        name="an instance that a file satisfies does not expire",
        file={"t": task(["a", "b"], deadline="5s"), "u": task(["t.timeout"])},
        log=("0 a", {"t": task(["a"], deadline="5s"), "u": task(["t.timeout"])}, "6 timer"),
        decided=("t#0 5",),
    ),
    Example(
        name="a delay that is gone is over",
        file={"t": task(["a"], delay="5s")},
        log=("0 a", {"t": task(["a"])}, "2 timer"),
        decided=("t#0 0",),
    ),
)


def lines_of(log: tuple[Any, ...]) -> list[Line]:
    """The lines of an example; a file arrives with the line before it."""
    lines: list[Line] = []
    arrival_us = 0
    reference = Reference(APP, {})
    for offset, entry in enumerate(log):
        if not isinstance(entry, str):
            lines.append(Line(offset=offset, arrival_us=arrival_us, file=entry))
            continue
        at, _, what = entry.partition(" ")
        arrival_us = round(float(at) * SECOND_US)
        kind, _, instance = what.partition(" ")
        trigger, _, time = kind.partition("@")
        data: dict[str, Any] = {"n": offset}
        if instance:
            command = reference.command_of("s", instance)
            data = {"instance": instance, "command": command, "force": kind == "force"}
            order = kind in {"replay", "force"}
            trigger = f"triggerstream.{'instance.replay' if order else 'task.' + kind}"
        elif trigger == "timer":
            trigger, data = "triggerstream.timer", {}
        time_us = round(float(time) * SECOND_US) if time else arrival_us
        lines.append(
            Line(offset=offset, arrival_us=arrival_us, session="s", type=trigger, data=data, time_us=time_us)
        )
    return lines


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_reference_says_what_the_example_expects(example: Example) -> None:
    reference = Reference(APP, example.file)
    for line in lines_of(example.log):
        reference.read(line)
    asked = reference.asked("s")
    assert [f"{one.instance} {one.decided_us / SECOND_US:.10g}" for one in asked] == list(example.decided)
    assert reference.statuses("s").items() >= example.statuses.items()
    assert {one.instance: one.kwargs for one in asked}.items() >= example.kwargs.items()


def test_each_key_of_time_decides_in_some_scenarios() -> None:
    told = report_of_time(300)
    for key in ("within", "deadline", "delay", "debounce", "repeat", "retry", "maxConcurrency", "paused"):
        assert told[f"decides by {key}"] > 0.015, key
    assert told["has held"] > 0.05
    assert told["has expired"] > 0.1


def test_a_scenario_is_the_same_each_time() -> None:
    assert numbered_timed_scenario(7) == numbered_timed_scenario(7)
