"""`backtest` of an app in Kafka: all partitions, in one process and in several, with hostile records."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.cli.conftest import Cli
from triggerstream import bootstrap
from triggerstream.core.events import Body, Finished, Trigger
from triggerstream.core.ids import (
    AppId,
    InstanceId,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
)
from triggerstream.core.placement import partition_of
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS, SESSIONS = 3, 30
OLD = {"t": {"after": ["a", "b"], "run": "app.t"}, "next": {"after": ["t"], "run": "app.next"}}
NEW = {**OLD, "u": {"after": [{"trigger": "a", "where": "data.n % 2 == 1"}], "run": "app.u"}}


def record(session: str, body: Body) -> NewRecord:
    return NewRecord(key=session.encode(), value=encode(body))


async def append(address: str, records: list[NewRecord]) -> None:
    log = bootstrap.log(address)
    try:
        await log.append(records)
    finally:
        await log.close()


def history(app: AppId) -> list[NewRecord]:
    """In each session, t finishes; in every second one u would be added."""
    records = []
    for n in range(SESSIONS):
        session = f"s{n}"
        command = command_id(app, SessionId(session), generation=0, task=TaskName("t"), number=0)
        names = (TriggerName("a"), TriggerName("b"))
        records += [record(session, Trigger(name=name, data={"n": n})) for name in names]
        records.append(
            record(session, Finished(instance=InstanceId("t#0"), command=command, result={"n": n}))
        )
    return records


def produce_hostile(brokers: str, app: AppId) -> None:
    """Records that no engine folds, and one that is not in the partition of its session."""
    own = partition_of(b"s0", PARTITIONS)
    producer = Producer({"bootstrap.servers": brokers})
    for value, key, partition in (
        (b"no JSON", b"s1", partition_of(b"s1", PARTITIONS)),
        (b'{"type": "a", "data": [1]}', b"s2", partition_of(b"s2", PARTITIONS)),
        (b'{"type": "a"}', None, 0),
        (b'{"type": "a"}', b"\xff", 0),
        (b'{"type": "a"}', b"s0", (own + 1) % PARTITIONS),
    ):
        producer.produce(f"{app}.events", value, key, partition)
    assert producer.flush(30) == 0


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in rows[-1].items() if name not in {"seconds", "eventsPerSecond"}}


def test_all_partitions_are_compared_by_any_number_of_processes(
    cli: Cli, kafka: str, kafka_app: AppId, tmp_path: Path
) -> None:
    address = f"kafka://{kafka}/{kafka_app}"
    files = {name: tmp_path / f"{name}.json" for name in ("old", "new")}
    files["old"].write_text(json.dumps(OLD))
    files["new"].write_text(json.dumps(NEW))
    old, new = str(files["old"]), str(files["new"])
    gone = cli("backtest", new, "--against", old, "--from", address)
    assert (gone.status, gone.out) == (2, "")
    assert cli("topics", "create", "--partitions", str(PARTITIONS), at=address).status == 0
    assert cli("config", "apply", new, at=address).status == 0
    empty = cli("backtest", new, "--against", old, "--from", address, "--json").rows()
    assert (empty[-1]["events"], empty[-1]["configurations"]) == (0, PARTITIONS)
    asyncio.run(append(address, history(kafka_app)))
    produce_hostile(kafka, kafka_app)

    command = ("backtest", new, "--against", old, "--from", address, "--json")
    # Two processes have partitions of their own, five share the sessions of all.
    ran = [cli(*command, "--processes", number) for number in ("1", "2", "5")]
    assert [one.status for one in ran] == [1, 1, 1]
    found = [one.rows() for one in ran]
    assert found[0][:-1] == found[1][:-1] == found[2][:-1]
    totals = [total(rows) for rows in found]
    reasons = [one.pop("reasons") for one in totals]
    assert totals[0] == totals[1] == totals[2]
    assert {len(some) for some in reasons} == {3}
    assert totals[0] | {"differs": None} == {
        "differs": None,
        "events": SESSIONS * 3,
        "sessions": SESSIONS,
        "differing": SESSIONS // 2,
        "old": SESSIONS * 2,
        "new": SESSIONS * 2 + SESSIONS // 2,
        "added": SESSIONS // 2,
        "removed": 0,
        "changed": 0,
        "later": 0,
        "earlier": 0,
        "assumed": SESSIONS // 2,
        "outcomes": {"strays": 0, "moved": 0, "dropped": 0},
        "unreadable": 4,
        "rejected": {"old": 0, "new": 0},
        "configurations": PARTITIONS,
        "misplaced": 1,
        "cut": 0,
        "pending": 0,
    }

    same = cli("backtest", old, "--against", old, "--from", address, "--processes", "1")
    assert same.status == 0
    one = cli(*command, "--processes", "1", "--sessions", "s7", "--since", "1h", "--until", "+1d").rows()
    assert (one[-1]["sessions"], one[-1]["events"]) == (1, 3)
    later = cli(*command, "--processes", "1", "--since", "2100-01-01T00:00:00Z").rows()
    assert later[-1]["events"] == 0
    shown = cli("backtest", new, "--against", old, "--from", address, "--processes", "1").out
    assert f"`triggerstream sessions explain SESSION --at {address}` shows one of them" in shown
