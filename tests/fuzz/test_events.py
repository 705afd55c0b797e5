"""Fuzzer of records: key, value and headers as any client may write them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    TYPES,
    Body,
    Cancel,
    Close,
    ConfigApplied,
    Erase,
    Failed,
    Finished,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.ids import AppId, CommandId, InstanceId, TriggerName
from triggerstream.wire import engine_events, events, plain_events, records
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import ORIGIN_HEADER
from triggerstream.wire.records import Headers, Record
from triggerstream.wire.signature import SIGNATURE_HEADER, ControlKey, ControlKeys

APP = AppId("app")
CONTROL = ControlKeys((ControlKey(since_us=0, secret=b"1" * 32),))
INSTANCE, COMMAND = InstanceId("t#0"), CommandId("c")
TEXT = '{"t": {"after": ["a"], "run": "r"}}'


@dataclass(frozen=True)
class Bytes:
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def _of(body: Body | ConfigApplied, *, key: bytes | None = b"s", **named: str) -> Bytes:
    return Bytes(key=key, value=events.encode(body, **named))  # type: ignore[arg-type] # all of them are texts


TRIGGER = Trigger(name=TriggerName("a"), data={"n": 1})
BODIES: tuple[Body, ...] = (
    TRIGGER,
    Started(instance=INSTANCE, command=COMMAND, metadata={"pid": 1}),
    Finished(instance=INSTANCE, command=COMMAND, result=[1.5]),
    Failed(instance=INSTANCE, command=COMMAND, error="no"),
    Skipped(instance=INSTANCE, command=COMMAND),
    Retried(instance=INSTANCE, command=COMMAND, kwargs={"a": {}}, after_us=1_500_000),
    Revoked(instance=INSTANCE, command=COMMAND),
    Skip(instance=INSTANCE, cascade=True, result=None),
    Replay(instance=INSTANCE, kwargs=None, force=False, reason="r", by="b"),
    Cancel(instance=INSTANCE),
    Resend(instance=INSTANCE),
    Release(instance=INSTANCE),
    Close(),
    Erase(),
    Touch(),
    Timer(),
)
PLAIN = _of(TRIGGER, id="1", source="here", traceparent="00-x")
SEEDS = (
    *map(_of, BODIES),
    PLAIN,
    replace(PLAIN, value=b"\xef\xbb\xbf" + (PLAIN.value or b"")),
    replace(PLAIN, key=b"", value=b'{"type": "a", "subject": "s", "specversion": "1.0"}'),
    replace(PLAIN, key=None, value=b'{"type": "a", "session": "s", "time": "2026-03-01T12:00:00Z"}'),
    replace(PLAIN, headers=((ORIGIN_HEADER, b"1:2:3"), ("traceparent", b"00"), ("\\xff", None))),
    replace(PLAIN, headers=((ORIGIN_HEADER, b"x"),)),
    replace(PLAIN, headers=(("traceparent", b"\xff"),)),
    Bytes(b"s", b'{"n": 1}', (("ce_type", b"a"), ("ce_id", b"1"), ("ce_specversion", b"1.0"))),
    Bytes(b"s", None, (("ce_type", b"a"), ("ce_\\xff", b"\xff"), ("ce_time", b"2026-03-01T12:00:00Z"))),
    Bytes(b"s", b"[]", (("ce_type", b"a"), ("ce_id", b"\xff"))),
    replace(PLAIN, headers=(("ce_type", b"b"), ("content-type", b"application/cloudevents+json"))),
    replace(PLAIN, headers=(("ce_x", b"x" * 70_000), ("content-type", b"application/cloudevents"))),
    replace(PLAIN, headers=(("other", b"x" * 70_000), ("ce_type", b"b"), ("traceparent", b"00"))),
    replace(PLAIN, headers=(("ce_x", b"x" * 70_000), ("content-type", b"application/cloudevents+avro"))),
    replace(PLAIN, headers=(("ce_type", b"b"), ("content-type", b"application/json"))),
    Bytes(b"s", b'{"type": "a", "data_base64": "eA=="}'),
    Bytes(b"s", b'{"type": "a", "specversion": "0.3"}'),
    Bytes(b"s", b'{"type": "triggerstream.nothing"}'),
    Bytes(b"s", b'{"type": "a", "session": "t"}'),
    Bytes(b"s", b'{"type": "a", "id": ""}'),
    Bytes(b"s", b"[]"),
    Bytes(b"\x00", b'{"type": "a"}'),
    Bytes(b"\xff", b'{"type": "a"}'),
    Bytes(b"x" * 1025, b'{"type": "a"}'),
    Bytes(b"s", b'{"type": "a", "data": {"x": "' + b"x" * 300_000 + b'"}}'),
    Bytes(b"s", None),
    Bytes(
        None,
        b'{"type": "%s", "data": {"text": "{}", "hash": "%s", "fold": 1, "replaces": null}}'
        % (TYPES[ConfigApplied].encode(), text_hash("{}").encode()),
    ),
)
NAMES = (
    "ce_type",
    "ce_id",
    "ce_source",
    "ce_specversion",
    "ce_subject",
    "ce_session",
    "ce_\\xff",
    "traceparent",
    "content-type",
    ORIGIN_HEADER,
    SIGNATURE_HEADER,
    "\\xff",
    "other",
)
VALUES = (None, b"", b"a", b"1.0", b"1:2:3", b"\xff", b"triggerstream.task.started")
TOKENS = tuple(
    text.encode()
    for text in (
        *TYPES.values(),
        *("type", "session", "subject", "id", "source", "time", "specversion", "data", "instance", "command"),
        *(
            "reason",
            "by",
            "kwargs",
            "after",
            "force",
            "cascade",
            "result",
            "metadata",
            "error",
            "text",
            "hash",
        ),
        *("null", "{}", "[]", '""', "1e999", "-1", "t#0", "true", "2026-03-01T12:00:00Z"),
    )
)


def _mutate(chance: random.Random, found: Bytes) -> Bytes:
    match chance.randrange(8):
        case 0:
            key = chance.choice((None, b"", b"s", b"\x00", mutate_bytes(chance, found.key or b"")))
            return replace(found, key=key)
        case 1 | 2:
            header = (chance.choice(NAMES), chance.choice(VALUES))
            return replace(found, headers=(*found.headers, header))
        case 3 if found.headers:
            at = chance.randrange(len(found.headers))
            name, value = found.headers[at]
            changed = (name, mutate_bytes(chance, value or b""))
            return replace(found, headers=(*found.headers[:at], changed, *found.headers[at + 1 :]))
        case 4:
            return replace(found, value=None) if chance.random() < 0.1 else found
        case _:
            return replace(found, value=mutate_bytes(chance, found.value or b"", TOKENS))


def _parse(found: Bytes) -> None:
    record = Record(
        partition=0, offset=7, arrival_us=1_000, key=found.key, value=found.value, headers=found.headers
    )
    events.event_bytes(record)
    events.origin_of(record.headers)
    moved = events.rehomed_headers(record)
    assert any(name == ORIGIN_HEADER and value is not None for name, value in moved)
    plain = plain_events.decode_plain_event(record)
    if plain is not None:
        assert repr(plain) == repr(events.decode_any(record))
    event = events.decode(record)
    CONTROL.authenticate(APP, record, event)
    if not isinstance(event, ConfigApplied):
        assert event.session.encode()


def test_records_are_read_or_refused_with_one_error() -> None:
    written: frozenset[str] = frozenset({"encode", "encode_trigger", "check_trigger_name"})
    fuzz(
        Fuzzer(
            parse=_parse,
            refuses=(DecodeError,),
            seeds=SEEDS,
            mutate=_mutate,
            parsers=(
                Parser(module=events, without=written),
                Parser(module=engine_events, without=frozenset({"data_of"})),
                Parser(module=plain_events, without=frozenset({"_value_type"})),
                Parser(module=records),
            ),
        )
    )
