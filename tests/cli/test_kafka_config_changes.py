"""`config diff` and `config apply` on Kafka, of files that do something at once to sessions."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.adapters.faust.workers import WorkerProcess
from tests.cli.conftest import SURVEY, Cli
from tests.support.advised import carry_out
from tests.support.commands import END_S
from tests.support.waiting import wait_until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.client import SyncClient
from triggerstream.core import advice
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 3
SESSIONS = sorted(f"s{number}" for number in range(20))
LATER = SURVEY.replace('["module1", "module4"]', '["module4"]')


@pytest.fixture
def address(kafka: str, kafka_app: AppId) -> str:
    return f"kafka://{kafka}/{kafka_app}"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """The file that completes every session that waits."""
    file = tmp_path / "later.json"
    file.write_text(LATER)
    return file


@pytest.fixture
def worker(kafka: str, kafka_app: AppId, tmp_path: Path, cli: Cli, address: str) -> Iterator[WorkerProcess]:
    """A worker with sessions that wait for module1, in all partitions."""
    assert cli("topics", "create", "--partitions", str(PARTITIONS), at=address).status == 0
    first = tmp_path / "first.json"
    first.write_text(SURVEY)
    assert cli("config", "apply", str(first), at=address).status == 0
    worker = WorkerProcess(Connection(bootstrap=kafka), kafka_app, tmp_path / "worker")
    with SyncClient(address, source="test") as client:
        for name in SESSIONS:
            client.fire(name, "module4", {})
    wait_until(lambda: len(listed(cli, address, "unstarted")) == len(SESSIONS), within_s=60)
    yield worker
    worker.kill()


def listed(cli: Cli, address: str, status: str) -> list[str]:
    rows = cli("sessions", "list", "--json", "--limit", "0", "--status", status, at=address).rows()
    return [str(row["session"]) for row in rows]


def applied(cli: Cli, address: str) -> str:
    return cli("config", "show", at=address).out


@pytest.mark.usefixtures("worker")
def test_a_file_that_decides_something_at_once_asks_for_consent(cli: Cli, address: str, tasks: Path) -> None:
    row: dict[str, Any] = cli("config", "diff", str(tasks), "--json", at=address).row()
    counts = row["sessions"]["tasks"]["t_process"]
    assert (counts["touched"], counts["decided"], counts["cancelled"]) == (20, 20, 0)
    assert row["sessions"]["looked"] == 20
    assert [one["partition"] for one in row["sessions"]["partitions"]] == [0, 1, 2]
    assert set(counts["examples"]["decided"]) < set(SESSIONS)
    refused = cli("config", "apply", str(tasks), at=address)
    for ran in (refused, cli("config", "apply", str(tasks), "--json", at=address)):
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert f"{tasks}: would have 20 instances decided at once; nothing was applied: " in ran.err
        assert "--yes applies the file" in ran.err
    assert applied(cli, address) == SURVEY + "\n"
    # The error names the instances, and --yes applies the file.
    shown = asyncio.run(carry_out(advice.show_consequences(str(tasks), address), refused.err, status=1))
    assert "counted in 20 sessions, as they were at the checkpoints of 3 partitions" in shown.out
    ran = cli("config", "apply", str(tasks), "--yes", "--json", at=address)
    assert (ran.status, ran.row()["applied"]) == (0, True)
    wait_until(lambda: listed(cli, address, "scheduled") == SESSIONS, within_s=60)


@pytest.mark.usefixtures("worker")
def test_a_file_that_ends_instances_asks_and_a_plain_one_does_not(
    cli: Cli, address: str, tasks: Path
) -> None:
    tasks.write_text(
        SURVEY.replace("app.process", "app.other").replace('"module4"]', '"module4", "module5"]')
    )
    assert cli("config", "apply", str(tasks), at=address).status == 0
    tasks.write_text(SURVEY.replace("t_process", "t_renamed"))
    ran = cli("config", "apply", str(tasks), at=address)
    assert (ran.status, "would have 20 instances cancelled at once" in ran.err) == (2, True)


@pytest.mark.usefixtures("worker")
def test_where_sessions_cannot_be_read_consent_is_needed_only_for_what_may_do_something(
    cli: Cli, address: str, kafka: str, kafka_app: AppId, tasks: Path
) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(f"{kafka_app}-sessions-changelog", b'{"version": 9}', "s3", partition=0)
    assert producer.flush(60) == 0
    ran = cli("config", "apply", str(tasks), at=address)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "it is not known what it would do to sessions (" in ran.err
    assert "the state of session 's3' cannot be read" in ran.err
    ran = cli("config", "diff", str(tasks), at=address)
    assert (ran.status, "1 task changed: t_process" in ran.out, ran.err.count("\n")) == (1, True, 1)
    plain = tasks.with_name("plain.json")
    plain.write_text(SURVEY.replace("app.mail", "app.post"))
    assert cli("config", "apply", str(plain), at=address).status == 0
    assert cli("config", "apply", str(tasks), "--yes", at=address).status == 0


@pytest.mark.usefixtures("worker")
def test_a_terminal_is_asked(cli: Cli, address: str, tasks: Path) -> None:
    status, said = answered("n", "config", "apply", str(tasks), "--at", address)
    assert (status, "nothing was applied" in said) == (1, True), said
    assert f"Apply {tasks}? [y/N]" in said
    assert "t_process, decided at once: " in said
    assert applied(cli, address) == SURVEY + "\n"
    status, said = answered("y", "config", "apply", str(tasks), "--at", address)
    assert (status, "applied (2 tasks" in said) == (0, True), said
    assert applied(cli, address) == LATER + "\n"


def answered(answer: str, *arguments: str) -> tuple[int, str]:
    """The status and output of a command on a terminal, whose question gets ``answer``."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "triggerstream", *arguments]
    with Popen(command, stdin=its, stdout=its, stderr=its, env={**os.environ, "COLUMNS": "200"}) as process:
        os.close(its)
        said = ""
        try:
            while True:
                try:
                    piece = os.read(ours, 65_536)
                except OSError:  # its end of the terminal is closed
                    break
                if not piece:
                    break
                said += piece.decode()
                if answer and "[y/N]" in said:
                    os.write(ours, f"{answer}\n".encode())
                    answer = ""
            return process.wait(END_S), said
        finally:
            process.kill()
            os.close(ours)
