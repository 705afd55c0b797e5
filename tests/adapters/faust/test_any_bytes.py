"""No record stops a worker, whatever its bytes are: the main road and every program that reads the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.adapters.faust.workers import Stage, WorkerProcess, read_all, stage
from tests.support.advised import printed_command
from tests.support.commands import triggerstream
from tests.support.kafka.raw import RawRecord, batch, packed, produce
from tests.support.kafka.server import KafkaServer
from tests.support.waiting import eventually, until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.unpacking import UNPACKED_BYTES
from triggerstream.core import advice
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TASKS = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
MOST_MIB = 400
"""The memory of a worker; one that unpacked the batch of its test took more than 700."""
ODD = [(b"ce_\xff", b"1"), (b"\xfe", None), (b"trace", b"2")]


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage") as app:
        await app.prepare(TASKS)
        yield app


async def test_a_header_whose_name_is_not_utf8_is_ignored_by_every_reader_of_the_log(app: Stage) -> None:
    place = partition_of(b"s", app.partitions)
    elsewhere = (place + 1) % app.partitions
    topic = app.topics.events
    await produce(
        app.connection, topic, place, batch([RawRecord(key=b"s", value=b'{"type": "a"}', headers=ODD)])
    )
    # To be re-homed; and one that cannot be folded.
    other = RawRecord(key=None, value=b'{"type": "b", "subject": "s"}', headers=ODD)
    await produce(app.connection, topic, elsewhere, batch([other]))
    await produce(app.connection, topic, place, batch([RawRecord(key=b"s", value=b"{", headers=ODD)]))
    worker = app.start()
    await app.append(NewRecord(key=f"s{n}".encode(), value=b'{"type": "a"}') for n in range(20))
    await decides(app, worker)
    await app.settled()
    at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}")
    shown = await triggerstream("sessions", "show", "s", *at)
    assert (shown.status, "t#0" in shown.out) == (0, True), shown
    listed = await triggerstream("deadletters", "list", *at, "--json")
    (letter,) = [orjson.loads(line) for line in listed.out.splitlines()]
    assert letter["headers"] == {"ce_\\xff": "1", "\\xfe": None, "trace": "2"}
    exported = await triggerstream("sessions", "export", "s", *at)
    assert (exported.status, len(exported.out.splitlines())) == (0, 2), exported
    checked = await triggerstream("replay", "--check", *at)
    assert checked.status == 0, checked
    await worker.drained()
    await app.exact()


async def test_a_few_kib_that_unpack_to_many_mib_are_a_dead_letter_and_stop_nobody(app: Stage) -> None:
    place, topic = partition_of(b"s", app.partitions), app.topics.events
    bomb = [RawRecord(key=b"s", value=b'{"type": "a"}'), RawRecord(key=b"s", value=bytes(4 * UNPACKED_BYTES))]
    # It follows on the marker of the transaction that applied the configuration.
    offset = await produce(app.connection, topic, place, packed(batch(bomb), 4))
    await append(app, "s", "a")
    await append(app, "s", "b")
    worker = app.start()
    await decides(app, worker)
    at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}")
    listed = await triggerstream("deadletters", "list", *at, "--json")
    (letter,) = [orjson.loads(line) for line in listed.out.splitlines()]
    assert (letter["partition"], letter["offset"], letter["lastOffset"]) == (place, offset, offset + 1)
    assert "67,108,864 bytes" in letter["reason"]
    assert peak_mib(worker.at_work()) < MOST_MIB
    assert "(supervisor): the worker ended" not in worker.text()
    assert "--skip" not in letter["reason"]
    await worker.drained()
    # Every program that reads the log goes on where the worker went on.
    assert (await triggerstream("sessions", "export", "s", *at)).status == 0
    for option in ("--check", "--rebuild", "--check"):
        ran = await triggerstream("replay", option, *at)
        assert ran.status == 0, ran
    assert await command_count(app) == 1


async def test_headers_as_long_as_a_record_may_be_stop_nobody(app: Stage) -> None:
    """Beside them there is no room in a record for a dead letter's own headers, or for an origin."""
    place, topic = partition_of(b"s", app.partitions), app.topics.events
    elsewhere = (place + 1) % app.partitions
    trigger = b'{"type": "%s", "subject": "s"}'
    many = RawRecord(key=b"s", value=b"{", headers=[(b"", b"")] * 556_900)
    long = RawRecord(key=b"s", value=b"{", headers=[("語".encode() * 371_200, b"")])
    odd = RawRecord(value=trigger % b"a", headers=[(b"\xff" * 1_113_000, b""), (b"ce_id", b"1")])
    trace = RawRecord(value=trigger % b"b", headers=[(b"traceparent", b"0" * 1_113_000)])
    for number, record in ((place, many), (place, long), (elsewhere, odd), (elsewhere, trace)):
        await produce(app.connection, topic, number, batch([record]))
    worker = app.start()
    await decides(app, worker)
    await app.settled()
    letters = await read_all(app.connection, app.topics.dead_letters, app.partitions)
    assert max(map(len, letters.values())) == 2
    await worker.drained()
    await app.exact()


