"""The harness can fail: on another error, on too few branches, on an input that takes too long."""

from __future__ import annotations

import time

import pytest

from tests.fuzz import test_json
from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutations
from triggerstream.core.errors import DecodeError
from triggerstream.wire import json as wire_json

LOADS = Parser(module=wire_json, functions=frozenset({"loads"}))


def fuzzer(
    *, refuses: tuple[type[Exception], ...] = (DecodeError,), seeds: tuple[bytes, ...] = test_json.SEEDS
) -> Fuzzer[bytes]:
    return Fuzzer(parse=wire_json.loads, refuses=refuses, seeds=seeds, mutate=mutate_bytes, parsers=(LOADS,))


def test_an_error_that_is_not_declared_fails_with_its_input() -> None:
    with pytest.raises(DecodeError) as caught:
        fuzz(fuzzer(refuses=()), count=1_000)
    assert caught.value.__notes__[0].startswith("fuzzing input: b")


def test_too_few_branches_fail() -> None:
    with pytest.raises(AssertionError, match="branches"):
        fuzz(fuzzer(seeds=(b"{}",)), count=1)


def test_an_input_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.harness.LONGEST_INPUT_S", 0.01)

    def slow(_text: bytes) -> None:
        begun = time.process_time()
        while time.process_time() < begun + 0.02:
            pass

    with pytest.raises(AssertionError, match="processor time"):
        fuzz(Fuzzer(parse=slow, refuses=(), seeds=(b"",), mutate=mutate_bytes, parsers=(LOADS,)), count=1)


def test_inputs_are_the_same_for_the_same_seed() -> None:
    def first(seed: int) -> list[bytes]:
        found = mutations(test_json.SEEDS, mutate_bytes, seed=seed)
        return [next(found) for _ in range(200)]

    assert first(1) == first(1)
    assert first(1) != first(2)
