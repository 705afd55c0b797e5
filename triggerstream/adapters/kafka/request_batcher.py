"""Asks brokers one request for all questions that come in the same moment.

A worker takes hundreds of partitions over at once, and each of them asks the same things. A client for each
question took most of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from triggerstream.adapters.kafka.stopping import retrieve_error
from triggerstream.core.errors import LogError

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class RequestBatcher(Generic[_K, _V]):
    """Answers questions by key with ``ask``, which gets the keys of all callers that wait.

    Keys that come while a request is under way are asked with the next one, so each answer is newer than its
    question. An error of ``ask`` is raised for every caller of that request. A request whose callers have all
    been cancelled is cancelled, too: later ones would wait for it, a minute if a partition is away.
    """

    def __init__(self, ask: Callable[[Collection[_K]], Awaitable[Mapping[_K, _V]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[frozenset[_K], asyncio.Future[Mapping[_K, _V]]]] = []
        self._asked: list[tuple[frozenset[_K], asyncio.Future[Mapping[_K, _V]]]] = []
        self._request: asyncio.Future[Mapping[_K, _V]] | None = None
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
        try:
            return await answer
        finally:
            if self._request is not None and all(answer.done() for _, answer in self._asked):
                self._request.cancel()

    async def _ask_all(self) -> None:
        try:
            while True:
                await asyncio.sleep(0)  # so that callers of the same moment share the request
                self._asked = [one for one in self._waiting if not one[1].done()]
                self._waiting = []
                if not self._asked:
                    return
                await self._ask_for(self._asked)
        except BaseException:
            _fail([*self._asked, *self._waiting], _given_up())
            self._waiting.clear()
            raise

    async def _ask_for(self, asked: Sequence[tuple[frozenset[_K], asyncio.Future[Mapping[_K, _V]]]]) -> None:
        """Ask one request for all ``asked``, and answer each."""
        keys = frozenset().union(*(keys for keys, _ in asked))
        request = self._request = asyncio.ensure_future(self._ask(keys))
        request.add_done_callback(retrieve_error)
        try:
            await asyncio.wait([request])
        except asyncio.CancelledError:  # closed
            request.cancel()
            await asyncio.wait([request])
            raise
        finally:
            self._request = None
        if request.cancelled():  # by the last of its callers, or by a client
            _fail(asked, _given_up())
        elif (error := request.exception()) is not None:
            _fail(asked, error)
        else:
            found = request.result()
            for wanted, answer in asked:
                if not answer.done():
                    answer.set_result({key: found[key] for key in wanted if key in found})

    async def close(self) -> None:
        """Give up the request under way, and close its connections. Callers that wait get a LogError."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])


def _given_up() -> LogError:
    return LogError("a question to the log was given up")


def _fail(asked: Iterable[tuple[object, asyncio.Future[Any]]], error: BaseException) -> None:
    """Raise ``error`` for each caller that waits."""
    for _, answer in asked:
        if not answer.done():
            answer.set_exception(error)
