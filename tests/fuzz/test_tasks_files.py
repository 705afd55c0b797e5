"""Fuzzers of tasks files, which people write by hand: every finding is said, nothing else is raised."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutate_json
from triggerstream.core import paths
from triggerstream.core.errors import ConfigError
from triggerstream.wire import tasksfile
from triggerstream.wire.tasksfile import (
    condition_checks,
    conditions,
    encoder,
    entries,
    jsonc,
    leaves,
    lexemes,
    logic,
    nodes,
    rings,
    tree,
)
from triggerstream.wire.tasksfile import keys as taskkeys
from triggerstream.wire.tasksfile import rules as taskrules

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
TOKENS = (
    *(
        b"//",
        b"/*",
        b"*/",
        b",",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b'"',
        b"'",
        b"\\u12",
        b"\\x",
        b"\\",
        b"\n",
        b"\xff",
    ),
    *(
        b"True",
        b"None",
        b"undefined",
        b"NaN",
        b"-",
        b"+1",
        b"01",
        b".5",
        b"1.",
        b"1e",
        b"0x10",
        b"1e400",
        b"after",
    ),
    *(b"\xef\xbb\xbf", b"\xe2\x80\x9c", b"\x00", b"\t", b";", b"=", b"`", b"9223372036854775808"),
)
NAMES = (
    *("after", "run", "unless", "andEvery", "withParams", "using", "retry", "queue", "expires", "max"),
    *(
        "within",
        "deadline",
        "delay",
        "debounce",
        "quiet",
        "atMost",
        "repeat",
        "every",
        "priority",
        "onTimeout",
    ),
    *("maxConcurrency", "paused", "t_a.timeout", "t_b.timeout", "1h", "0s"),
    *("backoff", "factor", "maxBackoff", "$bounds", "$extras", "$schema", "stateBytes", "decidedBytes"),
    *("x-note", "unles", "count", "t_page", "triggerstream.x", "a#1", "unlessFrom", "appliesTo", "instance"),
    *("trigger", "where", "as", "key", "each", "of", "list", "any", "all", "atLeast", "sequence", "existing"),
    *(
        "data.id",
        "data['x y'].z",
        "data.",
        "data.score > 3",
        "data.x.matches('y')",
        "true",
        "a",
        "b",
        "asked",
    ),
)
RULES = b"""{
  "t_a": {"after": ["t_b"], "run": "x.a", "unless": ["t_b"]},
  "t_b": {"after": ["t_a", "orderPaid", "orderCancelled"], "andEvery": "t_a", "run": "x.b"},
  "t_c": {"after": ["not an identifier", "t_c"], "run": "x.c", "withParams": {"other": 1, "t_c": {"a": 1}}},
  "t_d": {"after": [], "andEvery": "t_d", "run": "x.d", "retry": {"max": 3, "backoff": "1h"}},
  "t_e": {"after": ["a"], "unless": ["orderRejected", "orderCancelled"], "run": "x.e"}
}"""
CONDITIONS = b"""{
  "t_a": {
    "after": [{"any": ["a", ["b", {"trigger": "b", "as": "x"}]]}, {"atLeast": 2, "of": ["a", "b", "c"]}],
    "unless": [{"any": ["a", "b"]}], "andEvery": "x", "run": "x.a", "withParams": {"x": {"n": 1}, "b": 1}},
  "t_b": {
    "after": ["asked", {"trigger": "t_a", "key": "data['x'].id", "each": {"of": "asked", "list": "data.l"}}],
    "unless": [{"sequence": ["b", {"trigger": "c", "count": 2}]}], "unlessFrom": "instance", "run": "x.b"},
  "t_c": {"after": [{"trigger": "t_b", "where": "data.score > 3 && \\u0022x\\u0022 == data.y", "as": "y"}],
    "andEvery": {"trigger": "t_c", "count": 3, "where": "true"}, "appliesTo": "existing", "run": "x.c"},
  "t_d": {"after": [{"all": ["t_d", {"any": ["t_d"]}]}], "unless": ["t_d"], "run": "x.d"}
}"""


TIMES = b"""{
  "t_a": {"after": ["a", "b"], "deadline": "1d", "within": "2d", "run": "x.a", "maxConcurrency": 3},
  "t_b": {"after": ["t_a.timeout"], "andEvery": "t_c.timeout", "unless": ["c"], "unlessFrom": "instance",
    "delay": "1h", "repeat": {"every": "1d", "max": 1000}, "run": "x.b", "priority": 0},
  "t_c": {"after": ["b"], "andEvery": "a", "debounce": {"quiet": "5m", "atMost": "1h"}, "deadline": "30m",
    "paused": true, "run": "x.c"},
  "t_d": {"after": ["t_d.timeout", "a"], "deadline": "1h", "run": "x.d"},
  "t_d.timeout": {"after": ["t_b.timeout", "t_x.timeout"], "run": "x.e", "debounce": "1h"}
}"""


def _examples() -> tuple[bytes, ...]:
    files = sorted((EXAMPLES / "valid" / "tasks").iterdir()) + sorted(
        file for file in (EXAMPLES / "invalid" / "tasks").rglob("*") if file.is_file()
    )
    return (RULES, CONDITIONS, TIMES, b"", *(file.read_bytes() for file in files))


def _mutate(chance: random.Random, data: bytes) -> bytes:
    if chance.random() < 0.5:
        try:
            return orjson.dumps(mutate_json(chance, orjson.loads(data), NAMES))
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass
    return mutate_bytes(chance, data, TOKENS)


def _read(text: bytes) -> None:
    """What is read is written and read again as the same; every finding has a place in the file."""
    config, findings = tasksfile.check(text, name="tasks.json")
    assert all(finding.line >= 1 and finding.column >= 1 and finding.message for finding in findings)
    if config is None:
        raise ConfigError("tasks.json", findings)
    again = tasksfile.read(tasksfile.encode(config), name="again")
    assert (again.tasks, again.bounds) == (config.tasks, config.bounds)


def test_tasks_files_are_read_or_refused_with_their_findings() -> None:
    fuzz(
        Fuzzer(
            parse=_read,
            refuses=(ConfigError,),
            seeds=_examples(),
            mutate=_mutate,
            parsers=tuple(
                Parser(module=module)
                for module in (
                    *(condition_checks, conditions, encoder, entries, jsonc, leaves, lexemes, logic, nodes),
                    *(paths, rings, taskkeys, taskrules, tasksfile, tree),
                )
            ),
        )
    )
