"""The pages of two workers on a real Kafka with 200,000 sessions: how long each takes, told by p95.

Half of what is shown is the other worker's. The index is complete before the first request; how long it took
to be is a figure of its own.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from urllib.parse import quote
from urllib.request import urlopen

from confluent_kafka import Producer

from tests.adapters.faust.test_web import Web
from tests.adapters.faust.workers import Stage, stage
from tests.benchmarks.kafka_cluster import cluster, quiet, say_load
from tests.benchmarks.rows import Row
from tests.support.waiting import wait_until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.events import Failed
from triggerstream.core.ids import AppId, SessionId, TaskName, command_id, instance_id
from triggerstream.core.placement import partition_of
from triggerstream.wire.events import encode
from triggerstream.wire.json import dumps

SESSIONS = 200_000
PARTITIONS = 12
COMPLETE = 5
"""Of so many sessions, one has all that its task needs; the others wait."""
FAILED = 100
"""Of so many sessions, one has a task that failed."""
LETTERS = 500
REQUESTS = 60
LIMIT_MS = 300.0
_LOAD_S = 1800.0

TASKS = """{
  "t_report": {"after": ["opened", "answered"], "run": "tasks.report"},
  "t_mail": {"after": ["t_report", "address"], "run": "tasks.mail", "unless": ["withdrawn"]},
  "t_remind": {"after": ["answered"], "andEvery": "reminderRequested", "run": "tasks.remind"}
}"""


def say(line: str) -> None:
    """One line for whoever waits."""
    print(f"web: {line}", file=sys.stderr, flush=True)


def run() -> list[Row]:
    """p95 of each page, in milliseconds, and how long the index took."""
    quiet()
    say_load()
    with TemporaryDirectory() as name, cluster(Path(name)) as bootstrap:
        connection = Connection(bootstrap=bootstrap)
        app = AppId(f"bench-{uuid.uuid4().hex[:8]}")
        with stage(connection, app, Path(name) / "workers", partitions=PARTITIONS) as prepared:
            return asyncio.run(_measure(prepared))


async def _measure(app: Stage) -> list[Row]:
    await app.prepare(TASKS)
    _load(app)
    workers = [app.start(name, arguments=app.shown()) for name in ("w1", "w2")]
    first, second = (Web(worker) for worker in workers)
    for worker in workers:
        await worker.ready()
    await app.settled(within_s=_LOAD_S)
    say("folded; waiting for the index")
    began = time.monotonic()
    for web in (first, second):
        wait_until(
            lambda web=web: web.get("sessions", here="1", status="failed", limit="1")[1]["complete"],  # type: ignore[misc] # a default binds it
            within_s=_LOAD_S,
            what=lambda: "the index is not complete",
        )
    rows = [
        Row(
            name=f"index of {SESSIONS:,} sessions: after the last event",
            value=time.monotonic() - began,
            unit="s",
        )
    ]
    own = {row["partition"] for row in first.get("overview")[1]["partitions"] if row["own"]}
    for name, paths in _pages(own):
        took = [_timed(f"{first.url}{next(paths)}") for _ in range(REQUESTS)]
        p95 = quantiles(took, n=20)[-1]
        say(f"{name}: p50 {quantiles(took, n=2)[0]:.0f} ms, p95 {p95:.0f} ms, longest {max(took):.0f} ms")
        rows.append(Row(name=f"{name}, p95", value=p95, unit="ms", ratio=p95 / LIMIT_MS, peer="300 ms"))
    return rows


def _load(app: Stage) -> None:
    """Have all events in the log before a worker starts."""
    producer = Producer({"bootstrap.servers": app.connection.bootstrap, "linger.ms": 20})

    def put(session: str, value: bytes) -> None:
        key = session.encode()
        while True:
            try:
                producer.produce(
                    app.topics.events, key=key, value=value, partition=partition_of(key, app.partitions)
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return

    for number in range(SESSIONS):
        put(_session(number), dumps({"type": "opened", "data": {"n": number, "by": "somebody"}}))
        if number % COMPLETE == 0:
            put(_session(number), dumps({"type": "answered", "data": {"score": number}}))
    for number in range(0, SESSIONS, FAILED):
        session, task = SessionId(_session(number)), TaskName("t_report")
        command = command_id(app.app, session, generation=0, task=task, number=0)
        put(session, encode(Failed(instance=instance_id(task, 0), command=command, error="ValueError: no")))
    for number in range(LETTERS):
        put(_session(number), b"not JSON")
    producer.flush(_LOAD_S)
    say(f"{SESSIONS:,} sessions are in the log")


def _session(number: int) -> str:
    return f"survey/{number:06d}"


def _pages(own: set[int]) -> Iterator[tuple[str, Iterator[str]]]:
    """Each kind of page, with addresses of it that are not the same twice."""
    step = SESSIONS // REQUESTS
    sessions = [_session(step * n + 1) for n in range(REQUESTS)]
    every = [_session(n) for n in range(0, SESSIONS, 997)]
    here = [name for name in every if partition_of(name.encode(), PARTITIONS) in own]
    there = [name for name in every if partition_of(name.encode(), PARTITIONS) not in own]

    def at(form: Callable[[str], str], names: list[str]) -> Iterator[str]:
        while True:
            for name in names:
                yield form(quote(name, safe=""))

    yield "overview", at(lambda _: "/", sessions)
    yield "sessions, any page", at(lambda name: f"/sessions?after={name}", sessions)
    yield "sessions, by prefix", at(lambda name: f"/sessions?prefix={name[:-3]}", sessions)
    yield (
        "sessions, by task and status",
        at(lambda name: f"/sessions?task=t_report&status=scheduled&after={name}", sessions),
    )
    yield (
        "sessions, by what they wait for",
        at(lambda name: f"/sessions?waitsFor=answered&after={name}", sessions),
    )
    yield (
        "sessions, two filters that few pass",
        at(lambda name: f"/sessions?status=failed&waitsFor=reminderRequested&after={name}", sessions),
    )
    yield (
        "sessions, two filters that none passes",
        at(lambda _: "/sessions?status=scheduled&waitsFor=answered", sessions),
    )
    yield "session, of this worker", at(lambda name: f"/sessions/{name}", here)
    yield "session, of the other one", at(lambda name: f"/sessions/{name}", there)
    yield "failures, any page", at(lambda name: f"/failures?after={name}", sessions)
    yield "dead letters", at(lambda _: "/deadletters", sessions)
    yield "configuration", at(lambda _: "/configuration", sessions)


def _timed(url: str) -> float:
    began = time.perf_counter()
    with urlopen(url, timeout=60) as answer:  # noqa: S310 - http, as the worker says
        text = answer.read().decode()
    took = 1000 * (time.perf_counter() - began)
    if re.search(r"<h1\b", text) is None:
        raise AssertionError(f"{url} is no page: {text[:200]}")
    return took
