"""The longest records that one event can make go through a real Kafka, in one transaction."""

from __future__ import annotations

import random

import pytest

from tests.adapters.kafka.conftest import owner_id, read_all
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.commands import Revoke
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId, TaskName
from triggerstream.core.tasks import Bounds
from triggerstream.engine.checkpoint import DeadLetter, Decided
from triggerstream.engine.partitioned.ports import Commit
from triggerstream.wire.bounds import EVENT_BYTES, SESSION_ID_BYTES, longest_state
from triggerstream.wire.records import Record

pytestmark = pytest.mark.kafka


async def test_the_longest_state_commands_and_what_is_left_out_are_taken_as_one(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    chance = random.Random(1)  # bytes that do not compress
    session = b"k" * SESSION_ID_BYTES
    stored = chance.randbytes(longest_state())
    command = chance.randbytes(Bounds().command_bytes)
    follows = Record(partition=0, offset=7, arrival_us=1, key=session, value=chance.randbytes(EVENT_BYTES))
    revoke = Revoke(id=CommandId("c"), session=SessionId("s"), task=TaskName("t"), instance=InstanceId("t#0"))
    ledger = KafkaLedger(connection=connection, app=kafka_app, topics=topics, partition=0, id_=owner_id())
    await ledger.start()
    try:
        await ledger.commit(
            Commit(
                decided=[Decided(decision=revoke, value=command)] * 8,
                states={session: stored},
                dead_letters=[DeadLetter(record=follows, reason="r" * 4096, left_out=0)],
                marks={},
                offset=8,
            )
        )
        extent = await ledger.extent()
        entries: dict[bytes, bytes | None] = {}
        async for found, _ in ledger.changelog(extent.begin, extent.end):
            entries |= found
    finally:
        await ledger.close()
    assert entries == {session: stored}
    assert [record.value for record in await read_all(connection, topics.commands)] == [command] * 8
    (letter,) = await read_all(connection, topics.dead_letters)
    assert (letter.key, letter.value) == (session, follows.value)
