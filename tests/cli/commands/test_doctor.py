"""`doctor`: checks that pass, checks that fail, and the repairs."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.adapters.faust.workers import WorkerProcess
from tests.cli.commands.test_sessions import trigger
from tests.cli.conftest import SURVEY, Cli
from tests.support.commands import Ran
from tests.support.engines import RunningEngine, running_engine
from tests.support.ports import free_port
from tests.support.processes import celery_worker
from tests.support.valkey import valkey_server
from tests.support.waiting import wait_until
from triggerstream.adapters.directory_lock import is_directory_locked, lock_directory
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.survey import seen_members
from triggerstream.adapters.sqlite.clock_guard import SqliteClockWatch
from triggerstream.client import SyncClient
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId


def said(ran: Ran) -> dict[str, tuple[bool, str]]:
    return {row["what"]: (row["well"], row["says"]) for row in ran.rows()}


def wrong(ran: Ran) -> list[str]:
    """Sentences of the failed checks of workers."""
    return [row["says"] for row in ran.rows() if row["what"] == "workers" and not row["well"]]


def test_an_engine_that_has_what_it_needs(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    ran = cli("doctor", "--json")
    found = said(ran)
    assert ran.status == 0
    assert [*found] == [
        "packages",
        "database",
        "engine",
        "configuration",
        "events",
        "clocks",
        "instances",
        "dead letters",
    ]
    assert "celery 5." in found["packages"][1]
    assert found["configuration"][1].endswith(" is in force")
    assert found["events"] == (True, "0 events wait to be processed")
    assert cli("doctor").out.count("\nok ") == 7


def test_a_database_on_which_no_process_works_is_reported(cli: Cli) -> None:
    with running_engine(cli.directory, SURVEY):
        assert said(cli("doctor", "--json"))["engine"] == (True, "one runs here")
    assert cli("fire", "s", "module1").status == 0
    ran = cli("doctor", "--json")
    found = said(ran)
    assert (ran.status, found["engine"]) == (
        1,
        (False, "no dev runs here: no event is processed until one is started"),
    )
    assert found["events"][1].startswith("1 event waits to be processed, the oldest for ")
    with running_engine(cli.directory):
        assert cli("doctor").status == 0


def test_a_look_at_the_lock_keeps_no_engine_from_it(tmp_path: Path) -> None:
    file = tmp_path / "triggerstream.db"
    assert not is_directory_locked(file)
    assert list(tmp_path.iterdir()) == []
    lock_directory(file).close()
    with ThreadPoolExecutor(1) as pool, file.with_suffix(".lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not is_directory_locked(file)
        locking = pool.submit(lock_directory, file)
        fcntl.flock(look, fcntl.LOCK_UN)
        with locking.result(20):
            assert is_directory_locked(file)
            with pytest.raises(UsageError, match="another engine"):
                lock_directory(file)
    assert not is_directory_locked(file)


def test_no_database_is_the_answer_no(cli: Cli) -> None:
    ran = cli("doctor", "--json")
    assert (ran.status, said(ran)["database"][0]) == (1, False)
    assert "start one with `triggerstream dev" in said(ran)["database"][1]


def test_a_clock_that_was_set_forward_is_reported_in_the_words_in_which_events_are_refused(
    cli: Cli, engine: RunningEngine
) -> None:
    SqliteClockWatch(engine.directory).look()
    assert cli("doctor").status == 0
    with closing(sqlite3.connect(engine.directory / "triggerstream.db")) as database, database:
        (trusted,) = database.execute("SELECT value FROM meta WHERE name = 'clock'").fetchone()
        boot, _, started_us = trusted.rpartition(" ")
        earlier = f"{boot} {int(started_us) - 400 * 24 * 3600 * 1_000_000}"
        database.execute("UPDATE meta SET value = ? WHERE name = 'clock'", (earlier,))
    fired, ran = cli("fire", "s", "module1"), cli("doctor", "--json")
    well, says = said(ran)["clocks"]
    assert (ran.status, well) == (1, False)
    start, rest = says.split(" and shows ")
    assert start == "this machine's clock was set forward by 400 days"
    assert start in fired.err
    assert rest.partition(": ")[2] in fired.err
    assert cli("doctor", "--json").status == 1  # it did not trust the clock


@pytest.mark.celery
def test_a_celery_broker_that_answers_and_one_that_does_not(
    cli: Cli, engine: RunningEngine, tmp_path: Path
) -> None:
    assert engine.directory == cli.directory
    with valkey_server() as url:
        ran = cli("doctor", "--broker", url, "--json")
        assert (ran.status, said(ran)["Celery broker"][0]) == (1, True)
        assert said(ran)["Celery workers"][1].startswith("none answers")
        silent, env = "tests.cli.commands.silentapp", {"CELERY_BROKER_URL": url}
        with celery_worker(silent, "-P", "solo", env=env, output=tmp_path / "celery.log"):
            ran = cli("doctor", "--broker", url, "--json")
        found = [row["says"] for row in ran.rows() if row["what"] == "Celery workers"]
        assert (ran.status, len(found)) == (1, 2)
        assert " runs app.process and reports no outcome: its module must call " in found[0]
        assert "triggerstream.celery.install" in found[0]
        assert found[1] == "no worker that answers has app.mail"
    ran = cli("doctor", "--broker", url, "--json")
    assert (ran.status, said(ran)["Celery broker"][0]) == (1, False)


def test_where_no_kafka_answers(cli: Cli) -> None:
    ran = cli("doctor", "--json", at="kafka://127.0.0.1:1/app")
    assert (ran.status, [*said(ran)]) == (1, ["packages", "Kafka"])
    assert "no Kafka answers at 127.0.0.1:1" in said(ran)["Kafka"][1]


@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_from_no_topics_to_a_worker_at_work(
    cli: Cli, kafka: str, kafka_app: AppId, tmp_path: Path
) -> None:
    address = f"kafka://{kafka}/{kafka_app}"
    ran = cli("doctor", "--json", at=address)
    assert (ran.status, said(ran)["Kafka"][0], said(ran)["topics"][0]) == (1, True, False)
    assert "triggerstream topics create" in said(ran)["topics"][1]
    assert cli("topics", "create", "--partitions", "3", at=address).status == 0
    ran = cli("doctor", "--json", at=address)
    assert (ran.status, said(ran)["configuration"][0]) == (1, False)
    assert "triggerstream config apply" in said(ran)["configuration"][1]
    tasks = tmp_path / "survey.json"
    tasks.write_text(SURVEY)
    assert cli("config", "apply", str(tasks), at=address).status == 0
    assert said(cli("doctor", "--json", at=address))["configuration"] == (
        False,
        "a tasks file is applied, and no worker has read it yet: start a worker",
    )
    with SyncClient(address) as client:
        client.fire("s", "module1")
    named = ("--instance-id", "w1", "--web-port", str(free_port()))
    worker = WorkerProcess(Connection(bootstrap=kafka), kafka_app, tmp_path / "worker", arguments=named)
    try:

        def well() -> Ran | None:
            ran = cli("doctor", "--json", at=address)
            found = said(ran)
            if "events" not in found:
                return None  # brokers do not know all topics yet
            done = found["events"][1].startswith("0 ") and found["configuration"][0]
            return ran if done and found["workers"][0] else None

        ran = wait_until(well, within_s=60, what=worker.text)
        found = said(ran)
        assert [what for what, (is_well, _) in found.items() if not is_well] == ["bridge"]
        assert (ran.status, found["bridge"][1]) == (1, "no bridge runs")
        assert found["topics"] == (True, "as they must be, 3 partitions")
        assert found["hand-over"] == (True, "nothing was handed over yet")
        assert found["workers"][1].endswith(": partitions 0, 1, 2; it answers")
        assert found["transactions"] == (True, "none is open")
        assert found["owners"][0]
        assert ": partitions 0-2, since " in found["owners"][1]
        few = cli("doctor", "--json", "--workers", "2", at=address)
        assert (False, "1 worker runs, --workers 2 are wanted") in [
            (row["well"], row["says"]) for row in few.rows()
        ]
        named = ("--instance-id", "w2", "--web-port", str(free_port()))
        # Its session must outlast a run of `doctor` on a busy machine: then it is no member any more.
        second = WorkerProcess(
            Connection(bootstrap=kafka),
            kafka_app,
            tmp_path / "second",
            session_timeout="5m",
            arguments=named,
        )
        try:

            def shared() -> bool:
                with SyncClient(address) as client:
                    for number in range(9):
                        client.fire(f"s{number}", "module1")
                rows = cli("workers", "list", "--json", at=address).rows()
                owners = {row["name"] for row in rows if row["partitions"]}
                return len(owners) == 2 and "w2" in owners

            def remembered() -> bool:
                return shared() and bool(asyncio.run(seen_members(Connection(bootstrap=kafka), kafka_app)))

            wait_until(remembered, within_s=60, what=second.text)
            two = cli("doctor", "--json", "--workers", "2", at=address)
            assert wrong(two) == []
        finally:
            second.kill()
        # Kafka still lists it as a member until its session times out.
        says = wrong(cli("doctor", "--json", "--workers", "2", at=address))
        dead = [text for text in says if text.startswith("worker w2 at ") and "has probably died" in text]
        assert dead, says
        assert cli("workers", "remove", "w2", at=address).status == 0
        missing = "worker w2 is missing: it last had a partition at "
        wait_until(
            lambda: any(text.startswith(missing) for text in wrong(cli("doctor", "--json", at=address))),
            within_s=60,
            what=worker.text,
        )
    finally:
        worker.kill()
    ran = cli("doctor", "--json", at=address)
    assert not said(ran)["workers"][0]
    assert said(ran)["Kafka"][0]
