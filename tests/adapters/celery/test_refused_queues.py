"""A queue that RabbitMQ refuses holds up the commands for it, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, ConnectionForced, MessageNacked, NotFound, PreconditionFailed
from amqp.exceptions import ChannelError as AmqpChannelError
from celery import Celery
from kombu import Connection, Exchange, Queue
from msgspec.structs import replace

from tests.adapters.celery.conftest import Farm, command, make_farm
from tests.support.rabbitmq import RabbitNode, rabbitmq_node
from tests.support.waiting import eventually
from triggerstream.adapters.celery.dispatch import CeleryDispatcher
from triggerstream.adapters.celery.refusal import RefusalScope, refusal_of
from triggerstream.adapters.clock import SystemClock
from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.engine.handover.shared_log import PartitionHandOver, PartitionProgress
from triggerstream.wire.commands import encode
from triggerstream.wire.records import Record

pytestmark = [pytest.mark.celery, pytest.mark.slow]

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    with rabbitmq_node() as node:
        yield node


class Broker:
    """What an operator does at the broker."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.app = Celery(broker=url)
        self.app.conf.task_default_queue = f"{name}-default"
        self._url = url

    def declare(self, queue: str, **arguments: object) -> None:
        with Connection(self._url) as connection:
            Queue(queue, Exchange(""), queue, queue_arguments=arguments).bind(
                connection.channel()
            ).queue_declare()

    def delete(self, queue: str) -> None:
        with Connection(self._url) as connection:
            channel: Any = connection.channel()
            channel.queue_delete(queue)

    def ids(self, queue: str) -> list[str]:
        """The ids of the messages in ``queue``, which are taken from it."""
        found = []
        with Connection(self._url) as connection:
            channel: Any = connection.channel()
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.append(str(message.headers["id"]))
        return found


@pytest.fixture
def broker(node: RabbitNode, request: pytest.FixtureRequest) -> Broker:
    return Broker(node.url, request.node.name)


@asynccontextmanager
async def dispatcher_of(broker: Broker) -> AsyncIterator[CeleryDispatcher]:
    dispatcher = CeleryDispatcher(broker.app)
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


async def attempt(dispatcher: CeleryDispatcher, *commands: Command) -> list[object]:
    """What became of each; None: the broker has it."""
    return list(await asyncio.gather(*map(dispatcher.dispatch, commands), return_exceptions=True))


async def test_a_queue_with_other_arguments_is_refused_alone(broker: Broker) -> None:
    bad = f"{broker.name}-bad"
    broker.declare(bad, **{"x-max-length": 7})
    commands = [replace(command("echo"), queue=bad if n % 3 == 0 else None) for n in range(30)]
    async with dispatcher_of(broker) as dispatcher:
        await dispatcher.dispatch(command("echo"))
        assert len(broker.ids(f"{broker.name}-default")) == 1
        found = await attempt(dispatcher, *commands)
        refused = [one for one in found if one is not None]
        assert len(refused) == 10
        for error in refused:
            assert isinstance(error, DestinationError)
            assert error.destination == dispatcher.destination(commands[0]) == f"queue {bad}"
            assert "406" in error.reason
        # The others were sent once, over the same connection.
        assert broker.ids(f"{broker.name}-default") == [one.id for one in commands if one.queue is None]
        assert broker.ids(bad) == []
        broker.delete(bad)
        assert await attempt(dispatcher, *commands) == [None] * 30
        assert broker.ids(bad) == [one.id for one in commands if one.queue == bad]


async def test_a_full_queue_is_refused_alone_until_it_has_room(broker: Broker) -> None:
    full = f"{broker.name}-full"
    broker.app.conf.task_queues = [
        Queue(full, Exchange(full), full, queue_arguments=FULL),
        Queue(f"{broker.name}-default"),
    ]
    async with dispatcher_of(broker) as dispatcher:
        first, second = (replace(command("echo"), queue=full) for _ in range(2))
        await dispatcher.dispatch(first)
        with pytest.raises(DestinationError) as refused:
            await dispatcher.dispatch(second)
        assert refused.value.destination == f"queue {full}"
        await dispatcher.dispatch(command("echo"))
        assert broker.ids(full) == [first.id]
        await dispatcher.dispatch(second)
        assert broker.ids(full) == [second.id]


async def test_a_queue_that_was_deleted_is_declared_again_and_nothing_is_thrown_away(broker: Broker) -> None:
    sent = [command("echo") for _ in range(3)]
    async with dispatcher_of(broker) as dispatcher:
        await dispatcher.dispatch(sent[0])
        broker.delete(f"{broker.name}-default")
        assert await attempt(dispatcher, *sent[1:]) == [None, None]
        assert broker.ids(f"{broker.name}-default") == [one.id for one in sent[1:]]


@pytest.mark.parametrize("exchange", ["amq.topic", "no-such-exchange"])
async def test_an_exchange_that_leads_nowhere_is_refused_alone(broker: Broker, exchange: str) -> None:
    nowhere, fine = command("echo"), command("slow")
    broker.app.conf.task_routes = {nowhere.run: {"exchange": exchange, "routing_key": "to.nobody"}}
    async with dispatcher_of(broker) as dispatcher:
        error, sent = await attempt(dispatcher, nowhere, fine)
        assert sent is None
        assert isinstance(error, DestinationError)
        assert error.destination == f"exchange {exchange}, routing key to.nobody"


