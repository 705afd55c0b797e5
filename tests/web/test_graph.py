"""The drawing of a configuration: what is where."""

from __future__ import annotations

import pytest

from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.engine.queries.answers import TaskRow
from triggerstream.web.graph import MOST, Box, Drawing, drawing


def task(name: str, *after: str, every: str | None = None, unless: tuple[str, ...] = ()) -> TaskRow:
    return TaskRow(
        task=TaskName(name),
        run=f"app.{name}",
        after=[TriggerName(one) for one in after],
        and_every=None if every is None else TriggerName(every),
        unless=[TriggerName(one) for one in unless],
    )


def drawn(*tasks: TaskRow) -> Drawing:
    found = drawing(tasks)
    assert found is not None
    return found


def boxes(found: Drawing) -> dict[str, Box]:
    return {box.name: box for box in found.boxes}


def test_what_is_waited_for_lies_left_of_who_waits() -> None:
    found = drawn(task("t", "a", "b"), task("u", "t", "b", unless=("no",)), task("v", every="u"))
    place = {name: box.x for name, box in boxes(found).items()}
    for arrow in found.arrows:
        target, *_, source = arrow.says.split()
        assert place[source] < place[target], arrow
    assert [arrow.kind for arrow in found.arrows] == ["after", "after", "after", "after", "unless", "every"]


def test_a_task_that_another_one_waits_for_is_drawn_once() -> None:
    found = boxes(drawn(task("t", "a"), task("u", "t")))
    assert {name: box.kind for name, box in found.items()} == {"a": "trigger", "t": "task", "u": "task"}


def test_boxes_do_not_overlap() -> None:
    found = drawn(*(task(f"t{n}", *(f"a{n * m % 7}" for m in range(4)), f"t{n - 1}") for n in range(1, 30)))
    for one in found.boxes:
        for other in found.boxes:
            apart = one.x + one.width <= other.x or one.y + one.height <= other.y
            apart = apart or other.x + other.width <= one.x or other.y + other.height <= one.y
            assert one is other or apart, (one, other)
        assert 0 <= one.x < one.x + one.width <= found.width
        assert 0 <= one.y < one.y + one.height <= found.height


@pytest.mark.parametrize("length", [1, 2, 200])
def test_tasks_that_wait_for_each_other_in_a_circle_are_drawn(length: int) -> None:
    found = drawn(*(task(f"t{n}", f"t{(n - 1) % length}") for n in range(length)))
    assert len(found.boxes) == length
    assert len(found.arrows) == length


def test_long_names_are_cut_and_stay_whole_in_the_title() -> None:
    (box, _) = drawn(task("t", "n" * 200)).boxes
    assert box.name == "n" * 200
    assert box.text == "n" * 25 + "…"


def test_none_and_too_many_are_not_drawn() -> None:
    assert drawing([]) is None
    assert drawing([task(f"t{n}", "a") for n in range(MOST)]) is None
