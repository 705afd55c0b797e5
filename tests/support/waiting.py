"""Waiting on a condition, with a deadline, instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02
_ASKED_POLL_S = 0.05
"""Without a pause, a broker is asked a thousand times a second: on two processors, that is a load."""


def wait_until(
    condition: Callable[[], T | None], *, within_s: float = 60.0, what: str | Callable[[], object] = ""
) -> T:
    """The first true value of ``condition``.

    Fails after ``within_s``; ``what`` then says what is there instead.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            message = f"not within {within_s:g} s: {what() if callable(what) else what}"
            raise AssertionError(message)
        time.sleep(_POLL_S)


async def eventually(
    condition: Callable[[], T | None], *, within_s: float = 60.0, what: str | Callable[[], object] = ""
) -> T:
    """:func:`wait_until` beside other tasks of the event loop."""
    return await asyncio.to_thread(wait_until, condition, within_s=within_s, what=what)


async def until(
    condition: Callable[[], Awaitable[T | None]],
    *,
    within_s: float = 60.0,
    what: str | Callable[[], object] = "",
) -> T:
    """:func:`eventually` for a condition that is awaited, such as an answer of a broker."""
    try:
        async with asyncio.timeout(within_s):
            while not (found := await condition()):  # noqa: ASYNC110 - it asks another process
                await asyncio.sleep(_ASKED_POLL_S)
            return found
    except TimeoutError as exc:
        raise AssertionError(f"not within {within_s:g} s: {what() if callable(what) else what}") from exc
