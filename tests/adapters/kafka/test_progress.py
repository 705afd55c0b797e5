"""The bridge's progress survives as metadata of an offset, within what brokers take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.adapters.kafka.progress import TEXT_CHARS, metadata_of, reached_in, topic_in
from triggerstream.engine.handover.shared_log import HandOverProgress

TOPIC = "k3yC7WwYQ0iM7p3sZ1o8bQ"


@given(
    position=st.integers(0, 2**62),
    gaps=st.lists(st.integers(1, 10_000), max_size=1_000),
    further=st.integers(1, 10_000),
    begun=st.integers(0, 2**59),
)
def test_what_is_read_is_what_was_written(position: int, gaps: list[int], further: int, begun: int) -> None:
    open_, at = [position], position
    for gap in gaps:
        at += gap
        open_.append(at)
    reached = HandOverProgress(position=position, upto=at + further, open=tuple(open_), begun=begun)
    metadata, said = metadata_of(TOPIC, reached)
    assert len(metadata) <= TEXT_CHARS
    assert topic_in(metadata) == TOPIC
    assert reached_in(position, metadata) == said
    # Where it is too much, less is known to be done, and never more.
    assert said.upto <= reached.upto
    assert said.begun == begun
    assert said.open == tuple(offset for offset in open_ if offset < said.upto)
    if len(open_) < 500:
        assert said == reached


def test_nothing_beyond_the_offset_is_the_topic_alone() -> None:
    assert metadata_of(TOPIC, HandOverProgress(position=7, upto=7)) == (
        TOPIC,
        HandOverProgress(position=7, upto=7),
    )
    assert (
        reached_in(7, TOPIC)
        == reached_in(7, "")
        == reached_in(7, None)
        == HandOverProgress(position=7, upto=7)
    )
    assert topic_in(None) == ""


def test_the_offset_at_which_a_hand_over_began_is_kept() -> None:
    reached = HandOverProgress(position=9, upto=9, begun=7)
    assert metadata_of(TOPIC, reached) == (f"{TOPIC}@7", reached)
    assert reached_in(9, f"{TOPIC}@7") == reached
    assert topic_in(f"{TOPIC}@7") == TOPIC
    assert reached_in(9, f"{TOPIC}@x").begun == reached_in(9, f"{TOPIC}@{'9' * 50}").begun == 0


@pytest.mark.parametrize(
    "text", ["x", "5", ":", "5:x", "5:-1", "5:1,,2", "-5:1", "5:\u0661", "5:1 2", "9" * 5000, "3:9", "0:0"]
)
def test_what_cannot_be_read_is_not_known_to_be_done(text: str) -> None:
    reached = reached_in(7, f"{TOPIC} {text}")
    assert reached == HandOverProgress(position=7, upto=7)
