"""A log at the other end of an HTTP intake (:mod:`triggerstream.web.intake`)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import cast

import aiohttp
import orjson

from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import Json
from triggerstream.wire.records import NewRecord

_OK = 200
_ACCEPTED = 202
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500


class HttpLog:
    """A :class:`triggerstream.engine.ports.Log` that appends through ``POST /v1/events``.

    It sends the key and value of a record, not its headers.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._url = f"{url}/v1/events"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append ``records``, all or none; they are durable when this returns.

        Raises:
            LogError: not known to be durable. Safe to call again for events that carry an id.
            DecodeError: the intake refused them, and will again; the message says why.
            UsageError: what answers at the address is no intake.
        """
        if not records:
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        body = b"[" + b",".join(map(_with_session, records)) + b"]"
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=BytesIO(body), headers=headers) as answer:
                status, text = answer.status, await answer.read()
        except (aiohttp.ClientError, OSError) as exc:
            raise LogError(
                f"{self._url}: not reachable ({str(exc) or type(exc).__name__}): is it running?"
            ) from exc
        except TimeoutError as exc:
            raise LogError(f"{self._url}: no answer within {self._timeout.total:g} s") from exc
        if status == _ACCEPTED:
            return
        reason = _reason(text)
        if status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS:
            raise LogError(f"{self._url}: {status} {reason or ''}".rstrip())
        if reason is None:
            raise UsageError(f"{self._url}: answers {status}, as no triggerstream would: check the address")
        raise DecodeError(reason)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _with_session(record: NewRecord) -> bytes:
    if record.key is None:
        raise UsageError("a record without a session cannot be sent over HTTP")
    session = orjson.dumps(record.key.decode())
    rest = record.value.strip()[1:].lstrip()
    return b'{"session":' + session + (b"}" if rest == b"}" else b"," + rest)


def _reason(text: bytes) -> str | None:
    """The intake's error message; None if the answer is not from an intake."""
    try:
        answer = cast("Json", orjson.loads(text))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        return None
    found = answer.get("errors")
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, dict) and isinstance(first.get("reason"), str):
        return str(first["reason"])
    return str(answer["error"])


async def configuration_text(url: str) -> str | None:
    """The text of the tasks file in force where the pages of ``dev`` are at ``url``; None if none is.

    Raises:
        LogError: it does not answer, or not as `dev` would.
    """
    where = f"{url}/v1/configuration"
    try:
        async with aiohttp.ClientSession() as session, session.get(where) as answer:
            body = orjson.loads(await answer.read()) if answer.status == _OK else None
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise LogError(f"{where}: {exc}") from exc
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise LogError(f"{where}: answers {answer.status}, as no `dev` would")
    return body["text"] if body.get("hash") is not None else None
