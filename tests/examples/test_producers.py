"""The producers of `examples/producers` fire, and say so by their exit status: `tests.support.producers`."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import Message, Producer

from tests.adapters.faust.workers import read_all
from tests.support.kafka.server import ROOT
from tests.support.producers.__main__ import PARTITIONS, names
from tests.support.producers.clients import CLIENTS, FOLDER, Client, ProducerError
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import AppId, TriggerName
from triggerstream.core.placement import partition_of
from triggerstream.wire import events

SESSIONS = 200
AT_HAND = [client for client in CLIENTS if client.left_out(quick=True) is None]
COMMAND = (sys.executable, "-m", "tests.support.producers", "--quick", "--json", "--sessions", str(SESSIONS))
# A first run builds clients.
kafka_tests = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(1500)]


def params(clients: Sequence[Client]) -> list[object]:
    """One test for each client; it says why the client is left out if it is."""
    made: list[object] = []
    for client in clients:
        why = client.left_out(quick=True)
        skip = [pytest.mark.skip(reason=f"left out, {why}")] if why else []
        made.append(pytest.param(client, id=client.folder, marks=[*kafka_tests, *skip]))
    return made


def show(kafka: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND,
        cwd=ROOT,
        env={**os.environ, "TRIGGERSTREAM_KAFKA": kafka, "TMPDIR": str(place), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def shown(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run of all clients that can be built here."""
    return show(kafka, tmp_path_factory.mktemp("producers"))


@pytest.fixture(scope="module")
def refusals(kafka: str) -> dict[str, str]:
    """The message of each client if the broker refuses its event, by folder."""
    app = AppId(f"refusing-{uuid4().hex[:12]}")
    asyncio.run(_no_room(Connection(bootstrap=kafka), Topics.of(app).events))

    def fire(client: Client) -> str:
        client.make()
        try:
            client.fire(bootstrap=kafka, app=app, sessions=["participant-1"])
        except ProducerError as exc:
            return str(exc)
        return "acknowledged"

    return {client.folder: fire(client) for client in AT_HAND}


async def _no_room(connection: Connection, topic: str) -> None:
    """Make a topic in which no record has room."""
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        settings = {"max.message.bytes": "10"}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=settings)])
    finally:
        await admin.close()


def rows(ran: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {line["client"]: line for line in lines if "client" in line}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_triggers_from_all_clients_complete_each_task_once(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == (1 if len(AT_HAND) < len(CLIENTS) else 0), shown.stdout + shown.stderr
    verdict = json.loads(shown.stdout.splitlines()[-1])
    assert verdict == {"app": verdict["app"], "sessions": SESSIONS, "decided": SESSIONS, "once": SESSIONS}
    assert list(rows(shown)) == [client.library for client in AT_HAND]


@pytest.mark.parametrize("client", params(CLIENTS))
def test_what_is_re_homed_is_what_the_clients_hash_misplaces(
    client: Client, shown: subprocess.CompletedProcess[str]
) -> None:
    keys = [name.encode() for name in names(SESSIONS)]
    misplaced = sum(crc32(key) % PARTITIONS != partition_of(key, PARTITIONS) for key in keys)
    count = {"murmur2": 0, "CRC32": misplaced}[client.hash]
    row = rows(shown)[client.library]
    assert (row["records"], row["rehomed"]) == (SESSIONS, count)
    line = f"| {client.language} | {client.library} | {client.hash} | {SESSIONS} | {count} |"
    assert line in (ROOT / "docs" / "producers.md").read_text()


@pytest.mark.parametrize("client", params(CLIENTS))
def test_the_exit_status_says_that_an_event_was_not_acknowledged(
    client: Client, refusals: dict[str, str]
) -> None:
    said = shlex.join(client.run)
    assert refusals[client.folder].startswith(f"{client.language}: `{said}` ended with status 1: ")


@pytest.mark.kafka
@pytest.mark.slow
def test_what_a_machine_lacks_is_named_and_the_others_go_on(kafka: str, tmp_path: Path) -> None:
    ran = show(kafka, tmp_path, PATH=str(tmp_path))
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "Java: left out, for want of java and mvn on the PATH",
        "Go: left out, for want of go on the PATH",
        "Node: left out, for want of node and npm on the PATH",
        "C: left out, for want of kcat on the PATH",
    ]
    assert list(rows(ran)) == ["confluent-kafka"]
    assert json.loads(ran.stdout.splitlines()[-1])["once"] == SESSIONS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
async def test_with_one_setting_librdkafka_places_keys_where_their_sessions_are(
    kafka: str, kafka_app: AppId
) -> None:
    await create(Connection(bootstrap=kafka), kafka_app, partitions=PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    delivered: list[Message] = []

    def on_delivery(error: object, message: Message) -> None:
        assert error is None
        delivered.append(message)

    for name in names(SESSIONS):
        producer.produce(Topics.of(kafka_app).events, b"{}", name, on_delivery=on_delivery)
    assert await asyncio.to_thread(producer.flush, 60) == 0
    assert len(delivered) == SESSIONS
    assert all(message.partition() == partition_of(message.key(), PARTITIONS) for message in delivered)


@pytest.mark.parametrize("client", params([client for client in CLIENTS if client.library == "kcat"]))
async def test_the_readmes_line_for_the_shell_fires(client: Client, kafka: str, kafka_app: AppId) -> None:
    assert client in AT_HAND
    connection, topic = Connection(bootstrap=kafka), Topics.of(kafka_app).events
    await create(connection, kafka_app, partitions=1)
    found = [line for line in (ROOT / "README.md").read_text().splitlines() if "kcat -P" in line]
    assert len(found) == 1
    line = found[0].removeprefix("$ ").replace("127.0.0.1:9092", kafka).replace("triggerstream.events", topic)
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", line], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    records = (await read_all(connection, topic, 1))[0]
    event = events.decode(record_of(records[0]))
    assert isinstance(event, Event)
    assert (event.session, event.body) == (
        "42",
        Trigger(name=TriggerName("module1Received"), data={"score": 3}),
    )


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.folder)
def test_the_page_of_the_producers_has_their_commands(client: Client) -> None:
    page = (FOLDER / "README.md").read_text()
    assert f"`{shlex.join(client.run)}`" in page
    assert not client.build or f"`{shlex.join(client.build)}`" in page
