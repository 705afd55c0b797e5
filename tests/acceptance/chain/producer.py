"""A producer process. Its arguments: KIND KAFKA APP PLAN SESSIONS SEED SECONDS.

It fires its share of the plan, six of seven events within SECONDS, then ever more slowly, and in between and
after it triggers that no task needs: there is load until its standard input ends. The rest it fires then
at once.
KIND is ``sync`` or ``async``, our clients, or ``librdkafka``: another's, which places keys by CRC32 where
sessions are placed by murmur2.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import Iterator
from random import Random

from confluent_kafka import Producer

from tests.acceptance.chain.plan import Plan
from triggerstream import Client, SyncClient
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId

KINDS = ("sync", "async", "librdkafka")
_TIMEOUT_S = 60.0
_AT_ONCE = 20
_IDLE_S = 0.3
_NEEDLESS = "needless"


def paced(events: list[tuple[str, str]], *, seconds: float) -> Iterator[tuple[int, str, str]]:
    """(number, session, trigger), each when its time has come."""
    hurry = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        hurry.set()

    threading.Thread(target=listen, daemon=True).start()
    start = time.monotonic()
    chance = Random(len(events))
    for number, (session, trigger) in enumerate(events):
        due = start - seconds / 2 * math.log(1 - number / len(events))
        while (ahead := due - time.monotonic()) > 0 and not hurry.wait(min(ahead, _IDLE_S)):
            if ahead > _IDLE_S:
                yield number, chance.choice(events)[0], _NEEDLESS
        yield number, session, trigger
    while not hurry.wait(_IDLE_S):
        yield len(events), chance.choice(events)[0], _NEEDLESS


def fire_sync(address: str, events: Iterator[tuple[int, str, str]]) -> None:
    """One after the other."""
    with SyncClient(address, timeout_s=_TIMEOUT_S) as client:
        for number, session, trigger in events:
            client.fire(session, trigger, {"number": number})


async def fire_async(address: str, events: Iterator[tuple[int, str, str]]) -> None:
    """Several at once."""
    places = asyncio.Semaphore(_AT_ONCE)

    async with Client(address, timeout_s=_TIMEOUT_S) as client, asyncio.TaskGroup() as group:

        async def fire(number: int, session: str, trigger: str) -> None:
            try:
                await client.fire(session, trigger, {"number": number}, id=f"{session}/{trigger}")
            finally:
                places.release()

        while (event := await asyncio.to_thread(next, events, None)) is not None:
            await places.acquire()
            group.create_task(fire(*event))


def fire_librdkafka(bootstrap: str, topic: str, events: Iterator[tuple[int, str, str]]) -> None:
    """With the partitioner that it has by default."""
    producer = Producer({"bootstrap.servers": bootstrap})
    refused: list[str] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            refused.append(str(error))

    for number, session, trigger in events:
        value = json.dumps({"type": trigger, "data": {"number": number}})
        producer.produce(topic, key=session, value=value, on_delivery=delivered)
        producer.poll(0)
    if producer.flush(_TIMEOUT_S) or refused:
        sys.exit(f"not delivered: {refused}")


def main(arguments: list[str]) -> None:
    """Fire."""
    kind, bootstrap, app, name, sessions, seed, seconds = arguments
    plan = Plan(name=name, sessions=int(sessions), seed=int(seed))
    events = paced(plan.share(KINDS.index(kind), of=len(KINDS)), seconds=float(seconds))
    address = f"kafka://{bootstrap}/{app}"
    if kind == "sync":
        fire_sync(address, events)
    elif kind == "async":
        asyncio.run(fire_async(address, events))
    else:
        fire_librdkafka(bootstrap, Topics.of(AppId(app)).events, events)


if __name__ == "__main__":
    main(sys.argv[1:])
