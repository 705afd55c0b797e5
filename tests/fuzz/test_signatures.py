"""Fuzzers of control keys: the file that holds them, and signed records with one thing changed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from msgspec.structs import asdict

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    ENGINE_PREFIX,
    Body,
    Cancel,
    Close,
    ConfigApplied,
    Erase,
    Event,
    Finished,
    Release,
    Resend,
    Timer,
    Trigger,
)
from triggerstream.core.ids import AppId, CommandId, InstanceId, TriggerName
from triggerstream.wire import events, signature
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import ORIGIN_HEADER
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import GRACE_US, SIGNATURE_HEADER, ControlKey, ControlKeys, read_keys

APP = AppId("app")
SINCE = 1_000_000_000_000
LATER = SINCE + 10 * GRACE_US
KEYS = ControlKeys(
    (ControlKey(since_us=SINCE, secret=b"1" * 32), ControlKey(since_us=LATER, secret=b"2" * 32))
)
T0, C = InstanceId("t#0"), CommandId("c")


def test_a_key_file_is_read_or_refused_with_one_error() -> None:
    fuzz(
        Fuzzer(
            parse=lambda data: read_keys(data.decode(errors="surrogateescape")),
            refuses=(DecodeError,),
            seeds=(
                f"2026-11-25T12:00:00Z {'ab' * 32}  # 1\n2026-12-01T00:00:00+01:00\t{'CD' * 40}\n".encode(),
                f"2026-11-25T12:00:00Z {'ab' * 32}\n2026-11-25T12:00:00Z {'ab' * 32}".encode(),
                f"2026-11-25T12:00:00Z {'ab' * 31}".encode(),
                b"2026-11-25T12:00:00Z xyz",
                b"# nothing\n\n",
            ),
            mutate=lambda chance, data: mutate_bytes(chance, data, (b"#", b"\n", b"Z", b"\x85", b"ab" * 32)),
            parsers=(Parser(module=signature, functions=frozenset({"read_keys"})),),
        )
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A record as the log has it."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    arrival_us: int

    def record(self) -> Record:
        """Its place does not matter."""
        return Record(
            partition=0,
            offset=1,
            arrival_us=self.arrival_us,
            key=self.key,
            value=self.value,
            headers=self.headers,
        )


def _signed(body: Body | ConfigApplied, *, origin: bytes | None = None, now_us: int = SINCE) -> Found:
    headers = () if origin is None else ((ORIGIN_HEADER, origin),)
    key = None if isinstance(body, ConfigApplied) else b"s"
    plain = NewRecord(key=key, value=events.encode(body), headers=headers)
    made = KEYS.signed(APP, plain, now_us=now_us)
    return Found(key=made.key, value=made.value, headers=made.headers, arrival_us=now_us)


CONFIG = ConfigApplied(text="{}", hash=text_hash("{}"), replaces=None, fold=1, number=1)
SEEDS = (
    _signed(CONFIG),
    _signed(Close(generation=0)),
    _signed(Erase(generation=3, reason="r"), now_us=LATER),
    _signed(Cancel(instance=T0, generation=0), origin=b"1:2:3"),
    _signed(Resend(instance=T0, generation=0, attempt=2)),
    _signed(Release(instance=T0, generation=0)),
    _signed(Finished(instance=T0, command=C, result={"a": 1}), now_us=LATER + 2 * GRACE_US),
    _signed(Timer()),
    _signed(Trigger(name=TriggerName("a"), data={"x": 1})),
    # Signed without what they expect, by the rules of a program that is not ours.
    _signed(Close(), origin=b"1:2:3"),
    _signed(Resend(instance=T0, generation=0), origin=b"1:2:3"),
    _signed(ConfigApplied(**{**asdict(CONFIG), "number": None}), origin=b"1:2:3"),
)
COVERED = {(one.key, one.value, dict(one.headers).get(ORIGIN_HEADER)) for one in SEEDS}
NAMES = (
    *(SIGNATURE_HEADER, ORIGIN_HEADER, "traceparent", "ce_type", "CE_type", "ce_session", "ce_\\xff"),
    *("content-type", "ce_id"),
)
VALUES = (
    *(None, b"", b"triggerstream.session.erase", b"s", b"0:0:1", b"\xff", b"f" * 64),
    *(value for one in SEEDS for _, value in one.headers),
)


def _mutate(chance: random.Random, one: Found) -> Found:
    match chance.randrange(7):
        case 0:
            return replace(one, key=chance.choice((None, b"", b"s", b"t", b"\x00", b"\xff")))
        case 1:
            return replace(one, value=mutate_bytes(chance, one.value))
        case 2:
            return replace(one, value=chance.choice(SEEDS).value)
        case 3:
            return replace(one, arrival_us=chance.choice((0, SINCE - 1, SINCE, LATER, LATER + 2 * GRACE_US)))
        case 4 if one.headers:
            at = chance.randrange(len(one.headers))
            name, value = one.headers[at]
            changed = (
                (chance.choice(NAMES), value) if chance.random() < 0.5 else (name, chance.choice(VALUES))
            )
            return replace(one, headers=(*one.headers[:at], changed, *one.headers[at + 1 :]))
        case 5 if one.headers:
            at = chance.randrange(len(one.headers))
            return replace(one, headers=one.headers[:at] + one.headers[at + 1 :])
        case _:
            return replace(one, headers=(*one.headers, (chance.choice(NAMES), chance.choice(VALUES))))


def _authenticate(one: Found) -> None:
    record = one.record()
    found = KEYS.authenticate(APP, record, events.decode(record))
    own = isinstance(found, ConfigApplied) or found.type.startswith(ENGINE_PREFIX)
    if own and record.arrival_us >= SINCE:
        # What is taken as the engine's own was signed as it is, whatever stands beside it.
        origin = events.headers_by_name(record.headers).get(ORIGIN_HEADER)
        assert (record.key, record.value, origin) in COVERED
        plain = (SIGNATURE_HEADER, ORIGIN_HEADER)
        bare = tuple(header for header in record.headers if header[0] in plain)
        again = events.decode(Record(**{**asdict(record), "headers": bare}))
        assert found == again
        if isinstance(found, Event):
            assert not isinstance(found.body, Trigger)
    moved = NewRecord(key=record.key, value=record.value or b"", headers=events.rehomed_headers(record))
    KEYS.signed(APP, moved, now_us=SINCE)


def test_a_record_with_anything_changed_is_refused_or_means_what_was_signed() -> None:
    functions = frozenset(
        {
            *("ControlKeys.signed", "ControlKeys.authenticate", "ControlKeys._is_signed"),
            *("_is_engines_own", "_check_expectations", "_signature"),
        }
    )
    fuzz(
        Fuzzer(
            parse=_authenticate,
            refuses=(DecodeError,),
            seeds=SEEDS,
            mutate=_mutate,
            parsers=(Parser(module=signature, functions=functions),),
        )
    )
