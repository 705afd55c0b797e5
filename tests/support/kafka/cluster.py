"""Three servers that are one cluster: what a broker's restart, or its death, means to those who use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.support.kafka.server import KafkaServer, new_id
from tests.support.ports import HOST, free_port
from tests.support.waiting import wait_until

BROKERS = 3
_IN_SYNC_S = 240.0
_SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


class KafkaCluster:
    """Brokers and controllers in one, as the single server is; one of the three may always be away."""

    def __init__(self, folder: Path) -> None:
        controllers = [free_port() for _ in range(BROKERS)]
        voters = ",".join(f"{node}@{HOST}:{port}" for node, port in enumerate(controllers, start=1))
        name = new_id()
        self.servers = [
            KafkaServer(
                folder / f"kafka-{node}",
                node=node,
                cluster=name,
                controller_port=port,
                settings={**_SETTINGS, "controller.quorum.voters": voters},
            )
            for node, port in enumerate(controllers, start=1)
        ]

    @property
    def bootstrap(self) -> str:
        """``host:port`` of each."""
        return ",".join(server.bootstrap for server in self.servers)

    def start(self) -> None:
        """Start all of them: none answers before most of them run."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.await_answer()

    def await_in_sync(self) -> None:
        """Wait until every partition has all its replicas in sync: the next broker may go."""
        wait_until(
            lambda: asyncio.run(self._is_in_sync()), within_s=_IN_SYNC_S, what="replicas are not in sync"
        )

    async def _is_in_sync(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            topics = await admin.describe_topics()
        finally:
            await admin.close()
        return all(
            sorted(partition["isr"]) == sorted(partition["replicas"])
            for topic in topics
            for partition in topic["partitions"]
        )


@contextmanager
def kafka_cluster(folder: Path) -> Iterator[KafkaCluster]:
    """A cluster of one's own, gone at the end."""
    cluster = KafkaCluster(folder)
    with ExitStack() as stack:
        for server in cluster.servers:
            stack.callback(server.kill)
        cluster.start()
        yield cluster
