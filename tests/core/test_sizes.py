"""Sizes of a session's parts, for the bounds in bytes."""

from __future__ import annotations

import pytest

from tests.core.story import Story, task
from triggerstream.core.sizes import TEXT_BYTES, captured_by_resolved_alone, cut_text


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", ""),
        ("x" * TEXT_BYTES, "x" * TEXT_BYTES),
        ("x" * (TEXT_BYTES + 1), "x" * (TEXT_BYTES - 3) + "…"),
        ("\x01" * (TEXT_BYTES // 6), "\x01" * (TEXT_BYTES // 6)),
        ("\x01" * (TEXT_BYTES // 6 + 1), "\x01" * ((TEXT_BYTES - 3) // 6) + "…"),
        ("é" * (TEXT_BYTES // 2 + 1), "é" * ((TEXT_BYTES - 3) // 2) + "…"),
    ],
)
def test_text_is_cut_to_its_bytes_as_json_and_ends_with_an_ellipsis(text: str, cut: str) -> None:
    assert cut_text(text) == cut


def test_events_that_only_resolved_instances_captured_are_counted_for_each_of_them() -> None:
    story = Story({"t": task("a", andEvery="n"), "u": task("a", "b"), "v": task("a")})
    story.fire("a")
    story.fire("n")
    story.finished("v#0")
    story.fire("n")
    assert story.state is not None
    assert captured_by_resolved_alone(story.state) == {}, "`a` and the last `n` are the latest"
    story.fire("a")
    story.finished("t#0")
    assert captured_by_resolved_alone(story.state) == {("n", 1): 1}, "`u#0` and `t#1` are open and have `a`"
    story.finished("t#1")
    story.fire("n")
    story.cancel("u#0")
    assert captured_by_resolved_alone(story.state) == {("n", 1): 1, ("n", 3): 1, ("a", 0): 4}
