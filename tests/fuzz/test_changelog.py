"""Fuzzers of what a changelog keeps beside states: the checkpoint, and the history of configurations."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes
from triggerstream.core.errors import DecodeError
from triggerstream.engine.partitioned import versions
from triggerstream.engine.partitioned.versions import FORMER_KEY, TEXT_PREFIX, VERSIONS_KEY, history_texts
from triggerstream.wire import marks
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import CheckpointMark, Identity, decode_checkpoint, encode_checkpoint

TEXT = b'{"t": {"after": ["a"], "run": "tasks.t"}}'
HASH = sha256(TEXT).hexdigest()
ENTRY = {"offset": 3, "arrival": 1_700_000_000_000_000, "number": 2, "hash": HASH, "bytes": len(TEXT)}
Kept = tuple[bytes | None, bytes, bytes | None]
"""What is under the keys of the versions, of the text, and of the former format."""


def test_a_checkpoint_is_read_or_refused_with_one_error() -> None:
    identity = Identity(cluster="c", topic="t", partitions=12)
    seeds = [
        encode_checkpoint(CheckpointMark(offset=7, identity=identity, scanned=3, rebuilt=rebuilt))
        for rebuilt in (-1, 40)
    ]
    fuzz(
        Fuzzer(
            parse=decode_checkpoint,
            refuses=(DecodeError,),
            seeds=seeds,
            mutate=mutate_bytes,
            parsers=(Parser(module=marks, functions=frozenset({"decode_checkpoint", "check_version"})),),
        )
    )


def test_a_history_is_read_or_refused_with_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions_ = dumps({"version": 1, "versions": [ENTRY, {**ENTRY, "offset": 9}]})
    former = dumps({"version": 1, "configurations": [{**ENTRY, "text": TEXT.decode()}]})
    reading = frozenset({"read_history", "history_texts", "_text", "_former", "_former_texts", "_key"})
    monkeypatch.setattr(versions, "MOST_IN_RECORD", 2)
    fuzz(
        Fuzzer(
            parse=_texts,
            refuses=(DecodeError,),
            seeds=(
                (versions_, TEXT, None),
                (None, TEXT, former),
                (None, b"", former),
                (dumps({"version": 1, "versions": {}}), TEXT, None),
                (None, TEXT, dumps({"version": 1, "configurations": 3})),
                (None, TEXT, None),
            ),
            mutate=_mutate,
            parsers=(Parser(module=versions, functions=reading),),
        )
    )


def _texts(kept: Kept) -> object:
    values = {VERSIONS_KEY: kept[0], TEXT_PREFIX + HASH.encode(): kept[1] or None, FORMER_KEY: kept[2]}
    return history_texts(values.get)


def _mutate(chance: random.Random, kept: Kept) -> Kept:
    first, text, former = kept
    match chance.randrange(4):
        case 0:
            return first, mutate_bytes(chance, text), former
        case 1 if former is not None:
            return first, text, mutate_bytes(chance, former)
        case _ if first is not None:
            return mutate_bytes(chance, first), text, former
        case _:
            return kept
