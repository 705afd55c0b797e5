"""The commands on ``kafka://``: topics, configuration, sessions, orders and dead letters, with a worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.adapters.faust.workers import WorkerProcess
from tests.cli.conftest import SURVEY, Cli
from tests.support.waiting import wait_until
from triggerstream import bootstrap
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.client import SyncClient
from triggerstream.core.events import Failed, Finished, Started
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId, TaskName, command_id
from triggerstream.core.placement import partition_of
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 3


@pytest.fixture
def address(kafka: str, kafka_app: AppId) -> str:
    return f"kafka://{kafka}/{kafka_app}"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    file = tmp_path / "survey.json"
    file.write_text(SURVEY)
    return file


@pytest.fixture
def worker(kafka: str, kafka_app: AppId, tmp_path: Path, cli: Cli, address: str) -> Iterator[WorkerProcess]:
    assert cli("topics", "create", "--partitions", str(PARTITIONS), at=address).status == 0
    worker = WorkerProcess(Connection(bootstrap=kafka), kafka_app, tmp_path / "worker")
    yield worker
    worker.kill()


def command_of(app: AppId, session: str) -> CommandId:
    return command_id(app, SessionId(session), generation=0, task=TaskName("t_process"), number=0)


def explained(cli: Cli, address: str, session: str, status: str) -> dict[str, object]:
    """The session's instance of t_process, once it is in that status."""

    def found() -> dict[str, object] | None:
        ran = cli("sessions", "show", session, "--json", at=address)
        if ran.status:
            return None
        instance: dict[str, object] = ran.row()["instances"].get("t_process#0", {})
        return instance if instance.get("status") == status else None

    return wait_until(found, within_s=60, what=lambda: cli("sessions", "show", session, at=address))


def test_topics_are_made_checked_and_repaired(cli: Cli, address: str, kafka: str, kafka_app: AppId) -> None:
    ran = cli("topics", "check", at=address)
    assert ran.status == 1
    create = f"make it with `triggerstream topics create --at {address}`"
    assert f"error: {kafka_app}.events: is missing: {create}\n" in ran.out
    ran = cli("topics", "create", "--partitions", "3", "--json", at=address)
    assert (ran.status, sorted(ran.row()["made"])) == (
        0,
        sorted(
            f"{kafka_app}{end}"
            for end in (".events", ".commands", ".deadletters", "-sessions-changelog", ".owners")
        ),
    )
    # The number of partitions is that of the topics that are there.
    assert cli("topics", "create", at=address).out == f"{address}: all topics are there\n"
    ran = cli("topics", "create", "--partitions", "4", at=address)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "has 3 partitions, not 4" in ran.err
    assert cli("topics", "check", at=address).out == f"{address}: no problems found\n"
    asyncio.run(_shorten(Connection(bootstrap=kafka), f"{kafka_app}.events"))
    ran = cli("topics", "check", "--json", at=address)
    repair = f"`triggerstream topics create --repair --at {address}` puts it right"
    assert (ran.status, ran.row()["repair"]) == (1, repair)
    ran = cli("topics", "create", "--repair", "--json", at=address)
    assert ran.row() == {"made": [], "repaired": [f"{kafka_app}.events"]}
    assert cli("topics", "check", at=address).status == 0


async def _shorten(connection: Connection, topic: str) -> None:
    async with connection.client() as client:
        await change_settings(client, topic, {"message.timestamp.type": "CreateTime"})


