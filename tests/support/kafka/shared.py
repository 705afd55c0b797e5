"""The Kafka of a demonstration: the one that is named, or a server of its own; and topics that go again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.support.environment import CLUSTER
from tests.support.kafka.server import KafkaServer, KafkaUnavailableError, missing
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.settings import KafkaAddress


@contextmanager
def a_kafka(place: Path) -> Iterator[str]:
    """``host:port`` of the cluster that was named, else of a server of one's own, gone at the end."""
    if named := os.environ.get(CLUSTER):
        yield named
        return
    if (lacking := missing()) is not None:
        raise KafkaUnavailableError(f"lacking {lacking}, or {CLUSTER}=host:port of a Kafka cluster")
    server = KafkaServer(place / "kafka")
    server.start()
    try:
        yield server.bootstrap
    finally:
        server.kill()


@asynccontextmanager
async def topics_gone(address: KafkaAddress) -> AsyncIterator[None]:
    """Delete the app's topics at the end: the cluster may be somebody's. Groups go with their offsets."""
    try:
        yield
    finally:
        admin = AIOKafkaAdminClient(**Connection(bootstrap=address.bootstrap).options())
        await admin.start()
        try:
            await admin.delete_topics(list(Topics.of(address.app).all()))
        finally:
            await admin.close()