async def test_a_reserved_name_can_never_be_used(broker: Broker) -> None:
    reserved, fine = replace(command("echo"), queue="amq.orders"), command("echo")
    async with dispatcher_of(broker) as dispatcher:
        error, sent = await attempt(dispatcher, reserved, fine)
        assert sent is None
        assert isinstance(error, UndispatchableError)
        assert "queue amq.orders" in str(error)
        assert "403" in str(error)


async def test_a_lost_connection_concerns_all_and_what_was_confirmed_is_not_sent_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends between two publishes of one batch."""
    publish = broker.app.amqp.send_task_message
    calls = 0

    def lose(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 15:
            raise ConnectionForced("lost", (0, 0))
        return publish(*args, **kwargs)

    monkeypatch.setattr(broker.app.amqp, "send_task_message", lose)
    commands = [command("echo") for _ in range(30)]
    async with dispatcher_of(broker) as dispatcher:
        found = await attempt(dispatcher, *commands)
        lost = [one for one, error in zip(commands, found, strict=True) if error is not None]
        assert lost
        assert all(type(error) is DispatchError for error in found if error is not None)
        assert await attempt(dispatcher, *lost) == [None] * len(lost)
    ids = broker.ids(f"{broker.name}-default")
    assert sorted(ids) == sorted(one.id for one in commands)


async def test_revocations_go_on_beside_a_refused_queue(broker: Broker) -> None:
    bad = f"{broker.name}-bad"
    broker.declare(bad, **{"x-max-length": 7})
    sent = replace(command("echo"), queue=bad)
    async with dispatcher_of(broker) as dispatcher:
        revoke = Revoke(id=sent.id, session=sent.session, task=sent.task, instance=sent.instance)
        assert dispatcher.destination(revoke) != dispatcher.destination(sent)
        found = await asyncio.gather(
            dispatcher.dispatch(sent), dispatcher.dispatch(revoke), return_exceptions=True
        )
        assert isinstance(found[0], DestinationError)
        assert found[1] is None


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (MessageNacked(), RefusalScope.DESTINATION),
        (AmqpChannelError("NO_ROUTE", (60, 50), reply_code=312), RefusalScope.DESTINATION),
        (AccessRefused("no", (50, 10)), RefusalScope.DESTINATION),
        (AccessRefused("no", (60, 40)), RefusalScope.DESTINATION),
        (NotFound("no exchange", (60, 40)), RefusalScope.DESTINATION),
        (PreconditionFailed("other arguments", (50, 10)), RefusalScope.DESTINATION),
        (PreconditionFailed("message too long", (60, 40)), RefusalScope.MESSAGE),
        (ConnectionForced("unknown exchange type", (40, 10), reply_code=503), RefusalScope.DESTINATION),
        # A login that is refused, a broker that stops, a socket: none of a queue's.
        (AccessRefused("login", (0, 0)), None),
        (AccessRefused("login", (10, 11)), None),
        (ConnectionForced("shutdown", (0, 0)), None),
        (OSError("gone"), None),
    ],
)
def test_the_code_and_the_method_say_what_is_refused(error: Exception, scope: RefusalScope | None) -> None:
    found = refusal_of(error, declares=("orders", "orders"))
    assert (None if found is None else found.scope) is scope


@pytest.mark.parametrize(
    ("method", "scope"), [((50, 10), RefusalScope.NAME), ((40, 10), RefusalScope.DESTINATION)]
)
def test_only_what_is_declared_can_have_a_reserved_name(method: tuple[int, int], scope: RefusalScope) -> None:
    found = refusal_of(AccessRefused("no", method), declares=("orders", "amq.orders"))
    assert found is not None
    assert found.scope is scope


@pytest.fixture
def farm(node: RabbitNode, tmp_path: Path) -> Iterator[Farm]:
    with make_farm(tmp_path, broker=node.url) as farm:
        yield farm


async def test_a_real_worker_runs_the_others_at_once_and_those_that_waited_once_it_is_mended(
    farm: Farm, broker: Broker
) -> None:
    bad = f"{broker.name}-bad"
    broker.declare(bad, **{"x-max-length": 7})
    farm.worker("-c", "2", "-Q", farm.queue)
    sent = [replace(command("echo"), queue=bad if n % 4 == 0 else None) for n in range(24)]
    progress, handover = (
        PartitionProgress(0, 0),
        PartitionHandOver(dispatcher=farm.dispatcher, clock=SystemClock(), refuse=never),
    )
    for offset, one in enumerate(sent):
        record = Record(partition=0, offset=offset, arrival_us=0, key=one.session.encode(), value=encode(one))
        handover.take(progress, record)
    running = asyncio.create_task(handover.run())
    try:
        for one in sent:
            if one.queue is None:
                await farm.outcome(one)
        # On a busy machine, the worker may have run the others before the broker's refusal has arrived.
        await eventually(lambda: [one.waiting for one in handover.refused_destinations()] == [6], within_s=90)
        (refused,) = handover.refused_destinations()
        assert refused.destination == f"queue {bad}"
        assert not handover.away
        assert progress.position == 0
        broker.delete(bad)
        await eventually(lambda: progress.position == len(sent), within_s=90)
        farm.worker("-c", "1", "-Q", bad)
        for one in sent:
            await farm.outcome(one)
        assert handover.handed_over == len(sent)
        assert {tuple(farm.log.kinds(one.session)) for one in sent} == {("started", "finished")}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await farm.dispatcher.close()


async def never(record: Record, decision: Decision | None, reason: str) -> None:
    del record, decision
    raise AssertionError(reason)
