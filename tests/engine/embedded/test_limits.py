"""The longest state and the largest transaction that one record can make, and the topics that take them."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.core.scenarios import Partition
from tests.core.strategies import APP, BUSY, SMALL, TIGHT, History, configurations, histories
from tests.engine.test_processor import EVERYTHING, Log, command, records_of, task, tasks
from triggerstream.adapters.kafka.connection import LONGEST_REQUEST_BYTES
from triggerstream.adapters.kafka.topics import Topics, required_settings_of
from triggerstream.core.events import Cancel, Failed, Replay, Resend, Retried, Started, Timer
from triggerstream.core.ids import InstanceId, JsonObject, SessionId
from triggerstream.core.tasks import Bounds, Rules
from triggerstream.engine.processor import LEFT_OUT_BYTES
from triggerstream.wire.bounds import EVENT_BYTES, longest_state, most_decisions

LONG = "\x01" * 15_000
"""Six times as long in JSON."""


def folded(log: Log) -> Partition:
    partition = Partition(Rules(app=APP))
    for record in log.records:
        partition.process([record])
    return partition


def test_what_outcomes_and_orders_add_to_a_full_state_is_bounded() -> None:
    bounds = Bounds(
        unresolved_instances=4, state_bytes=6_000, resolved_bytes=2_000, positions=5, resolved_instances=3
    )
    said: JsonObject = {
        "unresolvedInstances": 4,
        "stateBytes": 6_000,
        "resolvedBytes": 2_000,
        "positions": 5,
        "resolvedInstances": 3,
    }
    log = Log({"$bounds": said, **tasks(t=task("b", andEvery="a"))})
    log.fire("b", text="x" * 3_000)
    for _ in range(4):
        log.fire("a", text="y" * 100)
    longest = 0
    for number in range(4):
        instance = InstanceId(f"t#{number}")
        log.tell(Started(instance=instance, command=command(number), metadata={"x": LONG}))
        for body in (
            Resend(instance=instance, reason=LONG, by=LONG),
            Resend(instance=InstanceId(f"{LONG}#7")),
            Retried(instance=instance, command=command(number), kwargs={"a": {"x": LONG}}),
            Cancel(instance=InstanceId(f"t#{number + 4}"), reason=LONG),
        ):
            log.tell(body)
    for number in range(20):
        log.tell(Failed(instance=InstanceId(f"t#{number}"), command=command(number), error=LONG))
        if number < 8:
            log.tell(Replay(instance=InstanceId(f"t#{number}"), reason=LONG))
        if number < 12:  # those beyond are the last that are open: they stay failed
            continue
        log.tell(Resend(instance=InstanceId(f"{LONG}#7")))
    partition = Partition(Rules(app=APP))
    for record in log.records:
        partition.process([record])
        longest = max([longest, *map(len, partition.stored.values())])
    assert partition.dead_letters == []
    assert longest <= longest_state(bounds)
    assert longest > longest_state(bounds) / 2, "this is no test of the bound"


@pytest.mark.laws
@given(histories(kinds=(*EVERYTHING, *BUSY), configs=configurations(bounds=(*SMALL, *TIGHT)), max_size=60))
def test_no_state_is_longer_than_the_longest(history: History) -> None:
    """The bounds of now hold for what comes: what was there before a file lowered them stays."""
    partition = Partition(Rules(app=APP))
    longest = 0
    for record in records_of(history):
        partition.process([record])
        longest = max(longest, longest_state(partition.rules.current.config.bounds))
        assert all(len(stored) <= longest for stored in partition.stored.values())


def test_one_record_decides_every_open_instance_once_and_an_order_one_more() -> None:
    bounds: JsonObject = {"unresolvedInstances": 5}
    log = Log({"$bounds": bounds, **tasks(t=task(andEvery="a", retry={"max": 1, "backoff": "1h"}))})
    for number in range(5):
        log.fire("a")
        instance = InstanceId(f"t#{number}")
        log.tell(Failed(instance=instance, command=command(number), error="boom"), at=1)
    # The clones of the first ones took numbers: every second command is a first attempt's.
    partition = folded(log)
    for number in range(10):
        log.tell(Failed(instance=InstanceId(f"t#{number}"), command=command(number), error="boom"), at=1)
    partition = folded(log)
    waiting = [
        one.number
        for record in partition.state("s").tasks.values()
        for one in record.open.values()
        if one.status == "delayed"
    ]
    assert len(waiting) == 5
    before = len(partition.values)
    log.tell(Replay(instance=InstanceId(f"t#{waiting[0]}"), force=True), at=10_000)
    partition.process(log.records[-1:])
    assert len(partition.values) - before == most_decisions(Bounds(unresolved_instances=5)) == 6
    assert partition.dead_letters == []


def test_commands_of_one_event_have_a_bound_together() -> None:
    bounds: JsonObject = {"decidedBytes": 3_000}
    waiting = {f"t{number}": task("a", "b") for number in range(4)}
    log = Log({"$bounds": bounds, **tasks(**waiting)})
    log.fire("a", text="x" * 600)
    log.fire("b")
    partition = folded(log)
    (letter,) = partition.dead_letters
    assert letter.reason.startswith("one event would decide ")
    assert letter.reason.endswith(" bytes of commands: at most 3,000 ($bounds.decidedBytes)")
    assert partition.values == []


def test_what_time_decides_beyond_the_bound_of_one_event_fails() -> None:
    bounds: JsonObject = {"decidedBytes": 3_000}
    retrying = {f"t{n}": task("a", "b", retry={"max": 1, "backoff": "1h"}) for n in range(4)}
    log = Log(tasks(**retrying))
    log.fire("a", text="x" * 600)
    log.fire("b")
    for name in retrying:
        log.tell(Failed(instance=InstanceId(f"{name}#0"), command=command(task=name), error="boom"))
    log.apply({"$bounds": bounds, **tasks(**retrying)})
    partition = folded(log)
    before = len(partition.values)
    log.tell(Timer(), at=10_000)
    partition.process(log.records[-1:])
    assert sum(map(len, partition.values[before:])) <= 3_000
    statuses = [one.status.value for r in partition.state("s").tasks.values() for one in r.open.values()]
    assert (statuses.count("scheduled"), statuses.count("failed")) == (len(partition.values) - before, 1)


def test_topics_and_producers_take_the_longest_records() -> None:
    bounds = Bounds()
    topics = Topics.of(APP)
    most = {
        wanted.name: wanted.at_least["max.message.bytes"]
        for wanted in required_settings_of(topics)
        if wanted.name != topics.owners  # claims are short
    }
    assert most[topics.changelog] > longest_state()
    assert most[topics.commands] > bounds.command_bytes
    assert most[topics.dead_letters] > EVENT_BYTES
    assert max(most.values()) < LONGEST_REQUEST_BYTES
    assert SessionId("s") in folded(_started()).stored
    # All that one record makes, in one transaction: commands, a state, a dead letter or what was left out.
    transaction = min(most_decisions() * bounds.command_bytes, bounds.decided_bytes) + longest_state()
    assert transaction + max(EVENT_BYTES, LEFT_OUT_BYTES) < 80 * 1024 * 1024


def _started() -> Log:
    log = Log(tasks(t=task("a")))
    log.fire("a")
    return log


def test_triggers_that_one_record_leaves_out_have_a_bound_together() -> None:
    """Twenty instances that captured the same 12 events of 100 kB expire at once."""
    waits: JsonObject = {"run": "r", "deadline": "1h", "andEvery": "b"}
    waits["after"] = [{"trigger": "a", "count": 13}]
    late: JsonObject = {"trigger": "t.timeout", "as": "late"}
    log = Log({"t": waits, "u": {"after": [], "andEvery": late, "run": "r"}})
    for _ in range(20):
        log.fire("b")
    for _ in range(12):
        log.fire("a", text="x" * 100_000)
    log.tell(Timer(), at=10_000)
    partition = folded(log)
    assert len(partition.dead_letters) == 20
    kept = [letter for letter in partition.dead_letters if letter.record.value]
    assert 0 < sum(len(letter.record.value or b"") for letter in kept) <= LEFT_OUT_BYTES
    assert {letter.left_out for letter in partition.dead_letters} == set(range(20))
    without = next(letter for letter in partition.dead_letters if letter.record.value == b"")
    assert without.reason.endswith(" bytes are not kept: at most 4,194,304 of one record")


def test_a_trigger_whose_data_was_given_up_has_a_dead_letter_that_cannot_be_taken_for_an_event() -> None:
    waits: JsonObject = {"run": "r", "deadline": "1h", "andEvery": "x"}
    waits["after"] = ["never", {"trigger": "x", "as": "again"}]
    bounds: JsonObject = {"stateBytes": 20_000, "decidedBytes": 9_000}
    log = Log({"$bounds": bounds, "t": waits, "u": {"after": ["no"], "andEvery": "t.timeout", "run": "r"}})
    for _ in range(6):
        log.fire("x", text="x" * 2_500)
    log.tell(Timer(), at=10_000)
    kept, *given_up = folded(log).dead_letters
    assert kept.record.value
    assert given_up
    assert [letter.record.value for letter in given_up] == [b""] * len(given_up)
    assert all("its data is not kept" in letter.reason for letter in given_up)
