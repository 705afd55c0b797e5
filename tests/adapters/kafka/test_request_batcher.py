"""Questions that come in the same moment are asked with one request, and none has an old answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from triggerstream.adapters.kafka.request_batcher import RequestBatcher
from triggerstream.core.errors import LogError


class Asked:
    """Answers with the number of the request, once it may."""

    def __init__(self) -> None:
        self.requests: list[set[int]] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.error: LogError | None = None

    async def __call__(self, keys: Collection[int]) -> Mapping[int, int]:
        self.requests.append(set(keys))
        self.asked.set()
        number = len(self.requests)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {key: number for key in keys if key >= 0}


async def test_questions_of_one_moment_are_one_request() -> None:
    ask = Asked()
    ask.may_answer.set()
    batcher = RequestBatcher(ask)
    answers = await asyncio.gather(*(batcher.answers([number]) for number in range(200)))
    assert answers == [{number: 1} for number in range(200)]
    assert ask.requests == [set(range(200))]


async def test_a_question_that_comes_during_a_request_is_asked_after_it() -> None:
    ask = Asked()
    batcher = RequestBatcher(ask)
    first = asyncio.create_task(batcher.answers([1]))
    await ask.asked.wait()
    late = asyncio.create_task(batcher.answers([1, 2]))
    await asyncio.sleep(0)
    ask.may_answer.set()
    assert await first == {1: 1}
    assert await late == {1: 2, 2: 2}
    assert ask.requests == [{1}, {1, 2}]


async def test_a_key_without_an_answer_is_left_out() -> None:
    ask = Asked()
    ask.may_answer.set()
    assert await RequestBatcher(ask).answers([-1, 3]) == {3: 1}


async def test_an_error_is_raised_for_all_callers_and_the_next_question_is_asked_again() -> None:
    ask = Asked()
    ask.error = LogError("away")
    ask.may_answer.set()
    batcher = RequestBatcher(ask)
    results = await asyncio.gather(*(batcher.answers([n]) for n in range(3)), return_exceptions=True)
    assert results == [ask.error] * 3
    ask.error = None
    assert await batcher.answers([1]) == {1: 2}


async def test_the_others_get_their_answers_if_one_caller_gives_up() -> None:
    ask = Asked()
    batcher = RequestBatcher(ask)
    one, other = (asyncio.create_task(batcher.answers([number])) for number in (1, 2))
    await ask.asked.wait()
    one.cancel()
    ask.may_answer.set()
    assert await other == {2: 1}
    assert one.cancelled()


async def test_a_question_waits_for_no_request_whose_callers_have_all_given_up() -> None:
    ask = Asked()
    batcher = RequestBatcher(ask)
    before = [asyncio.create_task(batcher.answers([number])) for number in (1, 2)]
    await ask.asked.wait()
    unasked = asyncio.create_task(batcher.answers([3]))
    await asyncio.sleep(0)
    for caller in (*before, unasked):
        caller.cancel()
    await asyncio.wait([*before, unasked])
    ask.may_answer = asyncio.Event()  # the first request is never answered
    ask.may_answer.set()
    async with asyncio.timeout(5):
        assert await batcher.answers([4]) == {4: 2}
    assert ask.requests == [{1, 2}, {4}]


async def test_a_question_that_nobody_waits_for_is_given_up_at_the_end() -> None:
    ask = Asked()
    batcher = RequestBatcher(ask)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await batcher.answers([1])
    await batcher.close()
    assert not ask.may_answer.is_set()


async def test_all_callers_get_an_error_when_it_is_closed() -> None:
    ask = Asked()
    batcher = RequestBatcher(ask)
    first = asyncio.create_task(batcher.answers([1]))
    await ask.asked.wait()
    second = asyncio.create_task(batcher.answers([2]))
    await asyncio.sleep(0)
    await batcher.close()
    async with asyncio.timeout(5):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [LogError, LogError]
    ask.may_answer.set()
    assert await batcher.answers([3]) == {3: 2}


async def test_a_request_that_a_client_cancels_is_an_error_of_all_callers() -> None:
    async def ask(_: Collection[int]) -> Mapping[int, int]:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async with asyncio.timeout(5):
        with pytest.raises(LogError):
            await RequestBatcher(ask).answers([1])
