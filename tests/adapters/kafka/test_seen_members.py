"""Names of workers as the metadata of a group offset."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from tests.adapters.kafka.conftest import owner_id
from triggerstream.adapters.kafka import survey
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.group import group_commits
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.seen_members import KEPT_S, seen_in, seen_text
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import Commit

NOW_S = 1_764_390_000


def test_what_is_written_is_read_and_what_is_older_than_a_day_is_left_out() -> None:
    seen = {"worker-0": NOW_S, "a name=of 100 %": NOW_S - KEPT_S, "old": NOW_S - KEPT_S - 1}
    text = seen_text(seen, now_s=NOW_S)
    assert text.startswith(f"seen worker-0={NOW_S} ")
    assert seen_in(text) == {"worker-0": NOW_S, "a name=of 100 %": NOW_S - KEPT_S}


def test_the_text_is_never_too_long_for_a_broker() -> None:
    text = seen_text({"n" * 900 + str(number): NOW_S for number in range(99)}, now_s=NOW_S)
    assert len(text) <= 4_096
    assert len(seen_in(text)) == 3


@pytest.mark.parametrize(
    "metadata", [None, "", "seen", "TOPIC 12:3", "seen a", "seen a=x =5", "another seen a=1"]
)
def test_text_of_another_form_has_no_names(metadata: str | None) -> None:
    assert seen_in(metadata) == {}


@pytest.mark.kafka
async def test_the_next_owner_of_a_partition_keeps_the_name_of_the_one_before(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    for member in ("w1", "w2"):
        ledger = KafkaLedger(
            connection=connection, app=kafka_app, topics=topics, partition=0, id_=owner_id(), member=member
        )
        await ledger.start()
        for offset in (1, 2):
            await ledger.commit(Commit(decided=(), states={}, dead_letters=(), marks={}, offset=offset))
        await ledger.close()
    place = TopicPartition(topics.events, 0)
    committed = (await group_commits(connection, worker_group(kafka_app), [place]))[place]
    assert committed.offset == 2
    assert set(await survey.seen_members(connection, kafka_app)) == {"w1", "w2"}
