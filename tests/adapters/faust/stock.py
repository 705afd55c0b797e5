"""A stock Faust worker: ``python -m tests.adapters.faust.stock MODE HOST:PORT APP``. It prints JSON lines.

=========  ==============================================================================================
``raise``  its agent raises on the value ``boom``
``hang``   two actors; one never returns from the value ``hang``
``send``   its agent sends 10 kB to ``<app>.out`` for each value
``table``  its agent counts values by key, in memory; it prints the partitions of the keys that it has
``flush``  sends 2,000 messages, flushes once a line comes in, and prints what was not sent by then
=========  ==============================================================================================
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import faust
from faust.types import StreamT

from triggerstream.core.placement import partition_of

PARTITIONS = 4


def say(**fields: object) -> None:
    """One line for the test."""
    print(json.dumps(fields), flush=True)  # noqa: T201 - what it is for


def build(mode: str, bootstrap: str, app_id: str) -> faust.App:
    """The application for ``mode``."""
    app = faust.App(
        app_id,
        broker=f"kafka://{bootstrap}",
        autodiscover=False,
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=PARTITIONS,
        table_standby_replicas=0,
        broker_commit_interval=0.2,
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        worker_redirect_stdouts=False,
        key_serializer="raw",
        value_serializer="raw",
    )
    topic = app.topic(f"{app_id}.events", key_type=bytes, value_type=bytes)
    if mode == "raise":
        app.agent(topic)(_raises)
    elif mode == "hang":
        app.agent(topic, concurrency=2)(_hangs)
    elif mode == "send":
        app.agent(topic)(_sender(app.topic(f"{app_id}.out", key_type=bytes, value_type=bytes)))
    elif mode == "table":
        table = app.Table("seen", partitions=PARTITIONS, key_type=bytes, value_type=bytes)
        app.agent(topic)(_counter(table))
        app.task(_reporter(app, table))
    return app


async def _raises(values: StreamT[bytes]) -> None:
    async for value in values:
        say(got=value.decode())
        if value == b"boom":
            raise RuntimeError("boom")


async def _hangs(values: StreamT[bytes]) -> None:
    async for value in values:
        if value == b"hang":
            say(hangs=True)
            await asyncio.Event().wait()
        say(got=value.decode())


def _sender(out: Any) -> Callable[[StreamT[bytes]], Any]:  # noqa: ANN401 - Faust's topics are hardly typed
    async def send(values: StreamT[bytes]) -> None:
        async for value in values:
            await out.send(key=b"k", value=value * 10_000)
            say(got=value.decode())

    return send


def _counter(table: Any) -> Callable[[StreamT[bytes]], Any]:  # noqa: ANN401 - as above
    async def count(values: StreamT[bytes]) -> None:
        async for key, value in values.items():
            table[key] = value

    return count


def _reporter(app: faust.App, table: Any) -> Callable[[], Any]:  # noqa: ANN401 - as above
    async def report() -> None:
        while True:
            await asyncio.sleep(0.2)
            owned = sorted(tp.partition for tp in app.consumer.assignment() if tp.topic.endswith(".events"))
            say(owned=owned, keys=sorted({partition_of(key, PARTITIONS) for key in table}))

    return report


async def _report_recovery(app: faust.App) -> None:
    """Say how far a recovery is, from the outside of Faust."""
    while True:
        await asyncio.sleep(0.2)
        recovery = app.tables.recovery  # type: ignore[attr-defined] # the concrete class has it
        say(recovered=recovery.completed.is_set(), left=recovery.active_remaining_total())


async def _flush(app: faust.App) -> None:
    topic = app.topic(f"{app.conf.id}.events", key_type=bytes, value_type=bytes)
    await app.producer.start()
    await (await topic.send(key=b"k", value=b"first"))
    say(started=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(2_000):
        topic.send_soon(key=b"k", value=b"x" * 1_000)
    say(queued=True)
    await app.producer.flush()
    say(left=app.producer.buffer.size)


async def main(mode: str, bootstrap: str, app_id: str) -> None:
    """Run until killed."""
    app = build(mode, bootstrap, app_id)
    if mode == "flush":
        await _flush(app)
        return
    reporting = asyncio.create_task(_report_recovery(app)) if mode == "table" else None
    await app.start()
    say(started=True)
    await asyncio.Event().wait()
    assert reporting is None


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
