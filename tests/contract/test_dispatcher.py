"""The promises of every Dispatcher."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol
from uuid import uuid4

import pytest
from celery import Celery
from msgspec.structs import replace
from redis import Redis

from tests.engine.samples import command, revoke
from tests.support.ports import free_port
from tests.support.valkey import valkey_server
from triggerstream.adapters.celery.dispatch import CeleryDispatcher
from triggerstream.adapters.memory import MemoryDispatcher
from triggerstream.adapters.nowhere import NowhereDispatcher
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.engine.ports import Dispatcher

CELERY = pytest.param("celery", marks=pytest.mark.celery)
"""On a real broker."""


class Executor(Protocol):
    """The side that a dispatcher hands commands to. It takes the Celery task ``app.run`` alone."""

    def dispatcher(self) -> Dispatcher:
        """A new dispatcher."""

    def received(self) -> list[str]:
        """The ids of the commands that it has in its usual queue, first handed over first."""

    def go_away(self) -> None:
        """Confirm nothing, until ``come_back``."""

    def come_back(self) -> None:
        """Confirm again, and have none of the commands of before."""

    def refuse_queue(self, name: str) -> None:
        """Refuse what is sent to the queue ``name``."""


class MemoryExecutor:
    def __init__(self) -> None:
        self._away = False
        self._refused: set[str | None] = set()
        self._made: list[MemoryDispatcher] = []

    def dispatcher(self) -> Dispatcher:
        self._made.append(MemoryDispatcher(self._answer, destination=self._destination))
        return self._made[-1]

    async def _answer(self, decision: Decision) -> None:
        if not isinstance(decision, Command):
            return
        if decision.run != "app.run":
            raise UndispatchableError(f"{decision.run} is not on the list")
        if self._away:
            raise DispatchError("away")
        if decision.queue in self._refused:
            raise DestinationError(destination=f"queue {decision.queue}", reason="no such queue")

    def _destination(self, decision: Decision) -> str | None:
        return f"queue {decision.queue}" if isinstance(decision, Command) else None

    def received(self) -> list[str]:
        return [one.id for made in self._made for one in made.dispatched if isinstance(one, Command)]

    def go_away(self) -> None:
        self._away = True

    def come_back(self) -> None:
        self._away = False

    def refuse_queue(self, name: str) -> None:
        self._refused.add(name)


class CeleryExecutor:
    """A broker with a queue that nobody consumes."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self._url = url
        self._queue = f"queue-{uuid4().hex}"
        self._stack = stack
        self._own: ExitStack | None = None
        self._port = 0

    def dispatcher(self) -> Dispatcher:
        app = Celery(broker=self._url)
        app.conf.task_default_queue = self._queue
        return CeleryDispatcher(app, allow=["app.run"], timeout_s=5)

    def received(self) -> list[str]:
        with Redis.from_url(self._url) as client:
            items = client.lrange(self._queue, 0, -1)
        return [json.loads(item)["headers"]["id"] for item in reversed(items)]

    def go_away(self) -> None:
        """Let dispatchers look for a broker of this test's own, which does not run."""
        if self._own is not None:
            self._own.close()
        self._port = self._port or free_port()
        self._url = f"redis://127.0.0.1:{self._port}/0"

    def come_back(self) -> None:
        self._own = self._stack.enter_context(ExitStack())
        self._own.enter_context(valkey_server(port=self._port))

    def refuse_queue(self, name: str) -> None:
        with Redis.from_url(self._url) as client:
            client.set(name, "no list")
        self._stack.callback(self._accept_queue, name)

    def _accept_queue(self, name: str) -> None:
        with Redis.from_url(self._url) as client:
            client.delete(name)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture(params=["memory", CELERY])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "memory":
        yield MemoryExecutor()
        return
    with ExitStack() as stack:
        yield CeleryExecutor(request.getfixturevalue("broker"), stack)