@pytest.mark.faults
async def test_a_batch_that_cannot_be_read_is_passed_over_only_where_an_operator_says_so(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path
) -> None:
    server = start_kafka()
    with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "stage", partitions=2) as app:
        await app.prepare(TASKS)
        place = partition_of(b"s", app.partitions)
        # Offsets 2 and 3, right behind the configuration and its transaction's marker.
        await append(app, "spoilt", "a", partition=place)
        await append(app, "spoilt", "b", partition=place)
        await append(app, "s", "a")
        await append(app, "s", "b")
        spoil(server.folder, app.topics.events, place, b"spoilt")
        at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}")

        worker = app.start("w1")
        says = f"{app.topics.events}, partition {place}: the record batch at offset 2"
        await eventually(lambda: says in worker.text(), within_s=90, what=worker.text)
        assert "Invalid CRC (tried" in worker.text()
        repair = advice.skip_lost_events(f"{place}:2-2")
        skip = printed_command(advice.skip_lost_events(f"{place}:2-2"), worker.text())
        assert skip[-2:] == ["--skip", f"{place}:2-2"]  # the batch at offset 3 is damaged, too
        worker.kill()
        assert await command_count(app) == 0

        ran = await triggerstream("sessions", "export", "s", *at)
        assert (ran.status != 0, says in ran.err) == (True, True), ran
        for words in (("sessions", "export", "s"), ("doctor",)):
            ran = await triggerstream(*words, *at)
            assert (ran.status != 0, repair in ran.out + ran.err) == (True, True), ran

        # A range that ends beyond the log is refused: what is still to come is not lost.
        worker = app.start("w2", arguments=("--skip", f"{place}:2-99"))
        refused = f"ending with status 2: --skip {place}:2-99: the log of partition {place} ends at offset 5"
        await eventually(lambda: refused in worker.text(), within_s=90, what=worker.text)
        worker.kill()

        worker = app.start("w3", arguments=("--skip", f"{place}:2-3"))
        skipped = f"range of the log skipped (partition={place} offset=2 last=3 error="
        await eventually(lambda: skipped in worker.text(), within_s=60, what=worker.text)
        await decides(app, worker)
        listed = await triggerstream("deadletters", "list", *at, "--json")
        (letter,) = [orjson.loads(line) for line in listed.out.splitlines()]
        assert (letter["partition"], letter["offset"], letter["lastOffset"]) == (place, 2, 3)
        assert "lost: given up with --skip: " in letter["reason"]
        number = str(letter["number"])
        shown = await triggerstream("deadletters", "show", number, *at)
        assert (shown.status, f"{place}:2-3" in shown.out or " 2-3" in shown.out) == (0, True), shown
        again = await triggerstream("deadletters", "redrive", number, *at)
        assert (again.status, "a range of the log that was lost" in again.err) == (1, True), again
        await worker.drained()

        # Every program that reads the log goes on where the worker went on.
        assert (await triggerstream("sessions", "export", "s", *at)).status == 0
        assert (await triggerstream("replay", "--check", *at)).status == 0
        rebuilt = await triggerstream("replay", "--rebuild", *at)
        assert rebuilt.status == 0, rebuilt
        assert (await triggerstream("replay", "--check", *at)).status == 0
        assert await command_count(app) == 1


async def test_a_range_of_a_partition_that_is_not_there_is_refused(app: Stage) -> None:
    at = ("--kafka", app.connection.bootstrap, "--app", app.app, "--dir", str(app.folder / "none"))
    ran = await triggerstream("worker", *at, "--skip", f"{app.partitions}:3-4")
    assert ran.status == 2
    assert f"--skip {app.partitions}:3-4: app {app.app} has partitions 0 to {app.partitions - 1}" in ran.err


@pytest.mark.faults
async def test_a_log_that_is_deleted_beyond_the_position_ends_the_worker(app: Stage, tmp_path: Path) -> None:
    """Else the client library goes on at what is left, and what was deleted is passed over without a word."""
    gates = tmp_path / "gates"
    gates.mkdir()
    worker = app.start(program=("-m", "tests.adapters.faust.gated", str(gates)))
    await worker.ready()
    await app.settled()
    (gates / "intake").touch()
    await eventually((gates / "intake.reached").exists)
    place = partition_of(b"s", app.partitions)
    for trigger in "aab":
        await append(app, "s", trigger)
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(app.topics.events, place): RecordsToDelete(4)})
    finally:
        await admin.close()
    (gates / "intake").unlink()
    # Records fetched before are not lost: only the next fetch shows the deletion.
    assert await worker.ended() in {2, 70}, worker.text()
    assert "OffsetOutOfRange" in worker.text() or "was lost" in worker.text(), worker.text()
    assert await command_count(app) == 0


async def decides(app: Stage, worker: WorkerProcess) -> None:
    """Wait until ``worker`` has decided something."""

    async def has_decided() -> bool:
        assert worker.running(), worker.text()
        return await command_count(app) >= 1

    await until(has_decided, within_s=90, what=worker.text)


def peak_mib(pid: int) -> float:
    """The most memory that a process has had at once."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


async def append(app: Stage, session: str, trigger: str, *, partition: int | None = None) -> None:
    """Append an event in a batch of its own."""
    await app.append(
        [NewRecord(key=session.encode(), value=b'{"type": "%s"}' % trigger.encode())], partition=partition
    )


async def command_count(app: Stage) -> int:
    return sum(map(len, (await read_all(app.connection, app.topics.commands, app.partitions)).values()))


def spoil(directory: Path, topic: str, partition: int, text: bytes) -> None:
    """Change ``text`` wherever a segment of the partition has it, as a damaged disk would."""
    (segment,) = directory.rglob(f"{topic}-{partition}/*.log")
    data = segment.read_bytes()
    assert text in data
    with segment.open("r+b") as file:
        at = data.find(text)
        while at >= 0:
            file.seek(at)
            file.write(bytes([text[0] ^ 1]))
            at = data.find(text, at + 1)
