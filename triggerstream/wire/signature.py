"""Signatures of engine events, for topics to which applications may append as well.

Without signatures, any program that may append to a log could skip instances, erase sessions, or apply a
tasks file. With a *control key*, an engine event counts only with a signature, which only holders of the key
can make: workers, bridges, Celery workers and operators have the key, applications do not.

The signature covers everything that affects the fold: the app, the record's key, its value, and the origin of
a re-homed record. An engine event is therefore accepted in structured form only, and no header except the
origin affects it. A signed event that is appended a second time is refused because of its expectations: an
outcome names its command, an order the generation and attempt for which it was given, a configuration its
number.

A file has the keys, one per line, in the order of time::

    2026-11-25T12:00:00Z 6f1e…    # the instant from which on, and at least 32 bytes in hex

Events that were appended before the first instant need no signature. A key is accepted until an hour after
the next one's instant, because clocks may differ. To exchange keys, add a line.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from typing import assert_never

from msgspec import structs

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    ENGINE_PREFIX,
    Cancel,
    Close,
    ConfigApplied,
    Erase,
    Event,
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
from triggerstream.core.ids import AppId
from triggerstream.wire.events import (
    ORIGIN_HEADER,
    TRACE_HEADER,
    decode,
    headers_by_name,
    is_attribute,
)
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import loads
from triggerstream.wire.records import Headers, NewRecord, Record

SIGNATURE_HEADER = "triggerstream-signature"
"""HMAC-SHA-256, in hex, of five fields: ``ts2``, the app, the record's key, its value, and its origin header.

A field is its length in decimal digits, a colon and its bytes; a missing field is a hyphen and a colon.
"""
CONTROL_KEY_BYTES = 32
GRACE_US = 3_600_000_000

_FORM = b"ts2"
_START = b'{"type":"' + ENGINE_PREFIX.encode()
"""First bytes of engine events as ``wire.events.encode`` writes them."""
_ORDERS = tuple(_START + kind for kind in (b"instance.", b"session.", b"config"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlKey:
    """A key, and the instant from which it is used, in microseconds since the epoch."""

    since_us: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ControlKeys:
    """The keys of an app's file, in the order of time. There is at least one."""

    keys: Sequence[ControlKey]

    def signed(self, app: AppId, record: NewRecord, *, now_us: int) -> NewRecord:
        """``record``, with a signature if it is an engine event.

        A copy of another record, for example of one in the wrong partition, is signed again: the caller has
        verified the signature of the original.

        Raises:
            DecodeError: the event lacks its expectations about its session: it would be refused.
        """
        if not _is_engines_own(record):
            return record
        if record.value.startswith(_ORDERS) and not _is_moved(record):
            _check_expectations(decode(_as_read(record)))
        key = next((key for key in reversed(self.keys) if key.since_us <= now_us), self.keys[0])
        signature = _signature(key, app, record.key, record.value, record.headers)
        others = (header for header in record.headers if header[0] != SIGNATURE_HEADER)
        return structs.replace(record, headers=(*others, (SIGNATURE_HEADER, signature)))

    def authenticate(self, app: AppId, record: Record, event: Event | ConfigApplied) -> Event | ConfigApplied:
        """The part of ``event``, decoded from ``record``, that the signature covers.

        Raises:
            DecodeError: the event needs a signature and has no valid one; or it is signed and lacks its
                expectations about its session, so that it could be applied twice.
        """
        if isinstance(event, Event) and not event.type.startswith(ENGINE_PREFIX):
            return event
        if record.arrival_us < self.keys[0].since_us:
            return event
        for name, _ in record.headers:
            if is_attribute(name.lower()):
                raise DecodeError(
                    f"header {name[:80]}: with a control key, the engine's own events have no `ce_` headers: "
                    "all of an event stands in its value, which is signed"
                )
        headers = headers_by_name(record.headers)
        given = headers.get(SIGNATURE_HEADER)
        if given is None:
            raise DecodeError(f"{SIGNATURE_HEADER}: is missing: the engine's own events are signed here")
        if not self._is_signed(app, record, given):
            raise DecodeError(f"{SIGNATURE_HEADER}: was not made with a current control key for this event")
        _check_expectations(event)
        if TRACE_HEADER in headers and isinstance(event, Event):
            covered = tuple(header for header in record.headers if header[0] != TRACE_HEADER)
            return decode(structs.replace(record, headers=covered))
        return event

    def _is_signed(self, app: AppId, record: Record, given: bytes) -> bool:
        for key, after in zip_longest(self.keys, self.keys[1:]):
            if after is not None and record.arrival_us >= after.since_us + GRACE_US:
                continue
            if hmac.compare_digest(
                given, _signature(key, app, record.key, record.value or b"", record.headers)
            ):
                return True
        return False