def test_a_configuration_is_applied_shown_and_compared(cli: Cli, address: str, tasks: Path) -> None:
    ran = cli("config", "apply", str(tasks), at=address)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "has no topic" in ran.err
    cli("topics", "create", "--partitions", "3", at=address)
    ran = cli("config", "show", at=address)
    assert ran.status == 1
    assert f"no tasks file is in force yet: `triggerstream config apply TASKS.json --at {address}`" in ran.err
    assert cli("config", "diff", str(tasks), "--json", at=address).row()["added"] == ["t_process", "t_mail"]
    ran = cli("config", "apply", str(tasks), "--json", at=address)
    first = ran.row()
    assert (first["applied"], first["replaced"], sorted(first["offsets"])) == (True, None, ["0", "1", "2"])
    assert cli("config", "show", at=address).out == SURVEY + "\n"
    ran = cli("config", "diff", str(tasks), at=address)
    assert (ran.status, ran.out) == (0, "nothing would change\n")
    assert "is in force already" in cli("config", "apply", str(tasks), at=address).out
    tasks.write_text(SURVEY.replace("app.mail", "app.post"))
    ran = cli("config", "diff", str(tasks), at=address)
    assert ran.status == 1
    assert '-  "t_mail": {"after": ["t_process"], "unless": ["unsubscribed"], "run": "app.mail"},' in ran.out
    says = "1 task changed: t_mail\nto sessions: nothing would happen before their next events\n"
    assert ran.out.endswith(says)
    assert cli("config", "apply", str(tasks), "--json", at=address).row()["replaced"] == first["hash"]


def test_a_tasks_file_is_not_applied_to_a_directory(cli: Cli, tasks: Path) -> None:
    ran = cli("config", "apply", str(tasks))
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert f"change that file, or stop dev and start `triggerstream dev {tasks}`. Only an app in" in ran.err
    assert "by `config apply`: name one with --at kafka://HOST:PORT/APP or TRIGGERSTREAM_AT" in ran.err


@pytest.mark.usefixtures("worker")
def test_sessions_and_orders(cli: Cli, address: str, kafka_app: AppId, tasks: Path) -> None:
    assert cli("config", "apply", str(tasks), at=address).status == 0
    with SyncClient(address, source="test") as client:
        for number in range(20):
            client.fire(f"s{number}", "module4", {"n": number})
        client.fire("s7", "module1", {"name": "Ada"})
    instance = explained(cli, address, "s7", "scheduled")
    assert instance["kwargs"] == {"module1": {"name": "Ada"}, "module4": {"n": 7}}
    explained(cli, address, "s19", "unstarted")
    rows = cli("sessions", "list", "--json", "--limit", "0", at=address).rows()
    assert [row["session"] for row in rows] == sorted(f"s{number}" for number in range(20))
    rows = cli("sessions", "list", "--json", "--status", "scheduled", at=address).rows()
    assert [row["session"] for row in rows] == ["s7"]
    found = cli("sessions", "explain", "s7", "--json", at=address).row()
    (decided,) = [row for row in found["timeline"] if row["what"] == "decided"]
    assert decided["command"] == command_of(kafka_app, "s7")
    assert cli("sessions", "explain", "s3", "--json", at=address).row()["waitsFor"] == ["module1"]
    assert cli("sessions", "explain", "nobody", at=address).status == 1
    # The outcomes that its Celery worker would report.
    log = bootstrap.outcome_log(address)
    for body in (
        Started(instance=InstanceId("t_process#0"), command=command_of(kafka_app, "s7")),
        Failed(instance=InstanceId("t_process#0"), command=command_of(kafka_app, "s7"), error="no disk"),
    ):
        log.report(SessionId("s7"), encode(body))
    log.close()  # type: ignore[attr-defined] # the Kafka one has it
    explained(cli, address, "s7", "failed")
    ran = cli("instances", "replay", "s7", "t_process#0", "--reason", "disk added", "--json", at=address)
    answer = ran.row()
    assert (ran.status, answer["applied"], answer["clone"]) == (0, True, "t_process#1")
    ran = cli("instances", "replay", "s7", "t_process#0", "--json", at=address)
    assert (ran.status, ran.row()["applied"]) == (1, False)
    # Orders for sessions of all partitions.
    ran = cli("instances", "cancel", "--task", "t_process", "--status", "unstarted", "--json", at=address)
    answers = ran.rows()
    assert (ran.status, len(answers)) == (0, 19)
    assert {answer["status"] for answer in answers} == {"cancelled"}


