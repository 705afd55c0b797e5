"""Fuzzers of what every door reads: JSON, instants, durations."""

from __future__ import annotations

import random

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes
from triggerstream.core.errors import DecodeError
from triggerstream.wire import durations, instants
from triggerstream.wire import json as wire_json

DEEP = b"[" * 70 + b"]" * 70
SEEDS = (
    b'{"type": "module1Received", "data": {"score": 3}}',
    b'[1, 2.5, -3e7, true, false, null, "\\u00e9", {}]',
    b'{"a": 9223372036854775808}',
    b'["9223372036854775808", 1.5, -12345678901234567890123456789]',
    b'{"0000000000000000000000": 9223372036854775807}',
    b"1234567890123456789012345678901234567890",
    DEEP,
)


def test_json_is_read_or_refused_with_one_error() -> None:
    reading = frozenset({"loads", "_depth_exceeds", "_may_be_a_number", "_check_integers"})
    fuzz(
        Fuzzer(
            parse=wire_json.loads,
            refuses=(DecodeError,),
            seeds=SEEDS,
            mutate=mutate_bytes,
            parsers=(Parser(module=wire_json, functions=reading),),
        )
    )


def _mutate_text(chance: random.Random, text: str) -> str:
    return mutate_bytes(chance, text.encode(), (b"Z", b"+", b"-", b":", b"60", b"s", b"m", b"9")).decode(
        errors="replace"
    )


def test_instants_are_read_or_refused_with_one_error() -> None:
    fuzz(
        Fuzzer(
            parse=instants.parse_instant,
            refuses=(DecodeError,),
            seeds=(
                "2026-03-01T12:00:00Z",
                "2016-12-31T23:59:60+01:00",
                "0001-01-01T00:00:00.123456789-23:59",
                "9999-12-31T23:59:59.5Z",
                "2026-02-30T12:00:00Z",
            ),
            mutate=_mutate_text,
            parsers=(Parser(module=instants, functions=frozenset({"parse_instant"})),),
        )
    )


def test_durations_are_read_or_are_none() -> None:
    fuzz(
        Fuzzer(
            parse=durations.parse_duration,
            refuses=(),
            seeds=("10s", "1h30m", "100d", "0s", "9999999999999999999d", "36600d", "x"),
            mutate=_mutate_text,
            parsers=(Parser(module=durations, functions=frozenset({"parse_duration"})),),
        )
    )
