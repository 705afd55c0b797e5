"""Peers with the same content keep and write what the worker does, for the one task of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.benchmarks.kafka_load import TASKS
from tests.benchmarks.loads import event, key
from tests.benchmarks.peers import same_content
from tests.benchmarks.peers.arguments import PARTS
from triggerstream.core.events import Event
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId
from triggerstream.core.results import Folded
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.wire import commands, events, state, tasksfile
from triggerstream.wire.records import Record

ARRIVAL_US = 1_700_000_000_123_000
STATE_BYTES = 1.12
"""One state may be so much longer than the other. A hash of the tasks file is 75 bytes of about 1,100."""


def records() -> Iterator[Record]:
    for part in range(len(PARTS)):
        yield Record(
            partition=0,
            offset=10 + part,
            arrival_us=ARRIVAL_US + part * 1_000,
            key=key(7),
            value=event(7, part),
        )


def ours() -> tuple[dict[str, Any], dict[str, Any]]:
    """The worker's state and command after the four events."""
    config = tasksfile.read(TASKS, name="tasks.json")
    applied = AppliedConfiguration(config=config, offset=0, arrival_us=0)
    rules = Rules(app=AppId("bench"), history=(applied,))
    known, decided = None, b""
    for record in records():
        decoded = events.decode(record)
        assert isinstance(decoded, Event)
        folded = step(rules, known, decoded)
        assert isinstance(folded, Folded)
        known = folded.state
        for decision in folded.decisions:
            decided = commands.encode(decision)
    assert known is not None
    return json.loads(state.encode(known)), json.loads(decided)


def theirs() -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of a peer."""
    known, decided = same_content.begin(), None
    for record in records():
        assert record.value is not None
        decided = same_content.fold(
            known,
            json.loads(record.value),
            app="bench",
            session=key(7).decode(),
            offset=record.offset,
            time_us=record.arrival_us,
        )
    assert decided is not None
    return known, decided


def test_the_command_of_a_peer_is_that_of_the_worker_under_an_id_of_its_own() -> None:
    _, own = ours()
    _, peers = theirs()
    assert len(own.pop("id")) == len(peers.pop("id"))
    assert peers == own


def test_the_state_of_a_peer_holds_what_that_of_the_worker_holds() -> None:
    own, _ = ours()
    peers, _ = theirs()
    assert own.keys() <= peers.keys()
    for name in own.keys() - {"version", "tasks", "digests"}:
        assert peers[name] == own[name]
    assert peers["digests"].keys() == own["digests"].keys()
    assert len(peers["digests"]["t1"]) == len(own["digests"]["t1"])
    (instance,), (own_instance,) = (one["tasks"]["t_report"]["open"] for one in (peers, own))
    assert own_instance.keys() <= instance.keys()
    assert instance["captured"] == own_instance["captured"]
    assert 1 / STATE_BYTES <= len(json.dumps(own)) / len(json.dumps(peers)) <= STATE_BYTES


def test_a_repeated_event_changes_only_the_timeline() -> None:
    known, _ = theirs()
    before = json.loads(json.dumps(known))
    repeated = same_content.fold(
        known, json.loads(event(7, 3)), app="bench", session="s", offset=20, time_us=ARRIVAL_US + 9_000
    )
    assert repeated is None
    assert known["positions"][-1] == [20, "t4", ARRIVAL_US + 9_000, "ignored"]
    assert known["seen"] == before["seen"]
    assert known["tasks"] == before["tasks"]


def test_the_hash_of_the_tasks_file_is_that_of_the_benchmark() -> None:
    assert tasksfile.read(TASKS, name="tasks.json").hash == same_content.CONFIG


@pytest.mark.parametrize("part", range(3))
def test_no_command_is_written_before_the_last_event(part: int) -> None:
    known = same_content.begin()
    for earlier in range(part + 1):
        decided = same_content.fold(
            known, json.loads(event(7, earlier)), app="bench", session="s", offset=earlier, time_us=1
        )
        assert decided is None
