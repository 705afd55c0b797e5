"""Tasks that end the process that runs them: each has an end of its own, in every pool, on every broker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from kombu.message import Message
from msgspec.structs import replace

from tests.adapters.celery.conftest import Farm, KeptWorker, command, make_farm
from tests.support.processes import CeleryWorker
from tests.support.rabbitmq import RabbitNode, rabbitmq_node
from tests.support.waiting import eventually, wait_until
from triggerstream.adapters.celery.delivery import HEADER, STARTS, delivery_of, header_of
from triggerstream.adapters.celery.republish import Republisher
from triggerstream.core.commands import Command
from triggerstream.core.errors import DispatchError

pytestmark = [pytest.mark.celery, pytest.mark.slow]

POOLS = {"prefork": ("-c", "2"), "threads": ("-P", "threads", "-c", "2"), "solo": ("-P", "solo")}
SHORT = [("valkey", "prefork"), ("valkey", "solo"), ("rabbitmq", "prefork"), ("rabbitmq", "threads")]
"""Every pool and every broker once; the long form has every pair."""
LONG = [("valkey", "threads"), ("rabbitmq", "solo")]
VISIBILITY = "3"
"""Seconds after which Valkey delivers the message of a dead worker again; RabbitMQ does so at once."""


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("triggerstream.task.") for event in events]


async def assert_works(farm: Farm) -> None:
    """Check that the worker runs a task to its end.

    With ``VISIBILITY`` Valkey may deliver the task a second time where the worker is slow.
    """
    outcome = types(await farm.run(command("echo"), within_s=120))
    assert outcome[:2] == ["started", "finished"]
    assert set(outcome) == {"started", "finished"}


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitNode]:
    with rabbitmq_node() as node:
        yield node


def broker_of(request: pytest.FixtureRequest, name: str) -> str | None:
    """The address of a broker that the farms of this module share; None: each has its own."""
    if name == "valkey":
        return None
    node: RabbitNode = request.getfixturevalue("rabbit")
    return node.url


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str | None:
    return broker_of(request, request.param)


@pytest.fixture
def farm(broker: str | None, tmp_path: Path) -> Iterator[Farm]:
    with make_farm(tmp_path, broker=broker) as farm:
        yield farm


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(pair, id="-".join(pair)) for pair in SHORT),
        *(pytest.param(pair, id="-".join(pair), marks=pytest.mark.faults) for pair in LONG),
    ],
)
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Farm, KeptWorker]]:
    """A farm with one worker, which is started again whenever a task ends it."""
    name, pool = request.param
    home = tmp_path_factory.mktemp("farm")
    with make_farm(home, broker=broker_of(request, name), TEST_VISIBILITY=VISIBILITY) as farm:
        yield farm, farm.kept_worker(*POOLS[pool])


# ---- what the task itself raised -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("SystemExit", "SystemExit: 3"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("CancelledError", "CancelledError: by nobody"),
        ("MemoryError", "MemoryError: too big"),
    ],
)
async def test_exit_that_the_task_raised_is_a_failure_like_any_other(
    kept: tuple[Farm, KeptWorker], kind: str, error: str
) -> None:
    farm, worker = kept
    await farm.run(command("echo"))  # the worker is up
    before = worker.starts
    events = await farm.run(command("raises", name=f"raises-{kind}", kind=kind))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"] == error
    assert "reason" not in events[1]["data"]
    assert "raise {" in events[1]["data"]["metadata"]["traceback"]
    await assert_works(farm)
    assert len(await farm.appears(f"raises-{kind}")) == 1
    assert worker.starts == before


# ---- other ends of its process -------------------------------------------------------------------


@pytest.mark.parametrize("by", ["kill", pytest.param("exit", marks=pytest.mark.faults)])
async def test_task_that_ends_each_process_is_given_up_after_four_starts(
    kept: tuple[Farm, KeptWorker], by: str
) -> None:
    farm, _ = kept
    sent = command("dies", name=f"poison-{by}", times=99, by=by)
    events = await farm.run(sent, within_s=120)
    assert types(events) == ["started"] * 4 + ["failed"]
    assert events[-1]["data"]["reason"] == "worker lost"
    assert events[-1]["data"]["error"] == "the processes that ran it ended without an outcome, 4 times"
    assert len(await farm.appears(f"poison-{by}")) == 4
    await assert_works(farm)
    assert types(farm.log.events(sent.session)) == types(events)


@pytest.mark.faults
async def test_task_that_ends_three_processes_finishes_in_the_fourth(kept: tuple[Farm, KeptWorker]) -> None:
    farm, _ = kept
    events = await farm.run(command("dies", name="thrice", times=3), within_s=120)
    assert types(events) == ["started"] * 4 + ["finished"]


async def test_exit_of_a_hook_before_the_task_is_given_up_too(kept: tuple[Farm, KeptWorker]) -> None:
    farm, _ = kept
    events = await farm.run(command("exits_before"), within_s=120)
    assert types(events) == ["failed"]
    assert events[0]["data"]["reason"] == "worker lost"
    await assert_works(farm)


@pytest.mark.parametrize("pool", ["prefork", pytest.param("solo", marks=pytest.mark.faults)])
async def test_guard_and_message_count_the_same_starts(farm: Farm, pool: str, tmp_path: Path) -> None:
    """Both count to the same bound; neither multiplies the other's."""
    farm.env["TEST_GUARD"] = f"sqlite:///{tmp_path}/guard.db"
    farm.kept_worker(*POOLS[pool], TEST_LEASE="1", TEST_VISIBILITY=VISIBILITY)
    events = await farm.run(command("dies", name="guarded", times=99), within_s=180)
    assert types(events) == ["started"] * 4 + ["failed"]
    assert events[-1]["data"]["reason"] == "worker lost"