@pytest.mark.usefixtures("worker")
def test_sessions_are_closed_erased_and_exported(
    cli: Cli, address: str, kafka: str, kafka_app: AppId, tasks: Path
) -> None:
    assert cli("config", "apply", str(tasks), at=address).status == 0
    names = [f"s{number}" for number in range(6)]
    producer = Producer({"bootstrap.servers": kafka})
    for name in names:
        # In a partition from which the worker has to move it.
        wrong = (partition_of(name.encode(), PARTITIONS) + 1) % PARTITIONS
        producer.produce(f"{kafka_app}.events", b'{"type": "module1"}', name, partition=wrong)
    assert producer.flush(60) == 0
    del producer
    for name in names:
        explained(cli, address, name, "unstarted")
    ran = cli("sessions", "close", *names[:3], "--json", "--wait", "60", at=address)
    assert (ran.status, [row["session"] for row in ran.rows()]) == (0, names[:3])
    assert cli("sessions", "show", "s1", "--json", at=address).row()["closed"] is True
    ran = cli("sessions", "erase", *names[3:], "--json", "--wait", "60", at=address)
    assert (ran.status, {row["applied"] for row in ran.rows()}) == (0, {True})
    assert cli("sessions", "show", "s4", "--json", at=address).row()["seen"] == []
    fired, closed = cli("sessions", "export", "s1", at=address).rows()
    # The producer gave neither an id nor a source: none is shown.
    assert fired["type"] == "module1"
    assert not {"id", "source"} & set(fired)
    assert re.fullmatch(r"\d+:\d+", fired["rehomedfrom"])
    assert fired.get("time", fired["received"]) <= fired["received"]
    assert closed["type"] == "triggerstream.session.close"
    for command in ("close", "erase", "export"):
        ran = cli("sessions", command, "nobody", at=address)
        assert (ran.status, ran.err) == (1, "nobody: nothing is known of this session\n")


def test_dead_letters(cli: Cli, address: str, tasks: Path, worker: WorkerProcess) -> None:
    assert cli("config", "apply", str(tasks), at=address).status == 0
    assert cli("deadletters", "list", at=address).out == "no dead letters\n"
    asyncio.run(_append(address, [NewRecord(key=f"k{n}".encode(), value=b"no JSON") for n in range(5)]))

    def letters() -> list[dict[str, Any]] | None:
        rows = cli("deadletters", "list", "--json", at=address).rows()
        return rows if len(rows) == 5 else None

    rows = wait_until(letters, within_s=60, what=worker.text)
    assert {row["session"] for row in rows} == {f"k{n}" for n in range(5)}
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(set(numbers))
    first = cli("deadletters", "list", "--limit", "2", "--json", at=address)
    rest = cli("deadletters", "list", "--after", str(first.rows()[-1]["number"]), "--json", at=address)
    assert first.rows() + rest.rows() == rows
    shown = cli("deadletters", "show", str(numbers[3]), "--json", at=address).row()
    assert shown == rows[3]
    assert shown["value"] == "no JSON"
    assert cli("deadletters", "show", "999999", at=address).status == 1


def test_dead_letters_are_redriven_once_they_can_be_folded(
    cli: Cli, address: str, tasks: Path, worker: WorkerProcess
) -> None:
    text = tasks.read_text()
    tasks.write_text('{"$bounds": {"commandBytes": 2000}, ' + text.strip()[1:])
    assert cli("config", "apply", str(tasks), at=address).status == 0
    with SyncClient(address, source="test") as client:
        for number in range(6):
            client.fire(f"s{number}", "module1")
            client.fire(f"s{number}", "module4", {"text": "x" * 3000})

    def letters() -> list[dict[str, Any]] | None:
        rows = cli("deadletters", "list", "--json", at=address).rows()
        return rows if len(rows) == 6 else None

    numbers = [row["number"] for row in wait_until(letters, within_s=60, what=worker.text)]
    ran = cli("deadletters", "redrive", str(numbers[0]), "--json", "--wait", "60", at=address)
    assert (ran.status, ran.row()["folded"]) == (1, False)
    assert "$bounds.commandBytes" in ran.row()["reason"]
    tasks.write_text(text)
    assert cli("config", "apply", str(tasks), at=address).status == 0
    # All of them, and the one that was refused twice as well: it is the same event.
    ran = cli("deadletters", "redrive", "--all", "--json", "--wait", "60", at=address)
    assert (ran.status, len(ran.rows())) == (0, 7)
    for number in range(6):
        instance = explained(cli, address, f"s{number}", "scheduled")
        assert instance["kwargs"] == {"module1": {}, "module4": {"text": "x" * 3000}}
        (decided,) = [
            row
            for row in cli("sessions", "explain", f"s{number}", "--json", at=address).row()["timeline"]
            if row["what"] == "decided"
        ]
        assert decided["instance"] == "t_process#0"