async def test_a_command_is_there_under_its_own_id_when_the_dispatch_returns(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    for number in range(3):
        await dispatcher.dispatch(command(number))
        assert executor.received() == [f"c{n}" for n in range(number + 1)]
    await dispatcher.close()


async def test_commands_keep_their_order(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    sent = [command(number) for number in range(200)]
    await asyncio.gather(*map(dispatcher.dispatch, sent))
    await dispatcher.close()
    assert executor.received() == [one.id for one in sent]


async def test_a_command_that_is_handed_over_again_has_the_same_id(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    await dispatcher.dispatch(command(1))
    await dispatcher.dispatch(command(1))
    await dispatcher.close()
    assert executor.received() == ["c1", "c1"]


async def test_a_revocation_is_no_command(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    await dispatcher.dispatch(command(1))
    await dispatcher.dispatch(revoke(1))
    await dispatcher.close()
    assert executor.received() == ["c1"]


async def test_what_can_never_be_accepted_is_undispatchable_and_holds_up_no_other(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    sent = [command(1), replace(command(2), run="os.system"), command(3)]
    found = await asyncio.gather(*map(dispatcher.dispatch, sent), return_exceptions=True)
    assert [type(one) for one in found] == [type(None), UndispatchableError, type(None)]
    assert "os.system is not on the list" in str(found[1])
    await dispatcher.close()
    assert executor.received() == ["c1", "c3"]


async def test_what_was_not_confirmed_is_taken_at_a_later_try(executor: Executor) -> None:
    executor.go_away()
    dispatcher = executor.dispatcher()
    with pytest.raises(DispatchError):
        await dispatcher.dispatch(command(1))
    executor.come_back()
    await dispatcher.dispatch(command(1))
    assert executor.received() == ["c1"]
    executor.go_away()
    with pytest.raises(DispatchError):
        await dispatcher.dispatch(command(2))
    await dispatcher.close()


async def test_a_refused_queue_is_named_and_holds_up_no_other(executor: Executor) -> None:
    dispatcher, bad = executor.dispatcher(), f"bad-{uuid4().hex}"
    executor.refuse_queue(bad)
    refused, fine = replace(command(1), queue=bad), command(2)
    found = await asyncio.gather(*map(dispatcher.dispatch, (refused, fine)), return_exceptions=True)
    assert isinstance(found[0], DestinationError)
    assert found[1] is None
    assert found[0].destination == dispatcher.destination(refused)
    assert bad in found[0].destination
    assert dispatcher.destination(fine) != dispatcher.destination(refused)
    await dispatcher.close()
    assert "c2" in executor.received()
    assert "c1" not in executor.received()


MAKE: list[object] = ["memory", CELERY, "nowhere"]


@pytest.fixture(params=MAKE)
def make(request: pytest.FixtureRequest) -> Callable[[], Dispatcher]:
    """Makes a dispatcher of any kind."""
    match request.param:
        case "memory":
            return MemoryDispatcher
        case "nowhere":
            return NowhereDispatcher
        case _:
            url = request.getfixturevalue("broker")
            return lambda: CeleryDispatcher(Celery(broker=url))


async def test_a_closed_dispatcher_takes_nothing(make: Callable[[], Dispatcher]) -> None:
    dispatcher = make()
    await dispatcher.close()
    await dispatcher.close()
    with pytest.raises(DispatchError):
        await dispatcher.dispatch(command(1))


async def test_one_that_was_used_is_closed_twice_without_harm(executor: Executor) -> None:
    dispatcher = executor.dispatcher()
    await dispatcher.dispatch(command(1))
    await dispatcher.close()
    await dispatcher.close()
    with pytest.raises(DispatchError, match="closed"):
        await dispatcher.dispatch(command(1))


async def test_an_executor_that_is_none_keeps_a_command_waiting_until_it_is_released() -> None:
    dispatcher = NowhereDispatcher()
    waiting = asyncio.create_task(dispatcher.dispatch(command(1)))
    await asyncio.sleep(0)
    assert not waiting.done()
    dispatcher.release()
    with pytest.raises(DispatchError, match="there is no executor"):
        await waiting
