"""Every client of Kafka is started and stopped in one way, which leaves nothing behind."""

from __future__ import annotations

import ast
import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IllegalOperation, KafkaConnectionError, KafkaError, ProducerFenced
from aiokafka.protocol.metadata import MetadataRequest

import triggerstream
from tests.support.kafka.server import KafkaServer
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.stopping import Client, network_of, stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import FencedError

Make = Callable[[Connection], Client]

KINDS: dict[str, Make] = {
    "reader": lambda connection: connection.reader(),
    "member": lambda connection: connection.member("a-group"),
    "producer": lambda connection: connection.producer(),
    "transactional producer": lambda connection: connection.producer(transactional_id="an-id"),
    "admin": lambda connection: connection.admin(),
    "client": lambda connection: AIOKafkaClient(**connection.options()),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def others() -> set[asyncio.Task[object]]:
    """The tasks that run beside the test."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def ended() -> None:
    """Wait until no other task runs."""
    async with asyncio.timeout(30):
        while others():
            await asyncio.wait(others())


def open_connections(client: Client) -> int:
    return sum(connection.connected() for connection in network_of(client)._conns.values())  # noqa: SLF001 - nothing public


@pytest.mark.kafka
@kinds
async def test_a_client_that_is_stopped_at_once_leaves_nothing(connection: Connection, make: Make) -> None:
    client = make(connection)
    await connection.start(client)
    await stop(client)
    assert not others()
    assert not open_connections(client)


@pytest.mark.kafka
@kinds
async def test_a_block_that_fails_stops_its_client(connection: Connection, make: Make) -> None:
    client = make(connection)
    with pytest.raises(ZeroDivisionError):
        async with connection.running(client):
            raise ZeroDivisionError
    assert not others()
    assert not open_connections(client)


@pytest.mark.kafka
@kinds
async def test_a_start_that_is_cancelled_leaves_nothing(connection: Connection, make: Make) -> None:
    for turns in range(1, 12):
        await cancel_start(connection, make(connection), turns=turns)
    gc.collect()  # it warns of connections that are open
    assert not others()


async def cancel_start(connection: Connection, client: Client, *, turns: int) -> None:
    """Cancel a start after some turns of the event loop."""
    starting = asyncio.create_task(connection.start(client))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    if not starting.cancelled():
        await stop(client)
    assert not open_connections(client)


@kinds
async def test_a_start_that_finds_no_kafka_leaves_nothing(make: Make) -> None:
    connection = Connection(bootstrap="127.0.0.1:1")
    client = make(connection)
    with pytest.raises(KafkaConnectionError):
        await connection.start(client)
    assert not others()


async def test_a_cluster_that_lists_no_broker_is_named_as_the_reason() -> None:
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    try:
        with pytest.raises(LogError) as refused:
            async with translate_errors("cannot create the topics"):
                await client.send(client.get_random_node(), MetadataRequest([]))
    finally:
        await client.close()
    reason = "the cluster has no broker ready to answer now: try again in a moment"
    assert str(refused.value) == f"cannot create the topics: {reason}"


@pytest.mark.kafka
async def test_a_stop_whose_caller_is_cancelled_is_finished(connection: Connection, topics: Topics) -> None:
    client = connection.member("a-group")
    await connection.start(client)
    client.subscribe([topics.events])
    stopping = asyncio.create_task(stop(client))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await ended()
    assert not open_connections(client)


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_client_of_a_broker_that_hangs_is_stopped_in_time(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=1)
    topic = Topics.of(kafka_app).events
    clients = [make(connection) for make in KINDS.values()]
    for client in clients:
        await connection.start(client)
    reader, member, producer, *_ = clients
    reader.subscribe([topic])
    member.subscribe([topic])
    async with asyncio.timeout(60):
        while not (reader.assignment() and member.assignment()):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
    server.pause()
    await producer.send(topic, b"never acknowledged")
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(stop(client, timeout_s=1) for client in clients))
    # Within the bound, not within aiokafka's time-outs of 10 s and more, which nothing here waits for.
    assert asyncio.get_running_loop().time() - begun < 8
    assert not others()
    assert not any(map(open_connections, clients))


def test_no_other_module_makes_starts_or_stops_a_client() -> None:
    root = Path(triggerstream.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name == "adapters/kafka/connection.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("AIOKafka"):
                found.append(f"{name}:{node.lineno}: {ast.unparse(node.func)}()")
            if name.startswith("adapters/kafka/") and isinstance(node, ast.Call) and not node.args:
                called = ast.unparse(node.func)
                if called.endswith((".start", ".stop", ".bootstrap")) and "thread" not in called:
                    found.append(f"{name}:{node.lineno}: {called}()")
    # It asks a single broker why it hangs up, below aiokafka's clients.
    assert [one for one in found if "refusal.py" not in one] == []


@pytest.mark.parametrize(
    ("error", "ours", "says"),
    [
        (ProducerFenced(), FencedError, "the log did not commit: another process has taken over"),
        (KafkaError("odd"), LogError, "the log did not commit: KafkaError: odd"),
        (IllegalOperation("late"), LogError, "the log did not commit: late"),
        (AssertionError(), LogError, "the log did not commit: AssertionError()"),
        (OSError("gone"), LogError, "the log did not commit: gone"),
        (TimeoutError(), LogError, "the log did not commit: no answer"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_of_the_client_become_ours(error: Exception, ours: type[LogError], says: str) -> None:
    with pytest.raises(LogError) as found:
        async with translate_errors("the log did not commit"):
            raise error
    assert (type(found.value), str(found.value)) == (ours, says)


async def test_a_block_that_takes_too_long_ends_with_its_time() -> None:
    with pytest.raises(LogError, match=r"^cannot read t: no answer within 0.01 s$"):
        async with translate_errors("cannot read t", timeout_s=0.01):
            await asyncio.Event().wait()
