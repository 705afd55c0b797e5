"""An event's id may be as long as an event: its command is handed over all the same, or refused alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from msgspec.structs import replace

from tests.adapters.celery.conftest import command
from tests.support.rabbitmq import rabbitmq_node
from triggerstream.adapters.celery.delivery import HEADER, HEADER_BYTES, header_of, read_delivery
from triggerstream.adapters.celery.dispatch import CeleryDispatcher
from triggerstream.core.commands import Cause, Command
from triggerstream.core.errors import UndispatchableError
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.wire.bounds import EVENT_BYTES, TRACE_CHARS
from triggerstream.wire.json import dumps


@pytest.fixture(scope="module")
def rabbit() -> Iterator[str]:
    with rabbitmq_node() as node:
        yield node.url


def caused(*causes: Cause) -> Command:
    return replace(command("echo"), causes=causes, traceparent="\U0001f600" * TRACE_CHARS)


def cause(number: int, *, name: str = "go", id: str | None = None) -> Cause:  # noqa: A002 - the attribute's name
    return Cause(trigger=TriggerName(name), offset=number, id=id)


LONG = {
    "an id": caused(cause(1, id="e1"), cause(2, id="x" * (EVENT_BYTES - 100))),
    "an id of control characters": caused(cause(1, id="\x01" * 100_000)),
    "many ids": caused(*(cause(number, id="x" * 200) for number in range(1_000))),
    "many names": caused(*(cause(number, name=f"{number:0200}") for number in range(1_000))),
}


@pytest.mark.slow
async def test_rabbitmq_takes_a_command_whatever_its_events_were_called(rabbit: str) -> None:
    dispatcher = CeleryDispatcher(Celery(broker=rabbit))
    try:
        for sent in LONG.values():
            await dispatcher.dispatch(sent)
        with pytest.raises(UndispatchableError, match="bytes: at most 65,536"):
            await dispatcher.dispatch(replace(command("echo"), task=TaskName("t" * HEADER_BYTES)))
        for queue in ("q" * 256, "é" * 200):
            with pytest.raises(UndispatchableError, match="the broker's protocol cannot say it"):
                await dispatcher.dispatch(replace(command("echo"), queue=queue))
        await dispatcher.dispatch(command("echo"))
    finally:
        await dispatcher.close()


@pytest.mark.parametrize("name", LONG)
def test_a_header_stays_within_the_bound_and_can_be_read(name: str) -> None:
    header = header_of(LONG[name])
    assert len(dumps(header)) <= HEADER_BYTES
    delivery = read_delivery({HEADER: header})
    assert delivery is not None
    assert delivery.command == LONG[name].id


def test_long_ids_are_left_out_before_causes_are() -> None:
    assert header_of(LONG["an id"])["causes"] == [
        {"trigger": "go", "offset": 1, "id": "e1"},
        {"trigger": "go", "offset": 2},
    ]
    assert header_of(LONG["many names"])["causes"] == []
