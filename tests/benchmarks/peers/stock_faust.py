"""A stock Faust agent with a stock table on RocksDB that sends the command.

At least once, as Faust is by default: it loses and doubles at the faults that ours must survive.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.types import StreamT

from tests.benchmarks.peers.arguments import PARTS, Arguments, arguments


def build(told: Arguments) -> faust.App:
    """The application. Its settings are Faust's own, but for what the benchmark has no use for."""
    app = faust.App(
        told.app,
        broker=f"kafka://{told.bootstrap}",
        autodiscover=False,
        datadir=str(told.directory),
        store="rocksdb://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=told.partitions,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        key_serializer="raw",
        value_serializer="json",
    )
    events = app.topic(told.events, key_type=str)
    commands = app.topic(told.commands, key_type=str)
    sessions = app.Table("sessions", default=dict, partitions=told.partitions, key_type=str)

    async def fold(stream: StreamT[Any]) -> None:
        async for session, event in stream.items():
            seen = sessions[session]
            seen[event["type"]] = event["data"]
            sessions[session] = seen
            if len(seen) == len(PARTS):
                await commands.send(key=session, value={"session": session, "seen": seen})

    app.agent(events)(fold)
    return app


if __name__ == "__main__":
    faust.Worker(build(arguments()), loglevel="WARN").execute_from_commandline()
