"""Records of every hostile kind under load, while workers and bridge are killed: nothing of it has an effect.

The application's producers share the events topic with one that has no control key and appends, into every
partition, whatever Kafka takes: broken bytes, compressed batches that unpack to 256 MiB, triggers beyond each
bound, unsigned, wrongly signed and captured engine events, line breaks in every text.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.chain import faults
from tests.acceptance.chain.hostile import hostile_producer
from tests.acceptance.chain.hostile_records import Sessions
from tests.acceptance.chain.hostile_tasks import HOSTILE_TASKS
from tests.acceptance.chain.oracle import EXACT
from tests.acceptance.chain.plan import Plan
from tests.acceptance.chain.report import table
from tests.acceptance.chain.rig import PARTITIONS, Rig, rig
from tests.acceptance.chain.verdict import (
    ends_of_their_own,
    evil_commands,
    forged_lines,
    ledger,
    left_out_count,
    misjudged,
    steers,
)
from tests.adapters.faust.workers import Stage
from tests.support.commands import Ran, triggerstream
from tests.support.postgres import postgres_bin, postgres_server
from tests.support.secrets import write_secret
from triggerstream.adapters.kafka import config
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.core.events import Body, Close, Erase, Resend, Trigger
from triggerstream.core.ids import InstanceId, TriggerName
from triggerstream.wire import events, tasksfile
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.faults]

SESSIONS = 2_000
SECONDS = 60.0
KILLS = 30
SECOND_TASKS = HOSTILE_TASKS + "\n// The same once more, for somebody to put the first into force again."
BODIES: tuple[Body, ...] = (
    Trigger(name=TriggerName("page"), data={}),
    Resend(instance=InstanceId("t_page#0"), generation=0, attempt=0, reason="again"),
    Close(generation=0),
    Trigger(name=TriggerName("page"), data={}),
    Erase(generation=1),
    Trigger(name=TriggerName("page"), data={}),
    Close(generation=2),
)
CAPTURED = {
    *("config", "instance.resend", "session.close", "session.erase"),
    *("task.started", "task.finished", "task.failed"),
}
GENERATION = 3
"""After the orders above; one that is obeyed twice leaves another."""


async def operate(chain: Rig) -> None:
    """Give orders and apply a configuration with the key: the hostile producer reads all of it."""
    log = KafkaLog(chain.connection, chain.app)
    for partition in range(PARTITIONS):
        session = Sessions.of(partition, partitions=PARTITIONS).ordered
        values = [events.encode(body) for body in BODIES]
        await log.append([NewRecord(key=session.encode(), value=value) for value in values])
    await log.close()
    await config.apply(chain.connection, chain.app, tasksfile.read(SECOND_TASKS, name="tasks"))


@pytest.mark.celery
@pytest.mark.timeout(1800)
def test_hostile_records_among_20_000_events_stop_nobody_and_change_nothing(
    kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_secret(tmp_path / "control.key", f"2026-01-01T00:00:00Z {'5a' * 32}\n")
    secured = tmp_path / "kafka.json"
    secured.write_text('{"control_key_file": "control.key"}')
    plan = Plan(name="hostile_records", sessions=SESSIONS, seed=5)
    noted = tmp_path / "ledger.jsonl"
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server()) if postgres_bin() else None
        chain = stack.enter_context(
            rig(kafka, tmp_path / "chain", database=database, tasks=HOSTILE_TASKS, config=secured)
        )
        chain.prepare()

        def happens() -> int:
            with hostile_producer(kafka, chain.app, plan, ledger=noted):
                asyncio.run(operate(chain))
                return faults.kills(chain, count=KILLS, chance=Random(6), pause_s=2, bridge=True)

        row = chain.run(plan, happens, seconds=SECONDS)
        sent = ledger(noted)
        kinds = Counter(one.kind for one in sent)
        with capsys.disabled():
            print(*("", *table([row])), sep="\n")  # noqa: T201 - the row of `docs/reliability.md`
            print(f"{len(sent):,} hostile records of {len(kinds)} kinds; {ends_of_their_own(chain)}")  # noqa: T201
        assert {kind.split()[1] for kind in kinds if kind.startswith("captured ")} >= CAPTURED
        assert (row.effects, row.commands) == (EXACT, EXACT)
        assert misjudged(chain, sent) == Counter()
        assert evil_commands(chain) == []
        assert left_out_count(chain) > 0
        assert forged_lines(chain) == []
        assert ends_of_their_own(chain) == []
        assert row.ends.total() == 0
        asyncio.run(shown_as_they_are(chain))
        asyncio.run(exact(chain))


async def exact(chain: Rig) -> None:
    """Compare the commands, states and dead letters of all sessions with a fold of the log."""
    stage = Stage(connection=chain.connection, app=chain.app, folder=chain.folder, partitions=PARTITIONS)
    await stage.exact()
    shown = await config.in_force(chain.connection, chain.app)
    assert shown is not None
    assert (shown.number, shown.text) == (2, SECOND_TASKS)


async def shown_as_they_are(chain: Rig) -> None:
    """Ask every command for the hostile sessions: each answers, and prints nothing that steers."""
    at = ("--at", f"kafka://{chain.bootstrap}/{chain.app}")

    async def ask(*words: str) -> Ran:
        ran = await triggerstream(*words, *at, **chain.environment)
        assert (ran.status, steers(ran.out), steers(ran.err)) == (0, False, False), (words, ran)
        return ran

    assert (await ask("replay", "--check")).err == ""
    letters = (await ask("deadletters", "list", "--json", "--limit", "100000")).rows()
    assert len(letters) > 0
    await ask("deadletters", "list", "--limit", "1000")
    listed = {row["session"] for row in (await ask("sessions", "list", "--json", "--limit", "0")).rows()}
    for partition in range(PARTITIONS):
        found = Sessions.of(partition, partitions=PARTITIONS)
        names = (found.victim, found.bounded, found.ordered, found.any, found.steering)
        assert listed >= set(names)
        shown = {}
        for name in names:
            if partition == 0:
                await ask("sessions", "show", name)
                await ask("sessions", "explain", name)
            shown[name] = json.loads((await ask("sessions", "show", name, "--json")).out)
        assert shown[found.victim]["generation"] == 0
        assert shown[found.ordered]["generation"] == GENERATION
        for session in shown.values():
            statuses = {instance["status"] for instance in session["instances"].values()}
            assert not statuses & {"scheduled", "running"}
        assert shown[found.victim]["instances"]["t_follows#0"]["status"] == "unstarted"
