"""Fuzzers of what the engine itself has written: session states, and commands."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutate_json
from triggerstream.core.errors import DecodeError
from triggerstream.wire import commands, state

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
STATE_NAMES = ("open", "resolved", "removed", "captured", "kept", "seen", "digests", "waitsFrom", "version")
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
    stored = state.encode(known)
    assert state.decode(stored) == known
    assert state.EncodedSizes().state(known) <= len(stored)


def _read_command(value: bytes) -> None:
    decision = commands.decode(value)
    assert commands.decode(commands.encode(decision)) == decision


def test_states_are_read_or_refused_with_one_error() -> None:
    fuzz(
        Fuzzer(
            parse=_read_state,
            refuses=(DecodeError,),
            seeds=_examples("states"),
            mutate=_mutate_state,
            parsers=(
                Parser(
                    module=state,
                    functions=frozenset(
                        {"decode", "_decode_stored", "_version_of", "_error_text", "_read_record", "_error"}
                    ),
                ),
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
