"""Signatures of the engine's own events, for topics to which others may append as well.

Whoever may append to a log could otherwise have instances skipped, sessions erased, or a tasks file come
into force. With a *control key*, an event of the engine's own counts only with a header that says that who
made it has the key: workers, bridges, Celery workers and operators have it, applications have not.

A file has the keys, a line for each, in the order of time::

    2026-11-25T12:00:00Z 6f1e…    # the instant from which on, and at least 32 bytes in hex

Events that the log took before the first instant need no signature. A key is taken until an hour after the
next one's instant, so that clocks may differ: with a line added, keys are exchanged.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest

from msgspec import structs

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, ConfigApplied, Event
from triggerstream.core.ids import AppId
from triggerstream.wire.events import ORIGIN_HEADER
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.records import NewRecord, Record

SIGNATURE_HEADER = "triggerstream-signature"
"""HMAC-SHA-256, in hex, of the app, the record's key and its value, the first two with their lengths."""
KEY_BYTES = 32
GRACE_US = 3_600_000_000

_START = b'{"type":"' + ENGINE_PREFIX.encode()
"""As ``wire.events`` writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlKey:
    """A key, and the instant from which on it is used, in microseconds since the epoch."""

    since_us: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ControlKeys:
    """The keys of an app's file, in the order of time. There is at least one."""

    keys: Sequence[ControlKey]

    def signed(self, app: AppId, record: NewRecord, *, now_us: int) -> NewRecord:
        """``record``, with a signature where it is an event of the engine's own.

        What stands for another record, one that was in the wrong partition say, keeps that one's.
        """
        if not record.value.startswith(_START) or any(name == ORIGIN_HEADER for name, _ in record.headers):
            return record
        key = next((key for key in reversed(self.keys) if key.since_us <= now_us), self.keys[0])
        signature = _signature(key, app, record.key, record.value)
        return structs.replace(record, headers=(*record.headers, (SIGNATURE_HEADER, signature)))

    def check(self, app: AppId, record: Record, event: Event | ConfigApplied) -> None:
        """Refuse ``event``, which ``record`` holds, where it needs a signature and has none that fits.

        Raises:
            DecodeError: that is so.
        """
        if isinstance(event, Event) and not event.type.startswith(ENGINE_PREFIX):
            return
        if record.arrival_us < self.keys[0].since_us:
            return
        given = [value for name, value in record.headers if name == SIGNATURE_HEADER and value is not None]
        if not given:
            raise DecodeError(f"{SIGNATURE_HEADER}: is missing: the engine's own events are signed here")
        for key, after in zip_longest(self.keys, self.keys[1:]):
            if after is not None and record.arrival_us >= after.since_us + GRACE_US:
                continue
            if hmac.compare_digest(given[0], _signature(key, app, record.key, record.value or b"")):
                return
        raise DecodeError(f"{SIGNATURE_HEADER}: was not made with a control key of now for this event")


def _signature(key: ControlKey, app: AppId, record_key: bytes | None, value: bytes) -> bytes:
    session = record_key or b""
    message = b"%d:%s%d:%s%s" % (len(app), app.encode(), len(session), session, value)
    return hmac.new(key.secret, message, sha256).hexdigest().encode()


def read_keys(text: str) -> ControlKeys:
    """The keys of a file's ``text``.

    Raises:
        DecodeError: it has none, or a line that is none; the message names the line.
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
        if len(secret) < KEY_BYTES:
            raise DecodeError(
                f"line {number}: a key is at least {KEY_BYTES} bytes in hex: openssl rand -hex 32"
            )
        if keys and since_us <= keys[-1].since_us:
            raise DecodeError(f"line {number}: is not later than the key before it")
        keys.append(ControlKey(since_us=since_us, secret=secret))
    if not keys:
        raise DecodeError("has no key: write a line such as 2026-11-25T12:00:00Z and a key in hex")
    return ControlKeys(tuple(keys))
