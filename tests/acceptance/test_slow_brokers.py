"""A worker continues with slow brokers, and ends if no broker answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, stage
from tests.support.kafka.proxy import Proxy, proxy
from tests.support.kafka.server import KafkaServer
from tests.support.ports import HOST, free_port
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.timing import PartitionTiming

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.usefixtures("needs_kafka")]

SILENCE_S = PartitionTiming().silence_s
SLOW_S = 4.0
"""A transaction takes three answers at the least, so more than ``SILENCE_S``; none of them does."""


@dataclass(frozen=True)
class Theatre:
    """An app whose workers reach their broker through ``between``, and its tests directly."""

    app: Stage
    between: Proxy
    through: Connection


@pytest.fixture
async def theatre(kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Theatre]:
    direct, controller, behind, before = (free_port() for _ in range(4))
    plain = f"PLAINTEXT://{HOST}:{direct}"
    server = KafkaServer(
        tmp_path / "kafka",
        port=direct,
        controller_port=controller,
        settings={
            "listeners": f"{plain},PROXIED://{HOST}:{behind},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"{plain},PROXIED://{HOST}:{before}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        },
    )
    server.start()
    try:
        async with proxy(listening=before, port=behind) as between:
            through = Connection(bootstrap=f"{HOST}:{before}")
            with stage(Connection(bootstrap=server.bootstrap), kafka_app, tmp_path / "workers") as app:
                yield Theatre(app, between, through)
    finally:
        server.kill()


async def test_a_checkpoint_goes_on_while_brokers_answer_and_ends_the_worker_when_none_does(
    theatre: Theatre,
) -> None:
    app, between = theatre.app, theatre.between
    await app.prepare()
    worker = app.start(connection=theatre.through, session_timeout="30s")
    await worker.ready()
    await app.fire(range(10))
    await app.settled()

    between.delay_s = SLOW_S
    begun = time.monotonic()
    await app.fire(range(10, 30))
    await app.settled(within_s=240)
    assert time.monotonic() - begun > SILENCE_S, "no checkpoint can have taken so long"
    assert worker.running()

    committing: list[bytes] = []

    def look(sent: bytes) -> None:
        if app.topics.changelog.encode() in sent and b"s30" in sent:
            committing.append(sent)

    between.seen = look
    await app.fire(range(30, 31))
    await eventually(lambda: committing, within_s=120, what=worker.text)
    between.silence()
    await worker.failed(70, within_s=120)
    worker.kill()
    assert f"no broker has answered for {SILENCE_S:g} s" in worker.text()

    between.speak()
    between.delay_s = 0
    again = app.start()
    await app.settled()
    await again.drained()
    assert (await app.exact()).command_count() == 31
