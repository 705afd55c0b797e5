"""Fuzzing harness: mutated inputs, one allowed error, a bound on time, and a floor of branch coverage.

A fuzzer passes when every input is parsed or refused with a declared error, no input takes longer than
``LONGEST_INPUT_S`` of processor time, and the first ``MEASURED`` inputs together take at least
``BRANCHES`` of the branches of the parser. Inputs depend on ``FUZZ_SEED`` and on nothing else, so that a
failure can be repeated; ``FUZZ_INPUTS`` says how many there are: 10,000 in `make test`, 1,000,000 in
`make fuzz`.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import coverage

T = TypeVar("T")

INPUTS = int(os.environ.get("FUZZ_INPUTS", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
MEASURED = 10_000
"""Tracing makes a parser some ten times slower: only these inputs are traced."""
BRANCHES = 0.9
LONGEST_INPUT_S = 5.0
"""Processor time. The slowest input of all fuzzers takes milliseconds; the rest is for a busy machine."""

Mutate = Callable[[random.Random, T], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """The code whose branches count: all functions of ``module``, or those named in ``functions`` alone."""

    module: ModuleType
    functions: frozenset[str] = field(default_factory=frozenset)
    without: frozenset[str] = field(default_factory=frozenset)
    """Functions of the module that do not parse, an encoder for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzer(Generic[T]):
    """``parse`` gets seeds and mutations of seeds; it may return anything, and raise ``refuses`` only."""

    parse: Callable[[T], object]
    refuses: tuple[type[Exception], ...]
    seeds: Sequence[T]
    mutate: Mutate[T]
    parsers: Sequence[Parser]


def fuzz(fuzzer: Fuzzer[T], *, count: int = INPUTS, seed: int = SEED) -> None:
    """Parse ``count`` inputs; raise, with the input as a note, for the first that is not as it must be."""
    inputs = mutations(fuzzer.seeds, fuzzer.mutate, seed=seed)
    tracer = coverage.Coverage(
        data_file=None,
        branch=True,
        include=[_file(parser.module) for parser in fuzzer.parsers],
        config_file=False,  # that of `make coverage` is for all of the package
    )
    tracer.start()
    try:
        for _ in range(min(count, MEASURED)):
            _try(fuzzer, next(inputs))
    finally:
        tracer.stop()
    for _ in range(max(0, count - MEASURED)):
        _try(fuzzer, next(inputs))
    reached = branches(tracer, fuzzer.parsers)
    assert reached.share >= BRANCHES, f"only {reached.taken} of {reached.total} branches: {reached.missing}"


def mutations(seeds: Sequence[T], mutate: Mutate[T], *, seed: int = SEED) -> Iterator[T]:
    """The seeds, each once, then mutations of them without end: one to four of them, one upon another."""
    chance = random.Random(seed)
    yield from seeds
    while True:
        item = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            item = mutate(chance, item)
        yield item


def _try(fuzzer: Fuzzer[T], item: T) -> None:
    begun = time.process_time()
    try:
        fuzzer.parse(item)
    except fuzzer.refuses:
        pass
    except BaseException as exc:
        exc.add_note(f"fuzzing input: {item!r:.20000}")
        raise
    took = time.process_time() - begun
    assert took < LONGEST_INPUT_S, f"{took:.1f} s of processor time for the input {item!r:.20000}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Branches that were taken, of all there are; ``missing`` names the functions that lack some."""

    taken: int
    total: int
    missing: str

    @property
    def share(self) -> float:
        return self.taken / self.total if self.total else 1.0


def branches(tracer: coverage.Coverage, parsers: Sequence[Parser]) -> Reached:
    """The branches of ``parsers`` that ``tracer`` saw taken."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "coverage.json"
        tracer.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    by_file = {str(Path(name).resolve()): found["functions"] for name, found in files.items()}
    taken = total = 0
    missing: list[str] = []
    for parser in parsers:
        functions: dict[str, Any] = by_file.get(_file(parser.module), {})
        unknown = (parser.functions | parser.without) - functions.keys()
        assert not unknown, f"{parser.module.__name__} has no {', '.join(sorted(unknown))}"
        for name, found in functions.items():
            if not name or name in parser.without or (parser.functions and name not in parser.functions):
                continue
            summary = found["summary"]
            taken += summary["covered_branches"]
            total += summary["num_branches"]
            if summary["missing_branches"]:
                missing.append(f"{parser.module.__name__}.{name} {found['missing_branches']}")
    return Reached(taken=taken, total=total, missing="; ".join(missing))


def _file(module: ModuleType) -> str:
    assert module.__file__ is not None
    return str(Path(module.__file__).resolve())


# ---- mutations ----------------------------------------------------------------------------------

_BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\\ud800",
    b'"',
    b"{",
    b"[",
    b"}",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"NaN",
    b"-0",
    b"1e400",
    b"9223372036854775808",
    b"//",
    b"/*",
    b"\r\n",
    b"\xe2\x80\xae",
)

_VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    -(2**63) - 1,
    1.5,
    "",
    "x",
    "\x00",
    "\ud800",
    "x" * 2000,
    "2026-03-01T12:00:00Z",
    "t#0",
    [],
    [1],
    [[]],
    {},
    {"": {}},
)


def mutate_bytes(chance: random.Random, data: bytes, tokens: Sequence[bytes] = _BYTES) -> bytes:
    """``data`` with one change: a flipped bit, a token, random bytes, a slice cut or doubled."""
    at = chance.randint(0, len(data))
    to = min(len(data), at + chance.choice((1, 2, 4, 16, 256)))
    match chance.randrange(7):
        case 0 if data:
            place = min(at, len(data) - 1)
            return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        case 1:
            return data[:at] + chance.choice(tokens) + data[at:]
        case 2:
            return data[:at] + chance.choice(tokens) + data[to:]
        case 3:
            return data[:at] + data[to:]
        case 4:
            return data[:to] + data[at:to] + data[to:]
        case 5:
            return data[:at]
        case _:
            return data[:at] + chance.randbytes(chance.choice((1, 2, 8))) + data[to:]


def mutate_json(chance: random.Random, value: Any, names: Sequence[str] = ()) -> Any:  # noqa: ANN401 - JSON is of any kind
    """A JSON value with one change somewhere in it: ``names`` are keys worth putting in."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return {**value, chance.choice([*names, "x", ""]): chance.choice(_VALUES)}
            case 2:
                named = {
                    (chance.choice([*names, "x"]) if name == key else name): item
                    for name, item in value.items()
                }
                return dict(named)
            case _:
                return {**value, key: mutate_json(chance, value[key], names)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, chance.choice([*value, *_VALUES])]
            case _:
                return [*value[:at], mutate_json(chance, value[at], names), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randint(0, len(value))
        return value[:at] + chance.choice(("\x00", " ", "#", "é", "\u2028", "0", "")) + value[at + 1 :]
    return chance.choice(_VALUES)