def _is_engines_own(record: NewRecord) -> bool:
    """True if ``record`` is an engine event in structured form.

    Events that this program encodes begin with known bytes. A copy of another record may come from a program
    in another language, which may format JSON differently.
    """
    if record.value.startswith(_START):
        return True
    if not _is_moved(record):
        return False
    try:
        fields = loads(record.value)
    except DecodeError:
        return False
    kind = fields.get("type") if isinstance(fields, dict) else None
    return isinstance(kind, str) and kind.startswith(ENGINE_PREFIX)


def _is_moved(record: NewRecord) -> bool:
    return any(name == ORIGIN_HEADER for name, _ in record.headers)


def _as_read(record: NewRecord) -> Record:
    return Record(
        partition=0, offset=0, arrival_us=0, key=record.key, value=record.value, headers=record.headers
    )


def _check_expectations(event: Event | ConfigApplied) -> None:
    """Raise if a signed event would apply a second time when it is appended a second time."""
    if isinstance(event, ConfigApplied):
        if event.number is None:
            raise _missing("number", "its number, one more than that of the configuration in force")
        return
    match event.body:
        case Resend(generation=int(), attempt=None):
            raise _missing("attempt", "the attempt that it was given for")
        case Close() | Erase() | Skip() | Replay() | Cancel() | Resend() | Release() as order:
            if order.generation is None:
                raise _missing("generation", "the generation of the session that it was given for")
        case Started() | Finished() | Failed() | Skipped() | Retried() | Revoked():
            pass
        case Trigger() | Touch() | Timer():
            pass
        case _:
            assert_never(event.body)


def _missing(name: str, what: str) -> DecodeError:
    return DecodeError(f"/data/{name}: is missing: with a control key, the event says {what}")


def _signature(
    key: ControlKey, app: AppId, record_key: bytes | None, value: bytes, headers: Headers
) -> bytes:
    origin = headers_by_name(headers).get(ORIGIN_HEADER)
    fields = (_FORM, app.encode(), record_key, value, origin)
    message = b"".join(b"-:" if field is None else b"%d:%s" % (len(field), field) for field in fields)
    return hmac.new(key.secret, message, sha256).hexdigest().encode()


def read_keys(text: str) -> ControlKeys:
    """The keys of a file's ``text``.

    Raises:
        DecodeError: it has no key, or an invalid line; the message names the line.
    """
    keys: list[ControlKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:  # noqa: PLR2004 - an instant and a key
            raise DecodeError(f"line {number}: must be an instant and a key in hex")
        since_us = parse_instant(words[0], path=f"line {number}")
        try:
            secret = bytes.fromhex(words[1])
        except ValueError:
            secret = b""
        if len(secret) < CONTROL_KEY_BYTES:
            raise DecodeError(
                f"line {number}: a key is at least {CONTROL_KEY_BYTES} bytes in hex: openssl rand -hex 32"
            )
        if keys and since_us <= keys[-1].since_us:
            raise DecodeError(f"line {number}: is not later than the key before it")
        keys.append(ControlKey(since_us=since_us, secret=secret))
    if not keys:
        raise DecodeError("has no key: write a line such as 2026-11-25T12:00:00Z and a key in hex")
    return ControlKeys(tuple(keys))
