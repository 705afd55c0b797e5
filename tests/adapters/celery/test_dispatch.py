"""Commands as messages in a real broker. What every dispatcher promises: `tests/contract`."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from celery import Celery
from msgspec.structs import replace
from redis import Redis

from tests.adapters.celery.conftest import command
from tests.support.ports import free_port
from tests.support.valkey import valkey_server
from triggerstream.adapters.celery.dispatch import CeleryDispatcher
from triggerstream.core.commands import Revoke
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.core.ids import Json

pytestmark = pytest.mark.celery


@pytest.fixture
def broker() -> Iterator[str]:
    with valkey_server() as url:
        yield url


def messages(broker: str, queue: str = "celery") -> list[dict[str, Any]]:
    """What lies in ``queue``, first sent first."""
    with Redis.from_url(broker) as client:
        return [json.loads(item) for item in reversed(client.lrange(queue, 0, -1))]


async def test_a_command_becomes_a_message_under_its_own_id(broker: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    sent = replace(command("echo", score=3, attempt=1, retries=2), traceparent="00-1-2-01", priority=6)
    await dispatcher.dispatch(sent)
    await dispatcher.close()
    (message,) = messages(broker, "celery\x06\x166")
    headers = message["headers"]
    assert headers["id"] == headers["root_id"] == sent.id
    assert headers["task"] == sent.run
    assert headers["retries"] == 2
    assert headers["traceparent"] == "00-1-2-01"
    assert headers["expires"] is None
    assert message["properties"]["priority"] == 6
    assert headers["triggerstream"] == {
        "id": sent.id,
        "session": sent.session,
        "task": sent.task,
        "instance": sent.instance,
        "attempt": 1,
        "retries": 2,
        "config": "c0ffee",
        "causes": [{"trigger": "go", "offset": 7, "id": "e1"}, {"trigger": "go", "offset": 9}],
        "traceparent": "00-1-2-01",
    }
    assert message["content-type"] == "application/json"
    args, kwargs, _ = json.loads(b64decode(message["body"]))
    assert (args, kwargs) == ([], {"go": {"score": 3}})


async def test_no_payload_is_in_the_headers(broker: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    await dispatcher.dispatch(command("echo", password="hunter2"))
    await dispatcher.close()
    (message,) = messages(broker)
    assert "hunter2" not in json.dumps(message["headers"])


async def test_it_is_json_whatever_the_app_says(broker: str) -> None:
    app = Celery(broker=broker)
    app.conf.task_serializer = "pickle"
    dispatcher = CeleryDispatcher(app)
    await dispatcher.dispatch(command("echo"))
    await dispatcher.close()
    assert messages(broker)[0]["content-type"] == "application/json"


async def test_expires_counts_from_the_hand_over_and_is_no_time_to_live(broker: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    before = datetime.now(UTC)
    await dispatcher.dispatch(replace(command("echo"), expires_us=90_000_000, decided_us=1))
    await dispatcher.close()
    (message,) = messages(broker)
    left = datetime.fromisoformat(message["headers"]["expires"]) - before
    assert 89 < left.total_seconds() < 95
    assert "expiration" not in message["properties"]


async def test_the_commands_queue_wins_over_the_apps_routes(broker: str) -> None:
    app = Celery(broker=broker)
    app.conf.task_routes = {"tests.*": {"queue": "routed"}}
    dispatcher = CeleryDispatcher(app)
    await dispatcher.dispatch(command("echo"))
    await dispatcher.dispatch(replace(command("echo"), queue="said"))
    await dispatcher.close()
    assert len(messages(broker, "routed")) == len(messages(broker, "said")) == 1


async def test_the_commands_priority_wins_over_the_apps_routes(broker: str) -> None:
    app = Celery(broker=broker)
    app.conf.task_routes = {"tests.*": {"queue": "ranked", "priority": 3}}
    dispatcher = CeleryDispatcher(app)
    await dispatcher.dispatch(command("echo"))
    await dispatcher.dispatch(replace(command("echo"), priority=0))
    await dispatcher.dispatch(replace(command("echo"), queue="by-name", priority=9))
    await dispatcher.close()
    assert [message["properties"]["priority"] for message in messages(broker, "ranked\x06\x163")] == [3]
    assert [message["properties"]["priority"] for message in messages(broker, "ranked")] == [0]
    assert [message["properties"]["priority"] for message in messages(broker, "by-name\x06\x169")] == [9]


@pytest.mark.parametrize("run", ["celery.backend_cleanup", "celery.chord", "celery.map"])
async def test_tasks_of_celerys_own_are_never_dispatched(broker: str, run: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker), allow=[run])
    with pytest.raises(UndispatchableError, match=run):
        await dispatcher.dispatch(replace(command("echo"), run=run))
    assert messages(broker) == []


async def test_only_listed_tasks_are_dispatched(broker: str) -> None:
    allowed = command("echo")
    dispatcher = CeleryDispatcher(Celery(broker=broker), allow=[allowed.run])
    await dispatcher.dispatch(allowed)
    with pytest.raises(UndispatchableError, match="not on the list"):
        await dispatcher.dispatch(replace(allowed, run="os.system"))
    await dispatcher.close()
    assert len(messages(broker)) == 1


@pytest.mark.parametrize("value", [object(), float("nan"), 2**64, {(1,): 2}, "x" * (1024 * 1024)])
async def test_arguments_that_no_message_can_hold_are_refused(broker: str, value: object) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    with pytest.raises(UndispatchableError, match="arguments"):
        await dispatcher.dispatch(replace(command("echo"), kwargs={"go": {"value": cast("Json", value)}}))


async def test_a_queue_whose_key_is_no_list_is_refused_alone(broker: str) -> None:
    """Redis executes the others of a batch, so they are repeated once, and not at each attempt."""
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    bad, *fine = (replace(command("echo"), queue="bad" if n == 0 else None) for n in range(20))
    with Redis.from_url(broker) as client:
        client.set("bad", "no list")
        sent = 0
        for attempt in range(3):
            found = await asyncio.gather(*map(dispatcher.dispatch, (bad, *fine)), return_exceptions=True)
            assert found[1:] == [None] * 19
            assert isinstance(found[0], DestinationError)
            assert (found[0].destination, dispatcher.destination(bad)) == ("queue bad", "queue bad")
            assert "WRONGTYPE" in found[0].reason
            sent, before = len(messages(broker)), sent
            assert (19 <= sent <= 38) if attempt == 0 else sent == before + 19
        client.delete("bad")
        await asyncio.gather(*map(dispatcher.dispatch, (bad, *fine)))
        assert len(messages(broker, "bad")) == 1
    await dispatcher.close()


def misrouted(*_: object) -> None:
    raise ZeroDivisionError("in the routes")


@pytest.mark.parametrize("kind", ["a queue of its own", "a function"])
async def test_a_command_that_the_app_does_not_route_is_refused_alone(broker: str, kind: str) -> None:
    app = Celery(broker=broker)
    bad, fine = command("echo"), replace(command("echo"), queue="celery")
    if kind == "a function":
        app.conf.task_routes = (lambda *given, **_: None if given[3] else misrouted(),)
        destination, reason = f"routes of {bad.run}", "ZeroDivisionError: in the routes"
    else:
        app.conf.task_create_missing_queues = False
        bad = replace(bad, queue="nowhere")
        destination, reason = "queue nowhere", "QueueNotFound"
    dispatcher = CeleryDispatcher(app)
    found = await asyncio.gather(dispatcher.dispatch(bad), dispatcher.dispatch(fine), return_exceptions=True)
    await dispatcher.close()
    assert found[1] is None
    assert isinstance(found[0], DestinationError)
    assert (found[0].destination, dispatcher.destination(bad)) == (destination, destination)
    assert reason in found[0].reason
    assert len(messages(broker)) == 1


async def test_a_broker_that_hangs_is_an_error_in_bounded_time_and_a_later_try_arrives() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        dispatcher = CeleryDispatcher(Celery(broker=f"redis://127.0.0.1:{port}/0"), timeout_s=0.5)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        named = (
            rf"^the Celery broker redis://(:\*\*@)?127.0.0.1:{port}/0 did not (confirm within 0.5 s|accept)"
        )
        with pytest.raises(DispatchError, match=named):
            await dispatcher.dispatch(command("echo"))
        secret = Celery(broker=f"redis://me:secret@127.0.0.1:{port}/0")
        with pytest.raises(DispatchError, match=rf"redis://me:\*\*@127.0.0.1:{port}/0 did not"):
            await CeleryDispatcher(secret, timeout_s=0.1).dispatch(command("echo"))
        assert loop.time() - begun < 3
    with valkey_server(port=port) as url:
        await dispatcher.dispatch(command("echo"))
        assert len(messages(url)) == 1
        await dispatcher.close()


@pytest.mark.parametrize("url", ["redis://me:secret@{}/0", "amqp://me:secret@{}//"])
async def test_the_error_names_the_broker_without_its_password(url: str) -> None:
    place = f"127.0.0.1:{free_port()}"
    dispatcher = CeleryDispatcher(Celery(broker=url.format(place)), timeout_s=10)
    with pytest.raises(DispatchError) as refused:
        await dispatcher.dispatch(command("echo"))
    await dispatcher.close()
    shown = url.format(place).replace("secret", "**")
    assert str(refused.value).startswith(f"the Celery broker {shown} did not accept the message: ")
    assert "secret" not in str(refused.value)


async def test_a_revoke_is_broadcast_to_workers(broker: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=broker))
    sent = command("echo")
    with Redis.from_url(broker) as client, client.pubsub() as listening:
        listening.psubscribe("*")
        listening.get_message(timeout=5)
        revoke = Revoke(id=sent.id, session=sent.session, task=sent.task, instance=sent.instance)
        await dispatcher.dispatch(revoke)
        heard = listening.get_message(timeout=5)
    await dispatcher.close()
    assert heard is not None
    assert sent.id in b64decode(json.loads(heard["data"])["body"]).decode()