@pytest.mark.parametrize("crashes", [1, pytest.param(3, marks=pytest.mark.faults)])
async def test_worker_that_dies_between_sending_anew_and_acknowledging_leaves_an_end(
    farm: Farm, crashes: int
) -> None:
    """Each such crash leaves one more message of the command; each of them is given up on its own."""
    farm.kept_worker("-c", "1", TEST_DIE_AFTER_SENDING_ANEW=str(crashes), TEST_VISIBILITY=VISIBILITY)
    sent = command("dies", name="poison", times=99)
    await farm.dispatcher.dispatch(sent)
    events = await farm.outcome(sent, count=crashes + 1, within_s=240)
    assert set(types(events)) == {"started", "failed"}
    assert types(events).count("started") <= 4 * (crashes + 1)
    await eventually(lambda: farm.waiting() == [], within_s=60, what=farm.said)


async def test_message_that_is_sent_anew_is_the_same_but_for_its_count(farm: Farm) -> None:
    sent = replace(command("echo", score=3), expires_us=60_000_000, traceparent="00-1-2-01")
    farm.app.conf.task_routes = {sent.run: {"priority": 3}}
    await farm.dispatcher.dispatch(sent)
    republisher = Republisher(farm.app)
    with farm.app.connection_for_read() as connection, connection.channel() as channel:
        queue: Any = Queue(farm.queue, channel=channel)
        first = wait_until(queue.get, within_s=10)
        first.reject(requeue=True)
        marked = wait_until(queue.get, within_s=10)
        assert marked.delivery_info["redelivered"]
        republisher.send(marked, queue=farm.queue, headers={STARTS: 1})
        marked.ack()
        anew = wait_until(queue.get, within_s=10)
        anew.ack()
        assert queue.get() is None
    assert not anew.delivery_info.get("redelivered")
    assert anew.headers == {**first.headers, STARTS: 1}
    assert anew.body == first.body
    assert (anew.content_type, anew.content_encoding) == (first.content_type, first.content_encoding)
    for name in ("correlation_id", "reply_to", "priority", "delivery_mode"):
        assert anew.properties.get(name) == first.properties.get(name)
    assert anew.properties["priority"] == 3
    assert anew.headers["expires"] is not None
    found = delivery_of(anew.headers)
    assert found is not None
    assert (found.command, found.starts) == (sent.id, 1)


