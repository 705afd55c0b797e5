"""Asks brokers one request for all questions that come in the same moment.

A worker takes hundreds of partitions over at once, and each of them asks the same things. A client for each
question took most of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from triggerstream.core.errors import LogError

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class RequestBatcher(Generic[_K, _V]):
    """Answers questions by key with ``ask``, which gets the keys of all callers that wait.

    Keys that come while a request is under way are asked with the next one, so each answer is newer than its
    question. An error of ``ask`` is raised for every caller of that request.
    """

    def __init__(self, ask: Callable[[Collection[_K]], Awaitable[Mapping[_K, _V]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[frozenset[_K], asyncio.Future[Mapping[_K, _V]]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def answers(self, keys: Collection[_K]) -> Mapping[_K, _V]:
        """The answers by key; a key that ``ask`` had no answer for is missing.

        Raises:
            LogError: brokers do not answer, or refuse; or this was closed meanwhile.
        """
        answer: asyncio.Future[Mapping[_K, _V]] = asyncio.get_running_loop().create_future()
        self._waiting.append((frozenset(keys), answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def _ask_all(self) -> None:
        asked: list[tuple[frozenset[_K], asyncio.Future[Mapping[_K, _V]]]] = []
        try:
            while True:
                await asyncio.sleep(0)  # so that callers of the same moment share the request
                asked, self._waiting = self._waiting, []
                if not asked:
                    return
                try:
                    found = await self._ask(frozenset().union(*(keys for keys, _ in asked)))
                except Exception as exc:  # noqa: BLE001 - raised for each caller
                    _fail(asked, exc)
                else:
                    for keys, answer in asked:
                        if not answer.done():
                            answer.set_result({key: found[key] for key in keys if key in found})
        except BaseException:  # closed, or a client was cancelled: callers would wait for ever
            _fail([*asked, *self._waiting], LogError("a question to the log was given up"))
            self._waiting.clear()
            raise

    async def close(self) -> None:
        """Give up the request under way, and close its connections. Callers that wait get a LogError."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])


def _fail(asked: Iterable[tuple[object, asyncio.Future[Any]]], error: Exception) -> None:
    """Raise ``error`` for each caller that waits."""
    for _, answer in asked:
        if not answer.done():
            answer.set_exception(error)
