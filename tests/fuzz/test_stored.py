"""Fuzzers of what the engine itself has written: session states, and commands."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from tests.core.story import Story
from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutate_json
from tests.wire.test_plain_states import read_both_ways
from triggerstream.core import lazy
from triggerstream.core.errors import DecodeError
from triggerstream.core.state import SessionState
from triggerstream.wire import (
    blocks,
    commands,
    latest_events,
    plain_states,
    state,
    state_reader,
    stored_state,
    timeline_lines,
)
from triggerstream.wire.int_columns import LONG

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
STATE_NAMES = (
    *("open", "resolved", "removed", "captured", "kept", "seen", "digests", "waitsFrom", "version"),
    *("sent", "decided"),
)
LINE_NAMES = (
    *("openLines", "seenLines", "keptLines", "numbers", "offsets", "triggers", "bytes", "status", "captured"),
    *("noted", "sent", "number", "offset", "waitsFrom", "next", "count", "capturedAt", "positionLines"),
    "retired",
)
COMMAND_NAMES = ("kind", "id", "instance", "task", "kwargs", "causes", "expires", "decided", "offset")


def _examples(kind: str) -> tuple[bytes, ...]:
    files = sorted((EXAMPLES / "valid" / kind).iterdir()) + sorted(
        (EXAMPLES / "invalid" / kind).rglob("*.json")
    )
    return tuple(file.read_bytes() for file in files if file.is_file())


def _mutate_with(names: tuple[str, ...], chance: random.Random, data: bytes) -> bytes:
    """Mostly a change of the JSON that it is, else one of its bytes."""
    if chance.random() < 0.7:
        try:
            return orjson.dumps(mutate_json(chance, orjson.loads(data), names))
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass
    return mutate_bytes(chance, data)


def _mutate_state(chance: random.Random, data: bytes) -> bytes:
    return _mutate_with(STATE_NAMES, chance, data)


def _mutate_command(chance: random.Random, data: bytes) -> bytes:
    return _mutate_with(COMMAND_NAMES, chance, data)


def _read_state(value: bytes) -> None:
    """What is read is written and read again as the same."""
    known = state.decode(value)
    read_both_ways(value)
    stored = state.encode(known)
    assert state.decode(stored) == known
    assert state.EncodedSizes().state(known) <= state.size_at_most(state.pack(known), len(stored))


def _read_command(value: bytes) -> None:
    decision = commands.decode(value)
    assert commands.decode(commands.encode(decision)) == decision


def _states_with_lines() -> tuple[bytes, ...]:
    """States with instances and events as lines."""
    story = Story(
        {
            "t": {"after": ["b"], "andEvery": "a", "unless": ["no"], "run": "r"},
            "u": {"after": [{"trigger": "b", "count": 50}], "andEvery": "a", "run": "r"},
            "v": {"after": [], "andEvery": "a", "delay": "1h", "run": "r"},
        }
    )
    found = []
    for n in range(40):
        story.fire("a", {"n": n})
        story.fire(f"other{n}", {"n": n})
        if n in (20, 30):
            story.fire("b" if n == 20 else "no")
            story.started("t#3")
        if n in (19, 22, 32):
            found.append(state.encode(story.state or SessionState()))
    many = Story({"t": {"after": [f"other{n}" for n in range(40)], "run": "r"}})
    for n in range(30):
        many.fire(f"other{n}", {"n": n}, id=f"id{n}")
    many.fire("other3", {"n": 3})
    found.append(state.encode(many.state or SessionState()))
    past = Story({"t": {"after": [], "andEvery": "a", "run": "r"}})
    for _ in range(40):
        past.fire("a")
    for number in range(12):
        past.finished(f"t#{number}")
    found.append(state.encode(past.state or SessionState()))
    for _ in range(LONG):
        past.fire("a")
    past.started("t#20")
    found.append(state.encode(past.state or SessionState()))
    return tuple(found)


def _mutate_lines(chance: random.Random, data: bytes) -> bytes:
    """A change of the head, of one line, or of the order of the lines; else one of the bytes."""
    lines = data.split(b"\n")
    what = chance.random()
    if what < 0.2:
        return mutate_bytes(chance, data)
    at = 0 if what < 0.6 else chance.randrange(len(lines))
    if what < 0.8:
        lines[at] = _mutate_with(LINE_NAMES, chance, lines[at])
    else:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


def test_states_are_read_or_refused_with_one_error() -> None:
    fuzz(
        Fuzzer(
            parse=_read_state,
            refuses=(DecodeError,),
            seeds=_examples("states") + _states_with_lines() * 20,
            mutate=lambda chance, data: (_mutate_lines if b"}\n" in data else _mutate_state)(chance, data),
            parsers=(
                Parser(
                    module=state,
                    functions=frozenset(
                        {"decode", "decode_lazily", "_decode_stored", "_version_of", "_error_text"}
                    ),
                ),
                Parser(module=plain_states, functions=frozenset({"read_plain"})),
                Parser(module=state_reader),
                Parser(
                    module=blocks,
                    functions=frozenset(
                        {
                            "decode_line",
                            "decode_lines",
                            "decode_arrival",
                            "_Instances.decode",
                            "read_instances",
                        }
                    ),
                ),
                Parser(
                    module=latest_events,
                    functions=frozenset({"decode_column", "read_latest", "read_captured"}),
                ),
                Parser(module=timeline_lines, functions=frozenset({"_Timeline.decode", "read_timeline"})),
                Parser(
                    module=stored_state, functions=frozenset({"Lines.take", "Lines.take_piece", "Lines.end"})
                ),
                Parser(module=lazy, functions=frozenset({"split_lines"})),
            ),
        )
    )


def test_commands_are_read_or_refused_with_one_error() -> None:
    fuzz(
        Fuzzer(
            parse=_read_command,
            refuses=(DecodeError,),
            seeds=_examples("commands"),
            mutate=_mutate_command,
            parsers=(Parser(module=commands),),
        )
    )