async def test_message_that_no_broker_takes_is_not_acknowledged() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        app = Celery(broker=f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        with pytest.raises(DispatchError):
            Republisher(app).send(Message(body="{}"), queue="celery", headers={})


# ---- what was not begun --------------------------------------------------------------------------


async def received(worker: CeleryWorker, sent: Command) -> None:
    await eventually(lambda: f"[{sent.id}] received" in worker.text(), what=worker.text)


def send_for_later(farm: Farm, sent: Command) -> None:
    farm.app.send_task(
        sent.run,
        task_id=sent.id,
        kwargs=sent.kwargs,
        headers={HEADER: header_of(sent)},
        eta=datetime.now(UTC) + timedelta(hours=1),
    )


@pytest.mark.parametrize("restarts", [1, pytest.param(4, marks=pytest.mark.faults)])
async def test_no_number_of_restarts_counts_against_a_task_that_never_ran(farm: Farm, restarts: int) -> None:
    """Nor does one leave a mark."""
    sent = command("echo")
    send_for_later(farm, sent)
    for _ in range(restarts):
        worker = farm.worker("-c", "1")
        await received(worker, sent)
        worker.terminate()
        assert worker.wait_end() == 0
    (message,) = farm.waiting()
    assert STARTS not in message
    assert not message["is redelivered"]
    assert message["eta"] is not None
    assert farm.log.events(sent.session) == []


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.faults)])
async def test_workers_that_are_killed_before_its_time_do_not_count_either(farm: Farm, kills: int) -> None:
    sent = command("echo")
    send_for_later(farm, sent)
    for _ in range(kills):
        worker = farm.worker("-c", "1", TEST_VISIBILITY=VISIBILITY)
        await received(worker, sent)
        worker.kill()
    worker = farm.worker("-c", "1", TEST_VISIBILITY=VISIBILITY)
    await received(worker, sent)
    worker.terminate()
    assert worker.wait_end() == 0
    messages = farm.waiting()  # one; with Valkey more, if a worker held it for longer than that
    assert messages
    assert all(STARTS not in message for message in messages)
    assert farm.log.events(sent.session) == []


async def test_worker_that_ends_hands_back_what_waits_in_it(farm: Farm) -> None:
    """The second waits for its rate limit; it is run by the next worker, and was never counted."""
    worker = farm.worker("-c", "2")
    first, second = command("seldom", name="first"), command("seldom", name="second")
    await farm.run(first)
    await farm.dispatcher.dispatch(second)
    await received(worker, second)
    worker.terminate()
    assert worker.wait_end() == 0
    (message,) = farm.waiting()
    assert STARTS not in message
    assert not message["is redelivered"]
    farm.worker("-c", "2")
    assert types(await farm.outcome(second)) == ["started", "finished"]


async def test_task_that_runs_while_its_worker_ends_finishes_there(farm: Farm) -> None:
    worker = farm.worker("-c", "1")
    sent = command("slow", name="ending")
    await farm.dispatcher.dispatch(sent)
    await farm.appears("ending.begun")
    worker.terminate()
    await eventually(lambda: "Warm shutdown" in worker.text(), what=worker.text)
    farm.go("ending.go")
    assert worker.wait_end() == 0
    assert types(await farm.outcome(sent)) == ["started", "finished"]
    assert farm.waiting() == []


async def test_terminated_child_is_the_workers_end_and_no_failure_of_its_task(farm: Farm) -> None:
    """SIGTERM for every process of a worker, as a service manager sends it, raises SystemExit in the task."""
    worker = farm.worker("-c", "1")
    sent = command("slow", name="child")
    await farm.dispatcher.dispatch(sent)
    (pid,) = await farm.appears("child.begun")
    os.kill(int(pid), signal.SIGTERM)
    await farm.appears("child.begun", lines=2)
    farm.go("child.go")
    assert types(await farm.outcome(sent)) == ["started", "started", "finished"]
    assert worker.is_running()
