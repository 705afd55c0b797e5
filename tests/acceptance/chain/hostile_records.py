"""Records of a hostile producer: everything that Kafka takes, and what has to become of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.codec import gzip_encode, lz4_encode, zstd_encode

from tests.acceptance.chain.hostile_tasks import (
    COMMAND_BYTES,
    DECIDED_BYTES,
    EVIL,
    HOSTILE,
    STATE_BYTES,
    UNRESOLVED,
)
from tests.support.kafka.raw import RawRecord, batch, packed
from triggerstream.core.events import (
    ENGINE_PREFIX,
    Body,
    Cancel,
    Close,
    ConfigApplied,
    Erase,
    Failed,
    Finished,
    Resend,
    Skip,
    Started,
    Timer,
    Touch,
)
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId, TaskName, command_id
from triggerstream.core.placement import partition_of
from triggerstream.wire import events, tasksfile
from triggerstream.wire.bounds import EVENT_BYTES, JSON_DEPTH, SESSION_ID_BYTES
from triggerstream.wire.records import NewRecord
from triggerstream.wire.signature import SIGNATURE_HEADER, ControlKeys

CONFIG = f"{ENGINE_PREFIX}config"
UNPACKED = 256 * 1024 * 1024
_MIB = 1024 * 1024
_GZIP, _LZ4, _ZSTD = 1, 3, 4
_SIGNATURE = SIGNATURE_HEADER.encode()
_ODD = ((b"ce_\xff", b"1"), (b"\xfe", None), (b"caf\xe9", b"\xff"), (b"", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A record of ``kind``; ``refused``: it must become a dead letter; None: the bounds decide."""

    kind: str
    record: RawRecord
    refused: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The hostile producer's sessions of one partition. None is of a plan: that name would have a number."""

    victim: str
    """Session with waiting instances, which only a holder of the key may end."""
    bounded: str
    ordered: str
    """Session that a holder of the key closes and erases."""
    any: str
    steering: str
    """Its name has line breaks and escape sequences."""
    elsewhere: str
    """At home in another partition."""

    @classmethod
    def of(cls, partition: int, *, partitions: int) -> Sessions:
        """Names that are placed there."""

        def placed(prefix: str, where: int) -> str:
            names = (f"{prefix}~{number}" for number in range(10_000))
            return next(name for name in names if partition_of(name.encode(), partitions) == where)

        return cls(
            victim=placed("victim", partition),
            bounded=placed("bounded", partition),
            ordered=placed("ordered", partition),
            any=placed("any", partition),
            steering=placed(HOSTILE, partition),
            elsewhere=placed(HOSTILE, (partition + 1) % partitions),
        )


