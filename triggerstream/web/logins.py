"""Logins of browsers: cookies derived from a token, and the list of logins that a logout has ended.

A cookie has an expiry and a MAC, which proves that a worker made it from a token of the file: without that
token, or with another key, it is invalid. A logout ends the login before its expiry. Ended logins are few and
small. They are stored in a file, so that they stay ended after a restart, and workers exchange them. Above
``MOST_ENDED`` of them all users must log in again, so that an ended login never becomes valid again.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import cast

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject
from triggerstream.wire.json import as_object, dumps, integer, loads

logger = logging.getLogger(__name__)

LOGGED_IN_S = 12 * 3600
MOST_ENDED = 10_000
_COOKIE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_NONCE = re.compile(r"[0-9a-f]{32}")
_LATEST = 10**12


class Logins:
    """Issues cookies with ``key``, verifies them, and ends logins. ``file`` stores the ended ones."""

    def __init__(
        self, key: bytes, *, file: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._file = file
        self._clock = clock
        self._ended: dict[str, int] = {}
        """Expiries of ended logins, by nonce."""
        self._made_after = 0
        """Logins made up to this instant are invalid."""
        if file is not None:
            self._read(file)

    def issue(self, token: str) -> str:
        """A new cookie derived from ``token``."""
        made = max(int(self._clock()), self._made_after + 1)
        until, nonce = made + LOGGED_IN_S, secrets.token_hex(16)
        return f"{until}.{nonce}.{self._mac(token, until, nonce)}"

    def token_of(self, cookie: str, tokens: Iterable[str]) -> str | None:
        """The token of ``tokens`` from which ``cookie`` was made; None if it is invalid, expired or ended."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        until, nonce = int(match[1]), match[2]
        found = None
        for token in tokens:
            if hmac.compare_digest(self._mac(token, until, nonce), match[3]):
                found = token
        if until < self._clock() or until - LOGGED_IN_S <= self._made_after or nonce in self._ended:
            return None
        return found

    def end(self, cookie: str) -> None:
        """End the login of ``cookie``, which must be valid."""
        match = _COOKIE.fullmatch(cookie)
        if match is not None:
            self._add_ended({match[2]: int(match[1])}, 0)

    def ended(self) -> JsonObject:
        """The ended logins, as JSON for other workers."""
        self._forget()
        return {"ended": dict(self._ended), "madeAfter": self._made_after}

    def add_ended(self, found: JsonObject) -> None:
        """Add the ended logins of another worker.

        Raises:
            DecodeError: ``found`` does not have the form that ``ended`` returns.
        """
        ended = as_object(found.get("ended"), "/ended")
        for nonce in ended:
            if _NONCE.fullmatch(nonce) is None:
                raise DecodeError("/ended: has a name that is no login")
            if integer(ended, nonce, "/ended") > _LATEST:
                raise DecodeError(f"/ended/{nonce}: is too late")
        made_after = integer(found, "madeAfter")
        if made_after > self._clock() + LOGGED_IN_S:
            raise DecodeError("/madeAfter: is too late")
        self._add_ended(cast("dict[str, int]", ended), made_after)

    def _add_ended(self, ended: dict[str, int], made_after: int) -> None:
        before, new = self._made_after, ended.keys() - self._ended.keys()
        self._made_after = max(self._made_after, made_after)
        self._ended |= ended
        self._forget()
        if len(self._ended) > MOST_ENDED:
            self._made_after, self._ended = int(self._clock()), {}
        # Compare names, not counts: an older one may be forgotten as a new one comes.
        if self._made_after != before or not new.isdisjoint(self._ended):
            self._write()

    def _forget(self) -> None:
        """Remove ended logins that have expired."""
        now = self._clock()
        over = [
            n for n, until in self._ended.items() if until < now or until - LOGGED_IN_S <= self._made_after
        ]
        for nonce in over:
            del self._ended[nonce]

    def _read(self, file: Path) -> None:
        try:
            self.add_ended(as_object(loads(file.read_bytes()), ""))
        except FileNotFoundError:
            return
        except (OSError, DecodeError) as exc:
            # The ended logins are unknown, so all logins become invalid.
            logger.warning("%s cannot be read: everybody has to log in again: %s", file, exc)
            self._made_after = int(self._clock())

    def _write(self) -> None:
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(dumps({"ended": self._ended, "madeAfter": self._made_after}))
                file.flush()
                os.fsync(descriptor)
            new.replace(self._file)
        except OSError as exc:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            logger.warning("%s cannot be written: a restart forgets who has logged out: %s", self._file, exc)

    def _mac(self, token: str, until: int, nonce: str) -> str:
        message = f"triggerstream login 2 {len(token)}:{token} {until} {nonce}"
        return hmac.new(self._key, message.encode(), sha256).hexdigest()
