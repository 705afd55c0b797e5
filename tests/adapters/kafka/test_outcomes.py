"""Outcomes are durable when they were reported, from any thread, in the parent and after a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.adapters.kafka.conftest import read_all
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


async def test_what_threads_report_is_in_the_log(
    outcomes: KafkaOutcomeLog, connection: Connection, topics: Topics
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: outcomes.report(S, b"%d" % number), range(200)))
    found = {r.value for r in await read_all(connection, topics.events)}
    assert found == {b"%d" % number for number in range(200)}
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("triggerstream-outcomes") == 1


# Python 3.12 warns of the very thing that this is about: a fork of a process with threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_children_and_their_parent_report_after_a_fork(
    outcomes: KafkaOutcomeLog, connection: Connection, topics: Topics
) -> None:
    outcomes.report(S, b"before")
    children = [_forked(lambda name=name: outcomes.report(S, name)) for name in (b"child 1", b"child 2")]
    outcomes.report(S, b"meanwhile")
    assert [_status(child) for child in children] == [0, 0]
    grandchildren = _forked(lambda: _report_in_a_child_too(outcomes))
    assert _status(grandchildren) == 0
    outcomes.report(S, b"after")
    found = {r.value for r in await read_all(connection, topics.events)}
    expected = {b"before", b"child 1", b"child 2", b"meanwhile", b"first", b"second", b"after"}
    assert found == expected


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


def _report_in_a_child_too(outcomes: KafkaOutcomeLog) -> None:
    outcomes.report(S, b"first")
    if _status(_forked(lambda: outcomes.report(S, b"second"))):
        raise AssertionError


def _forked(work: object) -> int:
    pid = os.fork()
    if pid == 0:
        # Nothing of the test run that the child inherited may come to an end in it.
        status = 1
        try:
            assert callable(work)
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def _status(pid: int) -> int:
    deadline = time.monotonic() + 30
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise AssertionError("a child hangs")
        time.sleep(0.02)
