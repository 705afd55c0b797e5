"""The threads of a Kafka outcome log, and its errors. What every outcome log promises: `tests/contract`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.outcomes import KafkaOutcomeLog
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId, SessionId

pytestmark = pytest.mark.kafka

S = SessionId("survey-1")


@pytest.fixture
def outcomes(
    connection: Connection,
    kafka_app: AppId,
    topics: Topics,  # noqa: ARG001 - they must be there
) -> Iterator[KafkaOutcomeLog]:
    log = KafkaOutcomeLog(connection, kafka_app)
    yield log
    log.close()


def test_all_threads_of_a_process_share_one_producer(outcomes: KafkaOutcomeLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: outcomes.report(S, b"%d" % number), range(16)))
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("triggerstream-outcomes") == 1


def test_a_log_that_is_away_is_a_log_error_in_time() -> None:
    log = KafkaOutcomeLog(Connection(bootstrap="127.0.0.1:1"), AppId("app"), timeout_s=2.0)
    begun = time.monotonic()
    with pytest.raises(LogError, match="cannot reach Kafka"):
        log.report(S, b"{}")
    assert time.monotonic() - begun < 4.0
    log.close()


def test_a_missing_topic_is_a_log_error_that_says_what_to_do(
    connection: Connection, kafka_app: AppId
) -> None:
    log = KafkaOutcomeLog(connection, kafka_app)
    with pytest.raises(LogError, match="triggerstream topics create"):
        log.report(S, b"{}")
    log.close()