def _event(kind: str = "odd", /, **data: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps({"type": kind, "data": data}).encode()


def _raw(data: bytes) -> bytes:
    return b'{"type": "odd", "data": {"x": %s}}' % data


def folded(sessions: Sessions, turn: int) -> Iterator[Sent]:
    """Unusual records that are folded like any other trigger."""
    key = sessions.any.encode()
    plain = RawRecord(key=key, value=_event())
    values = {
        "byte-order mark": b"\xef\xbb\xbf" + _event(),
        "longest integers": _event(least=-(2**63), most=2**63 - 1),
        "deepest": _raw(b"[" * (JSON_DEPTH - 2) + b"]" * (JSON_DEPTH - 2)),
        "steering trigger": _event(HOSTILE, text=HOSTILE),
        "steering id": json.dumps({"type": "odd", "id": f"{HOSTILE}{turn}", "source": HOSTILE}).encode(),
    }
    headers: dict[str, Sequence[tuple[bytes, bytes | None]]] = {
        "header names that are not UTF-8": _ODD,
        "headers without a value": [
            (name, None) for name in (_SIGNATURE, b"ce_type", b"triggerstream-origin", b"traceparent")
        ],
        "no signature of a trigger": [(_SIGNATURE, b"\xff")],
        "headers of a dead letter": [
            (b"triggerstream-reason", HOSTILE.encode()),
            (b"triggerstream-place", b"x:0:0:0"),
            (b"triggerstream-lost", b"9"),
        ],
        "an invalid traceparent": [(b"traceparent", b"0" * 1_000)],
        "an origin of its own": [(b"triggerstream-origin", b"0:%d:1700000000000000" % turn)],
    }
    yield from (
        Sent(kind=kind, record=RawRecord(key=key, value=value), refused=False)
        for kind, value in values.items()
    )
    yield from (
        Sent(kind=kind, record=RawRecord(key=key, value=plain.value, headers=found), refused=False)
        for kind, found in headers.items()
    )
    for name, session in (("here", sessions.any), ("elsewhere", sessions.elsewhere)):
        subject = json.dumps({"type": "odd", "subject": session}).encode()
        yield Sent(kind=f"empty key, {name}", record=RawRecord(key=b"", value=subject), refused=False)
        yield Sent(
            kind=f"no key, {name}", record=RawRecord(key=None, value=subject, headers=_ODD), refused=False
        )
    for name, session in (("here", sessions.steering), ("elsewhere", sessions.elsewhere)):
        for trigger in ("loud", "page") if turn % 8 == 0 else ("odd",):
            record = RawRecord(key=session.encode(), value=_event(trigger), headers=_ODD)
            yield Sent(kind=f"steering session, {name}", record=record, refused=None)


def refused(sessions: Sessions) -> Iterator[Sent]:
    """Records that break a rule for events, and become dead letters."""
    key = sessions.any.encode()
    values: dict[str, bytes | None] = {
        "integer too great": _raw(b"9223372036854775808"),
        "integer too small": _raw(b"-9223372036854775809"),
        "integer of 5,000 digits": _raw(b"9" * 5_000),
        "deep": _raw(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH),
        "100,000 deep": _raw(b"[" * 50_000 + b"]" * 50_000),
        "deep and open": b'{"a":' * 10_000,
        "NaN": _raw(b"NaN"),
        "Infinity": _raw(b"-Infinity"),
        "1e999": _raw(b"1e999"),
        "lone surrogate": _raw(b'"\\ud800"'),
        "lone surrogate in the type": b'{"type": "\\udfff"}',
        "invalid UTF-8": _raw(b'"\xff\xfe"'),
        "UTF-16": _event().decode().encode("utf-16"),
        "no value": None,
        "empty value": b"",
        "no JSON": HOSTILE.encode(),
        "a list": b"[]",
        "a type that is no text": b'{"type": 1}',
        "an empty type": b'{"type": ""}',
        "data that are no object": b'{"type": "odd", "data": [1]}',
        "another session than the key": b'{"type": "odd", "session": "other"}',
        "an unknown type of engine event": _event(f"{ENGINE_PREFIX}{HOSTILE}"),
    }
    yield from (
        Sent(kind=kind, record=RawRecord(key=key, value=value), refused=True)
        for kind, value in values.items()
    )
    keys: dict[str, bytes | None] = {
        "no key, no session": None,
        "an empty key, no session": b"",
        "a key that is not UTF-8": b"\xff" + key,
        "a key too long": b"k" * (SESSION_ID_BYTES + 1),
        "a key that begins with NUL": b"\0" + key,
    }
    yield from (
        Sent(kind=kind, record=RawRecord(key=found, value=_event()), refused=True)
        for kind, found in keys.items()
    )
    headers: dict[str, tuple[bytes, Sequence[tuple[bytes, bytes | None]]]] = {
        "an invalid origin": (_event(), [(b"triggerstream-origin", HOSTILE.encode())]),
        "a type that is not UTF-8": (b"{}", [(b"ce_type", b"\xff")]),
        "an invalid time": (b"{}", [(b"ce_type", b"odd"), (b"ce_time", HOSTILE.encode())]),
    }
    yield from (
        Sent(kind=kind, record=RawRecord(key=key, value=value, headers=found), refused=True)
        for kind, (value, found) in headers.items()
    )


def long_ones(sessions: Sessions) -> Iterator[Sent]:
    """As long as an event may be, longer, and as long as a record may be."""
    key = sessions.any.encode()

    def text(size: int) -> bytes:
        return b'{"type": "odd", "id": "%s"}' % (b"x" * (size - 25))

    longest = RawRecord(key=key, value=b" " * (EVENT_BYTES - len(_event())) + _event())
    yield Sent(kind="longest", record=longest, refused=False)
    for kind, size in (("one byte too long", EVENT_BYTES + 1), ("1 MiB", _MIB)):
        yield Sent(kind=kind, record=RawRecord(key=key, value=text(size)), refused=True)
    many = RawRecord(key=key, value=b"{", headers=[(b"\xff", None)] * 9_000)
    yield Sent(kind="9,000 headers", record=many, refused=True)
    long = RawRecord(key=key, value=b"{", headers=[(b"\xff" * 1_000_000, b"")])
    yield Sent(kind="a header name of 1 MB", record=long, refused=True)
    spare = RawRecord(key=b"", value=b'{"type": "odd", "subject": "%s"}' % key, headers=long.headers)
    yield Sent(kind="a header name of 1 MB, folded", record=spare, refused=False)


def bound_breakers(sessions: Sessions, turn: int) -> Iterator[Sent]:
    """Triggers each of which breaks another bound, or soon will; and one whose outcome has no room."""
    triggers = {
        "trigger names": _event(f"name {turn}"),
        "open instances": _event("open"),
        "a command too long": _event("page", text="x" * COMMAND_BYTES),
        "commands too long together": _event("wide", text="x" * (DECIDED_BYTES // 2)),
        "a state too long": _event("heavy", text="x" * STATE_BYTES),
    }
    key = sessions.bounded.encode()
    for kind, value in triggers.items():
        yield Sent(kind=f"bound: {kind}", record=RawRecord(key=key, value=value), refused=None)
    if turn == 0:
        for session in (sessions.bounded, sessions.victim):
            for _ in range(UNRESOLVED - 1):
                record = RawRecord(key=session.encode(), value=_event("page"))
                yield Sent(kind="bound: outcomes", record=record, refused=None)


def unsigned(app: AppId, sessions: Sessions, *, planned: str, stranger: ControlKeys) -> Iterator[Sent]:
    """Engine events without a signature, with one of another key, and with one that says nothing."""
    for session in (sessions.victim, planned, sessions.elsewhere):
        for value in map(events.encode, _bodies(app, session)):
            for kind, headers in _signatures(app, session.encode(), value, stranger):
                record = RawRecord(key=session.encode(), value=value, headers=headers)
                yield Sent(kind=f"engine event, {kind}", record=record, refused=True)
    config = tasksfile.read(f'{{"t": {{"after": ["a"], "run": "{EVIL}"}}}}', name="tasks")
    value = events.encode(ConfigApplied(text=config.text, hash=config.hash, replaces=None, fold=1, number=3))
    for kind, headers in _signatures(app, None, value, stranger):
        record = RawRecord(key=None, value=value, headers=headers)
        yield Sent(kind=f"configuration, {kind}", record=record, refused=True)
    binary = RawRecord(
        key=sessions.victim.encode(),
        value=b"{}",
        headers=[(b"ce_type", f"{ENGINE_PREFIX}session.erase".encode())],
    )
    yield Sent(kind="engine event in headers", record=binary, refused=True)


def _bodies(app: AppId, session: str) -> Iterator[Body]:
    for task in ("t_page", "t_follows", "t_effect", "t_then", "t_never"):
        instance = InstanceId(f"{task}#0")
        command = _command(app, session, task)
        if task == "t_never":
            yield Skip(instance=instance, generation=0, cascade=True)
        elif task == "t_follows":
            yield Cancel(instance=instance, generation=0, reason=HOSTILE, by=HOSTILE)
        elif task == "t_effect":
            yield Started(instance=instance, command=command)
            yield Finished(instance=instance, command=command, result=HOSTILE)
        else:
            yield Failed(instance=instance, command=command, error=HOSTILE)
            yield Resend(instance=instance, generation=0, attempt=0)
    yield Close(generation=0)
    yield Erase(generation=0)
    yield Touch()
    yield Timer()


def _command(app: AppId, session: str, task: str) -> CommandId:
    return command_id(app, SessionId(session), generation=0, task=TaskName(task), number=0)


def _signatures(
    app: AppId, key: bytes | None, value: bytes, stranger: ControlKeys
) -> Iterator[tuple[str, Sequence[tuple[bytes, bytes | None]]]]:
    yield "unsigned", ()
    yield "signed with nothing", [(_SIGNATURE, None)]
    yield "signed with bytes", [(_SIGNATURE, b"\xff" * 32)]
    signed = stranger.signed(app, NewRecord(key=key, value=value), now_us=2**60)
    yield "signed by a stranger", [(name.encode(), text) for name, text in signed.headers]


def captured(record: ConsumerRecord, sessions: Sessions, *, planned: str) -> Iterator[Sent]:
    """A signed engine event that was read from the topic, once more, as it was and changed."""
    kind = str(json.loads(record.value)["type"]).removeprefix(ENGINE_PREFIX)
    is_config = record.key is None
    headers = [(name.encode(), text) for name, text in record.headers]

    def again(
        what: str,
        *more: tuple[bytes, bytes | None],
        refused: bool,
        key: bytes | None = record.key,
        value: bytes = record.value,
    ) -> Sent:
        changed = RawRecord(key=key, value=value, headers=[*headers, *more])
        return Sent(kind=f"captured {kind} {what}", record=changed, refused=refused)

    yield again("as it was", refused=is_config)
    yield again("with a trace", (b"traceparent", b"00-" + b"a" * 52), refused=is_config)
    erase = f"{ENGINE_PREFIX}session.erase".encode()
    yield again("as an erasure", (b"ce_type", erase), (b"ce_session", planned.encode()), refused=True)
    yield again("with an attribute", (b"CE_odd", b""), refused=True)
    for what, session in (("of another session", planned), ("of a victim", sessions.victim)):
        if record.key != session.encode():
            yield again(what, key=session.encode(), refused=True)
    yield again("with another signature", (_SIGNATURE, b"0" * 64), refused=True)
    yield again("from elsewhere", (b"triggerstream-origin", b"0:0:1700000000000000"), refused=True)
    yield again("with one byte more", value=record.value + b" ", refused=True)


def bombs() -> Iterator[bytes]:
    """Batches of two records in at most 1 MiB that unpack to 256 MiB, or to as much as their codec can."""
    for codec, size in ((_ZSTD, UNPACKED), (_GZIP, UNPACKED), (_LZ4, UNPACKED // 4 * 3)):
        records = [RawRecord(key=b"bomb", value=_event()), RawRecord(key=b"bomb", value=bytes(size))]
        yield packed(batch(records), codec, _PACK[codec])


_PACK: dict[int, Callable[[bytes], bytes]] = {
    _ZSTD: lambda data: zstd_encode(data, 1),
    _GZIP: lambda data: gzip_encode(data, 6),
    _LZ4: lambda data: lz4_encode(data, 1),
}
