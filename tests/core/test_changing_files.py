"""Random files of the language are usable, and use all of it."""

from __future__ import annotations

from random import Random

from tests.core.changing_files import (
    CHANGE_BYTES,
    CHANGES,
    FILE_BYTES,
    WHERES,
    File,
    changed,
    file_of,
    is_usable,
)
from tests.core.strategies import Dice


def random_files() -> list[File]:
    found = []
    for seed in range(300):
        random = Random(seed)
        file = file_of(Dice(random.randbytes(FILE_BYTES)))
        found += [file, changed(file, Dice(random.randbytes(CHANGE_BYTES)))]
    return found


def test_random_files_are_usable() -> None:
    for file in random_files():
        assert is_usable(file), file


def test_random_files_use_the_whole_language() -> None:
    text = str(random_files())
    keys = ("all", "any", "atLeast", "sequence", "where", "as", "count", "key", "each", "andEvery")
    for word in (*keys, "unlessFrom", "withParams", "appliesTo", "retry"):
        assert f"'{word}'" in text, word
    assert all(repr(where) in text for where in WHERES)


def test_every_kind_of_change_makes_another_usable_file() -> None:
    kinds = set()
    for seed in range(2_000):
        random = Random(seed)
        file = file_of(Dice(random.randbytes(FILE_BYTES)))
        drawn = bytes([0, seed % len(CHANGES)]) + random.randbytes(CHANGE_BYTES)
        new = changed(file, Dice(drawn))
        if new != file or list(new) != list(file):
            kinds.add(CHANGES[seed % len(CHANGES)])
        assert is_usable(new)
    assert kinds == set(CHANGES)
