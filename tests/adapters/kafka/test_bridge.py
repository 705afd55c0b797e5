"""The bridge hands every command over at least once, under its own id, whatever is away or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions

from tests.adapters.kafka.bridges import (
    RUN,
    BridgeProcess,
    append,
    command,
    commits,
    committed,
    counts,
    ends,
    queued,
)
from tests.adapters.kafka.conftest import PARTITIONS, read_all
from tests.support.advised import printed_command
from tests.support.commands import triggerstream
from tests.support.kafka.raw import RawRecord, batch, packed, produce
from tests.support.kafka.server import KafkaServer
from tests.support.ports import free_port
from tests.support.probes import Probes
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually, until, wait_until
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.kafka.bridge import Bridge
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.deadletters import read_dead_letter
from triggerstream.adapters.kafka.progress import reached_in
from triggerstream.adapters.kafka.topics import Topics, bridge_group, create
from triggerstream.adapters.kafka.unpacking import UNPACKED_BYTES, ZSTD
from triggerstream.adapters.kafka.watch import TopicGoneError
from triggerstream.adapters.memory.dispatcher import MemoryDispatcher
from triggerstream.core import advice
from triggerstream.core.commands import Command
from triggerstream.core.events import Event, Failed
from triggerstream.core.ids import AppId
from triggerstream.wire.commands import encode
from triggerstream.wire.events import decode
from triggerstream.wire.records import Record

pytestmark = [pytest.mark.kafka, pytest.mark.celery, pytest.mark.slow]

StartBridge = Callable[..., BridgeProcess]
ALLOW = ("--allow", RUN)


@pytest.fixture
def broker() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture
def start(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, tmp_path: Path
) -> Iterator[StartBridge]:
    del topics  # they have to be there
    started: list[BridgeProcess] = []

    def start(
        *arguments: str,
        failpoint: str | None = None,
        to: str = broker,
        program: Sequence[str] = ("-m", "triggerstream"),
    ) -> BridgeProcess:
        output = tmp_path / f"bridge-{len(started)}.log"
        bridge = BridgeProcess(
            connection, kafka_app, to, output, *arguments, failpoint=failpoint, program=program
        )
        started.append(bridge)
        return bridge

    yield start
    for bridge in started:
        bridge.kill()


def commands(app: AppId, numbers: range) -> list[Command]:
    return [command(app, number) for number in numbers]


async def handed_over(broker: str, count: int) -> None:
    def found() -> bool:
        return len(counts(broker)) >= count

    await eventually(found, within_s=60, what=lambda: f"{len(counts(broker))} of {count}")


async def test_commands_are_handed_over_once_in_order_and_the_offset_follows(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, start: StartBridge
) -> None:
    wanted = commands(kafka_app, range(300))
    await append(connection, kafka_app, wanted, partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest")
    await handed_over(broker, 300)
    assert set(counts(broker).values()) == {1}
    handed = [message["kwargs"]["a"]["n"] for message in queued(broker)]
    for numbers in (await numbers_by_partition(connection, topics.commands)).values():
        assert [n for n in handed if n in numbers] == sorted(numbers)
    # The markers of transactions are counted as read, so that a lag tool shows nothing left.
    end = await ends(connection, topics.commands, PARTITIONS)
    await commits(connection, kafka_app, end)
    bridge.terminate()
    assert await bridge.ended() == 0
    assert await committed(connection, kafka_app) == end


async def numbers_by_partition(connection: Connection, topic: str) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for record in await read_all(connection, topic):
        found.setdefault(record.partition, set()).add(int(record.key[1:]))
    return found


async def test_a_session_timeout_that_brokers_refuse_ends_it_with_2(
    connection: Connection, kafka_app: AppId, start: StartBridge
) -> None:
    await append(connection, kafka_app, commands(kafka_app, range(1)), partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest", "--session-timeout", "1h")
    assert await bridge.ended() == 2, bridge.text()
    assert "--session-timeout 3600s: the brokers refuse it" in bridge.text()


async def test_killed_between_publish_and_commit_repeats_ids_and_loses_none(
    connection: Connection, kafka_app: AppId, broker: str, start: StartBridge
) -> None:
    wanted = commands(kafka_app, range(200))
    await append(connection, kafka_app, wanted, partitions=PARTITIONS)
    dying = start(*ALLOW, "--from", "earliest", failpoint="bridge.published:50")
    assert await dying.ended() == -9, dying.text()
    before = counts(broker)
    assert before
    assert set(before.values()) == {1}
    again = start(*ALLOW)
    await handed_over(broker, 200)
    again.terminate()
    assert await again.ended() == 0
    found = counts(broker)
    assert set(found) == {one.id for one in wanted}
    # What was published before the kill and not committed is there twice, under the same id.
    twice = {one for one, count in found.items() if count == 2}
    assert twice
    assert twice <= set(before)
    assert max(found.values()) == 2


async def test_a_broker_that_is_away_is_waited_for_and_nothing_is_skipped(
    connection: Connection, kafka_app: AppId, start: StartBridge
) -> None:
    port = free_port()
    wanted = commands(kafka_app, range(150))
    await append(connection, kafka_app, wanted, partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest", to=f"redis://127.0.0.1:{port}/0")
    # Two lines are 10 s apart, longer than the session time-out of 6 s. Its heartbeats have kept the
    # group as it was.
    await bridge.wait_for_output("hand-over not confirmed", times=2)
    assert set((await committed(connection, kafka_app)).values()) == {0}
    with valkey_server(port=port) as broker:
        await handed_over(broker, 150)
        bridge.terminate()
        assert await bridge.ended() == 0, bridge.text()
        assert set(counts(broker)) == {one.id for one in wanted}
    assert bridge.text().count("ready: partitions") == 1


async def test_what_can_never_be_handed_over_is_a_dead_letter_and_a_failed_instance(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, start: StartBridge
) -> None:
    forbidden = command(kafka_app, 1, run="tasks.other")
    celerys = command(kafka_app, 2, run="celery.chord")
    fine = command(kafka_app, 3)
    await append(
        connection, kafka_app, [forbidden, b"no command at all", celerys, fine], partitions=PARTITIONS
    )
    long = packed(batch([RawRecord(value=bytes(UNPACKED_BYTES))] * 2), ZSTD)
    offset = await produce(connection, topics.commands, 0, long)
    dying = start(*ALLOW, "--from", "earliest", failpoint="bridge.dead_letter_appended")
    assert await dying.ended() == -9, dying.text()
    bridge = start(*ALLOW)
    await handed_over(broker, 1)
    end = await ends(connection, topics.commands, PARTITIONS)
    await commits(connection, kafka_app, end)
    bridge.terminate()
    assert await bridge.ended() == 0
    assert set(counts(broker)) == {fine.id}
    letters = [
        read_dead_letter(record.value, key=record.key, headers=tuple(record.headers))
        for record in await read_all(connection, topics.dead_letters)
    ]
    reasons = {letter.record.key: letter.reason for letter in letters}
    assert reasons[b"s1"] == "tasks.other is not on the list of tasks that may be dispatched"
    assert reasons[b"s2"].startswith("celery.chord: tasks of Celery's own")
    assert reasons[b"s0"].startswith("no command: ")
    (range_,) = {(letter.record.offset, letter.last) for letter in letters if letter.record.key is None}
    assert (range_, "67,108,864 bytes" in reasons[None]) == ((offset, offset + 1), True)
    assert {letter.topic for letter in letters} == {topics.commands}
    outcomes = {}
    for record in await read_all(connection, topics.events):
        event = decode(
            Record(
                partition=record.partition,
                offset=record.offset,
                arrival_us=0,
                key=record.key,
                value=record.value,
            )
        )
        assert isinstance(event, Event)
        assert isinstance(event.body, Failed)
        outcomes[event.body.command] = event.body.error
    assert outcomes == {forbidden.id: reasons[b"s1"], celerys.id: reasons[b"s2"]}


async def test_two_bridges_share_the_partitions_and_one_that_leaves_loses_nothing(
    connection: Connection, kafka_app: AppId, broker: str, start: StartBridge
) -> None:
    first = start(*ALLOW, "--from", "earliest")
    await first.wait_for_output("ready: partitions 0, 1, 2, 3")
    second = start(*ALLOW)
    await append(connection, kafka_app, commands(kafka_app, range(200)), partitions=PARTITIONS)
    await second.wait_for_output("ready: partitions")
    await append(connection, kafka_app, commands(kafka_app, range(200, 400)), partitions=PARTITIONS)
    first.terminate()
    assert await first.ended() == 0, first.text()
    await append(connection, kafka_app, commands(kafka_app, range(400, 500)), partitions=PARTITIONS)
    await handed_over(broker, 500)
    second.terminate()
    assert await second.ended() == 0, second.text()
    assert set(counts(broker)) == {one.id for one in commands(kafka_app, range(500))}


async def test_without_an_offset_it_refuses_to_start_until_it_is_told_where(
    connection: Connection, kafka_app: AppId, broker: str, start: StartBridge
) -> None:
    await append(connection, kafka_app, commands(kafka_app, range(20)), partitions=PARTITIONS)
    refused = start(*ALLOW)
    assert await refused.ended() == 2
    # A Kafka that has just been started may have said before that its group's coordinator is not there yet.
    (line,) = [line for line in refused.text().splitlines() if "Coordinator" not in line]
    why = f"partition 0 of {Topics.of(kafka_app).commands} has none (and {PARTITIONS - 1} more)"
    begin = printed_command(advice.begin_bridge(bridge_group(kafka_app), why), line)
    # Passing commands over is counted, and nothing is committed before somebody agrees.
    for where in ("latest", "1000"):
        refused = start(*ALLOW, "--from", where)
        assert await refused.ended() == 2
        assert printed_command(advice.agree_to_pass_over(20), refused.text()) == begin
    assert await committed(connection, kafka_app) == {}
    again = start(*ALLOW, *begin)
    await handed_over(broker, 20)
    again.terminate()
    assert await again.ended() == 0
    assert set(counts(broker)) == {one.id for one in commands(kafka_app, range(20))}


async def test_commands_are_passed_over_once_somebody_agrees(
    connection: Connection, kafka_app: AppId, broker: str, start: StartBridge
) -> None:
    await append(connection, kafka_app, commands(kafka_app, range(20)), partitions=PARTITIONS)
    told = start(*ALLOW, "--from", "latest", "--yes")
    await told.wait_for_output("ready: partitions")
    told.kill()
    begun = await committed(connection, kafka_app)
    # `latest` was committed before anything was handed over, so the next one misses nothing.
    await append(connection, kafka_app, commands(kafka_app, range(20, 40)), partitions=PARTITIONS)
    again = start(*ALLOW)
    await handed_over(broker, 20)
    again.terminate()
    assert await again.ended() == 0
    assert set(counts(broker)) == {one.id for one in commands(kafka_app, range(20, 40))}
    # Every later commit says where the bridge began: of earlier commands it is not known what became.
    async with connection.running(connection.admin()) as admin:
        commits = await admin.list_consumer_group_offsets(bridge_group(kafka_app))
    progress = {place.partition: reached_in(at.offset, at.metadata) for place, at in commits.items()}
    assert {number: one.begun for number, one in progress.items()} == begun
    assert all(one.position > begun[number] for number, one in progress.items())


async def made_again(connection: Connection, app: AppId) -> None:
    """Delete the commands topic and make it again under its name, as an operator may do."""
    topic = Topics.of(app).commands
    async with connection.running(connection.admin()) as admin:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await until(gone)
    await create(connection, app, partitions=PARTITIONS)


async def test_an_offset_of_a_topic_that_had_the_name_before_is_refused(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, start: StartBridge
) -> None:
    await append(connection, kafka_app, commands(kafka_app, range(20)), partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest")
    await handed_over(broker, 20)
    bridge.terminate()
    assert await bridge.ended() == 0
    async with connection.running(connection.admin()) as admin:
        kept = await admin.list_consumer_group_offsets(bridge_group(kafka_app))
    await made_again(connection, kafka_app)
    await append(connection, kafka_app, commands(kafka_app, range(100, 200)), partitions=PARTITIONS)
    # Kafka forgets the offsets of a topic that is deleted. A bridge that has not noticed commits once more.
    async with connection.running(connection.member(bridge_group(kafka_app))) as member:
        member.assign([TopicPartition(topics.commands, partition) for partition in range(PARTITIONS)])
        await member.commit({place: (at.offset, at.metadata) for place, at in kept.items()})
    refused = start(*ALLOW)
    assert await refused.ended() == 2, refused.text()
    assert "of a topic that had this name before" in refused.text()
    start(*ALLOW, "--from", "earliest")
    await handed_over(broker, 120)
    numbers = (*range(20), *range(100, 200))
    assert set(counts(broker)) == {command(kafka_app, number).id for number in numbers}


async def test_where_nothing_is_passed_over_latest_needs_no_word(
    connection: Connection, kafka_app: AppId, broker: str, start: StartBridge
) -> None:
    told = start(*ALLOW, "--from", "latest")
    await told.wait_for_output("ready: partitions")
    await append(connection, kafka_app, commands(kafka_app, range(20)), partitions=PARTITIONS)
    await handed_over(broker, 20)


@pytest.mark.parametrize("running", [True, False])
async def test_partitions_that_are_added_begin_at_their_first_command(
    connection: Connection,
    kafka_app: AppId,
    topics: Topics,
    broker: str,
    start: StartBridge,
    *,
    running: bool,
) -> None:
    grown = PARTITIONS + 2
    await append(connection, kafka_app, commands(kafka_app, range(50)), partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest")
    await handed_over(broker, 50)
    if not running:
        bridge.terminate()
        assert await bridge.ended() == 0
    async with connection.running(connection.admin()) as admin:
        await admin.create_partitions({topics.commands: NewPartitions(total_count=grown)})
    async with connection.client() as client:

        async def has_grown() -> bool:
            found = (await describe(client, [topics.commands])).topics[topics.commands]
            return found.partitions >= grown and found.led

        await until(has_grown)
    await append(connection, kafka_app, commands(kafka_app, range(50, 150)), partitions=grown)
    if not running:
        bridge = start(*ALLOW)
    await handed_over(broker, 150)
    said = bridge.text()
    assert said.count("partition was added: it begins at its first command") >= 1
    bridge.terminate()
    assert await bridge.ended() == 0, bridge.text()
    assert set(counts(broker)) == {one.id for one in commands(kafka_app, range(150))}
    again = start(*ALLOW)
    await again.wait_for_output("ready: partitions 0, 1, 2, 3, 4, 5")
    assert "begins at its first command" not in again.text()


async def test_a_topic_that_is_made_again_beneath_it_ends_it_and_nothing_of_the_new_one_is_lost(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, start: StartBridge
) -> None:
    await append(connection, kafka_app, commands(kafka_app, range(20)), partitions=PARTITIONS)
    bridge = start(*ALLOW, "--from", "earliest", "--session-timeout", "60s")
    await handed_over(broker, 20)
    await made_again(connection, kafka_app)
    await append(connection, kafka_app, commands(kafka_app, range(20, 40)), partitions=PARTITIONS)
    assert await bridge.ended() == 2
    assert f"{topics.commands} was deleted and made again" in bridge.text()
    why = "the topic is another one"
    begin = printed_command(advice.begin_bridge(bridge_group(kafka_app), why), bridge.text())
    # It has left its group, so that another one can begin before its session would have timed out.
    again = start(*ALLOW, *begin)
    await handed_over(broker, 40)
    again.terminate()
    assert await again.ended() == 0
    assert set(counts(broker)) == {one.id for one in commands(kafka_app, range(40))}


async def test_a_rebalance_after_its_topic_was_made_again_names_the_topic_as_the_cause(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    ready, stopping = asyncio.Event(), asyncio.Event()
    bridge = Bridge(
        connection,
        kafka_app,
        dispatcher=MemoryDispatcher(),
        clock=SystemClock(),
        on_ready=lambda _partitions: ready.set(),
    )
    running = asyncio.create_task(bridge.run(stopping, start="earliest"))
    await asyncio.wait_for(ready.wait(), 60)
    await made_again(connection, kafka_app)

    async def rebalanced() -> None:
        # Kafka deletes the group's offsets a moment after the topic.
        while not running.done():
            await bridge.assigned([TopicPartition(topics.commands, 0)])
        await running

    with pytest.raises(TopicGoneError, match=f"{topics.commands} was deleted and made again"):
        await asyncio.wait_for(rebalanced(), 60)
    stopping.set()
    with suppress(TopicGoneError):
        await running


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no task may be run: name those that may with --allow NAME"),
        (("--allow", "celery.group"), "tasks of Celery's own"),
        (("--allow", "a", "--allow-any"), "not both"),
    ],
)
def test_what_it_may_run_is_said_or_it_refuses(
    start: StartBridge, arguments: tuple[str, ...], says: str
) -> None:
    bridge = start(*arguments)
    wait_until(lambda: says in bridge.text(), within_s=60, what=bridge.text)


async def test_probes_and_metrics_tell_a_bridge_that_waits_from_one_that_is_stuck(
    connection: Connection, kafka_app: AppId, topics: Topics, broker: str, start: StartBridge
) -> None:
    port = free_port()
    wanted = commands(kafka_app, range(20))
    await append(connection, kafka_app, wanted, partitions=PARTITIONS)
    bridge = start(
        *ALLOW,
        "--from",
        "earliest",
        "--probes-port",
        "0",
        "--stuck-after",
        "1s",
        to=f"redis://127.0.0.1:{port}",
    )
    probes = await Probes.of(bridge.text)
    await probes.become(200, 200, 200)

    def waits() -> bool:
        found = probes.metrics()
        return found["executor_away", ()] == 1 and found["commands_unconfirmed", ()] == 20

    await eventually(waits, what=probes.metrics)
    lag = [value for (name, _), value in probes.metrics().items() if name == "lag_records"]
    assert len(lag) == PARTITIONS
    # 20 commands and at least one marker of their transaction.
    assert sum(lag) > 20
    await bridge.wait_for_output("hand-over not confirmed, trying again", times=2)
    assert probes.now() == (200, 200, 200), probes.answers()
    with valkey_server(port=port) as url:
        await handed_over(url, 20)

        def done() -> bool:
            found = probes.metrics()
            left = [value for (name, _), value in found.items() if name == "lag_records"]
            confirmed = found["commands_handed_over_total", ()]
            return (confirmed, found["executor_away", ()], sum(left)) == (20, 0, 0)

        await eventually(done, what=probes.metrics)
        ends_ = await ends(connection, topics.commands, PARTITIONS)
        assert {n: probes.metrics()["done_offset", (str(n), topics.commands)] for n in ends_} == ends_
        bridge.terminate()
        assert await bridge.ended() == 0
    del broker


async def test_a_bridge_lives_whether_or_not_kafka_does(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=PARTITIONS)
    server.pause()
    away = f"redis://127.0.0.1:{free_port()}"
    arguments = (*ALLOW, "--from", "earliest", "--probes-port", "0")
    bridge = BridgeProcess(connection, kafka_app, away, tmp_path / "bridge.log", *arguments)
    try:
        probes = await Probes.of(bridge.text)
        assert probes.now() == (200, 503, 503), probes.answers()
        server.resume()
        await probes.become(200, 200, 200)
        server.pause()
        await probes.become(200, 200, 503, because="no answer from Kafka for ")
        server.resume()
        await probes.become(200, 200, 200)
        bridge.terminate()
        assert await bridge.ended() == 0, bridge.text()
    finally:
        bridge.kill()


@pytest.mark.faults
async def test_a_batch_of_commands_that_cannot_be_read_is_passed_over_only_where_an_operator_says_so(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, broker: str, tmp_path: Path
) -> None:
    server = start_kafka()
    connection, topics = Connection(bootstrap=server.bootstrap), Topics.of(kafka_app)
    await create(connection, kafka_app, partitions=1)
    first, spoilt, last = (commands(kafka_app, range(n, n + 2)) for n in (10, 20, 30))
    for sent in (first, spoilt, last):
        records = [RawRecord(key=one.session.encode(), value=encode(one)) for one in sent]
        await produce(connection, topics.commands, 0, batch(records))
    spoil(server.folder, topics.commands, 0, b'"s20"')
    started: list[BridgeProcess] = []

    def begin(*arguments: str) -> BridgeProcess:
        output = tmp_path / f"spoilt-{len(started)}.log"
        started.append(BridgeProcess(connection, kafka_app, broker, output, *ALLOW, *arguments))
        return started[-1]

    try:
        bridge = begin("--from", "earliest")
        await bridge.wait_for_output(
            f"{topics.commands}, partition 0: the record batch at offset 2 to 3 cannot be read"
        )
        skip = printed_command(advice.skip_lost_commands("0:2-3"), bridge.text())
        bridge.kill()
        assert set(counts(broker)) == {one.id for one in first}

        assert await begin("--skip", "1:2-3").ended() == 2
        assert f"--skip 1:2-3: {topics.commands} has partitions 0 to 0" in started[-1].text()
        assert await begin("--skip", "0:2-99").ended() == 2
        assert "ends at offset 5: records that do not exist yet" in started[-1].text()

        bridge = begin(*skip[-2:])
        await handed_over(broker, 4)
        await commits(connection, kafka_app, await ends(connection, topics.commands, 1))
        bridge.terminate()
        assert await bridge.ended() == 0, bridge.text()
        assert set(counts(broker)) == {one.id for one in (*first, *last)}
        at = ("--at", f"kafka://{connection.bootstrap}/{kafka_app}")
        listed = await triggerstream("deadletters", "list", *at, "--json")
        (letter,) = [orjson.loads(line) for line in listed.out.splitlines()]
        assert f"offset 2 to 3 of {topics.commands}, given up with --skip: " in letter["reason"]
        again = await triggerstream("deadletters", "redrive", str(letter["number"]), *at)
        assert (again.status, advice.resend_stuck() in again.err) == (1, True), again
    finally:
        for one in started:
            one.kill()


def spoil(directory: Path, topic: str, partition: int, text: bytes) -> None:
    """Change ``text`` in the segment of the partition, as a damaged disk would."""
    (segment,) = directory.rglob(f"{topic}-{partition}/*.log")
    at = segment.read_bytes().index(text)
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(bytes([text[0] ^ 1]))


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("hand-over", "the background task `hand-over` has ended: it returned"),
        pytest.param(
            "bridge-fetches",
            "the background task `fetches` has ended: Death: of this test",
            marks=pytest.mark.faults,
        ),
        pytest.param(
            "bridge-commits",
            "the background task `commits` has ended: Death: of this test",
            marks=pytest.mark.faults,
        ),
    ],
)
async def test_a_background_task_that_ends_ends_the_bridge(
    start: StartBridge, tmp_path: Path, task: str, says: str
) -> None:
    file = tmp_path / "die"
    program = ("-m", "tests.support.dying", task, str(file))
    bridge = start(*ALLOW, "--from", "earliest", program=program)
    await bridge.wait_for_output("ready: partitions")
    file.touch()
    assert await bridge.ended() == 70, bridge.text()
    assert says in bridge.text()
