"""A bridge with a queue that RabbitMQ refuses: other commands go on, also after `kill -9`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from kombu import Connection as BrokerConnection
from msgspec.structs import replace

from tests.adapters.kafka.bridges import RUN, BridgeProcess, append, command, commits, committed, ends
from tests.adapters.kafka.conftest import PARTITIONS
from tests.support.commands import triggerstream
from tests.support.kafka.server import KafkaServer
from tests.support.probes import Probes
from tests.support.rabbitmq import RabbitNode, rabbitmq_node
from tests.support.waiting import eventually, until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.progress import reached_in
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.celery, pytest.mark.slow]

BAD = "refused-queue"
WAITING = 24
"""Of many sessions, so that each partition has some."""
BEHIND = 1_500
"""More than a bridge takes without committing."""


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    with rabbitmq_node() as node:
        yield node


def declare_anew(url: str, queue: str, **arguments: object) -> None:
    delete(url, queue)
    with BrokerConnection(url) as connection:
        channel: Any = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)


def delete(url: str, queue: str) -> None:
    with BrokerConnection(url) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(queue)


def ids(url: str, queue: str) -> list[str]:
    """The ids of the messages in ``queue``, which are taken from it."""
    found = []
    with BrokerConnection(url) as connection:
        channel: Any = connection.channel()
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(str(message.headers["id"]))
    return found


async def undone(connection: Connection, app: AppId, topics: Topics) -> int:
    """Offsets that a restart would begin with: commands that wait, and markers of transactions."""
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{app}-bridge")
    finally:
        await admin.close()
    end = await ends(connection, topics.commands, PARTITIONS)
    found = {place.partition: reached_in(at.offset, at.metadata) for place, at in offsets.items()}
    return sum(len(one.open) + end[partition] - one.upto for partition, one in found.items())


async def test_others_go_on_beyond_a_refused_queue_and_a_kill_repeats_none_of_them(
    connection: Connection, kafka_app: AppId, topics: Topics, node: RabbitNode, tmp_path: Path
) -> None:
    declare_anew(node.url, BAD, **{"x-max-length": 7})
    declare_anew(node.url, "celery")
    wanted = [
        replace(command(kafka_app, n), queue=BAD if n < WAITING else None) for n in range(WAITING + BEHIND)
    ]
    waits, others = {one.id for one in wanted[:WAITING]}, {one.id for one in wanted[WAITING:]}
    await append(connection, kafka_app, wanted, partitions=PARTITIONS)
    started: list[BridgeProcess] = []

    def start(*arguments: str) -> BridgeProcess:
        output = tmp_path / f"bridge-{len(started)}.log"
        bridge = BridgeProcess(
            connection, kafka_app, node.url, output, "--allow", RUN, "--probes-port", "0", *arguments
        )
        started.append(bridge)
        return bridge

    handed: list[str] = []

    def handed_over(count: int) -> bool:
        handed.extend(ids(node.url, "celery"))
        return len(handed) >= count

    try:
        bridge = start("--from", "earliest")
        await eventually(lambda: handed_over(len(others)), within_s=120, what=bridge.text)
        assert Counter(handed) == Counter(others)
        probes = await Probes.of(bridge.text)

        def told() -> bool:
            found = probes.metrics()
            waiting = found.get(("refused_destination_commands", (f"queue {BAD}",)))
            return (waiting, found["executor_away", ()]) == (WAITING, 0) and probes.now() == (200, 200, 200)

        await eventually(told, what=probes.metrics)
        assert bridge.text().count("destination refused, its commands wait") == 1
        assert f"queue {BAD}" in bridge.text()

        # The offsets stay below the commands that wait; their metadata says that the others are done.
        assert sum((await committed(connection, kafka_app)).values()) < BEHIND / 2

        async def nearly_all_are_done() -> bool:
            return await undone(connection, kafka_app, topics) <= len(waits) + PARTITIONS

        await until(nearly_all_are_done)
        ran = await triggerstream("doctor", "--at", f"kafka://{connection.bootstrap}/{kafka_app}")
        (line,) = [line for line in ran.out.splitlines() if line[4:].startswith("hand-over")]
        assert (ran.status, line[:3]) == (1, "NOT"), ran
        assert f"at most {WAITING + PARTITIONS} commands to hand over, and later ones are already" in line
        bridge.kill()

        more = [command(kafka_app, 10_000 + n) for n in range(20)]
        await append(connection, kafka_app, more, partitions=PARTITIONS)
        again = start()
        await eventually(lambda: handed_over(len(others) + len(more)), within_s=120, what=again.text)
        await again.wait_for_output("destination refused, its commands wait")
        delete(node.url, BAD)
        await again.wait_for_output("destination accepted again")
        end = await ends(connection, topics.commands, PARTITIONS)
        await commits(connection, kafka_app, end)
        again.terminate()
        assert await again.ended() == 0, again.text()
        handed_over(0)
        assert Counter(handed) == Counter({*others, *(one.id for one in more)})
        assert Counter(ids(node.url, BAD)) == Counter(waits)
    finally:
        for one in started:
            one.kill()


@pytest.mark.faults
async def test_brokers_that_take_no_metadata_do_not_stop_the_others(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, node: RabbitNode, tmp_path: Path
) -> None:
    server = start_kafka({"offset.metadata.max.bytes": "40"})
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=PARTITIONS)
    declare_anew(node.url, BAD, **{"x-max-length": 7})
    declare_anew(node.url, "celery")
    wanted = [replace(command(kafka_app, n), queue=BAD if n == 0 else None) for n in range(1 + BEHIND)]
    bridge = BridgeProcess(
        connection, kafka_app, node.url, tmp_path / "bridge.log", "--allow", RUN, "--from", "earliest"
    )
    handed: list[str] = []

    def handed_over(count: int) -> bool:
        handed.extend(ids(node.url, "celery"))
        return len(handed) >= count

    try:
        await append(connection, kafka_app, wanted, partitions=PARTITIONS)
        await eventually(lambda: handed_over(BEHIND), within_s=120, what=bridge.text)
        await bridge.wait_for_output("the brokers take less than 4 KiB with an offset")
        delete(node.url, BAD)
        await bridge.wait_for_output("destination accepted again")
        end = await ends(connection, Topics.of(kafka_app).commands, PARTITIONS)
        await commits(connection, kafka_app, end)
        bridge.terminate()
        assert await bridge.ended() == 0, bridge.text()
        handed_over(0)
        assert Counter(handed) == Counter(one.id for one in wanted[1:])
        assert ids(node.url, BAD) == [wanted[0].id]
    finally:
        bridge.kill()
