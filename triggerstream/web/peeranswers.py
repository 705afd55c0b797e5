"""Reads answers of other workers: an answer without the structure that pages and lists need is refused.

Only a worker with the peer key can authenticate an answer, but it may have another release.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from triggerstream.core.errors import DecodeError
from triggerstream.wire.answers import from_json
from triggerstream.wire.json import as_object, loads

_T = TypeVar("_T", bound=Struct)
OK = 200
NOT_FOUND = 404


class EndedLogins(Struct, frozen=True, kw_only=True, rename={"made_after": "madeAfter"}):
    """The ended logins of a worker, by login, and the time from which on it knows them."""

    ended: dict[str, int]
    made_after: int


def read_answer(status: int, body: bytes, kind: type[_T]) -> _T | None:
    """The content of an authenticated answer; None: the worker does not have the requested object.

    Raises:
        DecodeError: it is no answer of this kind, or reports an error; the message is for people.
    """
    found = as_object(loads(body), "")
    if status == NOT_FOUND:
        return None
    if status != OK:
        raise DecodeError(f"{status}: {str(found.get('error'))[:500]}")
    return from_json(found, kind)