PAGES = """{
  "$bounds": {"unresolvedInstances": 2},
  "t_open": {"after": ["page", "never"], "run": "app.open"},
  "t_page": {"after": [], "andEvery": "page", "run": "app.page"},
  "t_x": {"after": ["close"], "andEvery": "t_page", "run": "app.x"},
  "t_y": {"after": ["close"], "andEvery": "t_page", "run": "app.y"},
}"""


def test_what_outcomes_left_out_is_redriven_and_counts_once(
    cli: Cli, address: str, tasks: Path, worker: WorkerProcess, kafka_app: AppId
) -> None:
    tasks.write_text(PAGES)
    assert cli("config", "apply", str(tasks), at=address).status == 0
    sessions = [f"s{number}" for number in range(4)]
    with SyncClient(address, source="test") as client:
        for session in sessions:
            client.fire(session, "page")
    page = InstanceId("t_page#0")
    commands = {
        session: command_id(kafka_app, SessionId(session), generation=0, task=TaskName("t_page"), number=0)
        for session in sessions
    }
    outcomes = [
        NewRecord(
            key=session.encode(),
            value=encode(Finished(instance=page, command=command, result={"of": session})),
        )
        for session, command in commands.items()
    ]
    asyncio.run(_append(address, outcomes))

    def letters() -> list[dict[str, Any]] | None:
        rows = cli("deadletters", "list", "--json", at=address).rows()
        return rows if len(rows) == len(sessions) else None

    rows = wait_until(letters, within_s=60, what=worker.text)
    assert {row["session"]: (row["leftOut"], row["value"]["id"]) for row in rows} == {
        session: (0, command) for session, command in commands.items()
    }
    assert all(row["value"]["data"] == {"of": row["session"]} for row in rows)
    tasks.write_text(PAGES.replace("2}", "3}"))
    assert cli("config", "apply", str(tasks), at=address).status == 0
    for _ in range(2):
        ran = cli("deadletters", "redrive", "--all", "--json", "--wait", "60", at=address)
        assert (ran.status, len(ran.rows())) == (0, len(sessions)), ran.err
    for session in sessions:
        instances = cli("sessions", "show", session, "--json", at=address).row()["instances"]
        assert {name: one["status"] for name, one in instances.items()} == {
            "t_open#0": "unstarted",
            "t_page#0": "finished",
            "t_x#0": "unstarted",
            "t_y#0": "unstarted",
        }


async def _append(address: str, records: list[NewRecord]) -> None:
    log = bootstrap.log(address)
    await log.append(records)
    await log.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "list"),
        ("sessions", "explain", "s"),
        ("instances", "cancel", "s", "t#0"),
        ("deadletters", "list"),
        ("topics", "check"),
        ("topics", "create"),
        ("config", "show"),
        ("fire", "s", "t", "--timeout", "1"),
    ],
)
def test_where_nothing_answers_one_line_says_so(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = cli(*arguments, at="kafka://127.0.0.1:1/app")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "no Kafka answers at 127.0.0.1:1" in ran.err


def test_topics_need_an_address_in_kafka(cli: Cli) -> None:
    ran = cli("topics", "check")
    assert ran.status == 2
    assert "only an app in Kafka has topics: name one with --at kafka://HOST:PORT/APP" in ran.err
