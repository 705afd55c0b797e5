"""Logins of browsers: cookies made of a token, and those that a logout has ended.

A cookie says until when it is good, and proves that a worker made it from a token of the file: without that
token, or with another key, it is none. A logout ends it before its time. The ended ones are few and small;
they are kept in a file, so that a restart does not bring them back, and workers tell each other. Beyond
``MOST_ENDED`` of them everybody has to log in again, so that an ended login never becomes good.
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
    """Makes cookies with ``key``, knows them again, and ends them. ``file`` keeps the ended ones."""

    def __init__(
        self, key: bytes, *, file: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._file = file
        self._clock = clock
        self._ended: dict[str, int] = {}
        """The instants until which ended logins would be good, by their nonces."""
        self._made_after = 0
        """Logins made up to this instant are over, all of them."""
        if file is not None:
            self._read(file)

    def give(self, token: str) -> str:
        """A cookie in place of ``token``."""
        made = max(int(self._clock()), self._made_after + 1)
        until, nonce = made + LOGGED_IN_S, secrets.token_hex(16)
        return f"{until}.{nonce}.{self._mac(token, until, nonce)}"

    def token_of(self, cookie: str, tokens: Iterable[str]) -> str | None:
        """The one of ``tokens`` that ``cookie`` was made of; None: it is none, is over, or was ended."""
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
        """End the login of ``cookie``, which is one."""
        match = _COOKIE.fullmatch(cookie)
        if match is not None:
            self._learn({match[2]: int(match[1])}, 0)

    def ended(self) -> JsonObject:
        """What other workers must know."""
        self._forget()
        return {"ended": dict(self._ended), "madeAfter": self._made_after}

    def learn(self, told: JsonObject) -> None:
        """Take over what another worker knows.

        Raises:
            DecodeError: it is not what ``ended`` gives.
        """
        ended = as_object(told.get("ended"), "/ended")
        for nonce in ended:
            if _NONCE.fullmatch(nonce) is None:
                raise DecodeError("/ended: has a name that is no login")
            if integer(ended, nonce, "/ended") > _LATEST:
                raise DecodeError(f"/ended/{nonce}: is too late")
        made_after = integer(told, "madeAfter")
        if made_after > self._clock() + LOGGED_IN_S:
            raise DecodeError("/madeAfter: is too late")
        self._learn(cast("dict[str, int]", ended), made_after)

    def _learn(self, ended: dict[str, int], made_after: int) -> None:
        before, new = self._made_after, ended.keys() - self._ended.keys()
        self._made_after = max(self._made_after, made_after)
        self._ended |= ended
        self._forget()
        if len(self._ended) > MOST_ENDED:
            self._made_after, self._ended = int(self._clock()), {}
        # Not by their number: one that is new may come as an older one is forgotten.
        if self._made_after != before or not new.isdisjoint(self._ended):
            self._write()

    def _forget(self) -> None:
        """Forget ended logins that would be over by now anyway."""
        now = self._clock()
        over = [
            n for n, until in self._ended.items() if until < now or until - LOGGED_IN_S <= self._made_after
        ]
        for nonce in over:
            del self._ended[nonce]

    def _read(self, file: Path) -> None:
        try:
            self.learn(as_object(loads(file.read_bytes()), ""))
        except FileNotFoundError:
            return
        except (OSError, DecodeError) as exc:
            # It cannot say who has logged out: nobody is logged in any more.
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
